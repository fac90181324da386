"""Who calls: a client's valid JWT in production, anyone on the demo profile's own machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import httpx
import structlog
from anyio import CapacityLimiter, to_thread

from cds_service.clients.addresses import reach_of
from cds_service.clients.file import Client, read_clients
from cds_service.clients.jwks import FetchedKeys, KeySource, PinnedKeys
from cds_service.clients.jwt import (
    SignedToken,
    check_claims,
    check_header,
    check_signature,
    take_apart,
)
from cds_service.clients.outbound import open_http
from cds_service.clients.replay import SeenTokens, TokensSeenHere
from cds_service.clients.urls import parse_base
from cds_service.errors import Unauthenticated

log = structlog.get_logger(__name__)

_LONGEST_LOGGED = 200
# Callers who are not in yet share few threads: they cannot take those of the calls at work.
CHECKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whom a call comes from. Without a client: a call without a JWT, in the demo profile."""

    client: Client | None
    tenant: str | None = None
    address: str | None = None


class Clients:
    """The clients of the clients file, and the check of their calls. `reach`: where their servers
    may be."""

    def __init__(
        self,
        clients: tuple[Client, ...],
        *,
        demo: bool,
        http: httpx.AsyncClient | None = None,
        seen: SeenTokens | None = None,
    ) -> None:
        self._clients = clients
        self._demo = demo
        self.reach = reach_of(clients, demo=demo)
        self._http = http or open_http(reach=self.reach)
        self._seen: SeenTokens = seen or TokensSeenHere()
        self._checks = CapacityLimiter(CHECKS_AT_ONCE)
        self._by_issuer = {client.issuer: client for client in clients if client.issuer}
        self._keys: Mapping[str, KeySource] = {
            client.name: self._key_source(client) for client in self._by_issuer.values()
        }

    @classmethod
    def from_file(
        cls,
        path: Path | None,
        profile: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        seen: SeenTokens | None = None,
    ) -> Clients:
        """The clients in `path`, none without one; raises ClientsFileError.

        `transport` takes the network's place in tests. Without `seen` this process remembers used
        tokens by itself, which is enough where there is no other.
        """
        demo = profile == "demo"
        clients = () if path is None else read_clients(path, demo=demo)
        http = open_http(transport) if transport else None
        return cls(clients, demo=demo, http=http, seen=seen)

    async def close(self) -> None:
        await self._http.aclose()

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients)

    def named(self, name: str) -> Client | None:
        """The client with this name."""
        return next((client for client in self._clients if client.name == name), None)

    def for_fhir_server(self, url: str) -> Client | None:
        """Demo profile: the first client in the file that has this FHIR server.

        None in production, where only a JWT says who calls.
        """
        base = parse_base(url)
        if base is None or not self._demo:
            return None
        owners = (client for client in self._clients if base.text in client.fhir_servers)
        return next(owners, None)

    async def authenticate(
        self,
        authorization: str | None,
        *,
        endpoint: str,
        now: datetime,
        address: str | None = None,
    ) -> Caller:
        """The caller that an Authorization header proves; `endpoint` is the URL that was called.

        Raises Unauthenticated (401, the reason is in the log only), or StoreUnavailable (503) when
        nobody can tell whether the token was used before. In the demo profile no header is fine;
        one that is sent must be valid.
        """
        if authorization is None and self._demo:
            return Caller(client=None, address=address)
        try:
            return await self._verified(authorization, endpoint, now, address)
        except Unauthenticated as fault:
            log.warning("caller refused", reason=fault.reason, endpoint=endpoint, address=address)
            raise

    async def _verified(
        self, authorization: str | None, endpoint: str, now: datetime, address: str | None
    ) -> Caller:
        # The order of the best practices page, with the signature before anything that a caller
        # could learn from: only who holds a key of the client gets to the tenant and the jti.
        token = take_apart(_bearer_token(authorization))
        client = self._issuer(token)
        check_header(token, client)
        check_signature(token, await self._keys[client.name].find(token.key_id))
        claims = check_claims(token, client, endpoint=endpoint, now=now)
        first_use = partial(
            self._seen.first_use,
            issuer=str(client.issuer),
            token_id=claims.token_id,
            expires_at=claims.expires_at,
            now=now.timestamp(),
        )
        if not await to_thread.run_sync(first_use, limiter=self._checks):
            raise Unauthenticated("jti was used before")
        return Caller(client=client, tenant=claims.tenant, address=address)

    def _issuer(self, token: SignedToken) -> Client:
        issuer = token.claims.get("iss")
        client = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
        if client is None:
            log.info("unknown issuer", issuer=str(issuer)[:_LONGEST_LOGGED])
            raise Unauthenticated("iss is unknown")
        return client

    def _key_source(self, client: Client) -> KeySource:
        if client.keys is not None:
            return PinnedKeys(client.keys)
        return FetchedKeys(str(client.jwks_url), self._http)


def _bearer_token(authorization: str | None) -> str:
    # RFC 7235, section 2.1: the scheme's name is case-insensitive.
    scheme, _, token = (authorization or "").strip(" ").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("no bearer token")
    if " " in token or "," in token:
        # Several header fields come here as one, with a comma: a proxy in front may have read
        # another of them than this service would.
        raise Unauthenticated("more than one token")
    return token
