"""What long bodies took is given back to the system.

The allocator keeps what was freed for the next one who asks. After eight bodies of 4 MB at once a
worker would look a third larger for as long as it lives, and eight workers together might well be.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable

# To give back, and to be given anew, takes longer than to read a short body.
LONG_BODY_BYTES = 1_000_000
PAUSE_SECONDS = 1.0


def _trim_of_libc() -> Callable[[int], int] | None:
    """https://man7.org/linux/man-pages/man3/malloc_trim.3.html; None where libc is another."""
    if sys.platform != "linux":
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


_TRIM = _trim_of_libc()


def give_back() -> None:
    """Give what this process has freed back to the system; a millisecond or two."""
    if _TRIM is not None:
        _TRIM(0)


class Heap:
    """Gives back after long bodies, at most once in PAUSE_SECONDS."""

    def __init__(self, give_back: Callable[[], None] = give_back) -> None:
        self._give_back = give_back
        self._due: asyncio.TimerHandle | None = None

    def freed(self, count: int) -> None:
        """A body of `count` bytes is gone."""
        if count > LONG_BODY_BYTES and self._due is None:
            self._due = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._tidy)

    def _tidy(self) -> None:
        self._due = None
        self._give_back()
