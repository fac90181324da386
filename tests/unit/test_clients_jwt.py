"""Who gets in, and who does not: wire tests W-34 to W-47 of the CDS Hooks checklist."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cds_service.clients import Caller, Clients
from cds_service.clients.replay import TokensSeenHere
from cds_service.errors import StoreUnavailable, Unauthenticated, operation_outcome
from tests.fakes.tokens import (
    ENDPOINT,
    ISSUER,
    NOW,
    a_clients_file,
    a_key,
    a_token,
    claims,
    compact,
    jwks,
    signed_with_the_public_key,
)

KEYS = jwks(a_key("ES384"), a_key("RS384", "k2"))
EPOCH = int(NOW.timestamp())


class NoNetwork(httpx.AsyncBaseTransport):
    """Fails the test when anything is called."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing must be called")


def the_clients(directory: Path, text: str = "", **options: Any) -> Clients:
    path = a_clients_file(directory, text, keys=options.pop("keys", KEYS))
    profile = options.pop("profile", "production")
    return Clients.from_file(path, profile, transport=NoNetwork())


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return the_clients(tmp_path)


def authenticate(
    clients: Clients, header: str | None, *, endpoint: str = ENDPOINT, now: datetime = NOW
) -> Caller:
    return asyncio.run(
        clients.authenticate(header, endpoint=endpoint, now=now, address="192.0.2.1")
    )


def refusal(clients: Clients, token: str | None, **options: Any) -> str:
    """Why it was refused, as the log says it; what goes out never differs."""
    header = None if token is None else f"Bearer {token}"
    with pytest.raises(Unauthenticated) as caught:
        authenticate(clients, header, **options)
    said = operation_outcome(caught.value)["issue"][0]["diagnostics"]
    assert said == "A valid client JWT is required."
    return caught.value.reason


def short(value: Any) -> str:
    """A test's name must not hold a signature, which differs in each process that collects it."""
    return value if isinstance(value, str) and " " in value else "token"


# Who gets in ---------------------------------------------------------------------------------


def test_a_valid_token_names_its_client(clients: Clients) -> None:
    caller = authenticate(clients, f"Bearer {a_token(tenant='t1')}")
    assert caller.client is not None
    assert (caller.client.name, caller.tenant) == ("General Hospital", "t1")
    assert caller.address == "192.0.2.1"


def test_rs384_is_as_good_as_es384(clients: Clients) -> None:
    token = a_token("RS384", key=a_key("RS384", "k2"), header={"kid": "k2"})
    assert authenticate(clients, f"Bearer {token}").client


def test_the_scheme_may_be_written_small(clients: Clients) -> None:
    assert authenticate(clients, f"bearer  {a_token()}").client


@pytest.mark.proves(70)
def test_the_audience_may_be_one_of_several(clients: Clients) -> None:
    token = a_token(aud=["https://elsewhere.example", ENDPOINT])
    assert authenticate(clients, f"Bearer {token}").client


def test_claims_and_headers_that_are_not_known_are_ignored(clients: Clients) -> None:
    header = {"x-vendor": {"a": 1}, "jwk": {}, "x5c": ["AA"], "x5u": "https://evil.example/x"}
    token = a_token(header=header | {"x5t": "AA"}, sub="app", fhirServer="x")
    assert authenticate(clients, f"Bearer {token}").client


@pytest.mark.proves(75)
def test_a_key_that_the_token_brings_along_is_not_used(clients: Clients) -> None:
    own = a_key("ES384", "attacker")
    token = a_token(key=own, header={"jwk": own.as_dict(private=False)})
    assert refusal(clients, token) == "the signature is not valid"


def test_an_epic_token_is_accepted(tmp_path: Path) -> None:
    # nbf five minutes before iat, 900 s of life, a kid in base64, sub, an aud typed in by hand.
    kid = "aB+/cD=="
    clients = the_clients(
        tmp_path,
        'algorithms = ["RS384"]\naudience = ["cds-service"]',
        keys=jwks(a_key("RS384", kid)),
    )
    token = a_token(
        "RS384",
        key=a_key("RS384", kid),
        header={"kid": kid},
        nbf=EPOCH - 300,
        exp=EPOCH + 900,
        aud="cds-service",
        sub="client-id",
    )
    assert authenticate(clients, f"Bearer {token}").client


