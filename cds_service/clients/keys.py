"""Keys: JSON Web Key Sets and private keys, reduced to what may verify or sign here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

Key = RSAKey | ECKey

# NIST SP 800-131A: RSA below 2048 bits is no longer a signature.
_SMALLEST_RSA_BITS = 2048
_PUBLIC_MEMBERS = {"EC": ("crv", "x", "y"), "RSA": ("n", "e")}


class KeyFault(Exception):
    """A key or key set cannot be used. The message holds nothing of the key."""


def read_jwks(body: bytes) -> tuple[Key, ...]:
    """The public keys of a JWK Set that may verify signatures; raises KeyFault for no set.

    A key that is not understood is left out and spoils nothing (RFC 7517, section 5): so are
    symmetric ones, those for encryption, and weak ones.
    """
    try:
        keys = json.loads(body)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as fault:
        raise KeyFault("is not a JWK Set") from fault
    if not isinstance(keys, list):
        raise KeyFault("is not a JWK Set")
    return tuple(_public_keys(keys))


def _public_keys(keys: list[Any]) -> Iterator[Key]:
    for key in keys:
        if not isinstance(key, dict) or not _may_verify(key):
            continue
        members = ("kty", "kid", "alg", *_PUBLIC_MEMBERS[key["kty"]])
        public: dict[str, str | list[str]] = {
            member: key[member] for member in members if member in key
        }
        try:
            imported = _import(public)
        except (JoseError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
            continue
        if imported is not None:
            yield imported


def _may_verify(key: dict[str, Any]) -> bool:
    # RFC 7517, sections 4.2 and 4.3: a key can say in two ways what it is for.
    operations = key.get("key_ops", ["verify"])
    meant = isinstance(operations, list) and "verify" in operations
    known = str(key.get("kty")) in _PUBLIC_MEMBERS and isinstance(key.get("kid"), str)
    return known and meant and key.get("use", "sig") == "sig"


def _import(public: dict[str, str | list[str]]) -> Key | None:
    if public["kty"] == "EC":
        return ECKey.import_key(public)
    # Measured before the import, which would warn about every small key of every client.
    modulus = RSAKey.binding.import_public_key(public)  # type: ignore[arg-type]
    return RSAKey.import_key(public) if modulus.key_size >= _SMALLEST_RSA_BITS else None


def read_private_key(pem: bytes) -> Key:
    """A signing key for ES384 or RS384, the two that SMART Backend Services ask for."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
        raise KeyFault("is not a private key in PEM without a password") from fault
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _SMALLEST_RSA_BITS:
        return RSAKey.import_key(pem)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1):
        return ECKey.import_key(pem)
    raise KeyFault("must be an RSA key of at least 2048 bits or an EC key on P-384")
