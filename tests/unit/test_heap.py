"""Memory that long bodies took does not stay with the worker."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from cds_service.limits import heap
from cds_service.limits.heap import LONG_BODY_BYTES, Heap

# Between those that are freed some stay, as the caches of a service do: the allocator by itself
# gives back only what lies above the last one in use.
KEEPS_LITTLE_OF_MUCH = """
import os
from cds_service.limits.heap import give_back

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

blocks = [bytes(50_000) for _ in range(2000)]
blocks = blocks[::100] + blocks[-1:]
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is glibc's")
def test_what_was_freed_is_given_back() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", KEEPS_LITTLE_OF_MUCH], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) > 80_000_000


async def given_back_after(sizes: list[int]) -> int:
    times = 0

    def counted() -> None:
        nonlocal times
        times += 1

    own = Heap(counted)
    for size in sizes:
        own.freed(size)
    await asyncio.sleep(0.05)
    return times


def test_many_bodies_are_given_back_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "PAUSE_SECONDS", 0.01)
    assert asyncio.run(given_back_after([LONG_BODY_BYTES + 1] * 20)) == 1


def test_short_bodies_leave_nothing_to_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "PAUSE_SECONDS", 0.01)
    assert asyncio.run(given_back_after([LONG_BODY_BYTES] * 20)) == 0
