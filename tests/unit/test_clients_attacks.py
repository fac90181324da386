"""Every attack on the client's JWT that is kept in tests/payloads/jwt, through the whole service:
the same 401 for all of them, the reason in the log only, no request to anywhere, nothing stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import tomllib
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from structlog.testing import capture_logs

from cds_service.clients import Clients, ClientsFileError
from cds_service.parts import Parts
from tests.conftest import NOW
from tests.fakes.tokens import ISSUER, a_key, jwks
from tests.service import FEEDBACK_URL, HOOK_URL, Service, patient_view

PUBLIC_URL = "https://cds.example.org/api"
DOORS = [("GET", "/cds-services"), ("POST", HOOK_URL), ("POST", FEEDBACK_URL)]
FOLDER = Path(__file__).parents[1] / "payloads" / "jwt"
TOPICS = ("algorithms", "keys", "header", "claims", "times", "form")

Case = dict[str, Any]


def cases(kind: str, *topics: str) -> list[Case]:
    found = []
    for topic in topics:
        for case in tomllib.loads((FOLDER / f"{topic}.toml").read_text(encoding="utf-8"))[kind]:
            found.append(case)
    return found


ATTACKS = cases("attack", *TOPICS)
FRIENDLY = cases("token", "friendly")


def named(case: Case) -> str:
    name: str = case["name"]
    return name


def test_each_attack_has_its_own_name() -> None:
    assert len({named(case) for case in ATTACKS}) == len(ATTACKS)
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*TOPICS, "friendly"}


# The hospitals and their keys ----------------------------------------------------------------


class NoNetwork(httpx.AsyncBaseTransport):
    """Fails the test when anything is called."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"nothing must be called, least of all {request.url}")


def key_of(name: str) -> ECKey | RSAKey:
    return a_key("RS384" if name == "rsa" else "ES384", name)


def key_set(directory: Path, name: str, *keys: Mapping[str, Any]) -> None:
    (directory / name).write_text(json.dumps({"keys": keys}))


def public(name: str, **added: Any) -> dict[str, Any]:
    only: dict[str, Any] = jwks(key_of(name), **added)["keys"][0]
    return only


@pytest.fixture
def hospital(parts: Parts, tmp_path: Path) -> Service:
    weak = {"kty": "RSA", "kid": "weak", "n": b64(b"\xc3" * 128), "e": "AQAB"}
    key_set(
        tmp_path,
        "general.json",
        public("ec"),
        public("rsa"),
        public("other", kid="twin"),
        public("twin"),
        public("enc", use="enc"),
        {"kty": "oct", "kid": "oct", "k": "c2VjcmV0"},
        weak,
    )
    key_set(tmp_path, "listed.json", public("listed"))
    (tmp_path / "clients.toml").write_text(
        f'[[client]]\nname = "General Hospital"\nissuer = "{ISSUER}"\n'
        f'jwks_url = "{ISSUER}/jwks.json"\njwks_file = "general.json"\ntenants = ["north"]\n'
        '[[client]]\nname = "Listed"\nissuer = "https://listed.example.org"\n'
        'jwks_file = "listed.json"\nalgorithms = ["ES384"]\naudience = ["cds-prod"]\n'
    )
    settings = replace(parts.settings, profile="production", public_url=PUBLIC_URL)
    clients = Clients.from_file(tmp_path / "clients.toml", "production", transport=NoNetwork())
    return Service.of(replace(parts, settings=settings, clients=clients))


# A token by its description ------------------------------------------------------------------


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def filled(value: Any, endpoint: str) -> Any:
    """`value` with what a table cannot say in it."""
    if isinstance(value, str):
        if value == "{stranger}":
            return public("stranger")
        value = value.replace("{endpoint}", endpoint)
        return value.replace("{long}", "x" * 257).replace("{huge}", "x" * 20_000)
    if isinstance(value, list):
        return [filled(item, endpoint) for item in value]
    if isinstance(value, dict):
        return {filled(name, endpoint): filled(item, endpoint) for name, item in value.items()}
    return value


def raw(text: str, endpoint: str) -> bytes:
    now = int(NOW.timestamp())
    for name, value in {
        "{endpoint}": endpoint,
        "{iat}": str(now),
        "{exp}": str(now + 300),
        "{deep}": '{"a":' * 2_000,
        "{digits}": "9" * 400,
    }.items():
        text = text.replace(name, value)
    return text.encode()


def header_of(case: Case, endpoint: str) -> bytes:
    if "raw_header" in case:
        return raw(case["raw_header"], endpoint)
    header = {"alg": "ES384", "kid": "ec", "typ": "JWT"} | filled(case.get("header", {}), endpoint)
    return json.dumps(
        {n: v for n, v in header.items() if n not in case.get("without", ())}
    ).encode()


def claims_of(case: Case, endpoint: str) -> bytes:
    if "raw_claims" in case:
        return raw(case["raw_claims"], endpoint)
    now = int(NOW.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": endpoint,
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
        "tenant": "north",
    }
    claims |= {name: now + seconds for name, seconds in case.get("times", {}).items()}
    claims |= filled(case.get("claims", {}), endpoint)
    left_out = case.get("without_claims", ())
    return json.dumps({n: v for n, v in claims.items() if n not in left_out}).encode()


