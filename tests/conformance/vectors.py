"""Request vectors: named files in `tests/payloads/vectors`, each with its expected answers.

A file is one vector of the checklist, with a fact, its basis, and cases by name. A case is a
`request`, told as what differs from the valid `request.json`, and what is expected of the answer.

Request: `with` sets values at dotted paths (numbers are indexes; one past the end appends),
`without` removes them; `json` or `body` or `body_hex` stand for the whole body; further `method`,
`url`, `headers` (null: none), `gzip`, `chunked`, `repeat_entry`, `times`, `together`, `profile`,
`origins`, `deadline_ms`. `{"repeat": [["x", 3], "y"]}` is the text "xxxy". `ehr` starts a FHIR
server on loopback that `holds` a patient or observations, with `faults`, `page_size` and where its
`next` links go; `{ehr}` and `{elsewhere}` in texts are its base and another server.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.service import HOOK_URL

FOLDER = Path(__file__).parents[1] / "payloads" / "vectors"
CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request and what is expected; `differs` says why today's answer is another one."""

    id: str
    request: dict[str, Any]
    expect: dict[str, Any]
    differs: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One file; `proves` are the rows of the checklist that it proves."""

    number: int
    fact: str
    file: str
    proves: tuple[int, ...]
    cases: tuple[Case, ...]


@cache
def read_vectors() -> tuple[Vector, ...]:
    """Every vector, by number."""
    return tuple(_vector(path) for path in sorted(FOLDER.glob("[0-9]*.json")))


def cases() -> Iterator[Case]:
    """Every case of every vector."""
    for vector in read_vectors():
        yield from vector.cases


def usual_request() -> dict[str, Any]:
    """The valid request that the cases change."""
    request: dict[str, Any] = json.loads((FOLDER / "request.json").read_text(encoding="utf-8"))
    return request


def _vector(path: Path) -> Vector:
    said = json.loads(path.read_text(encoding="utf-8"))
    return Vector(
        number=said["vector"],
        fact=said["fact"],
        file=path.name,
        proves=tuple(said.get("proves", ())),
        cases=tuple(
            Case(id=f"{path.stem}: {name}", **case) for name, case in said["cases"].items()
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """A case as it goes over HTTP."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes | AsyncIterator[bytes]


def http_call(request: dict[str, Any], names: dict[str, str]) -> HttpCall:
    """The request of a case; `names` are what stands for `{ehr}` and `{elsewhere}`."""
    body = _body(request, names)
    headers = {"Content-Type": "application/json"} | request.get("headers", {})
    if request.get("gzip"):
        body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
    return HttpCall(
        method=request.get("method", "POST"),
        url=_spelt(request.get("url", HOOK_URL), names),
        headers={name: value for name, value in headers.items() if value is not None},
        content=_chunks(body) if request.get("chunked") else body,
    )


def _body(request: dict[str, Any], names: dict[str, str]) -> bytes:
    if "body_hex" in request:
        return bytes.fromhex(request["body_hex"])
    if "body" in request:
        return str(_spelt(request["body"], names)).encode()
    if "json" in request:
        return json.dumps(request["json"]).encode()
    document = usual_request()
    for path in request.get("without", ()):
        holder, key = _place(document, path)
        del holder[key]
    for path, value in request.get("with", {}).items():
        _put(document, path, _spelt(value, names))
    if again := request.get("repeat_entry"):
        document["prefetch"][again["key"]]["entry"] *= again["times"]
    return json.dumps(document).encode()


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


def _place(document: Any, path: str) -> tuple[Any, Any]:
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        document = document[step]
    return document, last


def _put(document: Any, path: str, value: Any) -> None:
    holder, key = _place(document, path)
    if isinstance(holder, list) and key == len(holder):
        holder.append(value)
    else:
        holder[key] = value


def _spelt(value: Any, names: dict[str, str]) -> Any:
    """`value` with repeated texts written out and the names of servers filled in."""
    match value:
        case {"repeat": pieces}:
            return "".join(p if isinstance(p, str) else p[0] * p[1] for p in pieces)
        case dict():
            return {name: _spelt(member, names) for name, member in value.items()}
        case list():
            return [_spelt(item, names) for item in value]
        case str():
            for name, base in names.items():
                value = value.replace(f"{{{name}}}", base)
    return value
