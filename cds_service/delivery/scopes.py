"""What an access token's scope allows, in the SMART syntax of either version. Pure.

v1: `user/RiskAssessment.write`, `patient/*.read`, `patient/*.*`
v2: `user/RiskAssessment.cruds`, `system/*.c`, `patient/Observation.rs?category=x`
http://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

import re
from enum import Enum

# Longer than any that an EHR grants. What is cut off could be a query that narrows a scope, so that
# of a longer one nothing is taken.
LONGEST_SCOPE = 32 * 1024
_SCOPE = re.compile(
    r"(?:patient|user|system)/(?P<type>[A-Za-z]+|\*)\.(?P<may>read|write|\*|c?r?u?d?s?)(?P<query>\?.+)?"
)


class Reading(Enum):
    """How much of a type a token lets be read. SOME: every scope that allows it has a query, and
    the server leaves out of its answer what the queries do."""

    NONE = "none"
    SOME = "some"
    ALL = "all"


def may_read(scope: str, resource_type: str, *, search: bool = False) -> Reading:
    """What the scopes together allow of reading (or searching) resources of this type."""
    needed = "s" if search else "r"
    found = {_reads(token, resource_type, needed) for token in _scopes(scope)}
    return next((most for most in (Reading.ALL, Reading.SOME) if most in found), Reading.NONE)


def _reads(token: str, resource_type: str, needed: str) -> Reading:
    scope = _SCOPE.fullmatch(token)
    if scope is None or scope["type"] not in (resource_type, "*"):
        return Reading.NONE
    if scope["may"] in ("read", "*") or (scope["may"] != "write" and needed in scope["may"]):
        return Reading.SOME if scope["query"] else Reading.ALL
    return Reading.NONE


def may_create(scope: str, resource_type: str) -> bool:
    """True when one of the scopes allows creating every resource of this type.

    A v2 scope with a query allows some of them only; which, the server decides: counted as no.
    """
    return any(_creates(token, resource_type) for token in _scopes(scope))


def _scopes(scope: str) -> list[str]:
    return scope.split() if len(scope) <= LONGEST_SCOPE else []


def _creates(token: str, resource_type: str) -> bool:
    scope = _SCOPE.fullmatch(token)
    if scope is None or scope["query"] or scope["type"] not in (resource_type, "*"):
        return False
    return scope["may"] in ("write", "*") or (scope["may"] != "read" and "c" in scope["may"])
