"""The load generator: connections that are kept open, each with one call in flight (closed loop).

Written on bare streams, so that it stays well below what the floor costs on the other core. What
`wrk` and `oha` cannot do is send a different patient with every call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.subjects import Subject, SubjectFailed

PATH = "/cds-services/diabetes-risk"
# One answer must fit what a stream reader may hold at once.
READ_LIMIT = 1 << 20


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
    """Send every body once; raises SubjectFailed for any answer but 200."""
    requests = [request(body) for body in bodies]
    cpu_before = subject.cpu_seconds()
    started = time.perf_counter()
    latencies = asyncio.run(_all(subject, requests, connections))
    seconds = time.perf_counter() - started
    return Slice(
        seconds=seconds, latencies=latencies, cpu_seconds=subject.cpu_seconds() - cpu_before
    )


def request(body: bytes) -> bytes:
    """The whole HTTP request."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _all(subject: Subject, requests: Sequence[bytes], connections: int) -> list[float]:
    waiting = iter(requests)
    taken = await asyncio.gather(*(_connection(subject, waiting) for _ in range(connections)))
    return [latency for latencies in taken for latency in latencies]


async def _connection(subject: Subject, waiting: Iterator[bytes]) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", subject.port, limit=READ_LIMIT)
    taken = []
    for message in waiting:
        started = time.perf_counter()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        answer = await reader.readexactly(_length(head))
        taken.append(time.perf_counter() - started)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SubjectFailed(f"{subject.name} answered {head[:40]!r}: {answer[:400]!r}")
    writer.close()
    await writer.wait_closed()
    return taken


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    raise SubjectFailed(f"an answer without a length: {head!r}")
