"""POST /cds-services/{id}: the call of a hook (CDS Hooks, "Calling a CDS Service")."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cds_service.assess import assess
from cds_service.audit.facts import facts_of, note_caller
from cds_service.body import parsed, read_json, read_json_object
from cds_service.errors import NotFound, ServiceError
from cds_service.hooks import (
    HookRequest,
    ServiceDefinition,
    hook_response,
    parse_hook_request,
)
from cds_service.log import note
from cds_service.long_body import parse_call
from cds_service.parts import Parts
from cds_service.prefetch import without_the_unread
from cds_service.routes.answers import answer_service_error, json_bytes
from cds_service.routes.callers import caller_of, client_of_call
from cds_service.routes.departure import unless_client_leaves
from cds_service.routes.described import reads, schema_of

PATH = "/cds-services/{service_id}"
_ABOVE = PATH.removesuffix("{service_id}")


def router(parts: Parts) -> APIRouter:
    """The services of hooks.json, as the OpenAPI describes them."""
    routes = APIRouter()

    @routes.post(PATH, openapi_extra=reads(hook_request_schema(parts)))
    async def call(request: Request, service_id: str) -> Response:
        return await hook_call(parts, request, service_id)

    return routes


class _Route(NamedTuple):
    """What the log calls a request's route."""

    path: str


class HookCalls:
    """Answers the calls of hooks, in front of FastAPI: to find the route and to call it takes
    FastAPI as long as to compose the answer takes the service."""

    def __init__(self, app: ASGIApp, *, parts: Parts) -> None:
        self.app = app
        self._parts = parts
        self._route = _Route(PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service_id = service_called(scope)
        if service_id is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = self._route
        request = Request(scope, receive)
        try:
            answer = await hook_call(self._parts, request, service_id)
        except ServiceError as fault:
            answer = await answer_service_error(request, fault)
        await answer(scope, receive, send)


def service_called(scope: Scope) -> str | None:
    """The id in the path of a hook's call; None where the request is another."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path: str = scope["path"]
    service_id = path.removeprefix(_ABOVE)
    return service_id if service_id != path and service_id and "/" not in service_id else None


async def hook_call(parts: Parts, request: Request, service_id: str) -> Response:
    """The cards for one call; raises a ServiceError."""
    caller = await caller_of(parts, request)
    definition = service(parts, service_id)
    facts = facts_of(request)
    facts.serve(definition)
    facts.action = definition.hook
    sent = await _read_call(parts, request, definition)
    facts.read_hook_call(sent)
    hook_request = parse_hook_request(sent, definition)
    note(request, service=definition.id, hook_instance=hook_request.hook_instance)
    caller = client_of_call(parts, caller, hook_request.fhir_server)
    note_caller(request, caller)
    watch = partial(unless_client_leaves, request)
    answer = await assess(parts, hook_request, definition, caller, facts, watch)
    note(request, outcome=answer.outcome)
    return json_bytes(hook_response(answer.cards, answer.system_actions))


async def _read_call(
    parts: Parts, request: Request, definition: ServiceDefinition
) -> dict[str, Any]:
    body = await read_json(request, max_bytes=parts.settings.max_body_bytes)
    reduced = without_the_unread(parts.model_of(definition).mapping)
    return await parsed(body, partial(parse_call, body, parts.settings.max_json_depth, reduced))


def hook_request_schema(parts: Parts) -> dict[str, Any]:
    """The body of a hook call, with the hooks and the prefetch keys that there are here."""
    schema = schema_of(HookRequest)
    services = parts.services.values()
    keys = {key: {"type": ["object", "null"]} for each in services for key in each.prefetch}
    schema["properties"] |= {
        "hook": {"enum": sorted({each.hook for each in services})},
        "prefetch": {"type": ["object", "null"], "properties": keys},
    }
    return schema


def service(parts: Parts, service_id: str) -> ServiceDefinition:
    """The definition with this id; raises NotFound, which does not echo the id."""
    definition = parts.services.get(service_id)
    if definition is None:
        raise NotFound("There is no such service.")
    return definition


async def read_object(parts: Parts, request: Request) -> dict[str, Any]:
    """The body of `request` within the limits of the settings."""
    settings = parts.settings
    return await read_json_object(
        request, max_bytes=settings.max_body_bytes, max_depth=settings.max_json_depth
    )
