"""Tokens that were used already. A JWT is good for one call."""

from __future__ import annotations

import hashlib
import heapq
import threading
from datetime import UTC, datetime
from typing import Protocol

import structlog

from cds_service.errors import StoreUnavailable

log = structlog.get_logger(__name__)

MOST_REMEMBERED = 200_000
# Machines that share a store may disagree about the time: a token that has expired by one clock
# may still be valid by another, and is kept for as long.
CLOCKS_DIFFER_SECONDS = 300.0
CLEANING_SECONDS = 60.0


class SeenTokens(Protocol):
    """Remembers token ids until they expire. It may block, and is called in worker threads."""

    def first_use(self, *, issuer: str, token_id: str, expires_at: float, now: float) -> bool:
        """True once for each token of an issuer; the times are seconds of the epoch.

        Raises StoreUnavailable where it cannot tell: such a call is not let in.
        """


class TokenStore(Protocol):
    """What `Store` has of a memory that all processes share."""

    def use_token(self, token: bytes, *, expires_at: datetime, now: datetime) -> bool: ...

    def forget_tokens(self, *, now: datetime) -> int: ...


class TokensSeenHere:
    """The tokens that this process has seen. Each process has its own memory."""

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._seen: set[bytes] = set()
        self._by_expiry: list[tuple[float, bytes]] = []
        self._one_at_a_time = threading.Lock()

    def first_use(self, *, issuer: str, token_id: str, expires_at: float, now: float) -> bool:
        """Raises StoreUnavailable when there is no room: forgetting one would let it in again."""
        token = digest(issuer, token_id)
        with self._one_at_a_time:
            self._forget(now)
            if token in self._seen:
                return False
            if len(self._seen) >= self._most:
                raise StoreUnavailable("Too many calls in a short time.")
            self._keep(token, expires_at)
        return True

    def holds(self, token: bytes, now: float) -> bool:
        """Whether `token` was kept and has not expired."""
        with self._one_at_a_time:
            self._forget(now)
            return token in self._seen

    def remember(self, token: bytes, expires_at: float) -> None:
        """Keep `token` if there is room: for a memory that has another one behind it."""
        with self._one_at_a_time:
            if token not in self._seen and len(self._seen) < self._most:
                self._keep(token, expires_at)

    def _keep(self, token: bytes, expires_at: float) -> None:
        self._seen.add(token)
        heapq.heappush(self._by_expiry, (expires_at, token))

    def _forget(self, now: float) -> None:
        while self._by_expiry and self._by_expiry[0][0] <= now:
            self._seen.discard(heapq.heappop(self._by_expiry)[1])


class TokensSeenByAll:
    """The tokens that any process on this store has seen. The store decides; the memory in front
    of it only knows tokens that were used, and spares the store their repetition."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._front = TokensSeenHere()
        self._cleaned_at = float("-inf")

    def first_use(self, *, issuer: str, token_id: str, expires_at: float, now: float) -> bool:
        """Raises StoreUnavailable when the store cannot tell: the token is not let in, and the
        memory does not count it as used."""
        token = digest(issuer, token_id)
        if self._front.holds(token, now):
            return False
        until = expires_at + CLOCKS_DIFFER_SECONDS
        first = self._store.use_token(token, expires_at=_time(until), now=_time(now))
        self._front.remember(token, until)
        self._clean(now)
        return first

    def _clean(self, now: float) -> None:
        if now - self._cleaned_at < CLEANING_SECONDS:
            return
        self._cleaned_at = now
        try:
            self._store.forget_tokens(now=_time(now))
        except StoreUnavailable:
            log.warning("expired tokens were not removed")  # the next cleaning will


def digest(issuer: str, token_id: str) -> bytes:
    """Of one size, and of no use to anyone who reads the memory or the table."""
    both = repr((issuer, token_id)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(both, digest_size=16).digest()


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
