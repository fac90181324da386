"""The body of a long call, a hundred entries at a time.

A record of thousands of Observations is a hundred thousand dicts, most of which nobody looks at:
building them all at once takes several times as long for each as building a few, because they fit
no cache. Here they are built and let go in turn, and what is kept is what is read. Judged as any
other body: each part of it as strictly, and so is what is left when its entries are taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from cds_service.body import check_containers, check_strict, parse_object
from cds_service.errors import BadRequest

Resource = dict[str, Any]
# Shorter ones are read as one: their dicts fit a cache.
LONG_BYTES = 200_000
AT_ONCE = 100
# Around a list of entries: the request, its prefetch, a Bundle.
_LEVELS_ABOVE = 3


class _Bundle(msgspec.Struct, gc=False):
    """A Bundle; any other resource has no entries."""

    entry: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


class _Request(msgspec.Struct, gc=False):
    prefetch: dict[str, _Bundle]


_REQUESTS = msgspec.json.Decoder(_Request)


class _NotInParts(Exception):
    """It is not where it was read from."""


def parse_call(
    body: bytes, max_depth: int, reduced: Callable[[Resource], Resource]
) -> dict[str, Any]:
    """What `parse_object` gives; in the place of each resource of a prefetched Bundle there may be
    `reduced(resource)`. Raises BadRequest."""
    taken_apart = _in_parts(body, max_depth, reduced) if len(body) > LONG_BYTES else None
    # Whatever is wrong with a body is found, and said, when it is read as one.
    return parse_object(body, max_depth) if taken_apart is None else taken_apart


def _in_parts(
    body: bytes, max_depth: int, reduced: Callable[[Resource], Resource]
) -> dict[str, Any] | None:
    """None where `body` cannot be taken apart, or is not what it should be."""
    try:
        check_containers(body)
        bundles = _REQUESTS.decode(body).prefetch
        entries = {key: bundle.entry for key, bundle in bundles.items() if bundle.entry}
        call = _strict(_without(body, entries.values()), max_depth)
        for key, written in entries.items():
            call["prefetch"][key]["entry"] = [
                _with_reduced(entry, reduced)
                for some in _a_few_of(written)
                for entry in _strict(_list_of(body, some), max_depth, levels_above=_LEVELS_ABOVE)
            ]
    except (msgspec.MsgspecError, orjson.JSONDecodeError, BadRequest, _NotInParts, RecursionError):
        return None
    found: dict[str, Any] = call
    return found


def _strict(text: bytes, max_depth: int, levels_above: int = 0) -> Any:
    document = orjson.loads(text)
    in_its_place = document
    for _ in range(levels_above):
        in_its_place = [in_its_place]
    check_strict(in_its_place, text, max_depth)
    return document


def _with_reduced(entry: Any, reduced: Callable[[Resource], Resource]) -> Any:
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if isinstance(resource, dict):
        entry["resource"] = reduced(resource)
    return entry


def _a_few_of(written: Sequence[msgspec.Raw]) -> Iterator[Sequence[msgspec.Raw]]:
    return (written[start : start + AT_ONCE] for start in range(0, len(written), AT_ONCE))


def _list_of(body: bytes, entries: Sequence[msgspec.Raw]) -> bytes:
    """The text of a list of neighbouring `entries` alone."""
    start, end = _extent(body, entries)
    return b"[" + body[start:end] + b"]"


def _without(body: bytes, lists: Iterable[Sequence[msgspec.Raw]]) -> bytes:
    """`body` with these lists of entries empty."""
    kept, at = [], 0
    for start, end in sorted(_extent(body, entries) for entries in lists):
        kept.append(body[at:start])
        at = end
    return b"".join([*kept, body[at:]])


def _extent(body: bytes, entries: Sequence[msgspec.Raw]) -> tuple[int, int]:
    """From where the first begins to where the last ends. What is not parsed is not copied either,
    so that where it lies in memory says where it stands; raises _NotInParts otherwise."""
    start = _address(entries[0]) - _address(body)
    end = _address(entries[-1]) - _address(body) + memoryview(entries[-1]).nbytes
    if not 0 <= start < end <= len(body):
        raise _NotInParts
    return start, end


def _address(text: bytes | msgspec.Raw) -> int:
    return int(np.frombuffer(text, dtype=np.uint8).__array_interface__["data"][0])
