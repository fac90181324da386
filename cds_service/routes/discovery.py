"""GET /cds-services (CDS Hooks, "Discovery")."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from cds_service.parts import Parts
from cds_service.routes.answers import json_bytes
from cds_service.routes.callers import caller_of


def router(parts: Parts) -> APIRouter:
    """Discovery, rendered once: hooks.json does not change while the service runs."""
    routes = APIRouter()
    body = orjson.dumps({"services": [each.discovery() for each in parts.services.values()]})

    @routes.api_route("/cds-services", methods=["GET", "HEAD"])
    async def discover(request: Request) -> Response:
        await caller_of(parts, request)
        return json_bytes(body)

    return routes
