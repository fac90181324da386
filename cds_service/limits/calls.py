"""Calls at once, time for each, time for its body and room for it. Monitors are always let through.

A call is answered 503 at once when the waiting room is full, 408 when its body does not arrive in
time, 503 when there is no room for its body or when it takes longer than a call may take. It takes
one of the few turns to be worked on when its body is there: a slow client waits in the waiting room
and holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cds_service.errors import BodyTooSlow, CallTimedOut, Overloaded, ServiceError
from cds_service.limits.call_time import CallTime, on_the_clock
from cds_service.limits.heap import Heap
from cds_service.log import note
from cds_service.routes.answers import fault_answer
from cds_service.settings import Settings

log = structlog.get_logger(__name__)

# Whoever watches the service must see that it is overloaded, and must not take it for dead.
MONITORS = frozenset(("/healthz", "/readyz", "/metrics"))
WITH_A_BODY = frozenset(("POST", "PUT", "PATCH"))
# So many of the largest bodies may be here at once. One is read at a time (`long_work.py`), which
# takes some 350 MB of memory for 20 MB. Those of an ordinary day are a hundredth of it.
LARGEST_BODIES = 5


class Calls:
    """Within Observe, which logs and counts what is refused here, and around everything else."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._body_seconds = settings.read_timeout_ms / 1000
        self._call_seconds = settings.call_timeout_ms / 1000
        self._most = settings.max_concurrent_calls + settings.max_waiting_calls
        self._turns = asyncio.Semaphore(settings.max_concurrent_calls)
        self._room = _Room(LARGEST_BODIES * settings.max_body_bytes)
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in MONITORS:
            await self.app(scope, receive, send)
            return
        if self._inside >= self._most:
            await _refuse(Overloaded(), scope, receive, send)
            return
        self._inside += 1
        try:
            await self._in_time(scope, receive, send)
        finally:
            self._inside -= 1

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, begun = CallTime(), False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        def out_of_time() -> None:
            # What is being committed is also answered: 503 means that nothing was stored.
            if begun or call.give_up():
                patience.reschedule(0)

        clock = asyncio.get_running_loop().call_later(self._call_seconds, out_of_time)
        try:
            async with asyncio.timeout(None) as patience:
                with on_the_clock(call):
                    await self._in_turn(scope, receive, watched)
        except TimeoutError:
            if not patience.expired():
                raise
            if begun:
                raise ClientDisconnect from None  # it does not read its answer
            await _refuse(CallTimedOut(), scope, receive, send)
        finally:
            clock.cancel()

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turn() as turn:
            if scope["method"] not in WITH_A_BODY:
                await turn.take()
            body = _Body(receive, turn, self._room, seconds=self._body_seconds)
            try:
                await self.app(scope, body.receive, send)
            finally:
                body.leave()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[_Turn]:
        turn = _Turn(self._turns)
        try:
            yield turn
        finally:
            turn.give_back()


class _Turn:
    """One of the few calls that are worked on at once."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._held = False

    async def take(self) -> None:
        await self._turns.acquire()
        self._held = True

    def give_back(self) -> None:
        if self._held:
            self._turns.release()


class _Room:
    """The bytes of all bodies that are here."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._heap = Heap()

    def take(self, count: int) -> None:
        if count > self._left:
            raise Overloaded
        self._left -= count

    def give_back(self, count: int) -> None:
        self._left += count
        self._heap.freed(count)


class _Body:
    """The body as it arrives; whole in time or 408, and then the call waits for its turn. 503 when
    there is no room for it beside the others."""

    def __init__(self, receive: Receive, turn: _Turn, room: _Room, *, seconds: float) -> None:
        self._receive = receive
        self._turn = turn
        self._room = room
        self._bytes = 0
        self._seconds = seconds
        self._until: float | None = None
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        message = await self._in_time()
        size = len(message.get("body", b""))
        self._room.take(size)
        self._bytes += size
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._whole = True
            await self._turn.take()
        return message

    def leave(self) -> None:
        """The call is over, and its body gone."""
        self._room.give_back(self._bytes)
        self._bytes = 0

    async def _in_time(self) -> Message:
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                return await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None


async def _refuse(fault: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    note(Request(scope), outcome=f"refused:{type(fault).__name__}")
    await fault_answer(fault)(scope, receive, send)
