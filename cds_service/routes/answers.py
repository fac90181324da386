"""JSON answers, and faults as OperationOutcomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from fastapi import Request, Response
from starlette.exceptions import HTTPException

from cds_service.errors import (
    BadRequest,
    InternalFault,
    MethodNotAllowed,
    NotFound,
    RowUnreadable,
    ServiceError,
    operation_outcome,
)
from cds_service.log import note

log = structlog.get_logger(__name__)

JSON = "application/json"
FHIR_JSON = "application/fhir+json"


def json_answer(content: Any, *, status: int = 200) -> Response:
    """`content` as JSON."""
    return Response(orjson.dumps(content), status_code=status, media_type=JSON)


def json_bytes(content: bytes) -> Response:
    """JSON that was rendered before."""
    return Response(content, media_type=JSON)


def fhir_answer(resource: Mapping[str, Any]) -> Response:
    """A FHIR resource (https://hl7.org/fhir/R4/http.html#mime-type)."""
    return Response(orjson.dumps(resource), media_type=FHIR_JSON)


def fault_answer(fault: ServiceError) -> Response:
    """`fault` with its status, its headers and an OperationOutcome."""
    return Response(
        orjson.dumps(operation_outcome(fault)),
        status_code=fault.status,
        headers=fault.headers,
        media_type=FHIR_JSON,
    )


async def answer_service_error(request: Request, fault: Exception) -> Response:
    """The handler for everything in the error tree."""
    assert isinstance(fault, ServiceError)  # noqa: S101 (registered for this class only)
    note(request, outcome=f"refused:{type(fault).__name__}")
    if isinstance(fault, RowUnreadable):
        log.error("row unreadable", reason=fault.reason)
    return fault_answer(fault)


async def answer_http_exception(_request: Request, fault: Exception) -> Response:
    """The handler for what the framework raises by itself: no such path, no such method."""
    assert isinstance(fault, HTTPException)  # noqa: S101 (registered for this class only)
    return fault_answer(from_http_exception(fault))


async def answer_validation_error(_request: Request, _fault: Exception) -> Response:
    """No route declares a body to FastAPI; should one come to, its 422 still ends here."""
    return fault_answer(BadRequest("The request is not valid."))


def from_http_exception(fault: HTTPException) -> ServiceError:
    """The framework's exception as one of ours; its own text is not sent on."""
    headers = {name.lower(): value for name, value in (fault.headers or {}).items()}
    match fault.status_code:
        case 404:
            return NotFound("There is nothing at this path.")
        case 405:
            allowed = sorted(name.strip() for name in headers.get("allow", "").split(","))
            return MethodNotAllowed(", ".join(allowed))
        case status if 400 <= status < 500:
            return BadRequest("The request is not valid.")
    return InternalFault("none")
