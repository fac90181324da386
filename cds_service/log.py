"""Structured logs: JSON lines on stderr. No tokens, names, identifiers or bodies, ever.

Our own lines go to stderr by structlog alone, those of libraries by way of `logging`. The second
way takes three times as long, and every call pays for a line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO

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
    handler = Lines(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, as_json],
        )
    )
    structlog.configure(
        processors=[*shared, whole],
        logger_factory=lambda name="": OwnLogger(name, handler),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    _route_libraries()


class Lines(logging.StreamHandler[TextIO]):
    """Writes lines, each whole and by itself: its lock is held for those of `logging` too."""

    def say(self, event: dict[str, Any]) -> None:
        """Write `event`. As anywhere in `logging`, no call fails because stderr does."""
        try:
            line = _encode(event) + self.terminator
            self.acquire()
            try:
                self.stream.write(line)
                self.stream.flush()
            finally:
                self.release()
        except Exception:  # noqa: BLE001 (`logging` does so, and tells of it where it can)
            self.handleError(logging.makeLogRecord({"msg": event.get("event")}))


class OwnLogger:
    """What structlog calls with an event that is complete."""

    __slots__ = ("critical", "debug", "error", "info", "name", "warning")

    def __init__(self, name: str, handler: Lines) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = handler.say


# Not orjson: it refuses half of a surrogate pair, which the claims of a token can hold.
_encode = json.JSONEncoder(default=repr).encode


def as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """The text of one line."""
    return _encode(event)


def whole(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[Any], dict[str, Any]]:
    """The event as the one argument of the logger's method."""
    return (event,), {}


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
