"""One RiskAssessment onto one FHIR server, by conditional create."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cds_service.fhir_client import Created, FhirClient
from fhir_mapping.versions import FhirVersion, as_r4, rendered

IDENTIFIER_SYSTEM = "urn:cds-service:risk-assessment"


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


def if_none_exist(resource: Mapping[str, Any]) -> str:
    """The search that finds this very assessment; raises ValueError where it has no identifier,
    since without one a repeat would create it twice."""
    for identifier in as_r4(dict(resource)).get("identifier", ()):
        if identifier.get("system") == IDENTIFIER_SYSTEM and identifier.get("value"):
            return f"identifier={IDENTIFIER_SYSTEM}|{quote(identifier['value'], safe='')}"
    raise ValueError(f"no identifier in the system {IDENTIFIER_SYSTEM}")


def outgoing(resource: Mapping[str, Any]) -> dict[str, Any]:
    """As it is sent: the id is this service's own, the server gives another one.

    FHIR R4, http.html#create.
    """
    return {name: value for name, value in resource.items() if name != "id"}
