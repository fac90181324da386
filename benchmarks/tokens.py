"""An EHR that signs its calls: a key of its own, a clients file that knows it, a JWT per call.

The service runs in the production profile with it: a call whose token is missing, false or used
before is refused, so a run of 200s is a run of verified tokens. `check_verified` proves that.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from benchmarks.subjects import Subject, send

ISSUER = "https://ehr.example.org"
# As long as a run may take between making a token and sending it; the service allows an hour.
LIFETIME_SECONDS = 1800
CLIENTS = f"""\
[[client]]
name = "General Hospital"
issuer = "{ISSUER}"
jwks_file = "keys.json"
algorithms = ["ES384"]
"""


class Ehr:
    """Its clients file and public key are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._key = ECKey.generate_key("P-384", {"kid": "bench"})
        public = {"keys": [self._key.as_dict(private=False)]}
        (folder / "keys.json").write_bytes(orjson.dumps(public))
        self._clients_file = folder / "clients.toml"
        self._clients_file.write_text(CLIENTS, encoding="utf-8")

    @property
    def settings(self) -> dict[str, str]:
        """For a service that verifies this EHR's calls."""
        return {"CDS_PROFILE": "production", "CDS_CLIENTS_FILE": str(self._clients_file)}

    def signs(self, url: str) -> Callable[[], str]:
        """What makes the Authorization of a call to `url`: each token is good for one call."""
        registry = JWSRegistry(algorithms=["ES384"])

        def authorization() -> str:
            now = int(time.time())
            claims = {
                "iss": ISSUER,
                "aud": url,
                "iat": now,
                "exp": now + LIFETIME_SECONDS,
                "jti": str(uuid.uuid4()),
            }
            header = {"alg": "ES384", "kid": "bench", "typ": "JWT"}
            return f"Bearer {jwt.encode(header, claims, self._key, registry=registry)}"

        return authorization


def check_verified(subject: Subject, body: bytes) -> None:
    """No token, a false one and a used one are refused; raises SubjectFailed where one is not."""
    assert subject.sign is not None  # noqa: S101 - for the type checker
    good = subject.sign()
    head, claims, signature = good.split(".")
    false = f"{head}.{claims}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    wanted = (("no token", None, 401), ("a false token", false, 401), ("a token", good, 200),
              ("a used token", good, 401))  # fmt: skip
    for what, authorization, status in wanted:
        answered, _ = send(subject, body, authorization)
        if answered != status:
            raise subject.failed(f"answered {answered}, not {status}, to {what}")
