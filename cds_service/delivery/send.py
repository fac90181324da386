"""One RiskAssessment onto one FHIR server, by conditional create."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from cds_service.fhir_client import Created, FetchError, FetchUnavailable, FhirClient, named_by
from fhir_mapping.versions import FhirVersion, rendered

IDENTIFIER_SYSTEM = "urn:cds-service:risk-assessment"
TYPE = "RiskAssessment"
# What a server answers that takes creates and lets nobody search: it may hold it all the same.
_NOT_TO_BE_LOOKED_AT = frozenset({400, 401, 403, 404, 405, 501})


async def send(
    fhir: FhirClient,
    base: str,
    resource: Mapping[str, Any],
    token: str | None,
    deadline: float,
    version: FhirVersion | None,
) -> Created:
    """Create `resource` unless the server has it; raises FetchError. A repeat is safe.

    It is sent as `version` has it; None: as it is.
    """
    sent = rendered(dict(resource), version) if version else resource
    return await fhir.create(base, outgoing(sent), if_none_exist(resource), token, deadline)


async def send_and_find(
    fhir: FhirClient,
    base: str,
    resource: Mapping[str, Any],
    token: str | None,
    deadline: float,
    version: FhirVersion | None,
) -> Created:
    """As `send`, and when the answer does not say where the resource is, it is looked for.

    Nothing obliges a server to name what it has already (FHIR R4, http.html#ccreate), and what
    answers 200 may be no FHIR server at all, but a page to sign in at.
    """
    try:
        created = await send(fhir, base, resource, token, deadline, version)
    except FetchError as fault:
        if fault.status != 412:
            raise
        held = await _held(fhir, base, resource, token, deadline, otherwise=fault)
        return _the_one(held, fault)
    if created.id is not None:
        return located(created, base)
    unnamed = FetchUnavailable("the answer names no resource")
    held = await _held(fhir, base, resource, token, deadline, otherwise=unnamed, unseen=created)
    return replace(_the_one(held, unnamed), existing=created.existing)


async def _held(
    fhir: FhirClient,
    base: str,
    resource: Mapping[str, Any],
    token: str | None,
    deadline: float,
    *,
    otherwise: FetchError,
    unseen: Created | None = None,
) -> list[Created]:
    """What the server holds of this very assessment; raises `otherwise` where that cannot be told,
    but for a server that lets nobody search, when `unseen` is taken for it."""
    query = f"{TYPE}?{if_none_exist(resource)}"
    try:
        found = await fhir.get(base, query, token, deadline)
    except FetchError as fault:
        if unseen is not None and fault.status in _NOT_TO_BE_LOOKED_AT:
            return [unseen]
        raise otherwise from fault
    identifier = _identifier(resource)
    return [
        located(Created(existing=True, id=id_, version=version), base)
        for held in _resources(found.resource)
        if _identifier(held) == identifier
        for id_, version in [named_by(held)]
        if id_ is not None
    ]


def _the_one(held: list[Created], otherwise: FetchError) -> Created:
    if len(held) == 1:
        return held[0]
    if not held:
        raise otherwise
    # Two of them were made side by side, by a server that does not keep its promise. More would
    # not mend it: a person has to remove all but one.
    where = ", ".join(str(each.location) for each in held)
    reason = f"{otherwise.reason}: it is there {len(held)} times"
    words = {"severity": "error", "code": "multiple-matches", "diagnostics": where}
    raise FetchUnavailable(
        reason, status=otherwise.status, outcome={"issue": [words]}
    ) from otherwise


def located(created: Created, base: str) -> Created:
    """With a location in any case, and with the version that the server gave it."""
    if created.location is not None or created.id is None:
        return created
    history = f"/_history/{created.version}" if created.version else ""
    return replace(created, location=f"{base}/{TYPE}/{created.id}{history}")


def _resources(bundle: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    entries = bundle.get("entry")
    for entry in entries if isinstance(entries, list) else ():
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") == TYPE:
            yield resource


def if_none_exist(resource: Mapping[str, Any]) -> str:
    """The search that finds this very assessment; raises ValueError where it has no identifier,
    since without one a repeat would create it twice."""
    value = _identifier(resource)
    if value is None:
        raise ValueError(f"no identifier in the system {IDENTIFIER_SYSTEM}")
    return f"identifier={IDENTIFIER_SYSTEM}|{quote(value, safe='')}"


def _identifier(resource: Mapping[str, Any]) -> str | None:
    given = resource.get("identifier")
    # STU3 has room for one.
    for identifier in given if isinstance(given, list) else [given]:
        if isinstance(identifier, dict) and identifier.get("system") == IDENTIFIER_SYSTEM:
            value = identifier.get("value")
            if isinstance(value, str) and value:
                return value
    return None


def outgoing(resource: Mapping[str, Any]) -> dict[str, Any]:
    """As it is sent: the id is this service's own, the server gives another one.

    FHIR R4, http.html#create.
    """
    return {name: value for name, value in resource.items() if name != "id"}
