"""HTTP that this service starts itself: to key sets, token endpoints and FHIR servers.

A host is resolved once for each connection, its addresses are checked, and the connection is made
to an address that was checked: a name that resolves to something else a moment later (DNS
rebinding) gains nothing. Host header and the name in the certificate stay those of the URL.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import cache

import httpcore
import httpx
import structlog

from cds_service.clients.addresses import Reach

log = structlog.get_logger(__name__)

# Longer than any call of a clinician may take; callers set closer deadlines around it.
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)
# RFC 8305, section 5: so long one address is waited for before the next one is tried besides.
_NEXT_ADDRESS_SECONDS = 0.25
PUBLIC_ONLY = Reach()

Resolve = Callable[[str, int], Awaitable[list[str]]]
SocketOptions = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]


class AnswerTooLarge(Exception):
    """An answer has more bytes than were allowed for it, or hides how many it has."""


class AddressRefused(httpx.ConnectError):
    """A host resolves to no address that may be connected to. The log names it."""


def open_http(
    transport: httpx.AsyncBaseTransport | None = None, *, reach: Reach = PUBLIC_ONLY
) -> httpx.AsyncClient:
    """A client that goes where it is sent and nowhere else: no redirects, no cookies kept, no
    proxy or credentials out of the environment, and to addresses within `reach` only.

    The machine's own trust store decides about certificates: a hospital's authority is in it.
    `transport` takes the network's place in tests.
    """
    return httpx.AsyncClient(
        transport=transport or CheckedTransport(CheckedNetwork(reach)),
        trust_env=False,
        follow_redirects=False,
        timeout=_TIMEOUT,
        # Uncompressed answers cannot grow in memory after they were measured on the wire.
        headers={"Accept-Encoding": "identity", "User-Agent": "cds-service"},
    )


async def read_bounded(answer: httpx.Response, most_bytes: int) -> bytes:
    """The body of a streamed answer; raises AnswerTooLarge as soon as it exceeds `most_bytes`."""
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise AnswerTooLarge("the answer is compressed, which was not asked for")
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > most_bytes:
            raise AnswerTooLarge(f"the answer has more than {most_bytes} bytes")
    return bytes(body)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, in the order of RFC 6724; raises OSError or UnicodeError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a network that checks addresses."""

    def __init__(
        self, network: httpcore.AsyncNetworkBackend, *, verify: ssl.SSLContext | None = None
    ) -> None:
        # httpx offers no way to hand its pool a network, so that the pool is made here.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify or _trust_of_machine(),
            max_connections=_LIMITS.max_connections,
            max_keepalive_connections=_LIMITS.max_keepalive_connections,
            keepalive_expiry=_LIMITS.keepalive_expiry,
            network_backend=network,
        )


@cache
def _trust_of_machine() -> ssl.SSLContext:
    """Read once for all clients: 20 ms, and a megabyte of certificates."""
    return ssl.create_default_context()


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses within `reach`. The pool above it keeps connections by host name, and
    makes TLS with that name."""

    def __init__(
        self,
        reach: Reach,
        *,
        resolve: Resolve = resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._reach = reach
        self._resolve = resolve
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            return await self._network.connect_tcp(
                address, port, None, local_address, socket_options
            )

        try:
            async with asyncio.timeout(timeout):
                return await _first_connected(connect, await self._allowed(host, port))
        except TimeoutError as fault:
            raise httpcore.ConnectTimeout from fault
        except (OSError, UnicodeError) as fault:
            raise httpcore.ConnectError from fault

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _allowed(self, host: str, port: int) -> list[str]:
        addresses = await self._resolve(host, port)
        allowed = [address for address in addresses if self._reach.allows(host, address)]
        if not allowed:
            log.warning("address refused", host=host, addresses=addresses, hint=_HINT)
            raise AddressRefused("the host is at no address that may be connected to")
        return allowed


_HINT = "if it belongs there, list its network in private_networks of the client's entry"


async def _first_connected(
    connect: Callable[[str], Awaitable[httpcore.AsyncNetworkStream]], addresses: list[str]
) -> httpcore.AsyncNetworkStream:
    """The first of the connections that comes about; the next is begun when one fails, or takes
    long. Raises what the last one raised."""
    waiting, running = list(addresses), set[asyncio.Task[httpcore.AsyncNetworkStream]]()
    try:
        while True:
            if waiting:
                running.add(asyncio.create_task(_awaited(connect(waiting.pop(0)))))
            done, running = await asyncio.wait(
                running,
                timeout=_NEXT_ADDRESS_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                if task.exception() is None or not (running or waiting):
                    running |= done - {task}
                    return task.result()
    finally:
        await _drop(running)


async def _awaited(
    connecting: Awaitable[httpcore.AsyncNetworkStream],
) -> httpcore.AsyncNetworkStream:
    return await connecting


async def _drop(attempts: Iterable[asyncio.Task[httpcore.AsyncNetworkStream]]) -> None:
    """No attempt goes on, and none that came about stays open."""
    pending = list(attempts)
    for task in pending:
        task.cancel()
    for stream in await asyncio.gather(*pending, return_exceptions=True):
        if isinstance(stream, httpcore.AsyncNetworkStream):
            await stream.aclose()
