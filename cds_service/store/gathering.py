"""Calls of one event loop on their way to the group commit."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

from cds_service.store.places import Awaited

# How long the first of them waits for others on a busy event loop.
GATHERING_SECONDS = 0.01


class Gathered:
    """The calls of one event loop that are about to be queued.

    While each of its turns brings another, the loop is busy, and the thread would only take the
    interpreter from it to commit them one by one.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, queue: Callable[..., None], *, most: int
    ) -> None:
        # Not kept alive by what is kept for it.
        self._loop = weakref.ref(loop)
        self._queue = queue
        self._most = most
        self._places: list[Awaited] = []
        self._seen = 0
        self._since = 0.0

    def add(self, place: Awaited) -> None:
        if not self._places:
            self._since = place.loop.time()
            place.loop.call_soon(self._look)
        self._places.append(place)

    def _look(self) -> None:
        count, loop = len(self._places), self._loop()
        more = self._seen < count < self._most
        if more and loop and loop.time() - self._since < GATHERING_SECONDS:
            self._seen = count
            loop.call_soon(self._look)
            return
        places, self._places, self._seen = self._places, [], 0
        self._queue(*places)
