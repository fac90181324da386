"""A connection to a subject that is kept open, with at most one call in flight.

Written on a bare protocol, so that a call costs the generator far less than it costs the floor on
the other core. What `wrk` and `oha` cannot do is send a different patient with every call, or a
token that is good for one call.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import uvloop

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One call as it goes over the wire; the head apart, so that a large body is not copied."""

    head: bytes
    body: bytes


def post(path: str, body: bytes, authorization: str | None = None) -> Request:
    """A call with its head."""
    said = f"Authorization: {authorization}\r\n" if authorization else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{said}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return Request(head.encode(), body)


class Connection(asyncio.Protocol):
    """`answered` is told the connection, the status and the body; `closed`, that the server hung
    up in the middle of a call."""

    def __init__(
        self,
        answered: Callable[[Connection, int, bytes], None],
        closed: Callable[[Connection], None],
    ) -> None:
        self._answered, self._closed = answered, closed
        self._received = b""
        self._wanted: int | None = None
        self.started = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it

    def send(self, request: Request, started: float) -> None:
        """`started` is whatever the sender counts from; it is kept for `answered`."""
        self.started, self.busy = started, True
        self.transport.writelines((request.head, request.body))

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        self._received = received
        if self._wanted is None:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._wanted = end + 4 + content_length(received[:end])
        if len(received) < self._wanted:
            return
        status, body = int(received[9:12]), received[received.find(b"\r\n\r\n") + 4 :]
        self._received, self._wanted, self.busy = b"", None, False
        self._answered(self, status, body)

    def connection_lost(self, fault: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self._closed(self)


def content_length(head: bytes) -> int:
    """Raises ValueError for an answer without one: it would have to be read in another way."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    raise ValueError(f"an answer without a length: {head!r}")


async def connect(
    port: int,
    answered: Callable[[Connection, int, bytes], None],
    closed: Callable[[Connection], None],
) -> Connection:
    """An open connection."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(answered, closed), "127.0.0.1", port
    )
    return connection


def run(calls: Coroutine[Any, Any, T]) -> T:
    """On uvloop; the generator's own garbage collections wait until the calls are over."""
    with _no_collections(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(calls)


@contextmanager
def _no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