# Who does not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [None, "", "Basic YTpi", "Bearer", "Bearer ", "DPoP x", a_token()], ids=short
)
def test_no_bearer_token_is_no_entry(clients: Clients, header: str | None) -> None:
    with pytest.raises(Unauthenticated, match="JWT is required"):
        authenticate(clients, header)


def b64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c",
        "..",
        "a.b",
        "a.b.c.d.e",
        "é.é.é",
        "\ud800.a.b",
        f"{b64('[]')}.{b64('{}')}.",
        f"{b64('1')}.{b64('{}')}.",
        f"{b64(json.dumps(['alg']))}.{b64('{}')}.AA",
        f"{b64('[' * 5000)}.{b64('{}')}.AA",
        f"{b64(json.dumps({'alg': 'ES384'}))}.{b64('[' * 5000)}.AA",
        f"{b64(json.dumps({'alg': 'ES384'}))}.{b64('[]')}.AA",
        f"{b64(json.dumps({'alg': 'ES384', 'b64': False}))}.{b64('{}')}.AA",
        "x" * 20_000,
        a_token() + "x" * 20_000,
    ],
    ids=short,
)
def test_garbage_is_no_token(clients: Clients, token: str) -> None:
    assert refusal(clients, token) in {
        "the token is no JWT",
        "the token is too long or not ASCII",
        "header or claims are no object",
    }


def resigned(**header: Any) -> str:
    return compact({"alg": "ES384", "kid": "k1", "typ": "JWT"} | header, claims(), b"x" * 96)


@pytest.mark.proves(69, 71, 73)
@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (compact({"alg": "none", "kid": "k1", "typ": "JWT"}, claims()), "alg is not allowed"),
        (compact({"alg": "None", "kid": "k1", "typ": "JWT"}, claims()), "alg is not allowed"),
        (compact({"alg": ["ES384"], "kid": "k1", "typ": "JWT"}, claims()), "alg is not allowed"),
        (compact({"alg": None, "kid": "k1", "typ": "JWT"}, claims()), "alg is not allowed"),
        (signed_with_the_public_key(a_key("RS384", "k2")), "alg is not allowed"),
        (signed_with_the_public_key(a_key("ES384")), "alg is not allowed"),
        (a_token("ES256"), "alg is not allowed"),
        (a_token("RS256", key=a_key("RS384", "k2"), header={"kid": "k2"}), "alg is not allowed"),
        # The header says RS384, the key that it names is an elliptic curve; and the reverse.
        (a_token("RS384", key=a_key("RS384", "k2")), "the signature is not valid"),
        (a_token(header={"kid": "k2"}), "the signature is not valid"),
        (a_token(key=a_key("ES384", "attacker")), "the signature is not valid"),
        (resigned(), "the signature is not valid"),
        (a_token()[:-4] + "AAAA", "the signature is not valid"),
        (a_token().rpartition(".")[0] + ".", "the signature is not valid"),
        (a_token(header={"kid": "k9"}), "kid is unknown"),
        (a_token(header={"kid": None}), "kid is missing"),
        (a_token(header={"kid": ""}), "kid is missing"),
        (resigned(kid=1), "kid is missing"),
        (a_token(header={"typ": None}), "typ is not JWT"),
        (a_token(header={"typ": "at+jwt"}), "typ is not JWT"),
        (resigned(typ=["JWT"]), "typ is not JWT"),
        (resigned(crit=["exp"], exp=1), "crit demands"),
        (a_token(header={"jku": "https://evil.example/jwks.json"}), "jku is not"),
        (resigned(jku="file:///etc/passwd"), "jku is not"),
        (a_token(iss="https://evil.example"), "iss is unknown"),
        (a_token(iss=ISSUER + "/"), "iss is unknown"),
        (a_token(iss=[ISSUER]), "iss is unknown"),
        (a_token(iss=None), "iss is unknown"),
    ],
    ids=short,
)
def test_a_token_with_a_wrong_header_or_signature_is_refused(
    clients: Clients, token: str, reason: str
) -> None:
    assert refusal(clients, token).startswith(reason)


