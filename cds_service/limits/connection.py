"""Connections whose client is slow, or sends a head without end. uvicorn bounds neither for both
of its parsers: the keep-alive timeout starts only after an answer, and httptools takes any head.
https://www.uvicorn.org/settings/#timeouts and #resource-limits"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
from uvicorn.protocols.http.h11_impl import H11Protocol

from cds_service.errors import BadRequest, operation_outcome

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ModuleNotFoundError:  # the extra `fast` is not installed
    HttpToolsProtocol = None  # type: ignore[assignment,misc]

# A JWT may have 16 kB (clients/jwt.py); what proxies add is small.
LARGEST_HEAD_BYTES = 32 * 1024
# The name under which `lifespan` hands each connection its time: uvicorn's `app_state`.
HEAD_SECONDS = "cds_service.head_seconds"
_DEFAULT_SECONDS = 10.0

if TYPE_CHECKING:
    _Protocol = H11Protocol  # what both have in common; for the type checker it is one of them
else:
    _Protocol = object


class HeadInTime(_Protocol):
    """Closes a connection on which no head of a request is complete in time: after it was opened,
    and after each answer. A body that nobody reads any more counts as well."""

    _idle_until: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head(self._head_seconds())

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head(self._head_seconds() + self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What no parser accepts, as every other fault is told; `msg` says less."""
        fault = BadRequest(f"The request is not HTTP, or its head exceeds {LARGEST_HEAD_BYTES} B.")
        body = orjson.dumps(operation_outcome(fault))
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/fhir+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        if not self.transport.is_closing():
            self.transport.write(head.encode() + body)
            self.transport.close()

    def _head_seconds(self) -> float:
        return float(self.app_state.get(HEAD_SECONDS, _DEFAULT_SECONDS))

    def _expect_head(self, seconds: float) -> None:
        self._forget_timer()
        self._idle_until = self.loop.call_later(seconds, self._close_if_idle)

    def _forget_timer(self) -> None:
        if self._idle_until is not None:
            self._idle_until.cancel()
            self._idle_until = None

    def _close_if_idle(self) -> None:
        under_way = self.cycle is not None and not self.cycle.response_complete
        if not under_way and not self.transport.is_closing():
            self.transport.close()


class BoundedH11(HeadInTime, H11Protocol):
    """h11 bounds the head itself (`h11_max_incomplete_event_size`)."""


def bounded_protocol() -> type[asyncio.Protocol]:
    """The protocol class for uvicorn: httptools where it is installed, h11 otherwise."""
    return BoundedH11 if HttpToolsProtocol is None else BoundedHttpTools


if HttpToolsProtocol is not None:

    class BoundedHttpTools(HeadInTime, HttpToolsProtocol):  # type: ignore[misc]
        """httptools keeps whatever it is sent until a head is complete: counted here."""

        _in_head = False
        _head_bytes = 0

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head, self._head_bytes = True, 0

        def on_headers_complete(self) -> None:
            self._in_head = False
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > LARGEST_HEAD_BYTES:
                raise ValueError("head too large")  # uvicorn answers what its parser raises
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self._head_bytes += len(data) if self._in_head else 0
            super().data_received(data)
            if self._in_head and self._head_bytes > LARGEST_HEAD_BYTES:
                self.send_400_response("")
