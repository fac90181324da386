"""The clients file: what is accepted, and that what is not is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from cds_service.clients import Client, Clients, ClientsFileError
from cds_service.clients.file import read_clients
from cds_service.clients.keys import KeyFault, read_jwks, read_private_key
from tests.fakes.tokens import a_key, jwks

FULL = """
[[client]]
name = "General Hospital"
issuer = "https://ehr.example.org"
jwks_url = "https://ehr.example.org/jwks.json"
algorithms = ["ES384", "RS384"]
audience = []
tenants = []
fhir_version = "R4"
fhir_servers = ["https://EHR.example.org:443/fhir/"]
write_back = "backend"
[client.backend]
token_url = "https://ehr.example.org/oauth/token"
client_id = "cds"
private_key_file = "general.pem"
"""

PLAIN = """
[[client]]
name = "General Hospital"
issuer = "https://ehr.example.org"
jwks_url = "https://ehr.example.org/jwks.json"
"""


def read(directory: Path, text: str, *, demo: bool = False) -> tuple[Client, ...]:
    (directory / "general.pem").write_bytes(a_key("ES384").as_pem(private=True))
    (directory / "rsa.pem").write_bytes(a_key("RS384").as_pem(private=True))
    (directory / "p256.pem").write_bytes(a_key("ES256").as_pem(private=True))
    (directory / "public.pem").write_bytes(a_key("ES384").as_pem(private=False))
    (directory / "keys.json").write_text(json.dumps(jwks(a_key("ES384"))))
    (directory / "broken.json").write_text("[]")
    path = directory / "clients.toml"
    path.write_text(text)
    return read_clients(path, demo=demo)


def test_the_example_of_the_contract_is_read(tmp_path: Path) -> None:
    (client,) = read(tmp_path, FULL)
    assert client.fhir_servers == ("https://ehr.example.org/fhir",)
    assert client.backend is not None
    assert client.backend.algorithm == "ES384"
    assert "private_key" not in repr(client)


def test_what_is_left_out_has_a_safe_default(tmp_path: Path) -> None:
    (client,) = read(tmp_path, PLAIN)
    assert (client.write_back, client.fhir_version) == ("off", None)
    assert client.algorithms == ("ES384", "RS384")
    assert client.fhir_servers == client.audience == client.tenants == ()


def test_an_rsa_key_signs_with_rs384(tmp_path: Path) -> None:
    (client,) = read(tmp_path, FULL.replace("general.pem", "rsa.pem"))
    assert client.backend is not None
    assert client.backend.algorithm == "RS384"


def test_keys_are_read_from_beside_the_file(tmp_path: Path) -> None:
    (client,) = read(tmp_path, PLAIN.replace("jwks_url", "jwks_file = 'keys.json' #"))
    assert client.keys is not None
    assert [key.kid for key in client.keys] == ["k1"]


def test_no_file_is_no_client() -> None:
    assert list(Clients.from_file(None, "production")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[client]\n", "clients.toml"),
        ("[client]\nname='x'", r"must hold \[\[client\]\] tables only"),
        ("other = 1", r"must hold \[\[client\]\] tables only"),
        ("[[client]]\nissuer = 'https://x'", "client 1: name is missing"),
        ("[[client]]\nname = 'x'", r"client 1 \(x\): issuer is missing"),
        ("[[client]]\nname = 'x'\nissuer = 'y'", "jwks_url or jwks_file is missing"),
        (PLAIN + "color = 'red'", r"\(General Hospital\): color is not a known field"),
        (PLAIN.replace("https://ehr.example.org/jwks", "http://ehr.example.org/jwks"), "jwks_url"),
        (PLAIN.replace("https://ehr.example.org/jwks", "http://127.0.0.1/jwks"), "jwks_url"),
        (PLAIN.replace("jwks_url", "jwks_file = 'nowhere.json' #"), "jwks_file: .*No such file"),
        (PLAIN.replace("jwks_url", "jwks_file = 'broken.json' #"), "jwks_file: is not a JWK Set"),
        (PLAIN + "algorithms = ['HS256']", "algorithms: must be out of"),
        (PLAIN + "algorithms = ['none']", "algorithms: must be out of"),
        (PLAIN + "algorithms = []", "algorithms is empty"),
        (PLAIN + "algorithms = 'ES384'", "algorithms: must be a list"),
        (PLAIN + "audience = [1]", "audience: must be a text"),
        (PLAIN + "tenants = ['']", "tenants: must be a text"),
        (PLAIN + "fhir_version = 'R3'", "fhir_version: must be one of STU3, R4, R4B, R5"),
        (PLAIN + "fhir_servers = ['http://ehr.example.org/fhir']", "fhir_servers: must be"),
        (PLAIN + "fhir_servers = ['https://a@ehr.example.org/fhir']", "fhir_servers: must be"),
        (PLAIN + "write_back = 'on'", "write_back: must be one of backend, inline"),
        (PLAIN + "write_back = 'inline'", "write_back needs fhir_servers"),
        (
            PLAIN + "write_back = 'backend'\nfhir_servers = ['https://ehr.example.org/fhir']",
            r"needs \[client.backend\]",
        ),
        (FULL.replace("token_url", "token_uri"), r"backend: token_uri is not a known field"),
        (FULL.replace("https://ehr.example.org/oauth", "http://x/oauth"), r"backend: token_url"),
        (FULL.replace("client_id = 'cds'", "").replace('client_id = "cds"', ""), "client_id is m"),
        (FULL.replace("general.pem", "p256.pem"), "private_key_file: must be an RSA key"),
        (FULL.replace("general.pem", "public.pem"), "private_key_file: is not a private key"),
        (FULL.replace("general.pem", "gone.pem"), "private_key_file: .*No such file"),
        (PLAIN + PLAIN, "two clients have the name"),
        (PLAIN + PLAIN.replace("General", "Other"), "two clients have the issuer"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ClientsFileError, match=message):
        read(tmp_path, text)


def test_loopback_may_be_http_in_the_demo_profile_only(tmp_path: Path) -> None:
    text = PLAIN.replace("https://ehr.example.org/jwks", "http://localhost:9000/jwks")
    text += "fhir_servers = ['http://127.0.0.1:8080/fhir']\nwrite_back = 'backend'"
    (client,) = read(tmp_path, text, demo=True)
    assert client.backend is None
    with pytest.raises(ClientsFileError):
        read(tmp_path, text)


def test_a_demo_client_that_sends_no_token_needs_no_issuer(tmp_path: Path) -> None:
    text = "[[client]]\nname = 'Demo'\nfhir_servers = ['http://127.0.0.1:8080/fhir']"
    assert read(tmp_path, text, demo=True)[0].issuer is None


def test_in_the_demo_profile_a_call_belongs_to_the_owner_of_its_fhir_server(tmp_path: Path) -> None:
    text = "[[client]]\nname = 'Demo'\nfhir_servers = ['http://127.0.0.1:8080/fhir']"
    read(tmp_path, text, demo=True)
    clients = Clients.from_file(tmp_path / "clients.toml", "demo")
    owner = clients.for_fhir_server("HTTP://127.0.0.1:8080/fhir/")
    assert owner is not None
    assert owner.name == "Demo"
    assert clients.for_fhir_server("http://127.0.0.1:8081/fhir") is None
    assert clients.for_fhir_server("not a url") is None
    assert clients.named("Demo") == owner


def test_in_production_a_fhir_server_proves_nothing(tmp_path: Path) -> None:
    read(tmp_path, FULL)
    clients = Clients.from_file(tmp_path / "clients.toml", "production")
    assert clients.for_fhir_server("https://ehr.example.org/fhir") is None


# Keys ----------------------------------------------------------------------------------------


def test_a_key_set_keeps_public_signing_keys_only() -> None:
    good = a_key("ES384", "good")
    with pytest.warns(match="Key size should be"):
        weak = RSAKey.generate_key(1024, {"kid": "weak"})
    secret = OctKey.generate_key(256, {"kid": "secret"})
    keys = [
        good.as_dict(private=True),
        weak.as_dict(private=False),
        secret.as_dict(private=True),
        a_key("ES384", "enc").as_dict(private=False) | {"use": "enc"},
        a_key("RS384").as_dict(private=False) | {"kid": 7},
        {"kty": "EC", "kid": "broken", "crv": "P-384", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "odd", "crv": "P-1", "x": 1, "y": None},
        {"kty": "PQ", "kid": "new"},
        "no key",
    ]
    read = read_jwks(json.dumps({"keys": keys}).encode())
    assert [key.kid for key in read] == ["good"]
    assert isinstance(read[0], ECKey)
    assert not read[0].is_private


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": {}}', b"[" * 100_000, b"\xff"])
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(KeyFault):
        read_jwks(body)


def test_what_is_no_private_key_is_refused() -> None:
    with pytest.raises(KeyFault):
        read_private_key(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
