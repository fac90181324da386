"""HTTP that this service starts itself: to key sets, token endpoints and FHIR servers."""

from __future__ import annotations

import ssl

import httpx

# Longer than any call of a clinician may take; callers set closer deadlines around it.
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)


class AnswerTooLarge(Exception):
    """An answer has more bytes than were allowed for it, or hides how many it has."""


def open_http(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client that goes where it is sent and nowhere else: no redirects, no cookies kept, no
    proxy or credentials out of the environment.

    The machine's own trust store decides about certificates: a hospital's authority is in it.
    `transport` takes the network's place in tests.
    """
    return httpx.AsyncClient(
        transport=transport,
        verify=ssl.create_default_context(),
        trust_env=False,
        follow_redirects=False,
        timeout=_TIMEOUT,
        limits=_LIMITS,
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
