"""Long work is done one piece after another, each kind for itself."""

from __future__ import annotations

import asyncio
import threading
import time

from cds_service.long_work import Lane


class AtWork:
    """How many work at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def work(self) -> int:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.01)
        with self._lock:
            self.now -= 1
        return threading.get_ident()


def test_a_lane_does_one_piece_at_a_time_and_not_on_the_event_loop() -> None:
    at_work, lane = AtWork(), Lane("test")

    async def ten() -> list[int]:
        return await asyncio.gather(*(lane.run(at_work.work) for _ in range(10)))

    threads = asyncio.run(ten())
    assert at_work.most == 1
    assert threading.get_ident() not in threads
    # Another event loop, as the next test has, has lanes of its own.
    assert len(asyncio.run(ten())) == 10


def test_lanes_do_not_wait_for_each_other() -> None:
    both_there = threading.Barrier(2, timeout=10)

    async def two() -> None:
        await asyncio.gather(*(Lane(kind).run(both_there.wait) for kind in ("one", "other")))

    asyncio.run(two())
