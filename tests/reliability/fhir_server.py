"""A FHIR server that counts: every create request with its time, its worker and what came of it.

Fast, in memory, with faults on demand. It honours conditional create as HAPI does; one test holds
both to the same contract. Each token that it grants is another worker's: that is how it tells them
apart.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

SYSTEM = "urn:cds-service:risk-assessment"


class Fault(StrEnum):
    """What becomes of a create. LOST and STALLED_AFTER_COMMIT have created the resource."""

    ERROR = "answers 500"
    BUSY = "answers 503"
    CLOSED = "closes before answering"
    LOST = "commits, then loses the connection"
    STALLED = "stalls after receiving"
    STALLED_AFTER_COMMIT = "commits, then stalls"


_COMMITS = frozenset({None, Fault.LOST, Fault.STALLED_AFTER_COMMIT})
_STATUS = {Fault.ERROR: 500, Fault.BUSY: 503}


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One create request. Times are of a clock that never jumps; `ended` is None in flight."""

    identifier: str
    worker: str
    received: float
    fault: Fault | None
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class CountingServer:
    """`with CountingServer() as server:` serves `server.base` and a token endpoint.

    `fault` is asked once for each create; `stop` and `start` are an outage.
    """

    fault: Callable[[], Fault | None] = lambda: None
    resources: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    port: int = 0
    _places: dict[str, int] = field(default_factory=dict)
    _tokens: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _listening: asyncio.Server | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        return f"{self.url}/fhir"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        """Listen, on the same port every time."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        """Refuse connections, and cut those that are open."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()

    def risk_assessments(self) -> list[dict[str, Any]]:
        """All that was created."""
        return list(self.resources)

    def _found(self, identifier: str | None) -> list[dict[str, Any]]:
        if identifier is None:
            return list(self.resources)
        place = self._places.get(identifier)
        return [] if place is None else [self.resources[place]]

    async def _start(self) -> None:
        self._listening = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, limit=2**20, backlog=256
        )
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        for writer in list(self._open):
            writer.transport.abort()
        while self._open:
            await asyncio.sleep(0.01)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while request := await _heard(reader):
                if not await self._answered(request, reader, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client was killed
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answered(
        self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """False: the connection is not to be used again."""
        path = urlsplit(request.target).path
        if request.method == "POST" and path == "/token":
            self._tokens += 1
            token = {"access_token": f"worker-{self._tokens}", "token_type": "bearer"}
            await _say(writer, 200, token | {"expires_in": 3600})
        elif request.method == "POST" and path == "/fhir/RiskAssessment":
            return await self._create(request, reader, writer)
        elif request.method == "GET" and path == "/fhir/RiskAssessment":
            await _say(writer, 200, self._search(request.target))
        else:
            await _say(writer, 404, _outcome("not-found"))
        return True

    async def _create(
        self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        identifier = _asked_for(request.headers.get("if-none-exist", ""))
        attempt = Attempt(
            identifier=identifier or "none",
            worker=request.headers.get("authorization", ""),
            received=time.monotonic(),
            fault=self.fault(),
        )
        self.attempts.append(attempt)
        try:
            status = 0
            headers: dict[str, str] = {}
            if attempt.fault in _COMMITS:
                status, headers = self._commit(json.loads(request.body), identifier)
            if attempt.fault in (Fault.STALLED, Fault.STALLED_AFTER_COMMIT):
                await reader.read(1)  # until the client leaves
                return False
            if attempt.fault in (Fault.CLOSED, Fault.LOST):
                writer.transport.abort()
                return False
            if attempt.fault is not None:
                await _say(writer, _STATUS[attempt.fault], _outcome("transient"))
            else:
                await _say(writer, status, None, headers)
            return True
        finally:
            attempt.ended = time.monotonic()

    def _commit(
        self, resource: dict[str, Any], identifier: str | None
    ) -> tuple[int, dict[str, str]]:
        place = self._places.get(identifier) if identifier is not None else None
        status = 201 if place is None else 200
        if place is None:
            place = len(self.resources)
            self.resources.append(resource | {"id": str(place)})
            if (own := _identifier(resource)) is not None:
                self._places.setdefault(own, place)
        where = f"{self.base}/RiskAssessment/{place}/_history/1"
        return status, {"Location": where, "ETag": 'W/"1"'}

    def _search(self, target: str) -> dict[str, Any]:
        identifier = _asked_for(urlsplit(target).query)
        entries = [{"resource": each} for each in self._found(identifier)]
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
        return bundle | ({"entry": entries} if entries else {})


def _identifier(resource: dict[str, Any]) -> str | None:
    given = resource.get("identifier") or []
    values = [each["value"] for each in given if each.get("system") == SYSTEM]
    return values[0] if values else None


def _asked_for(query: str) -> str | None:
    """The value that a search by identifier asks for."""
    system, _, value = parse_qs(query).get("identifier", [""])[0].partition("|")
    return value if system == SYSTEM else None


async def _heard(reader: asyncio.StreamReader) -> _Request | None:
    first = (await reader.readline()).decode("latin-1").split(" ")
    if len(first) < 3:
        return None
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return _Request(method=first[0], target=first[1], headers=headers, body=body)


async def _say(
    writer: asyncio.StreamWriter,
    status: int,
    body: dict[str, Any] | None,
    headers: dict[str, str] | None = None,
) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    said = {"Content-Type": "application/fhir+json", "Content-Length": str(len(content))}
    lines = [f"{name}: {value}" for name, value in (said | (headers or {})).items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", *lines, "", ""])
    writer.write(head.encode() + content)
    await writer.drain()


def _outcome(code: str) -> dict[str, Any]:
    issue = {"severity": "error", "code": code, "diagnostics": "as told to"}
    return {"resourceType": "OperationOutcome", "issue": [issue]}
