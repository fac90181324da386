"""Write-back within the call, with the call's own token, which is used once and never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from cds_service.delivery.failure import Failure, failure_of
from cds_service.delivery.scopes import may_create
from cds_service.delivery.send import located, send
from cds_service.fhir_client import Created, FetchError
from fhir_mapping.versions import FhirVersion

if TYPE_CHECKING:
    from cds_service.parts import Parts
    from cds_service.store import AssessmentRecord

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineResult:
    """Either what the server answered, or why there is nothing there from this call."""

    created: Created | None = None
    reason: str | None = None


async def inline(
    parts: Parts,
    record: AssessmentRecord,
    base: str,
    token: str | None,
    scope: str,
    deadline: float,
    version: FhirVersion,
) -> InlineResult:
    """One conditional create before `deadline` (loop time). It never raises FetchError: a
    write-back that fails costs the clinician nothing, and the assessment is stored here."""
    if token is None:
        return _left(Failure(reason="the call brought no token", may_retry=False), record)
    if not may_create(scope, "RiskAssessment"):
        reason = "the token's scope does not allow creating a RiskAssessment"
        return _left(Failure(reason=reason, may_retry=False), record)
    try:
        created = await send(parts.fhir, base, record.resource, token, deadline, version)
    except FetchError as fault:
        return _left(failure_of(fault), record)
    log.info("written back inline", assessment=record.id, existing=created.existing)
    return InlineResult(created=located(created, base))


def _left(failure: Failure, record: AssessmentRecord) -> InlineResult:
    log.warning("not written back inline", assessment=record.id, reason=failure.public_reason)
    return InlineResult(reason=failure.reason)
