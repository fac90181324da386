"""This service's own access tokens: SMART Backend Services with private_key_jwt.

http://hl7.org/fhir/smart-app-launch/backend-services.html
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import orjson
from joserfc import jwt

from cds_service.clients import Backend, Client
from cds_service.clients.outbound import AnswerTooLarge, read_bounded
from cds_service.fhir_client import retry_after

ASSERTION_SECONDS = 300  # "no more than five minutes in the future"
TIMEOUT_SECONDS = 10.0
# A token is given back before its end, so that no request sets out with one that dies on the way.
SPARE_SECONDS = 30.0
LARGEST_ANSWER_BYTES = 64 * 1024
_ERROR_CODE = re.compile("[a-z_]{1,60}")
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class TokenUnavailable(Exception):
    """The authorization server gave no token. The message is free of secrets.

    `retry_after`: the seconds that the server asked for.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    text: str
    good_until: float


class BackendTokens:
    """One token for each client, asked for once however many wait, kept until shortly before
    its end. Those who wait together get the same answer, be it that there is none. Tokens live in
    this process's memory only."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        clock: Callable[[], datetime],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._clock = clock
        self._monotonic = monotonic
        self._tokens: dict[str, _Token] = {}
        self._asking: dict[str, asyncio.Task[str]] = {}

    async def token(self, client: Client) -> str | None:
        """An access token for the client's server; None for one that needs none (demo).

        Raises TokenUnavailable.
        """
        if client.backend is None:
            return None
        kept = self._tokens.get(client.name)
        if kept is not None and kept.good_until > self._monotonic():
            return kept.text
        asking = self._asking.get(client.name)
        if asking is None:
            asking = asyncio.create_task(self._renew(client.name, client.backend))
            asking.add_done_callback(_looked_at)
            self._asking[client.name] = asking
        # One who stops waiting does not stop it for the others.
        return await asyncio.shield(asking)

    def forget(self, client: Client, token: str) -> None:
        """`token` was refused by the FHIR server: the next caller gets a new one."""
        kept = self._tokens.get(client.name)
        if kept is not None and kept.text == token:
            del self._tokens[client.name]

    async def close(self) -> None:
        """Nobody waits any more."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _renew(self, name: str, backend: Backend) -> str:
        try:
            self._tokens[name] = await self._ask(backend)
            return self._tokens[name].text
        finally:
            del self._asking[name]

    async def _ask(self, backend: Backend) -> _Token:
        asked_at = self._monotonic()
        form = {
            "grant_type": "client_credentials",
            "scope": backend.scope,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": assertion(backend, now=self._clock(), token_id=str(uuid.uuid4())),
        }
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._http.stream("POST", backend.token_url, data=form) as answer,
            ):
                body = await read_bounded(answer, LARGEST_ANSWER_BYTES)
        except (httpx.HTTPError, TimeoutError, AnswerTooLarge) as fault:
            raise TokenUnavailable(f"token endpoint: {type(fault).__name__}") from fault
        if answer.status_code != httpx.codes.OK:
            reason = f"token endpoint: HTTP {answer.status_code}{_error_code(body)}"
            raise TokenUnavailable(reason, retry_after=retry_after(answer.headers, self._clock()))
        return _granted(body, asked_at)


def _looked_at(asking: asyncio.Task[str]) -> None:
    """Where nobody waits any more, its fault is no one's."""
    if not asking.cancelled():
        asking.exception()


def assertion(backend: Backend, *, now: datetime, token_id: str) -> str:
    """The signed statement that this service is the client it says it is."""
    issued_at = int(now.timestamp())
    header = {
        "alg": backend.algorithm,
        "kid": backend.key_id or backend.private_key.thumbprint(),
        "typ": "JWT",
    }
    claims: dict[str, Any] = {
        "iss": backend.client_id,
        "sub": backend.client_id,
        "aud": backend.token_url,
        "iat": issued_at,
        "exp": issued_at + ASSERTION_SECONDS,
        "jti": token_id,
    }
    return jwt.encode(header, claims, backend.private_key, algorithms=[backend.algorithm])


def _granted(body: bytes, asked_at: float) -> _Token:
    try:
        answer = orjson.loads(body)
        token, lifetime = answer["access_token"], float(answer.get("expires_in", 0))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as fault:
        raise TokenUnavailable("token endpoint: the answer has no access token") from fault
    if not isinstance(token, str):
        raise TokenUnavailable("token endpoint: the answer has no access token")
    return _Token(text=token, good_until=asked_at + lifetime - min(SPARE_SECONDS, lifetime / 2))


def _error_code(body: bytes) -> str:
    """RFC 6749, section 5.2: of what the server says, the part that is no free text."""
    with suppress(orjson.JSONDecodeError):
        answer = orjson.loads(body)
        code = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(code, str) and _ERROR_CODE.fullmatch(code):
            return f" {code}"
    return ""
