"""Who is calling: a client's JWT where one is sent or required."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Request

from cds_service.audit.facts import note_caller
from cds_service.clients import Caller
from cds_service.parts import Parts


async def caller_of(parts: Parts, request: Request) -> Caller:
    """The caller of `request`; raises Unauthenticated or StoreUnavailable.

    The endpoint is the URL as the client knows it: behind a proxy the Host header proves nothing.
    """
    caller = await parts.clients.authenticate(
        # Several fields are one, with commas (RFC 9110, section 5.3); that is no token.
        ", ".join(request.headers.getlist("authorization")) or None,
        endpoint=f"{parts.settings.public_url}{request.scope['path']}",
        now=parts.clock(),
        address=request.client.host if request.client else None,
    )
    note_caller(request, caller)
    return caller


def client_of_call(parts: Parts, caller: Caller, fhir_server: str | None) -> Caller:
    """In the demo profile a call without a JWT belongs to the client that has its FHIR server."""
    if caller.client is not None or fhir_server is None:
        return caller
    return replace(caller, client=parts.clients.for_fhir_server(fhir_server))


def origin_of(parts: Parts, caller: Caller) -> str | None:
    """Whose resources `caller` may see; None (demo profile only) for everyone's."""
    if parts.settings.demo:
        return None
    # Clients never lets a caller without a client through in production: this is the lock behind
    # that door.
    return caller.client.name if caller.client else ""
