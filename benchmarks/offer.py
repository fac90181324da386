"""The open loop: calls are due at fixed moments, whether or not the ones before were answered.

A closed loop asks a slow service less often and so never sees it fall behind. Here what a call took
is counted from the moment when it was due, waiting for a free connection included: nothing that
hurts a clinician is left out (G. Tene: "coordinated omission").
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from benchmarks.connection import Connection, Request, connect, run
from benchmarks.subjects import Subject

# More than the service lets in (32 at work, 128 waiting): it is the service that refuses.
CONNECTIONS = 256
# A queue as old as this is lost, and so is the step; what is in flight may end.
HOPELESS_SECONDS = 2.0
DRAIN_SECONDS = 10.0
# At most so many calls are sent before answers are looked at.
BURST = 16


@dataclass(slots=True)
class Offered:
    """What came of it; seconds. `late` is the generator's own fault, `latencies` of answered ones,
    refusals too."""

    due: int
    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def unanswered(self) -> int:
        return self.due - len(self.latencies)

    @property
    def refused(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)


def moments(rate: float, seconds: float, chance: random.Random) -> list[float]:
    """When calls are due, in seconds from the start: `rate` a second on average, independently of
    one another (a Poisson process), as calls of many clinicians are."""
    gaps = (chance.expovariate(rate) for _ in range(round(rate * seconds)))
    return list(accumulate(gaps))


def offer(
    subject: Subject,
    bodies: Sequence[bytes],
    due: Sequence[float],
    *,
    connections: int = CONNECTIONS,
) -> Offered:
    """Send each of `bodies` when it is `due`; no refusal stops it."""
    requests = subject.requests(bodies)
    return run(_Loop(requests, due).run(subject.port, connections))


class _Loop:
    def __init__(self, requests: Sequence[Request], due: Sequence[float]) -> None:
        self._calls = list(zip(due, requests, strict=True))
        self._found = Offered(due=len(self._calls))
        self._free: deque[Connection] = deque()
        self._queue: deque[tuple[float, Request]] = deque()
        self._in_flight = 0
        self._idle = asyncio.Event()

    async def run(self, port: int, connections: int) -> Offered:
        opened = [await connect(port, self._answered, self._closed) for _ in range(connections)]
        self._free.extend(opened)
        start = time.perf_counter() + 0.05
        try:
            await self._pace(start)
            await self._drain()
        finally:
            for connection in opened:
                connection.busy = False
                connection.transport.close()
        self._found.seconds = time.perf_counter() - start
        return self._found

    async def _pace(self, start: float) -> None:
        for number, (offset, request) in enumerate(self._calls):
            due = start + offset
            wait = due - time.perf_counter()
            if wait > 0 or number % BURST == 0:
                await asyncio.sleep(max(0.0, wait))
            if self._queue and time.perf_counter() - self._queue[0][0] > HOPELESS_SECONDS:
                self._queue.clear()
                return
            self._queue.append((due, request))
            if self._free:
                self._found.late.append(max(0.0, time.perf_counter() - due))
            self._send()

    def _send(self) -> None:
        while self._queue and self._free:
            due, request = self._queue.popleft()
            self._in_flight += 1
            self._free.popleft().send(request, due)

    def _answered(self, connection: Connection, status: int, _body: bytes) -> None:
        self._found.latencies.append(time.perf_counter() - connection.started)
        self._found.statuses[status] = self._found.statuses.get(status, 0) + 1
        self._free.append(connection)
        self._done()

    def _closed(self, _: Connection) -> None:
        self._done()

    def _done(self) -> None:
        self._in_flight -= 1
        self._send()
        if not self._in_flight and not self._queue:
            self._idle.set()

    async def _drain(self) -> None:
        self._idle.clear()
        if not self._in_flight and not self._queue:
            return
        try:
            await asyncio.wait_for(self._idle.wait(), DRAIN_SECONDS)
        except TimeoutError:
            self._queue.clear()
