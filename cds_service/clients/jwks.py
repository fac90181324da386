"""A client's keys, by key id: pinned by a file, or fetched from its jwks_url and kept a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import httpx
import structlog

from cds_service.clients.keys import Key, KeyFault, read_jwks
from cds_service.clients.outbound import AnswerTooLarge, read_bounded

log = structlog.get_logger(__name__)

LIFETIME_SECONDS = 600.0
# While the client's server does not answer, known keys serve on for this long and no longer.
STALE_SECONDS = 3600.0
# Anyone can name a key that does not exist: it makes the service fetch once in this time at most.
COOLDOWN_SECONDS = 30.0
# After a failure; a server that starts up a little later than this one is found soon enough. It
# doubles: anyone can name a client, and each who does waits for that client's dead server, in one
# of the few places that all clients share.
PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
TIMEOUT_SECONDS = 3.0
LARGEST_SET_BYTES = 256 * 1024


class KeySource(Protocol):
    """Where a client's public keys come from."""

    async def find(self, kid: str) -> list[Key]:
        """The keys with this id; none for an id that is unknown."""


class PinnedKeys:
    """The keys of a jwks_file, read once at start."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    async def find(self, kid: str) -> list[Key]:
        return [key for key in self._keys if key.kid == kid]


class FetchedKeys:
    """The keys at a jwks_url: fetched when needed, again when old, once more for a new key id."""

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._http = http
        self._monotonic = monotonic
        self._keys: tuple[Key, ...] = ()
        self._fetched_at = float("-inf")
        self._failed_at = float("-inf")
        self._pause = PAUSE_SECONDS
        self._searched_at = float("-inf")
        self._one_at_a_time = asyncio.Lock()

    async def find(self, kid: str) -> list[Key]:
        known = self._named(kid)
        # While one call waits for a new set, those whose key is known do not queue behind it.
        if known and (not self._older_than(LIFETIME_SECONDS) or self._one_at_a_time.locked()):
            return known
        async with self._one_at_a_time:
            return await self._find_anew(kid)

    async def _find_anew(self, kid: str) -> list[Key]:
        fetched = self._older_than(LIFETIME_SECONDS) and await self._fetch()
        if not self._named(kid) and not fetched and self._may_search():
            self._searched_at = self._monotonic()
            await self._fetch()
        return self._named(kid)

    def _named(self, kid: str) -> list[Key]:
        if self._older_than(STALE_SECONDS):
            return []
        return [key for key in self._keys if key.kid == kid]

    def _older_than(self, seconds: float) -> bool:
        return self._monotonic() - self._fetched_at > seconds

    def _may_search(self) -> bool:
        return self._monotonic() - self._searched_at > COOLDOWN_SECONDS

    async def _fetch(self) -> bool:
        """Ask the server, unless it failed a moment ago; True when a new set came."""
        now = self._monotonic()
        if now - self._failed_at <= self._pause:
            return False
        again = now - self._failed_at <= 2 * LONGEST_PAUSE_SECONDS
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS) if again else PAUSE_SECONDS
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                self._keys = read_jwks(await self._read())
        except (httpx.HTTPError, TimeoutError, KeyFault, AnswerTooLarge) as fault:
            self._failed_at = now
            log.warning("key set not fetched", url=self._url, fault=type(fault).__name__)
            return False
        self._fetched_at, self._failed_at = now, float("-inf")
        return True

    async def _read(self) -> bytes:
        async with self._http.stream("GET", self._url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise KeyFault(f"was answered with {answer.status_code}")
            return await read_bounded(answer, LARGEST_SET_BYTES)
