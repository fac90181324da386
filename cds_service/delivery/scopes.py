"""What an access token's scope allows, in the SMART syntax of either version. Pure.

v1: `user/RiskAssessment.write`, `patient/*.read`, `patient/*.*`
v2: `user/RiskAssessment.cruds`, `system/*.c`, `patient/Observation.rs?category=x`
http://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

import re

_SCOPE = re.compile(
    r"(?:patient|user|system)/(?P<type>[A-Za-z]+|\*)\.(?P<may>read|write|\*|c?r?u?d?s?)(?P<query>\?.+)?"
)


def may_read(scope: str, resource_type: str, *, search: bool = False) -> bool:
    """True when one of the scopes allows reading (or searching) some resources of this type.

    A v2 scope with a query counts: the server leaves out of its answer what the query does.
    """
    needed = "s" if search else "r"
    return any(_reads(token, resource_type, needed) for token in scope.split())


def _reads(token: str, resource_type: str, needed: str) -> bool:
    scope = _SCOPE.fullmatch(token)
    if scope is None or scope["type"] not in (resource_type, "*"):
        return False
    return scope["may"] in ("read", "*") or (scope["may"] != "write" and needed in scope["may"])


def may_create(scope: str, resource_type: str) -> bool:
    """True when one of the scopes allows creating every resource of this type.

    A v2 scope with a query allows some of them only; which, the server decides: counted as no.
    """
    return any(_creates(token, resource_type) for token in scope.split())


def _creates(token: str, resource_type: str) -> bool:
    scope = _SCOPE.fullmatch(token)
    if scope is None or scope["query"] or scope["type"] not in (resource_type, "*"):
        return False
    return scope["may"] in ("write", "*") or (scope["may"] != "read" and "c" in scope["may"])
