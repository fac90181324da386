"""Values sealed at rest under keys that the operator holds. Pure, given keys and nonces.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits: one key is good for 2^32 values
(section 8.3 there), which is a billion calls. What a value is sealed with besides is its place, so
that it opens in no other row, column or table: https://cryptography.io/en/latest/hazmat/primitives/aead/
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cds_service.errors import RowUnreadable
from cds_service.store.stored_json import json_text

KEY_BYTES = 32
NONCE_BYTES = 12
# As JOSE calls it: https://www.rfc-editor.org/rfc/rfc7518#section-5.3
ALGORITHM = "A256GCM"
# The member by which a sealed value is known. No inputs and no resource have one of this name.
MARK = "sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value is stored."""

    table: str
    column: str
    row: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column} of {self.row!r}"

    @property
    def associated_data(self) -> bytes:
        # JSON, so that no two places are written alike.
        return json.dumps([self.table, self.column, self.row]).encode()


def fingerprint(key: bytes) -> str:
    """A public name for a key, which says nothing about it: 64 bits of a digest of its own."""
    return hashlib.sha256(b"urn:cds-service:store-key:" + key).hexdigest()[:16]


def is_sealed(value: Any) -> bool:
    """Whether it claims to be: what else is wrong with it shows when it is opened."""
    return isinstance(value, dict) and MARK in value


class Sealing:
    """The first key seals, all of them open; without any, values are stored as they are."""

    def __init__(
        self,
        keys: Sequence[bytes] = (),
        *,
        nonce: Callable[[], bytes] = lambda: os.urandom(NONCE_BYTES),
    ) -> None:
        self._keys = {fingerprint(key): AESGCM(key) for key in keys}
        self._nonce = nonce
        self.sealed_by = next(iter(self._keys), None)

    @property
    def fingerprints(self) -> frozenset[str]:
        """Those of all keys."""
        return frozenset(self._keys)

    def seal(self, value: Any, place: Place) -> Any:
        """`value` as it is stored at `place`: JSON either way."""
        if self.sealed_by is None:
            return value
        nonce = self._nonce()
        text = json_text(value).encode()
        sealed = self._keys[self.sealed_by].encrypt(nonce, text, place.associated_data)
        stored = base64.b64encode(nonce + sealed).decode()
        return {MARK: ALGORITHM, "key": self.sealed_by, "value": stored}

    def open(self, stored: Any, place: Place) -> Any:
        """What was sealed at `place`, or was stored plainly; raises RowUnreadable."""
        if not is_sealed(stored):
            return stored
        name = stored.get("key")
        key = self._keys.get(name) if isinstance(name, str) else None
        nonce_and_text = _bytes_of(stored)
        if nonce_and_text is None:
            raise RowUnreadable(f"{place}: is nothing that this program has sealed")
        if key is None:
            raise RowUnreadable(f"{place}: is sealed with key {name!r}, which CDS_STORE_KEYS lacks")
        nonce, text = nonce_and_text[:NONCE_BYTES], nonce_and_text[NONCE_BYTES:]
        try:
            return json.loads(key.decrypt(nonce, text, place.associated_data))
        except InvalidTag:
            raise RowUnreadable(
                f"{place}: does not open with key {name!r}: it was changed, or is of another row"
            ) from None


def _bytes_of(stored: dict[str, Any]) -> bytes | None:
    """Nonce, text and tag; None where they are not written as `seal` writes them."""
    text = stored.get("value")
    if stored.keys() != {MARK, "key", "value"} or stored[MARK] != ALGORITHM:
        return None
    try:
        found = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return None
    # The last sign of Base64 has bits that say nothing: there is one way to write a value.
    written_so = base64.b64encode(found).decode() == text
    return found if written_so and len(found) > NONCE_BYTES else None
