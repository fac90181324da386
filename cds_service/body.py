"""Reading a request body: bounded, UTF-8, strict JSON, an object. Nothing else gets past here."""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from cds_service.errors import BadRequest, BodyTooLarge, NotJson
from cds_service.long_work import READING

# Parsing this much takes some five milliseconds; more than that is done off the event loop, so that
# one large record does not hold up the answers of everyone else. For less the way to a thread and
# back takes as long: both want the interpreter at the same time.
INLINE_BYTES = 1_000_000

# Every object and array costs the reader some 60 bytes and a visit, however few bytes of the body
# it took: 20 MB of "[]," are 6,600,000 of them. One for every ten bytes, 2,000,000 in 20 MB, is
# more than four times what a record holds whose Observations have a code, a time and a value and
# not one blank (`test_http_bodies.py` counts them). Small bodies are not worth a bound.
BYTES_PER_CONTAINER = 10
FEW_CONTAINERS = 100_000

# What is worked out for so many bytes stays in the processor's cache: for more than that it goes
# through fresh memory, which takes six times as long for a megabyte.
_CACHED_BYTES = 1 << 17

# As deep as orjson writes.
DEEPEST_WRITTEN = 254

_CONTAINERS = frozenset((dict, list))
T = TypeVar("T")


async def read_json_object(request: Request, *, max_bytes: int, max_depth: int) -> dict[str, Any]:
    """The body of `request` as a JSON object.

    Raises NotJson (415), BodyTooLarge (413) or BadRequest (400). RFC 8259 is read strictly: no
    NaN, comments, trailing commas, byte order mark, half surrogates or repeated member names.
    """
    body = await read_json(request, max_bytes=max_bytes)
    return await parsed(body, partial(parse_object, body, max_depth))


async def read_json(request: Request, *, max_bytes: int) -> bytes:
    """The body of `request`, which says that it is JSON; raises NotJson or BodyTooLarge."""
    check_is_json(request.headers.get("content-type"), request.headers.get("content-encoding"))
    return await read_bounded(request, max_bytes)


async def parsed(body: bytes, parse: Callable[[], T]) -> T:
    """What `parse` makes of `body`; in a thread where that would hold up others."""
    return parse() if len(body) <= INLINE_BYTES else await READING.run(parse)


# The same few pairs again and again; a caller who sends others has them read each time.
@lru_cache(maxsize=64)
def check_is_json(content_type: str | None, content_encoding: str | None) -> None:
    """Raises NotJson unless the headers declare plain UTF-8 JSON."""
    # A compressed body is refused rather than unpacked: a small one can hold gigabytes.
    if (content_encoding or "identity").strip().lower() != "identity":
        raise NotJson("Content-Encoding is not supported: send the body as it is.")
    header = Message()
    header["Content-Type"] = content_type or "application/octet-stream"
    kind = header.get_content_type()
    if kind != "application/json" and not kind.endswith("+json"):
        raise NotJson("Content-Type must be application/json.")
    # RFC 8259 §8.1: JSON between systems is UTF-8.
    charset = str(header.get_param("charset", "utf-8")).lower()
    if charset not in ("utf-8", "utf8"):
        raise NotJson("The charset must be utf-8.")


async def read_bounded(request: Request, max_bytes: int) -> bytes:
    """The body, whether its length was announced or not; raises BodyTooLarge as early as it can,
    ClientDisconnect where it ends before its end."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse_object(body: bytes, max_depth: int) -> dict[str, Any]:
    """`body` as a JSON object at most `max_depth` levels deep; raises BadRequest."""
    check_containers(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        # The position helps the sender; the message names no content of the body.
        raise BadRequest(
            f"The body is not valid JSON (at character {fault.pos}).", code="structure"
        ) from None
    if not isinstance(document, dict):
        raise BadRequest("The body must be a JSON object.", code="structure")
    check_strict(document, body, max_depth)
    return document


def check_containers(body: bytes) -> None:
    """Raises BadRequest where `body` would open too many objects and arrays. It parses nothing."""
    if len(body) <= FEW_CONTAINERS:  # one byte each, at the least
        return
    most = max(FEW_CONTAINERS, len(body) // BYTES_PER_CONTAINER)
    # Brackets within strings do no harm: only a body that seems too rich is looked at closely.
    if _openings(body) > most and _openings(_outside_strings(body)) > most:
        raise BadRequest(f"The body holds more than {most} objects and arrays.", code="too-long")


def _openings(text: bytes) -> int:
    found, count = _bytes_of(text), 0
    for at in range(0, len(text), _CACHED_BYTES):
        # `[` and `{` are one bit apart, and no other byte becomes `{` by it.
        opening = (found[at : at + _CACHED_BYTES] | 0x20) == ord("{")
        count += int(np.count_nonzero(opening))
    return count


def check_strict(document: Any, body: bytes, max_depth: int) -> None:
    """Raises BadRequest where `body`, which was parsed to `document`, is nested too deep or names a
    member twice.

    The parser keeps the last of two members with one name. Two readers of such a document can
    disagree on whom it is about, so it is refused: members read must equal members written.
    Written out again in C, a document shows how many were read. Only where that leaves a doubt is
    every member looked at.
    """
    written = names_written(body)
    if written is not None and written == _names_told(document, max_depth):
        return
    if members(document, max_depth) != members_written(body):
        raise BadRequest("A member name appears twice in one object.", code="structure")


def names_written(text: bytes) -> int | None:
    """How often `":` stands in JSON, within strings too: as often in every text of the same members
    in the same order, unless it is spelled otherwise. None: here it may be.
    """
    before, colons = _at_colons(text)
    # A blank before a colon, and an escape that may stand for a quotation mark or a colon.
    if np.count_nonzero(colons & (before <= ord(" "))) or (b"\\" in text and b"\\u" in text):
        return None
    return int(np.count_nonzero(colons & (before == ord('"'))))


def _at_colons(text: bytes) -> tuple[Any, Any]:
    """All bytes but the last, and after which of them a colon stands."""
    found = _bytes_of(text)
    return found[:-1], found[1:] == ord(":")


def _names_told(document: Any, max_depth: int) -> int | None:
    """`names_written` of `document`; None where it may be deeper than `max_depth`."""
    # In so many lists that one level more than `max_depth` is one more than can be written.
    for _ in range(DEEPEST_WRITTEN - max_depth):
        document = [document]
    try:
        text = orjson.dumps(document)
    except orjson.JSONEncodeError:
        return None
    before, colons = _at_colons(text)
    return int(np.count_nonzero(colons & (before == ord('"'))))


def members(document: Any, max_depth: int) -> int:
    """How many object members `document` holds, level by level; raises BadRequest when too deep.

    Iterative: the depth of a hostile document must not become the depth of Python's stack.
    """
    count = depth = 0
    level = [document]
    while level:
        depth += 1
        if depth > max_depth:
            raise BadRequest(f"The body is nested deeper than {max_depth}.", code="structure")
        below: list[Any] = []
        for node in level:
            if type(node) is dict:
                count += len(node)
            children = node.values() if type(node) is dict else node
            below += [child for child in children if type(child) in _CONTAINERS]
        level = below
    return count


def members_written(body: bytes) -> int:
    """How many object members the text of valid JSON has: its colons outside of strings."""
    return _outside_strings(body).count(b":")


def _outside_strings(body: bytes) -> bytes:
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(unescaped.split(b'"')[::2])


def _bytes_of(text: bytes) -> npt.NDArray[np.uint8]:
    # bytes.count and bytes.find look at one place after the other; numpy at dozens at once.
    return np.frombuffer(text, dtype=np.uint8)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {max_bytes} bytes.")
