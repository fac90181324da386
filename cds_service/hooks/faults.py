"""pydantic's errors as one 400 with an issue per field; what was sent is never echoed."""

from __future__ import annotations

import re

from pydantic import ValidationError

from cds_service.errors import BadRequest, Issue

# More issues than this help nobody, and a body can be made to hold millions.
MOST_ISSUES = 20
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def bad_request(fault: ValidationError) -> BadRequest:
    """`fault` as a BadRequest whose issues name fields as `context.patientId`, `feedback[0]`."""
    errors = fault.errors(include_input=False, include_url=False, include_context=False)
    return BadRequest.with_issues(
        tuple(_issue(error["type"], error["msg"], error["loc"]) for error in errors[:MOST_ISSUES])
    )


def _issue(kind: str, message: str, location: tuple[int | str, ...]) -> Issue:
    where = expression(location)
    what = message.removeprefix("Value error, ")
    return Issue(
        text=f"{where}: {what}" if where else what,
        code="required" if kind == "missing" else "value",
        expression=where or None,
    )


def expression(location: tuple[int | str, ...]) -> str:
    """A FHIRPath-like path; it ends before the first name that is not a plain word."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif _WORD.fullmatch(step):
            path += f".{step}" if path else step
        else:
            break
    return path
