"""Long work off the event loop: one piece of a kind at a time.

Threads share one interpreter. Two long records that are read at once are both done when, one after
the other, the second would have been, and the memory that they take adds up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")


class Lane:
    """Work of one kind, in the order in which it comes."""

    def __init__(self, kind: str) -> None:
        self._limiter: RunVar[CapacityLimiter] = RunVar(kind)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives, from a thread."""
        return await to_thread.run_sync(work, limiter=self._of_this_loop())

    def _of_this_loop(self) -> CapacityLimiter:
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(1)
            self._limiter.set(limiter)
        return limiter


# Two, so that what has been read is concluded, and let go, before all that wait have been read.
READING = Lane("reading")
CONCLUDING = Lane("concluding")
