"""POST /cds-services/{id}: the call of a hook (CDS Hooks, "Calling a CDS Service")."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from cds_service.assess import assess
from cds_service.audit.facts import facts_of, note_caller
from cds_service.body import read_json_object
from cds_service.errors import NotFound
from cds_service.hooks import (
    HookRequest,
    ServiceDefinition,
    hook_response,
    parse_hook_request,
)
from cds_service.log import note
from cds_service.parts import Parts
from cds_service.routes.answers import json_bytes
from cds_service.routes.callers import caller_of, client_of_call
from cds_service.routes.departure import unless_client_leaves
from cds_service.routes.described import reads, schema_of


def router(parts: Parts) -> APIRouter:
    """The services of hooks.json."""
    routes = APIRouter()

    @routes.post("/cds-services/{service_id}", openapi_extra=reads(hook_request_schema(parts)))
    async def call(request: Request, service_id: str) -> Response:
        caller = await caller_of(parts, request)
        definition = service(parts, service_id)
        facts = facts_of(request)
        facts.serve(definition)
        facts.action = definition.hook
        sent = await read_object(parts, request)
        facts.read_hook_call(sent)
        hook_request = parse_hook_request(sent, definition)
        note(request, service=definition.id, hook_instance=hook_request.hook_instance)
        caller = client_of_call(parts, caller, hook_request.fhir_server)
        note_caller(request, caller)
        watch = partial(unless_client_leaves, request)
        answer = await assess(parts, hook_request, definition, caller, facts, watch)
        note(request, outcome=answer.outcome)
        return json_bytes(hook_response(answer.cards, answer.system_actions))

    return routes


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
