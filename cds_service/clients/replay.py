"""Tokens that were used already. A JWT is good for one call."""

from __future__ import annotations

import hashlib
import heapq
from typing import Protocol

from cds_service.errors import StoreUnavailable

MOST_REMEMBERED = 200_000


class SeenTokens(Protocol):
    """Remembers token ids until they expire."""

    def first_use(self, *, issuer: str, token_id: str, expires_at: float, now: float) -> bool:
        """True once for each token of an issuer; the times are seconds of the epoch."""


class TokensSeenHere:
    """The tokens that this process has seen. Each process has its own memory."""

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._seen: set[bytes] = set()
        self._by_expiry: list[tuple[float, bytes]] = []

    def first_use(self, *, issuer: str, token_id: str, expires_at: float, now: float) -> bool:
        """Raises StoreUnavailable when there is no room: forgetting one would let it in again."""
        while self._by_expiry and self._by_expiry[0][0] <= now:
            self._seen.discard(heapq.heappop(self._by_expiry)[1])
        # A digest: of one size, and none of it is of use to anyone who reads this memory.
        token = hashlib.blake2b(repr((issuer, token_id)).encode("utf-8", "surrogatepass")).digest()
        token = token[:16]
        if token in self._seen:
            return False
        if len(self._seen) >= self._most:
            raise StoreUnavailable("Too many calls in a short time.")
        self._seen.add(token)
        heapq.heappush(self._by_expiry, (expires_at, token))
        return True
