"""Key sets that are fetched: when, how often, from where, and what happens when they are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from cds_service.clients import Clients
from cds_service.clients import jwks as jwks_module
from cds_service.clients.jwks import (
    COOLDOWN_SECONDS,
    LIFETIME_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    STALE_SECONDS,
    FetchedKeys,
)
from cds_service.clients.outbound import open_http
from cds_service.errors import Unauthenticated
from tests.fakes.ehr import FakeEhr
from tests.fakes.tokens import ENDPOINT, ISSUER, NOW, a_key, a_token, jwks

K1, K2 = a_key("ES384"), a_key("ES384", "k2")


def public(key: Any, **changed: Any) -> dict[str, Any]:
    return {**jwks(key)["keys"][0], **changed}


class Server:
    """Counts what is asked of it, and answers with `answer`."""

    def __init__(self, answer: Callable[[], httpx.Response]) -> None:
        self.answer = answer
        self.asked = 0
        self.now = 1000.0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await asyncio.sleep(0)
        return self.answer()


@asynccontextmanager
async def keys_at(server: Server) -> AsyncIterator[FetchedKeys]:
    async with open_http(httpx.MockTransport(server)) as http:
        yield FetchedKeys("https://ehr.example.org/jwks", http, monotonic=lambda: server.now)


def ok(*keys: Any) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(200, json=jwks(*keys))


def test_a_set_is_fetched_once_and_again_when_it_is_old() -> None:
    server = Server(ok(K1))

    async def work() -> None:
        async with keys_at(server) as keys:
            assert server.asked == 0
            for _ in range(3):
                assert [key.kid for key in await keys.find("k1")] == ["k1"]
            assert server.asked == 1
            server.now += LIFETIME_SECONDS + 1
            await keys.find("k1")
            assert server.asked == 2

    asyncio.run(work())


def test_many_calls_at_once_fetch_once() -> None:
    server = Server(ok(K1))

    async def work() -> None:
        async with keys_at(server) as keys:
            found = await asyncio.gather(*(keys.find("k1") for _ in range(50)))
            assert all(found)

    asyncio.run(work())
    assert server.asked == 1


@pytest.mark.proves(73)
def test_a_rotated_key_is_found_at_once_and_an_unknown_one_asks_once_in_a_while() -> None:
    server = Server(ok(K1))

    async def work() -> None:
        async with keys_at(server) as keys:
            await keys.find("k1")
            server.answer = ok(K1, K2)
            assert await keys.find("k2")
            assert server.asked == 2
            for _ in range(5):
                assert await keys.find("k9") == []
            assert server.asked == 2
            server.now += COOLDOWN_SECONDS + 1
            assert await keys.find("k9") == []
            assert server.asked == 3

    asyncio.run(work())


def test_many_unknown_keys_at_once_ask_once() -> None:
    server = Server(ok(K1))

    async def work() -> None:
        async with keys_at(server) as keys:
            await keys.find("k1")
            found = await asyncio.gather(*(keys.find(f"unknown {n}") for n in range(50)))
            assert found == [[]] * 50
            assert server.asked == 2

    asyncio.run(work())


def test_an_unknown_key_does_not_ask_twice_for_the_first_set() -> None:
    server = Server(ok(K1))

    async def work() -> None:
        async with keys_at(server) as keys:
            assert await keys.find("k9") == []

    asyncio.run(work())
    assert server.asked == 1


def test_known_keys_serve_on_for_a_while_when_the_server_is_down() -> None:
    server = Server(ok(K1))

    async def work() -> None:
        async with keys_at(server) as keys:
            await keys.find("k1")
            server.answer = lambda: httpx.Response(500)
            server.now += LIFETIME_SECONDS + 1
            assert await keys.find("k1")
            assert await keys.find("k1")
            assert server.asked == 2  # not again within the pause
            server.now += PAUSE_SECONDS + 1
            assert await keys.find("k1")
            assert server.asked == 3
            server.now += STALE_SECONDS
            assert await keys.find("k1") == []
            server.answer, server.now = ok(K1), server.now + PAUSE_SECONDS + 1
            assert await keys.find("k1")

    asyncio.run(work())


def test_a_server_that_stays_dead_is_asked_less_and_less_and_one_that_lives_at_once() -> None:
    server = Server(lambda: httpx.Response(503))

    async def work() -> None:
        async with keys_at(server) as keys:
            asked_at = []
            for _ in range(400):
                before = server.asked
                assert await keys.find("k1") == []
                asked_at += [server.now] * (server.asked - before)
                server.now += 1
            pauses = [later - earlier for earlier, later in pairwise(asked_at)]
            assert pauses == sorted(pauses)
            assert pauses[0] == PAUSE_SECONDS + 1
            assert pauses[-1] == LONGEST_PAUSE_SECONDS + 1
            server.answer, server.now = ok(K1), server.now + LONGEST_PAUSE_SECONDS + 1
            assert await keys.find("k1")

    asyncio.run(work())


def test_a_key_that_was_taken_out_is_refused_when_the_set_is_old() -> None:
    server = Server(ok(K1, K2))

    async def work() -> None:
        async with keys_at(server) as keys:
            assert await keys.find("k2")
            server.answer, server.now = ok(K1), server.now + LIFETIME_SECONDS + 1
            assert await keys.find("k2") == []

    asyncio.run(work())


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"Location": "https://evil.example/jwks"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, content=b'"' + b"x" * 300_000),
        httpx.Response(404),
    ],
)
def test_what_is_no_key_set_yields_no_keys(answer: httpx.Response) -> None:
    server = Server(lambda: answer)

    async def work() -> None:
        async with keys_at(server) as keys:
            assert await keys.find("k1") == []

    asyncio.run(work())
    assert server.asked == 1


@pytest.mark.parametrize(
    "spoilt",
    [
        {"kty": ["EC"], "kid": "k1"},
        {"kty": {}, "kid": "k1"},
        {"kty": None},
        {"kty": "RSA", "kid": "k1", "n": 5, "e": [""]},
        {"kty": "EC", "kid": "k1", "crv": {}, "x": None, "y": True},
        public(K2, kid="k1", key_ops=["encrypt"]),
        public(K2, kid="k1", key_ops="verify"),
        public(K2, kid="k1", use=["sig"]),
        public(K2, kid=["k1"]),
        ["k1"],
        "k1",
    ],
    # Not the keys themselves, which each process of a test run draws anew.
    ids=[
        "kty-list",
        "kty-object",
        "no-kty",
        "rsa-of-numbers",
        "ec-of-nothing",
        "to-encrypt",
        "key-ops-text",
        "use-list",
        "kid-list",
        "list",
        "text",
    ],
)
def test_a_key_that_is_none_is_left_out_and_spoils_nothing(spoilt: Any) -> None:
    answer = httpx.Response(200, json={"keys": [spoilt, public(K1, key_ops=["verify"]), spoilt]})

    async def work() -> None:
        async with keys_at(Server(lambda: answer)) as keys:
            (found,) = await keys.find("k1")
            assert found.as_dict(private=False)["x"] == public(K1)["x"]

    asyncio.run(work())


def test_a_server_that_stalls_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_module, "TIMEOUT_SECONDS", 0.05)

    async def stall(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        return httpx.Response(200)

    async def work() -> None:
        async with open_http(httpx.MockTransport(stall)) as http:
            assert await FetchedKeys("https://ehr.example.org/jwks", http).find("k1") == []

    asyncio.run(work())


# Through the whole check, over a real socket -------------------------------------------------


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    with FakeEhr(jwks=jwks(K1)) as ehr:
        yield ehr


def call(ehr: FakeEhr, directory: Path, *tokens: str) -> list[str]:
    """'in', or the reason, for each token."""
    path = directory / "clients.toml"
    path.write_text(
        f'[[client]]\nname = "x"\nissuer = "{ISSUER}"\njwks_url = "{ehr.url}/jwks.json"\n'
    )

    async def work() -> list[str]:
        clients = Clients.from_file(path, "demo")
        said = []
        for token in tokens:
            try:
                await clients.authenticate(f"Bearer {token}", endpoint=ENDPOINT, now=NOW)
                said.append("in")
            except Unauthenticated as fault:
                said.append(fault.reason)
        await clients.close()
        return said

    return asyncio.run(work())


def test_a_token_is_verified_with_the_fetched_set(ehr: FakeEhr, tmp_path: Path) -> None:
    named = a_token(jti="j2", header={"jku": f"{ehr.url}/jwks.json"})
    assert call(ehr, tmp_path, a_token(), named) == ["in", "in"]
    assert len(ehr.asked) == 1


@pytest.mark.proves(72, 75)
def test_a_jku_that_is_not_the_configured_one_is_never_called(ehr: FakeEhr, tmp_path: Path) -> None:
    with FakeEhr(jwks=jwks(K1)) as evil:
        tokens = [
            a_token(header={"jku": jku})
            for jku in (f"{evil.url}/jwks.json", f"{ehr.url}/jwks.json?x", f"{ehr.url}/jwks.json#")
        ]
        assert set(call(ehr, tmp_path, *tokens)) == {"jku is not the one configured"}
        assert evil.asked == ehr.asked == []


def test_a_token_with_a_wrong_algorithm_fetches_nothing(ehr: FakeEhr, tmp_path: Path) -> None:
    assert call(ehr, tmp_path, a_token("ES256")) == ["alg is not allowed for this client"]
    assert ehr.asked == []
