"""What is due now need not wait for the next look into the store."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Bell:
    """Rung in any thread, heard by the one worker of this process; without one, by nobody.

    Between processes there is none: their workers look every second.
    """

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def ring(self) -> None:
        """Something is due."""
        if self._loop is not None:
            # RuntimeError: the loop has ended meanwhile, and its worker with it.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._rung.set)

    def hush(self) -> None:
        """What was rung until here is being looked at."""
        self._loop = asyncio.get_running_loop()
        self._rung.clear()

    async def heard(self, seconds: float) -> None:
        """Returns when it is rung after the last `hush`, or after `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), seconds)
