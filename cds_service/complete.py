"""Completing prefetch: what was not sent is read from the EHR's FHIR server, keys side by side.

CDS Hooks 2.0.1, "Prefetch Template": it is the service's part to notice what is missing and to
fetch it. Only with the call's own token, only from a server that this caller may name, and only
within the deadline; whatever cannot be read stays missing, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cds_service.call import Call
from cds_service.delivery.scopes import Reading, may_read
from cds_service.errors import BadRequest
from cds_service.fhir_client import FetchError, base_allowed, leads_on
from cds_service.prefetch import (
    Failed,
    KeyState,
    Missing,
    Satisfied,
    may_be_read,
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


@dataclass(frozen=True, slots=True)
class NoAccess:
    """Why this call may read nothing, in public words; empty where it never said that it could."""

    reason: str = ""


T = TypeVar("T")


class Watch(Protocol):
    """Awaits work for as long as somebody waits for what comes of it."""

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


async def no_watch(work: Coroutine[Any, Any, T]) -> T:
    """Nobody can leave."""
    return await work


async def complete(
    call: Call, states: dict[str, KeyState], unless_left: Watch = no_watch
) -> dict[str, KeyState]:
    """`states`, with every key that was missing, or sent in part, read in its place.

    A key whose reading fails keeps what was sent of it. Raises BadRequest for a token that was
    not given to this service.
    """
    check_subject(call)
    lacking = [key for key, state in states.items() if may_be_read(state)]
    if not lacking:
        return states
    access = access_of(call)
    if isinstance(access, NoAccess):
        return states | _unread(states, access)
    read = await unless_left(_read_all(call, access, lacking))
    return states | {key: _better(states[key], state) for key, state in read.items()}


async def _read_all(call: Call, access: Access, keys: Iterable[str]) -> dict[str, KeyState]:
    # A group: when the call is given up, so is everything that it asked for.
    async with asyncio.TaskGroup() as group:
        reading = {key: group.create_task(_read(call, access, key)) for key in keys}
    return {key: task.result() for key, task in reading.items()}


def check_subject(call: Call) -> None:
    """Raises BadRequest when the token was given to another OAuth client than this service is.

    CDS Hooks 2.0.1, "Passing the Access Token": `subject` is this service's id there.
    """
    authorization, client = call.request.fhir_authorization, call.caller.client
    if authorization is None or client is None or client.oauth_client_id is None:
        return
    if authorization.subject != client.oauth_client_id:
        raise BadRequest(
            "The access token was not given to this service.",
            expression="fhirAuthorization.subject",
        )


def access_of(call: Call) -> Access | NoAccess:
    """Access when the call names an allowed server and brings a token that has not expired.

    CDS Hooks 2.0.1, "Providing FHIR Resources": both are needed.
    """
    request, settings = call.request, call.parts.settings
    authorization = request.fhir_authorization
    if request.fhir_server is None:
        return NoAccess()
    if authorization is None:
        return NoAccess("cannot be read without fhirAuthorization")
    if not authorization.usable:
        return NoAccess("the access token has expired")
    base = base_allowed(request.fhir_server, call.caller.client, settings.profile)
    if base is None:
        return NoAccess("fhirServer is not one that this service may call for this client")
    deadline = asyncio.get_running_loop().time() + settings.deadline_ms / 1000
    token, scope = authorization.access_token, authorization.scope
    return Access(base=base, token=token, scope=scope, deadline=deadline)


def _unread(states: dict[str, KeyState], access: NoAccess) -> dict[str, KeyState]:
    return {
        key: Missing(f"{state.reason}, and {access.reason}")
        for key, state in states.items()
        if isinstance(state, Missing) and access.reason
    }


async def _read(call: Call, access: Access, key: str) -> KeyState:
    template = call.definition.prefetch[key]
    query = query_of(template, call.patient_id)
    extent = _extent(access.scope, query)
    if extent is Reading.NONE:
        return Missing("is not in the scope of the token")
    sent = (call.request.prefetch or {}).get(key) or {}
    fhir, where = call.parts.fhir, (access.token, access.deadline)
    try:
        if leads_on(access.base, sent):
            fetched = await fhir.complete(access.base, sent, *where)
        else:
            fetched = await fhir.get(access.base, query, *where)
    except FetchError as fault:
        return Failed(f"was not sent, and could not be read: {fault.reason}")
    # What a scope's query leaves out of an answer, the answer does not tell.
    in_part = not fetched.complete or extent is Reading.SOME
    return state_of(template, fetched.resource, incomplete=in_part)


def _better(sent: KeyState, read: KeyState) -> KeyState:
    """What was sent stays: the token may see less of the record than the EHR itself."""
    if not isinstance(sent, Satisfied):
        return read
    if not isinstance(read, Satisfied):
        return sent
    # Further pages came with the very objects of the first one.
    held = set(map(id, sent.resources))
    new = tuple(resource for resource in read.resources if id(resource) not in held)
    return Satisfied((*sent.resources, *new), incomplete=read.incomplete, told=read.told)


def _extent(scope: str, query: str) -> Reading:
    # What the EHR has left out of the scope is not asked for, whether or not its server would
    # refuse it.
    path, search, _ = query.partition("?")
    return may_read(scope, path.partition("/")[0], search=bool(search))
