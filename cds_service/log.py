"""Structured logs: JSON lines on stderr. No tokens, names, identifiers or bodies, ever."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import TracebackType
from typing import Any

import structlog
from fastapi import Request
from starlette.types import Scope

_NOTES = "cds_service.notes"


def note(request: Request, **facts: str) -> None:
    """Add facts to the one log line of `request`: ids of calls, named outcomes, no patient data."""
    request.scope.setdefault(_NOTES, {}).update(facts)


def notes_of(scope: Scope) -> dict[str, str]:
    """What was noted about a request."""
    notes: dict[str, str] = scope.get(_NOTES, {})
    return notes


def configure_logging(level: str) -> None:
    """Every log line of this process, libraries' included, as one JSON object on stderr.

    uvicorn's own access log is switched off: it writes the query, and with it the patient.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        exception_frames,
        known_part_of_endpoint,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    _route_libraries()


def _route_libraries() -> None:
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    access = logging.getLogger("uvicorn.access")
    access.handlers = []
    access.propagate = False
    # httpx logs each URL that it calls at INFO, patient ids and all.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def exception_frames(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replace `exc_info` by the exception's type and its frames.

    The message of an exception and the values in its frames can hold what a patient's record
    held (`could not convert string to float: '…'`): neither is written.
    """
    given = event.pop("exc_info", None)
    fault = sys.exc_info()[1] if given is True else given
    if isinstance(fault, tuple):
        fault = fault[1]
    if isinstance(fault, BaseException):
        event["exception"] = type(fault).__qualname__
        event["frames"] = _frames(fault.__traceback__)
    return event


# The words of our own paths; what a caller puts after them is a caller's text.
_OWN_PATH = re.compile(r".*?/(?:cds-services|fhir/RiskAssessment|fhir|predict)(?=/|$)")


def known_part_of_endpoint(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Cut `endpoint` after the part that is ours: nobody has shown yet who wrote the rest."""
    endpoint = event.get("endpoint")
    if isinstance(endpoint, str):
        own = _OWN_PATH.match(endpoint)
        known = own.group() if own else ""
        event["endpoint"] = endpoint if known == endpoint else f"{known}/…"
    return event


def _frames(trace: TracebackType | None) -> list[str]:
    return [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)
    ]
