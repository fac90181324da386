"""A JWT is good for one call, whoever remembers it: this process, or a store that all share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cds_service.clients import Clients
from cds_service.clients.replay import (
    CLEANING_SECONDS,
    CLOCKS_DIFFER_SECONDS,
    SeenTokens,
    TokensSeenByAll,
    TokensSeenHere,
)
from cds_service.errors import StoreUnavailable, Unauthenticated
from cds_service.store import Store
from tests.fakes.tokens import ENDPOINT, NOW, a_clients_file, a_key, a_token, jwks


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path}/cds.db")
    yield store
    store.close()


@pytest.fixture(params=["here", "by all"])
def seen(request: pytest.FixtureRequest, store: Store) -> SeenTokens:
    return TokensSeenHere() if request.param == "here" else TokensSeenByAll(store)


def used(seen: SeenTokens, token_id: str, now: float = 0.0, issuer: str = "i") -> bool:
    return seen.first_use(issuer=issuer, token_id=token_id, expires_at=now + 360, now=now)


class Broken:
    """A store that fails as often as it is told to."""

    def __init__(self, store: Store, failures: int) -> None:
        self._store = store
        self.failures = failures

    def use_token(self, token: bytes, *, expires_at: datetime, now: datetime) -> bool:
        self._fail()
        return self._store.use_token(token, expires_at=expires_at, now=now)

    def forget_tokens(self, *, now: datetime) -> int:
        self._fail()
        return self._store.forget_tokens(now=now)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable


# Both ----------------------------------------------------------------------------------------


def test_the_first_use_is_the_only_one(seen: SeenTokens) -> None:
    assert [used(seen, "a"), used(seen, "a"), used(seen, "b")] == [True, False, True]
    assert used(seen, "a", issuer="another")


def test_an_issuer_and_a_jti_do_not_run_together(seen: SeenTokens) -> None:
    assert used(seen, "b,c", issuer="a")
    assert used(seen, "c", issuer="a,b")


def test_a_jti_may_hold_what_no_database_can(seen: SeenTokens) -> None:
    for odd in ("\x00", "\ud800", "'; DROP TABLE used_jti; --", "ü" * 256):
        assert [used(seen, odd), used(seen, odd)] == [True, False]


def test_of_many_threads_with_one_token_one_is_first(seen: SeenTokens) -> None:
    with ThreadPoolExecutor(8) as threads:
        first = list(threads.map(lambda _: used(seen, "a"), range(40)))
    assert first.count(True) == 1


# The store that all share --------------------------------------------------------------------


def test_what_one_process_has_seen_another_does_not_take(store: Store) -> None:
    here, there = TokensSeenByAll(store), TokensSeenByAll(store)
    assert used(here, "a")
    assert not used(there, "a")


def test_a_start_forgets_nothing(store: Store) -> None:
    assert used(TokensSeenByAll(store), "a")
    assert not used(TokensSeenByAll(store), "a", now=300)


def test_a_token_is_kept_while_any_clock_may_still_take_it(store: Store) -> None:
    assert used(TokensSeenByAll(store), "a")
    # A machine whose clock is four minutes ahead cleans up; the token is not forgotten.
    ahead = TokensSeenByAll(store)
    assert used(ahead, "b", now=360 + CLOCKS_DIFFER_SECONDS - 60)
    assert not used(TokensSeenByAll(store), "a", now=300)
    assert used(ahead, "a", now=360 + CLOCKS_DIFFER_SECONDS), "and then it may be used again"


def test_expired_tokens_are_removed_once_in_a_while(store: Store) -> None:
    seen = TokensSeenByAll(store)
    later = 360 + CLOCKS_DIFFER_SECONDS
    for number in range(5):
        used(seen, str(number))
    used(seen, "x", now=CLEANING_SECONDS)
    used(seen, "y", now=CLEANING_SECONDS + later)
    left = store.forget_tokens(now=datetime.fromtimestamp(10 * later, UTC))
    assert left == 1, "y; the others were removed when it came"


def test_a_failing_store_lets_nobody_in_and_uses_up_no_token(store: Store) -> None:
    seen = TokensSeenByAll(Broken(store, failures=1))
    with pytest.raises(StoreUnavailable):
        used(seen, "a")
    assert used(seen, "a"), "the EHR may send it again: it opened nothing"


def test_a_failed_cleaning_refuses_no_one(store: Store) -> None:
    broken = Broken(store, failures=0)
    seen = TokensSeenByAll(broken)

    def use(token: bytes, *, expires_at: datetime, now: datetime) -> bool:
        broken.failures = 1  # for what comes next
        return store.use_token(token, expires_at=expires_at, now=now)

    broken.use_token = use  # type: ignore[method-assign]
    with capture_logs() as logs:
        assert used(seen, "a")
    assert [entry["event"] for entry in logs] == ["expired tokens were not removed"]


def test_a_full_memory_in_front_still_asks_the_store(store: Store) -> None:
    seen = TokensSeenByAll(store)
    seen._front = TokensSeenHere(most=1)
    assert [used(seen, name) for name in ("a", "b", "a", "b")] == [True, True, False, False]


def test_a_caller_is_503_and_not_let_in_when_the_store_fails(store: Store, tmp_path: Path) -> None:
    file = a_clients_file(tmp_path, keys=jwks(a_key("ES384")))
    clients = Clients.from_file(file, "production", seen=TokensSeenByAll(Broken(store, failures=1)))

    async def work() -> None:
        header = f"Bearer {a_token()}"
        with pytest.raises(StoreUnavailable):
            await clients.authenticate(header, endpoint=ENDPOINT, now=NOW)
        assert (await clients.authenticate(header, endpoint=ENDPOINT, now=NOW)).client
        with pytest.raises(Unauthenticated):
            await clients.authenticate(header, endpoint=ENDPOINT, now=NOW)
        await clients.close()

    asyncio.run(work())
