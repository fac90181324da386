"""One line of log and one count for every request, and no request without an answer."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cds_service.errors import CLIENT_LEFT, InternalFault
from cds_service.log import notes_of
from cds_service.metrics import METHODS, Metrics
from cds_service.routes.answers import fault_answer

log = structlog.get_logger(__name__)

UNKNOWN_ROUTE = "unknown"


class Observe:
    """Inside CORS and around everything else, so that even a 500 is logged, counted and JSON."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            status = status or CLIENT_LEFT
        except Exception as fault:  # noqa: BLE001 (the last line of defence; the log keeps it)
            answer = fault_answer(_incident(scope, fault))
            if status == 0:
                await answer(scope, receive, watched)
        finally:
            self._tell(scope, status or CLIENT_LEFT, time.perf_counter() - started)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = route_template(scope), scope["method"]
        self.metrics.count_request(route=route, method=method, status=status, seconds=seconds)
        log.info(
            "request",
            route=route,
            method=method if method in METHODS else "other",
            status=status,
            ms=round(seconds * 1000, 1),
            **notes_of(scope),
        )


def route_template(scope: Scope) -> str:
    """`/fhir/RiskAssessment/{id}`, never the path itself: that may name a patient."""
    path: Any = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNKNOWN_ROUTE


def _incident(scope: Scope, fault: Exception) -> InternalFault:
    incident = str(uuid4())
    log.error("internal fault", incident=incident, route=route_template(scope), exc_info=fault)
    return InternalFault(incident)
