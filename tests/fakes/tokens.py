"""A CDS client's keys and tokens, made fresh: what an EHR signs, and what an attacker does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ISSUER = "https://ehr.example.org"
ENDPOINT = "https://cds.example.org/cds-services/diabetes-risk"


@cache
def a_key(algorithm: str, kid: str = "k1") -> ECKey | RSAKey:
    """A key that fits `algorithm`; the same one for the same arguments, since RSA is slow."""
    if algorithm.startswith("ES"):
        curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
        return ECKey.generate_key(curve, {"kid": kid})  # type: ignore[arg-type]
    return RSAKey.generate_key(2048, {"kid": kid})


def jwks(*keys: ECKey | RSAKey, **added: Any) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) | added for key in keys]}


def claims(**changed: Any) -> dict[str, Any]:
    """Valid ones; `None` leaves a claim out."""
    now = int(NOW.timestamp())
    values: dict[str, Any] = {
        "iss": ISSUER,
        "aud": ENDPOINT,
        "iat": now,
        "exp": now + 300,
        "jti": "j1",
    }
    return {name: value for name, value in (values | changed).items() if value is not None}


def a_token(
    algorithm: str = "ES384",
    *,
    key: ECKey | RSAKey | None = None,
    header: Mapping[str, Any] | None = None,
    **changed: Any,
) -> str:
    """Signed by `key`; `None` in `header` leaves a parameter out."""
    signer = key or a_key(algorithm)
    full = {"alg": algorithm, "kid": "k1", "typ": "JWT"} | dict(header or {})
    said = {name: value for name, value in full.items() if value is not None}
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    return jwt.encode(said, claims(**changed), signer, registry=registry, default_type=None)


def compact(header: Mapping[str, Any], payload: Mapping[str, Any], signature: bytes = b"") -> str:
    """A compact JWS put together by hand, as an attacker does."""
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def signed_with_the_public_key(key: ECKey | RSAKey) -> str:
    """HS256 with the bytes of the public PEM as the secret: the classic confusion."""
    unsigned = compact({"alg": "HS256", "kid": "k1", "typ": "JWT"}, claims()).rstrip(".")
    mac = hmac.new(key.as_pem(private=False), unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def a_clients_file(directory: Path, text: str = "", *, keys: Mapping[str, Any]) -> Path:
    """A clients file with one client, its key set beside it."""
    (directory / "keys.json").write_text(json.dumps(keys))
    path = directory / "clients.toml"
    path.write_text(
        f'[[client]]\nname = "General Hospital"\nissuer = "{ISSUER}"\n'
        'jwks_file = "keys.json"\nfhir_servers = ["https://ehr.example.org/fhir"]\n' + text
    )
    return path
