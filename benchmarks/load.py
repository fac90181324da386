"""The closed loop: so many connections, each sends its next call when the last one is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.connection import Connection, Request, connect, run
from benchmarks.subjects import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One stretch of calls to one subject: all it took, what each call took, time on its core."""

    seconds: float
    latencies: list[float]
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def cpu_per_call(self) -> float:
        return self.cpu_seconds / len(self.latencies)


def drive(subject: Subject, bodies: Sequence[bytes], *, connections: int) -> Slice:
    """Send every body once; raises SubjectFailed for any answer but 200.

    With one connection the latencies are in the order of `bodies`.
    """
    requests = subject.requests(bodies)
    cpu_before = subject.cpu_seconds()
    seconds, latencies = run(_all(subject, requests, min(connections, len(requests))))
    return Slice(
        seconds=seconds, latencies=latencies, cpu_seconds=subject.cpu_seconds() - cpu_before
    )


async def _all(
    subject: Subject, requests: Sequence[Request], connections: int
) -> tuple[float, list[float]]:
    """(seconds from the first call to the last answer, what each call took)."""
    waiting = iter(requests)
    latencies: list[float] = []
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(connection: Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        latencies.append(now - connection.started)
        if status != 200:
            _fail(f"answered {status}: {body[:400]!r}")
        elif (request := next(waiting, None)) is not None:
            connection.send(request, now)
        elif len(latencies) == len(requests) and not done.done():
            done.set_result(None)

    def closed(_: Connection) -> None:
        _fail("hung up in the middle of a call")

    def _fail(how: str) -> None:
        if not done.done():
            done.set_exception(subject.failed(how))

    opened = [await connect(subject.port, answered, closed) for _ in range(connections)]
    started = time.perf_counter()
    for connection in opened:
        connection.send(next(waiting), time.perf_counter())
    try:
        await done
        return time.perf_counter() - started, latencies
    finally:
        for connection in opened:
            connection.busy = False
            connection.transport.close()
