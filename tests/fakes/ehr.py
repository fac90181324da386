"""An EHR on loopback: a FHIR server, a token endpoint and a key set, with faults on demand.

It honours conditional create (FHIR R4, http.html#ccreate) and pages its searches. `faults` are
taken one for each FHIR request, in order; `None` lets one through.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

Fault = (
    int
    | Literal["stall", "close", "close-after-commit", "html", "not-json", "endless", "redirect"]
    | Literal["unnamed", "body-only"]
    | tuple[int, dict[str, str]]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it came in; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(slots=True, kw_only=True)
class FakeEhr:
    """`with FakeEhr() as ehr:` serves until the block ends."""

    resources: list[dict[str, Any]] = field(default_factory=list)
    faults: deque[Fault | None] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    jwks: dict[str, Any] = field(default_factory=lambda: {"keys": []})
    tokens: set[str] | None = None
    token_lifetime: int = 300
    token_status: int = 200
    token_error: str | None = None
    token_headers: dict[str, str] = field(default_factory=dict)
    page_size: int = 1000
    next_base: str | None = None
    url: str = ""
    _server: ThreadingHTTPServer | None = None
    _released: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base(self) -> str:
        return f"{self.url}/fhir"

    @property
    def fhir_requests(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.path.startswith("/fhir")]

    def __enter__(self) -> Self:
        ehr = self

        class Handler(_Handler):
            pass

        Handler.ehr = ehr
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # server_close waits for the connections to end
        self.url = f"http://127.0.0.1:{self._server.server_port}"
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

    def stall(self) -> None:
        """Hold a request until the server ends."""
        self._released.wait(30)

    def release(self) -> None:
        """Those that are held, and those that would be, get no answer and are let go."""
        self._released.set()

    def create(self, resource: dict[str, Any], if_none_exist: str | None) -> tuple[int, str]:
        """Status and id of a (conditional) create."""
        with self._lock:
            matches = self._matching(resource["resourceType"], if_none_exist)
            if len(matches) > 1:
                return 412, ""
            if matches:
                return 200, matches[0]["id"]
            id_ = str(len(self.resources) + 1)
            self.resources.append(resource | {"id": id_})
            return 201, id_

    def _matching(self, type_: str, query: str | None) -> list[dict[str, Any]]:
        if query is None:
            return []
        system, _, value = parse_qs(query)["identifier"][0].partition("|")
        wanted = {"system": system, "value": value}
        return [
            resource
            for resource in self.resources
            if resource["resourceType"] == type_ and wanted in resource.get("identifier", [])
        ]

    def read(self, path: str, query: dict[str, list[str]]) -> dict[str, Any] | None:
        """A resource by id, or a page of a search for all of a type."""
        type_, _, id_ = path.removeprefix("/fhir/").partition("/")
        found = [resource for resource in self.resources if resource["resourceType"] == type_]
        if id_:
            return next((resource for resource in found if resource["id"] == id_), None)
        start = int(query.get("start", ["0"])[0])
        links = []
        if start + self.page_size < len(found):
            following = f"{self.next_base or self.base}/{type_}?start={start + self.page_size}"
            links = [{"relation": "next", "url": following}]
        entries = [{"resource": one} for one in found[start : start + self.page_size]]
        return {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # of five, the sixth that connects at once is sometimes reset


class _Handler(BaseHTTPRequestHandler):
    ehr: FakeEhr
    protocol_version = "HTTP/1.1"
    timeout = 5
    wbufsize = -1  # one segment for each answer: no waiting for a delayed ACK
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._take()

    def do_POST(self) -> None:
        self._take()

    def _take(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.ehr.asked.append(
            Asked(method=self.command, path=self.path, headers=headers, body=body)
        )
        route = urlsplit(self.path)
        if route.path == "/jwks.json":
            self._say(200, self.ehr.jwks)
        elif route.path == "/token":
            self._grant()
        elif not self._faulty(body):
            self._serve(route.path, parse_qs(route.query), body)

    def _grant(self) -> None:
        token = f"token-{sum(asked.path == '/token' for asked in self.ehr.asked)}"
        if self.ehr.tokens is not None:
            self.ehr.tokens.add(token)
        answer = {"access_token": token, "token_type": "bearer"}
        if self.ehr.token_error:
            answer = {"error": self.ehr.token_error, "error_description": "in free text"}
        lifetime = {"expires_in": self.ehr.token_lifetime}
        self._say(self.ehr.token_status, answer | lifetime, self.ehr.token_headers)

    def _faulty(self, body: bytes) -> bool:
        fault = self.ehr.faults.popleft() if self.ehr.faults else None
        match fault:
            case None:
                return False
            case "stall":
                self.ehr.stall()
                self.close_connection = True
            case "close":
                self.close_connection = True
            case "close-after-commit":
                self.ehr.create(json.loads(body), self.headers.get("If-None-Exist"))
                self.close_connection = True
            case "unnamed":
                status, _ = self.ehr.create(json.loads(body), self.headers.get("If-None-Exist"))
                self._say(status, b"")
            case "body-only":
                resource = json.loads(body)
                status, id_ = self.ehr.create(resource, self.headers.get("If-None-Exist"))
                self._say(status, resource | {"id": id_, "meta": {"versionId": "3"}})
            case "html":
                self._say(200, b"<html>Log in</html>", {"Content-Type": "text/html"})
            case "not-json":
                self._say(200, b"{")
            case "endless":
                self._say(200, b'"' + b"x" * 40_000_000)
            case "redirect":
                self._say(302, {}, {"Location": f"{self.ehr.url}/elsewhere"})
            case int():
                self._say(fault, _outcome(fault))
            case (int() as status, dict() as headers):
                self._say(status, _outcome(status), headers)
        return True

    def _serve(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.ehr.tokens is not None and token not in self.ehr.tokens:
            self._say(401, _outcome(401))
        elif self.command == "POST":
            resource = json.loads(body)
            status, id_ = self.ehr.create(resource, self.headers.get("If-None-Exist"))
            where = f"{self.ehr.base}/{resource['resourceType']}/{id_}/_history/1"
            headers = {"Location": where, "ETag": 'W/"1"'} if id_ else {}
            self._say(status, b"" if id_ else _outcome(status), headers)
        else:
            found = self.ehr.read(path, query)
            self._say(*((200, found) if found else (404, _outcome(404))))

    def _say(
        self, status: int, body: dict[str, Any] | bytes, headers: dict[str, str] | None = None
    ) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        said = {"Content-Type": "application/fhir+json"} | (headers or {})
        try:
            self.send_response(status)
            for name, value in said.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True


def _outcome(status: int) -> dict[str, Any]:
    issue = {"severity": "error", "code": "processing", "diagnostics": f"because {status}"}
    return {"resourceType": "OperationOutcome", "issue": [issue]}
