"""A real HTTP server on this machine that has NHANES tables and fails in the ways asked of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

# What a request is answered with instead; it is given the handler and the table's bytes.
Answer = Callable[["Handler", bytes], None]


class Cdc:
    """`with Cdc({"DEMO_I": b"…"}) as cdc:` serves them at `cdc.url`/2015/DataFiles/DEMO_I.xpt.

    `faults[table]` are answered first, one a request. `asked` holds each request: path and Range.
    Ranges are served as RFC 9110 says unless `ranges` is False; `version` is the ETag.
    """

    def __init__(self, tables: Mapping[str, bytes]) -> None:
        self.tables = dict(tables)
        self.faults: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.ranges = True
        self.version: str | None = '"1"'
        server = self

        class Bound(Handler):
            cdc = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class Handler(BaseHTTPRequestHandler):
    cdc: Cdc
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.cdc.asked.append((self.path, self.headers.get("Range")))
        found = re.fullmatch(r"/\d{4}/DataFiles/(\w+)\.xpt", self.path)
        body = self.cdc.tables.get(found[1]) if found else None
        if found is None or body is None:
            self.send_error(404)
            return
        faults = self.cdc.faults.get(found[1], [])
        if faults:
            faults.pop(0)(self, body)
        else:
            self.serve(body)

    def serve(self, body: bytes, *, breaks_after: int | None = None) -> None:
        """The table or the part asked for; with `breaks_after`, that many bytes, then the end."""
        start = self._start()
        part = body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(part)))
        if self.cdc.version is not None:
            self.send_header("ETag", self.cdc.version)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(part[:breaks_after])
        if breaks_after is not None:
            self.close_connection = True

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _start(self) -> int:
        """Where the part asked for begins; 0 where the whole is to be sent."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or not self.cdc.ranges:
            return 0
        return int(asked[1]) if self.headers.get("If-Range") == self.cdc.version else 0

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def breaking_after(received: int) -> Answer:
    return lambda handler, body: handler.serve(body, breaks_after=received)


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda handler, _: handler.answer(status, body, **headers)
