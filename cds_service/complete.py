"""Completing prefetch: what was not sent is read from the EHR's FHIR server, keys side by side.

CDS Hooks 2.0.1, "Prefetch Template": it is the service's part to notice what is missing and to
fetch it. Only with the call's own token, only from a server that this caller may name, and only
within the deadline; whatever cannot be read stays missing, with the reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cds_service.call import Call
from cds_service.delivery.scopes import may_read
from cds_service.fhir_client import FetchError, base_allowed
from cds_service.prefetch import (
    Failed,
    KeyState,
    Missing,
    Satisfied,
    is_partial,
    query_of,
    state_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where this call may read, with which token and its scope, until when (the loop's clock)."""

    base: str
    token: str
    scope: str
    deadline: float


async def complete(call: Call, states: dict[str, KeyState]) -> dict[str, KeyState]:
    """`states`, with every key that was missing, or sent in part, read in its place.

    A key whose reading fails keeps what was sent of it.
    """
    lacking = [k for k, state in states.items() if isinstance(state, Missing) or is_partial(state)]
    access = access_of(call)
    if not lacking or access is None:
        return states
    read = await asyncio.gather(*(_read(call, access, key) for key in lacking))
    found = dict(zip(lacking, read, strict=True))
    return {**states, **{key: _better(states[key], new) for key, new in found.items()}}


def _better(sent: KeyState, read: KeyState) -> KeyState:
    """What was sent stays: the token may see less of the record than the EHR itself."""
    if not isinstance(sent, Satisfied):
        return read
    if not isinstance(read, Satisfied):
        return sent
    return Satisfied((*sent.resources, *read.resources), incomplete=read.incomplete)


def access_of(call: Call) -> Access | None:
    """None unless the call names an allowed server and brings a token that has not expired.

    CDS Hooks 2.0.1, "Providing FHIR Resources": both are needed.
    """
    request, settings = call.request, call.parts.settings
    authorization = request.fhir_authorization
    if request.fhir_server is None or authorization is None or not authorization.usable:
        return None
    base = base_allowed(request.fhir_server, call.caller.client, settings.profile)
    if base is None:
        return None
    deadline = asyncio.get_running_loop().time() + settings.deadline_ms / 1000
    token, scope = authorization.access_token, authorization.scope
    return Access(base=base, token=token, scope=scope, deadline=deadline)


async def _read(call: Call, access: Access, key: str) -> KeyState:
    template = call.definition.prefetch[key]
    query = query_of(template, call.patient_id)
    if not _in_scope(access.scope, query):
        return Missing("is not in the scope of the token")
    try:
        fetched = await call.parts.fhir.get(access.base, query, access.token, access.deadline)
    except FetchError as fault:
        return Failed(f"was not sent, and could not be read: {fault.reason}")
    return state_of(template, fetched.resource, incomplete=not fetched.complete)


def _in_scope(scope: str, query: str) -> bool:
    # What the EHR has left out of the scope is not asked for, whether or not its server would
    # refuse it.
    path, search, _ = query.partition("?")
    return may_read(scope, path.partition("/")[0], search=bool(search))
