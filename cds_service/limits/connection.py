"""Connections: how many, and what a slow or endless client may cost. uvicorn bounds none of it for
both of its parsers: the keep-alive timeout starts only after an answer, a closed connection stays
until its client has read everything, and httptools takes heads, trailers and requests in advance
without end. https://www.uvicorn.org/settings/#timeouts and #resource-limits"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING

import orjson
from uvicorn.protocols.http.h11_impl import H11Protocol

from cds_service.errors import BadRequest, Overloaded, ServiceError, operation_outcome

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ModuleNotFoundError:  # the extra `fast` is not installed
    HttpToolsProtocol = None  # type: ignore[assignment,misc]

# A JWT may have 16 kB (clients/jwt.py); what proxies add is small.
LARGEST_HEAD_BYTES = 32 * 1024
# Requests that are sent before the answers of earlier ones (RFC 9112, section 9.3.2).
MOST_IN_ADVANCE = 32
# The names under which `lifespan` hands each connection its bounds: uvicorn's `app_state`.
HEAD_SECONDS = "cds_service.head_seconds"
MOST_CONNECTIONS = "cds_service.most_connections"
_DEFAULT_SECONDS = 10.0
_DEFAULT_CONNECTIONS = 500

if TYPE_CHECKING:
    _Protocol = H11Protocol  # what both have in common; for the type checker it is one of them
else:
    _Protocol = object


class HeadInTime(_Protocol):
    """Closes a connection on which no head of a request is complete in time: after it was opened,
    and after each answer. A body that nobody reads any more counts as well. One whose client does
    not read what it was sent is cut off as much later."""

    _timer: asyncio.TimerHandle | None = None
    _timer_rings_at = 0.0
    _look_at = 0.0
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head(self._head_seconds())
        if len(self.connections) > self.app_state.get(MOST_CONNECTIONS, _DEFAULT_CONNECTIONS):
            self._make_room()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head(self._head_seconds() + self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What no parser accepts, as every other fault is told; `msg` says less."""
        self._end_with(
            BadRequest(f"The request is not HTTP, or its head exceeds {LARGEST_HEAD_BYTES} B.")
        )

    def _end_with(self, fault: ServiceError) -> None:
        body = orjson.dumps(operation_outcome(fault))
        headers = {
            "content-type": "application/fhir+json",
            "content-length": str(len(body)),
            "connection": "close",
            **fault.headers,
        }
        lines = [f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if not self.transport.is_closing():
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
            self._close()

    def _make_room(self) -> None:
        """The connection that has been idle the longest gives way: who opens many and says nothing
        keeps nobody out. Where all of them are at work, the new one is told to come back."""
        others = [each for each in self.connections if isinstance(each, HeadInTime)]
        idle = [each for each in others if each is not self and each.is_idle()]
        if idle:
            min(idle, key=lambda each: each._idle_since)._close()
        else:
            self._end_with(Overloaded())

    def is_idle(self) -> bool:
        """True while no request is under way."""
        under_way = self.cycle is not None and not self.cycle.response_complete
        return not under_way and not self.transport.is_closing()

    def _head_seconds(self) -> float:
        return float(self.app_state.get(HEAD_SECONDS, _DEFAULT_SECONDS))

    def _expect_head(self, seconds: float) -> None:
        self._idle_since = self.loop.time()
        self._look_again_in(seconds)

    def _look_again_in(self, seconds: float) -> None:
        """A timer that would ring too early is left as it is, and set again when it has rung: most
        connections carry many calls in that time."""
        self._look_at = self.loop.time() + seconds
        if self._timer is None or self._timer_rings_at > self._look_at:
            self._forget_timer()
            self._set_timer()

    def _set_timer(self) -> None:
        self._timer_rings_at = self._look_at
        self._timer = self.loop.call_at(self._look_at, self._rung)

    def _rung(self) -> None:
        self._timer = None
        if self.loop.time() < self._look_at:
            self._set_timer()
        else:
            self._look()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()  # closed some time ago, and its client still has not read
        elif self.is_idle():
            self._close()
        else:
            self._look_again_in(self._head_seconds())

    def _close(self) -> None:
        self.transport.close()
        self._look_again_in(self._head_seconds())


class BoundedH11(HeadInTime, H11Protocol):
    """h11 bounds the head itself (`h11_max_incomplete_event_size`)."""


def bounded_protocol() -> type[asyncio.Protocol]:
    """The protocol class for uvicorn: httptools where it is installed, h11 otherwise."""
    return BoundedH11 if HttpToolsProtocol is None else BoundedHttpTools


if HttpToolsProtocol is not None:

    class BoundedHttpTools(HeadInTime, HttpToolsProtocol):  # type: ignore[misc]
        """httptools keeps whatever it is sent until a head, a chunk's or the trailers are complete:
        counted here, from the last time that it told of anything else."""

        _untold_bytes = 0

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._untold_bytes = 0

        def on_headers_complete(self) -> None:
            self._untold_bytes = 0
            size = len(self.url) + sum(map(len, chain.from_iterable(self.headers)))
            # uvicorn answers what its parser raises.
            if size > LARGEST_HEAD_BYTES:
                raise ValueError("head too large")
            if len(self.pipeline) >= MOST_IN_ADVANCE:
                raise ValueError("too many requests in advance")
            super().on_headers_complete()
            # RFC 9110, section 6.5.1: trailers are no headers. Among those they would pass by every
            # proxy that removes or sets some of them. The call has its list; they go to another.
            self.headers = self.headers.copy()

        def on_body(self, body: bytes) -> None:
            self._untold_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._untold_bytes = 0
            super().on_message_complete()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self._untold_bytes += len(data)
            super().data_received(data)
            if self._untold_bytes > LARGEST_HEAD_BYTES:
                self.send_400_response("")
