"""The JWT of a CDS client (CDS Hooks 2.0.1, "Trusting CDS Clients"), checked step by step.

Every refusal raises Unauthenticated with a reason for the log; the wire never says why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode

from cds_service.clients.file import ALGORITHMS, Client
from cds_service.clients.keys import Key
from cds_service.errors import Unauthenticated

# Best practices: a clock may be off by a little, and a token should live no more than an hour.
LEEWAY_SECONDS = 60
LONGEST_LIFETIME_SECONDS = 3600
LONGEST_TOKEN = 16 * 1024
# Both are kept, a tenant in every row of the audit.
LONGEST_JTI = LONGEST_TENANT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedToken:
    """A token taken apart and not yet believed."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: jws.CompactSignature

    @property
    def key_id(self) -> str:
        return str(self.header["kid"])


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedClaims:
    """What a valid token says; `expires_at` in seconds of the epoch, leeway included."""

    tenant: str | None
    token_id: str
    expires_at: float


def take_apart(token: str) -> SignedToken:
    """Header and claims of a compact JWS; nothing of it is verified yet."""
    if len(token) > LONGEST_TOKEN or not token.isascii():
        raise Unauthenticated("the token is too long or not ASCII")
    try:
        signed = jws.extract_compact(token.encode(), registry=_registry())
        header = _strict_json(urlsafe_b64decode(signed.segments["header"]))
        claims = _strict_json(signed.payload)
    except (JoseError, ValueError, TypeError, RecursionError) as fault:
        raise Unauthenticated("the token is no JWT") from fault
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Unauthenticated("header or claims are no object")
    return SignedToken(header=header, claims=claims, signed=signed)


def _strict_json(text: bytes) -> Any:
    """RFC 7519, section 4: of two claims with one name readers may take either, so neither is
    taken. NaN and Infinity are Python's and not JSON's. Raises ValueError."""
    return _STRICT.decode(text.decode())


def _each_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a name appears twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError("not JSON")


_STRICT = json.JSONDecoder(object_pairs_hook=_each_once, parse_constant=_no_number)


def check_header(token: SignedToken, client: Client) -> None:
    """The algorithm is one the client may use; the keys it points to are the configured ones.

    `jwk`, `x5u` and `x5c` are never looked at: a token does not bring its own key.
    """
    header = token.header
    if header.get("typ") != "JWT":
        raise Unauthenticated("typ is not JWT")
    if header.get("alg") not in client.algorithms:
        raise Unauthenticated("alg is not allowed for this client")
    if "crit" in header:
        raise Unauthenticated("crit demands what is not understood here")
    if not isinstance(header.get("kid"), str) or not header["kid"]:
        raise Unauthenticated("kid is missing")
    if "jku" in header and (header["jku"] != client.jwks_url or client.jwks_url is None):
        raise Unauthenticated("jku is not the one configured")


def check_signature(token: SignedToken, keys: list[Key]) -> None:
    """One of `keys` made the signature, with the algorithm that both key and header name."""
    algorithm = str(token.header["alg"])
    for key in keys:
        if key.get("alg", algorithm) == algorithm and _verifies(token, key, algorithm):
            return
    raise Unauthenticated("kid is unknown" if not keys else "the signature is not valid")


def _verifies(token: SignedToken, key: Key, algorithm: str) -> bool:
    try:
        # The library binds the algorithm to the type and the curve of the key.
        return jws.validate_compact(token.signed, key, registry=_registry(algorithm))
    except (JoseError, ValueError, TypeError):
        return False


def check_claims(
    token: SignedToken, client: Client, *, endpoint: str, now: datetime
) -> VerifiedClaims:
    """The token is for this endpoint, this moment and this client's tenants."""
    claims = token.claims
    _check_audience(claims.get("aud"), client.audience or (endpoint,))
    expires_at = _check_times(claims, now.timestamp())
    token_id = claims.get("jti")
    if not isinstance(token_id, str) or not 0 < len(token_id) <= LONGEST_JTI:
        raise Unauthenticated("jti is missing or too long")
    tenant = claims.get("tenant")
    if tenant is not None and not (isinstance(tenant, str) and len(tenant) <= LONGEST_TENANT):
        raise Unauthenticated("tenant is no text, or too long")
    if client.tenants and tenant not in client.tenants:
        raise Unauthenticated("tenant is not allowed for this client")
    return VerifiedClaims(tenant=tenant, token_id=token_id, expires_at=expires_at + LEEWAY_SECONDS)


def _check_audience(audience: Any, accepted: tuple[str, ...]) -> None:
    # RFC 7519, section 4.1.3: one string, or a list of which one is us.
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(name, str) and name in accepted for name in named):
        raise Unauthenticated("aud is not this endpoint")


def _check_times(claims: dict[str, Any], now: float) -> float:
    issued_at, expires_at = _seconds(claims, "iat"), _seconds(claims, "exp")
    not_before = _seconds(claims, "nbf") if "nbf" in claims else issued_at
    if now >= expires_at + LEEWAY_SECONDS:
        raise Unauthenticated("the token has expired")
    if max(issued_at, not_before) > now + LEEWAY_SECONDS:
        raise Unauthenticated("the token is not valid yet")
    if not 0 < expires_at - issued_at <= LONGEST_LIFETIME_SECONDS:
        raise Unauthenticated("the token's lifetime is none, or longer than an hour")
    return expires_at


def _seconds(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    # RFC 7519, section 2: NumericDate is a JSON number. `True` is one in Python only.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(f"{name} is missing or no number")
    # Compared, then converted: JSON knows integers that no float can hold.
    if not abs(value) < 1e12:
        raise Unauthenticated(f"{name} is out of range")
    return float(value)


# Of the library's rules, never of a token: one for each algorithm, and one for none.
@lru_cache(maxsize=len(ALGORITHMS) + 1)
def _registry(algorithm: str | None = None) -> jws.JWSRegistry:
    # RFC 7515, section 4: header parameters that are not understood are ignored.
    registry = jws.JWSRegistry(
        algorithms=[algorithm] if algorithm else None, strict_check_header=False
    )
    registry.max_header_length = LONGEST_TOKEN  # a jku and a long kid exceed the library's 512
    return registry