@pytest.mark.proves(69, 70, 72, 75)
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": None}, "aud is not this endpoint"),
        ({"aud": "https://cds.example.org"}, "aud is not this endpoint"),
        ({"aud": "https://cds.example.org/cds-services"}, "aud is not this endpoint"),
        ({"aud": ENDPOINT + "/"}, "aud is not this endpoint"),
        ({"aud": ENDPOINT + "/feedback"}, "aud is not this endpoint"),
        ({"aud": [["x"], {}, 1]}, "aud is not this endpoint"),
        ({"aud": []}, "aud is not this endpoint"),
        ({"exp": None}, "exp is missing"),
        ({"iat": None}, "iat is missing"),
        ({"jti": None}, "jti is missing"),
        ({"jti": ""}, "jti is missing"),
        ({"jti": 7}, "jti is missing"),
        ({"jti": "x" * 257}, "jti is missing"),
        ({"exp": str(EPOCH + 300)}, "exp is missing or no number"),
        ({"exp": True}, "exp is missing or no number"),
        ({"exp": 1e300}, "exp is out of range"),
        ({"nbf": "soon"}, "nbf is missing or no number"),
        ({"exp": EPOCH - 120, "iat": EPOCH - 420}, "the token has expired"),
        ({"exp": EPOCH - 60, "iat": EPOCH - 360}, "the token has expired"),
        ({"iat": EPOCH + 61}, "the token is not valid yet"),
        ({"nbf": EPOCH + 61}, "the token is not valid yet"),
        ({"exp": EPOCH + 3601}, "the token's lifetime"),
        ({"exp": EPOCH, "iat": EPOCH}, "the token's lifetime"),
        ({"exp": EPOCH - 10, "iat": EPOCH}, "the token's lifetime"),
        ({"tenant": 7}, "tenant is no text"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(
    clients: Clients, changed: Mapping[str, Any], reason: str
) -> None:
    assert refusal(clients, a_token(**changed)).startswith(reason)


def test_numbers_that_json_does_not_have_are_refused(clients: Clients) -> None:
    for number in (float("inf"), float("nan")):
        token = compact({"alg": "ES384", "kid": "k1", "typ": "JWT"}, claims(exp=number))
        assert refusal(clients, token) == "the token is no JWT"
        assert refusal(clients, a_token(exp=number)) == "the token is no JWT"


@pytest.mark.proves(75)
@pytest.mark.parametrize(
    "changed",
    [
        {"exp": EPOCH - 59, "iat": EPOCH - 359},
        {"iat": EPOCH + 60},
        {"exp": EPOCH + 3600},
        {"exp": EPOCH + 0.5},
    ],
)
def test_clocks_may_differ_by_a_minute(clients: Clients, changed: Mapping[str, Any]) -> None:
    assert authenticate(clients, f"Bearer {a_token(**changed)}").client


@pytest.mark.proves(74)
def test_a_token_is_good_for_one_call(clients: Clients) -> None:
    token = a_token()
    authenticate(clients, f"Bearer {token}")
    assert refusal(clients, token) == "jti was used before"
    # A signature of ECDSA differs each time: the same jti in a new token is a replay as well.
    assert refusal(clients, a_token()) == "jti was used before"
    assert authenticate(clients, f"Bearer {a_token(jti='j2')}").client


def test_a_token_stays_used_until_it_has_expired_leeway_included(clients: Clients) -> None:
    token = a_token()
    authenticate(clients, f"Bearer {token}")
    almost = NOW + timedelta(seconds=359)
    assert refusal(clients, token, now=almost) == "jti was used before"
    assert refusal(clients, token, now=NOW + timedelta(seconds=360)) == "the token has expired"


def test_a_refused_token_does_not_use_up_its_jti(clients: Clients) -> None:
    assert refusal(clients, a_token(aud="elsewhere")) == "aud is not this endpoint"
    assert authenticate(clients, f"Bearer {a_token()}").client


def test_the_configured_audience_takes_the_place_of_the_endpoint(tmp_path: Path) -> None:
    clients = the_clients(tmp_path, 'audience = ["cds", "cds-test"]')
    assert authenticate(clients, f"Bearer {a_token(aud='cds-test')}").client
    assert refusal(clients, a_token()) == "aud is not this endpoint"


def test_a_tenant_that_is_not_listed_is_refused_like_anyone(tmp_path: Path) -> None:
    clients = the_clients(tmp_path, 'tenants = ["north"]')
    assert authenticate(clients, f"Bearer {a_token(tenant='north')}").tenant == "north"
    for tenant in ("south", None):
        reason = refusal(clients, a_token(tenant=tenant, jti="x"))
        assert reason == "tenant is not allowed for this client"


def test_a_key_that_is_bound_to_another_algorithm_does_not_verify(tmp_path: Path) -> None:
    clients = the_clients(
        tmp_path,
        'algorithms = ["RS384", "RS256"]',
        keys=jwks(a_key("RS384"), alg="RS384"),
    )
    assert authenticate(clients, f"Bearer {a_token('RS384', key=a_key('RS384'))}").client
    confused = a_token("RS256", key=a_key("RS384"), jti="x")
    assert refusal(clients, confused) == "the signature is not valid"


# Profiles ------------------------------------------------------------------------------------


def test_the_demo_profile_answers_without_a_token_and_checks_one_that_is_sent(
    tmp_path: Path,
) -> None:
    clients = the_clients(tmp_path, profile="demo")
    caller = authenticate(clients, None)
    assert (caller.client, caller.address) == (None, "192.0.2.1")
    assert authenticate(clients, f"Bearer {a_token()}").client
    assert refusal(clients, a_token(iss="https://evil.example", jti="x")) == "iss is unknown"
    with pytest.raises(Unauthenticated):
        authenticate(clients, "Basic YTpi")


def test_production_without_clients_lets_no_one_in() -> None:
    clients = Clients.from_file(None, "production")
    assert refusal(clients, None) == "no bearer token"
    assert refusal(clients, a_token()) == "iss is unknown"


@pytest.mark.proves(74)
def test_the_log_says_why_and_holds_no_token(
    clients: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    token = a_token(aud="elsewhere")
    refusal(clients, token)
    logged = capsys.readouterr().out
    assert "aud is not this endpoint" in logged
    assert not any(part in logged for part in token.split("."))


# Replay --------------------------------------------------------------------------------------


def test_used_tokens_are_forgotten_when_they_have_expired() -> None:
    seen = TokensSeenHere(most=2)
    for number, now in enumerate((0.0, 1.0, 10.0, 11.0)):
        assert seen.first_use(issuer="i", token_id=str(number), expires_at=now + 9, now=now)
    assert seen.first_use(issuer="i", token_id="0", expires_at=99, now=30.0)


def test_a_full_memory_refuses_rather_than_forgets() -> None:
    seen = TokensSeenHere(most=1)
    assert seen.first_use(issuer="i", token_id="a", expires_at=9, now=0)
    with pytest.raises(StoreUnavailable):
        seen.first_use(issuer="i", token_id="b", expires_at=9, now=0)
    assert not seen.first_use(issuer="i", token_id="a", expires_at=9, now=0)


def test_the_same_jti_of_two_issuers_is_two_tokens() -> None:
    seen = TokensSeenHere()
    assert seen.first_use(issuer="a", token_id="b,c", expires_at=9, now=0)
    assert seen.first_use(issuer="a,b", token_id="c", expires_at=9, now=0)
