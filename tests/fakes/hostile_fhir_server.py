"""A FHIR server on loopback that misbehaves on demand, records every request and counts its bytes.

Bytes go onto the socket as they are written here: no library mends what a hostile server says.
"""

from __future__ import annotations

import gzip
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.fhir import observation, patient, searchset

# Stands in every body; must never come out of the service again.
PLANTED = "Mrs. Planted Marker"
LONGEST_WAIT = 60
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request: target as sent, header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def type(self) -> str:
        return urlsplit(self.target).path.removeprefix("/fhir/").partition("/")[0]


@dataclass(slots=True, kw_only=True)
class HostileFhirServer:
    """`with HostileFhirServer(misbehaves={"Condition": "stall"}) as server:`

    `misbehaves`: resource type -> a name out of BEHAVIOURS; every other type is answered well.
    `hung_up` is set when a client closes while it is kept waiting.
    """

    misbehaves: dict[str, str] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    bytes_sent: int = 0
    elsewhere: str = "http://169.254.169.254"
    next_link: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)
    _server: socketserver.ThreadingTCPServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base(self) -> str:
        return f"{self.url}/fhir"

    def types_asked(self) -> list[str]:
        return sorted(heard.type for heard in self.heard)

    def __enter__(self) -> Self:
        hostile = self

        class Handler(_Handler):
            server_of = hostile

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(socketserver.StreamRequestHandler):
    server_of: HostileFhirServer
    timeout = LONGEST_WAIT

    def handle(self) -> None:
        heard = self._hear()
        if heard is None:
            return
        hostile = self.server_of
        hostile.heard.append(heard)
        hostile.asked.set()
        behaviour = BEHAVIOURS[hostile.misbehaves.get(heard.type, "well")]
        try:
            for part in behaviour(hostile, heard):
                if part is None:
                    self._wait_for_the_client_to_leave()
                else:
                    self.wfile.write(part)
                    hostile.bytes_sent += len(part)
        except OSError:
            hostile.hung_up.set()

    def _hear(self) -> Heard | None:
        method, _, rest = self.rfile.readline(65536).decode().partition(" ")
        if not method:
            return None
        headers = {}
        while (line := self.rfile.readline(65536).decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Heard(method=method, target=rest.split(" ")[0], headers=headers)

    def _wait_for_the_client_to_leave(self) -> None:
        self.request.settimeout(0.05)
        while not self.server_of._released.is_set():
            try:
                if self.request.recv(1) == b"":
                    self.server_of.hung_up.set()
                    return
            except TimeoutError:
                continue


Behaviour = Callable[[HostileFhirServer, Heard], Iterator[bytes | None]]


def answer(
    status: int, body: bytes | dict[str, Any], *, said: int | None = None, **headers: str
) -> bytes:
    """An answer; `said` is the length that it claims to have."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {
        "Content-Type": "application/fhir+json",
        "Content-Length": str(len(content) if said is None else said),
        "Connection": "close",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + content


def outcome(diagnostics: str = PLANTED) -> dict[str, Any]:
    issue = {"severity": "error", "code": "processing", "diagnostics": diagnostics}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def record_of(heard: Heard) -> dict[str, Any]:
    """The right answer: a 58-year-old with a high glucose, no diagnoses and no medicines."""
    if heard.type == "Patient":
        return patient(name=[{"family": PLANTED}])
    if heard.type == "Observation":
        glucose, bmi = observation("2345-7", 141, "mg/dL"), observation("39156-5", 34.2, "kg/m2")
        return searchset(glucose, bmi)
    return searchset()


def _status(status: int) -> Behaviour:
    return lambda _server, _heard: iter([answer(status, outcome())])


def _says(body: Any, **headers: str) -> Behaviour:
    return lambda _server, _heard: iter([answer(200, body, **headers)])


def _page(server: HostileFhirServer, heard: Heard, following: str) -> Iterator[bytes]:
    link = [{"relation": "next", "url": following}]
    yield answer(200, record_of(heard) | {"resourceType": "Bundle", "link": link})


def _endless_next(server: HostileFhirServer, heard: Heard) -> Iterator[bytes]:
    page = int(parse_qs(urlsplit(heard.target).query).get("page", ["0"])[0])
    return _page(server, heard, f"{server.base}/{heard.type}?page={page + 1}")


def _endless_chunks(_server: HostileFhirServer, _heard: Heard) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n"
    yield b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield CHUNK


def _endless_head(_server: HostileFhirServer, _heard: Heard) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X-More: " + b"x" * 4096 + b"\r\n"


def _endless_continue(_server: HostileFhirServer, _heard: Heard) -> Iterator[bytes]:
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n"


def _stalls_mid_body(_server: HostileFhirServer, heard: Heard) -> Iterator[bytes | None]:
    whole = json.dumps(record_of(heard)).encode()
    yield answer(200, whole[: len(whole) // 2], said=len(whole))
    yield None


BEHAVIOURS: dict[str, Behaviour] = {
    "well": lambda _server, heard: iter([answer(200, record_of(heard))]),
    "401": _status(401),
    "403": _status(403),
    "404": _status(404),
    "429": _status(429),
    "500": _status(500),
    "closes before answering": lambda _server, _heard: iter(()),
    "html with 200": _says(f"<html>{PLANTED}</html>".encode(), Content_Type="text/html"),
    "html that calls itself FHIR": _says(f"<html>{PLANTED}</html>".encode()),
    "json that calls itself text": _says(searchset(), Content_Type="text/plain"),
    "slow first byte": lambda _server, _heard: iter([None]),
    "stalls mid-body": _stalls_mid_body,
    "ends mid-body": lambda _server, heard: iter([answer(200, record_of(heard), said=1_000_000)]),
    "truncated json": _says(b'{"resourceType": "Bundle", "entry": [{"resource": {"'),
    "endless chunked body": _endless_chunks,
    "endless head": _endless_head,
    "endless 100 continue": _endless_continue,
    "huge page": lambda _server, _heard: iter([answer(200, b" " * 40_000_000)]),
    "nested without end": _says(b'{"resourceType":"Bundle","entry":' + b"[" * 900 + b"]" * 900),
    "a member twice": _says(b'{"resourceType":"Bundle","resourceType":"Patient"}'),
    "millions of containers": _says(
        b'{"resourceType":"Bundle","entry":[' + b"[]," * 500_000 + b"[]]}"
    ),
    "gzip bomb": _says(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"),
    "wrong resource type": _says({"resourceType": "Basic", "text": {"div": PLANTED}}),
    "outcome with 200": _says(outcome()),
    "outcome in a bundle": _says(searchset(outcome())),
    "not a resource": _says({"name": PLANTED}),
    "a list": _says(b"[]"),
    "redirect": lambda server, _heard: iter(
        [answer(302, b"", Location=f"{server.elsewhere}/fhir/Condition")]
    ),
    "endless next": _endless_next,
    "next is itself": lambda server, heard: _page(server, heard, server.url + heard.target),
    "next as told": lambda server, heard: (
        _page(server, heard, server.next_link)
        if len(server.heard) == 1
        else iter([answer(200, record_of(heard) | {"resourceType": "Bundle"})])
    ),
    "next is elsewhere": lambda server, heard: _page(
        server, heard, f"{server.elsewhere}/fhir/{heard.type}"
    ),
}
# What of these leaves usable entries behind: the key is there in part.
IN_PART = ("endless next", "next is itself", "next is elsewhere")