def signature(case: Case, signed: bytes) -> bytes:
    match case.get("key", "ec"):
        case "nobody":
            return b""
        case "zeros":
            return bytes(96)
        case "garbage" | "weak":
            return hashlib.shake_256(signed).digest(96)
        case "public-pem":
            name = "rsa" if case["header"].get("kid") == "rsa" else "ec"
            secret = key_of(name).as_pem(private=False)
            hashed = {"HS256": hashlib.sha256, "HS384": hashlib.sha384}[case["header"]["alg"]]
            return hmac.new(secret, signed, hashed).digest()
        case key:
            algorithm = case.get("header", {}).get("alg", "ES384")
            fits = algorithm in ("RS256", "RS384", "PS384") if key == "rsa" else False
            algorithm = algorithm if fits else ("RS384" if key == "rsa" else "ES384")
            made: bytes = JWSRegistry.algorithms[algorithm].sign(signed, key_of(key))
            return made


def other_claims(header: str, claims: str, signed: str) -> str:
    text = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
    return f"{header}.{b64(text.replace(b'north', b'n0rth'))}.{signed}"


def trailing_bits(header: str, claims: str, signed: str) -> str:
    # 97 bytes end in a letter of which only two bits count; the others must be zero.
    return f"{header}.{claims}.{signed}AB"


MANGLED: dict[str, Callable[[str, str, str], str]] = {
    "two parts": lambda h, c, s: f"{h}.{c}",
    "five parts": lambda h, c, s: f"{h}.{c}.{s}.{s}.{s}",
    "json": lambda h, c, s: b64(
        json.dumps({"protected": h, "payload": c, "signature": s}).encode()
    ),
    "compressed": lambda h, c, s: f"{h}.{b64(zlib.compress(c.encode()))}.{s}",
    "padding": lambda h, c, s: f"{h}.{c}.{s}=",
    "padded claims": lambda h, c, s: f"{h}.{c}==.{s}",
    "plus and slash": lambda h, c, s: f"{h}.{c}.{'+/' + s[2:]}",
    "trailing bits": trailing_bits,
    "newline": lambda h, c, s: f"{h}.{c}.{s[:40]}!{s[40:]}",
    "cut": lambda h, c, s: f"{h}.{c}.{s[:64]}",
    "longer": lambda h, c, s: f"{h}.{c}.{s}AA",
    "other claims": other_claims,
}


def token_of(case: Case, endpoint: str) -> str:
    header, claims = b64(header_of(case, endpoint)), b64(claims_of(case, endpoint))
    signed = b64(signature(case, f"{header}.{claims}".encode()))
    if "mangle" in case:
        return MANGLED[case["mangle"]](header, claims, signed)
    return f"{header}.{claims}.{signed}"


def fields(case: Case, token: str) -> list[tuple[bytes, bytes]]:
    sent = case.get("authorization", ["Bearer {token}"])
    return [(b"Authorization", field.replace("{token}", token).encode()) for field in sent]


# The facts -----------------------------------------------------------------------------------

REFUSAL = {
    "resourceType": "OperationOutcome",
    "issue": [
        {
            "severity": "error",
            "code": "login",
            "diagnostics": "A valid client JWT is required.",
        }
    ],
}


@pytest.mark.proves(69, 70, 71, 72, 73, 74, 75)
@pytest.mark.parametrize("case", ATTACKS, ids=named)
def test_an_attack_is_the_same_401_at_every_door(hospital: Service, case: Case) -> None:
    for method, path in DOORS:
        token = token_of(case, PUBLIC_URL + path)
        with capture_logs() as logs:
            answer = hospital.request(
                method, path, json=patient_view(), headers=fields(case, token)
            )
        assert answer.status_code == 401
        assert answer.json() == REFUSAL
        assert answer.headers["www-authenticate"] == "Bearer"
        refused = next(entry for entry in logs if entry["event"] == "caller refused")
        assert refused["reason"].startswith(case["reason"])
        assert not any(part in str(logs) for part in token.split(".") if len(part) > 8)
    assert hospital.stored() == 0
    assert all(entry.status == 401 for entry in hospital.audited())


@pytest.mark.proves(70, 74)
@pytest.mark.parametrize("case", FRIENDLY, ids=named)
def test_a_friendly_token_is_let_in_once(hospital: Service, case: Case) -> None:
    headers = fields(case, token_of(case, PUBLIC_URL + HOOK_URL))
    first, again = (hospital.call(patient_view(), headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 401)


@pytest.mark.proves(71)
@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS256", "HS384", "HS512", "dir", 1])
def test_a_clients_file_that_asks_for_such_an_algorithm_is_refused_at_start(
    tmp_path: Path, algorithm: str | int
) -> None:
    key_set(tmp_path, "keys.json", public("ec"))
    path = tmp_path / "clients.toml"
    path.write_text(
        f'[[client]]\nname = "x"\nissuer = "{ISSUER}"\njwks_file = "keys.json"\n'
        f'algorithms = ["ES384", {json.dumps(algorithm)}]\n'
    )
    for profile in ("production", "demo"):
        with pytest.raises(ClientsFileError, match="algorithms: must be out of"):
            Clients.from_file(path, profile)
