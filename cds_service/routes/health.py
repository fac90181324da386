"""GET /healthz, /readyz and /metrics: for orchestrators and monitors, without authentication."""

from __future__ import annotations

import time

import structlog
from anyio import move_on_after, to_thread
from fastapi import APIRouter, Response

from cds_service.errors import StoreUnavailable
from cds_service.metrics import CONTENT_TYPE
from cds_service.parts import Parts
from cds_service.routes.answers import json_answer
from cds_service.store import OutboxFigures

# Prometheus itself waits ten seconds at most, by default, for all that there is.
OUTBOX_SECONDS = 2.0

log = structlog.get_logger(__name__)


def router(parts: Parts) -> APIRouter:
    """Alive; ready, and which part is not; Prometheus text."""
    routes = APIRouter()

    @routes.api_route("/healthz", methods=["GET", "HEAD"])
    async def alive() -> Response:
        return json_answer({"status": "alive"})

    @routes.api_route("/readyz", methods=["GET", "HEAD"])
    async def ready() -> Response:
        checks = {
            "model": model_check(parts),
            "store": await to_thread.run_sync(store_check, parts),
        }
        fit = all(check == "ok" for check in checks.values())
        body = {"status": "ready" if fit else "unavailable", "checks": checks}
        return json_answer(body, status=200 if fit else 503)

    @routes.api_route("/metrics", methods=["GET", "HEAD"])
    async def metrics() -> Response:
        figures = None
        with move_on_after(OUTBOX_SECONDS):
            figures = await to_thread.run_sync(outbox_figures, parts, abandon_on_cancel=True)
        text = await to_thread.run_sync(parts.metrics.text, figures)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    return routes


def model_check(parts: Parts) -> str:
    """`ok` when every service has its model."""
    served = {definition.model for definition in parts.services.values()}
    return "ok" if served <= set(parts.models) else "not loaded"


def outbox_figures(parts: Parts) -> OutboxFigures | None:
    """None when the database does not answer: everything else is still told."""
    try:
        return parts.store.outbox_figures(now=parts.clock())
    except StoreUnavailable:
        return None


def store_check(parts: Parts) -> str:
    """`ok` when the database answers; takes as long as the database takes to."""
    started = time.perf_counter()
    try:
        parts.store.ping()
    except StoreUnavailable:
        log.warning("store does not answer", ms=round((time.perf_counter() - started) * 1000))
        return "unavailable"
    return "ok"
