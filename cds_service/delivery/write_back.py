"""A call's RiskAssessment and its one way to the EHR (see `plan`)."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import structlog
from anyio import move_on_after, to_thread

from cds_service.delivery.in_call import InlineResult
from cds_service.delivery.in_call import inline as create_inline
from cds_service.delivery.plan import Way, WriteBackPlan, write_back_plan
from cds_service.delivery.send import outgoing
from cds_service.errors import StoreUnavailable
from cds_service.fhir_client import Created
from cds_service.store import AssessmentRecord, InlineWriteBack, OutboxMessage
from fhir_mapping.versions import DIFFERENCES, FhirVersion, rendered

if TYPE_CHECKING:
    from cds_service.call import Call
    from cds_service.parts import Parts

log = structlog.get_logger(__name__)

# The answer is ready: it does not wait for a store that is slow.
KEEPING_SECONDS = 0.5

_MESSAGES = uuid.uuid5(uuid.NAMESPACE_URL, "urn:cds-service:outbox-message")


def message(
    parts: Parts, call: Call, record: AssessmentRecord, version: FhirVersion
) -> OutboxMessage | None:
    """The message to commit together with `record`; None where the outbox is not its way.

    It is in the version of the call, which nobody can tell any more when it is sent.
    """
    plan = _plan(parts, call)
    if plan.way is not Way.OUTBOX or plan.base is None or call.caller.client is None:
        return None
    return OutboxMessage(
        id=str(uuid.uuid5(_MESSAGES, record.id)),
        assessment_id=record.id,
        fhir_base=plan.base,
        client=call.caller.client.name,
        resource=_in_version(record, version),
    )


def system_actions(
    parts: Parts, call: Call, record: AssessmentRecord, version: FhirVersion
) -> list[dict[str, Any]]:
    """What the EHR is asked to write by itself; empty where that is not its way.

    Only for an assessment that this very call made (or the same call sent again): a repeat with
    the same inputs is no new fact. CDS Hooks 2.0.1, "System Action": a create holds a new
    resource, so that the id is the EHR's to give.
    """
    if _plan(parts, call).way is not Way.SYSTEM_ACTION:
        return []
    if record.hook_instance != call.request.hook_instance:
        return []
    resource = outgoing(_in_version(record, version))
    description = "Record the risk assessment in the chart"
    return [{"type": "create", "description": description, "resource": resource}]


def _in_version(record: AssessmentRecord, version: FhirVersion) -> dict[str, Any]:
    """The resource in the words of `version`. It is kept in R4, and where R4 says all of it there
    is nothing to render: that would go through every member to find it as it is."""
    return rendered(record.resource, version) if DIFFERENCES[version] else record.resource


async def inline(
    parts: Parts, call: Call, record: AssessmentRecord, version: FhirVersion
) -> InlineResult | None:
    """Write `record` back within what is left of the call; None where that is not its way, or
    where it was done by an earlier call with the same inputs. What came of it is kept."""
    plan = _plan(parts, call)
    if plan.way is not Way.INLINE or plan.base is None:
        return None
    if await to_thread.run_sync(_is_there, parts, record, plan.base):
        return None
    # A clock that was set back meanwhile must not give the call more time than it had.
    spent = max(0.0, (parts.clock() - call.received_at).total_seconds())
    left = parts.settings.deadline_ms / 1000 - spent
    granted = call.request.fhir_authorization
    granted = granted if granted and granted.usable else None
    result = await create_inline(
        parts,
        record,
        plan.base,
        granted.access_token if granted else None,
        granted.scope if granted else "",
        asyncio.get_running_loop().time() + left,
        version,
    )
    with move_on_after(KEEPING_SECONDS):
        await to_thread.run_sync(_keep, parts, record, plan.base, result, abandon_on_cancel=True)
    return result


def is_inline(parts: Parts, call: Call) -> bool:
    """Whether `inline` is this call's way."""
    return _plan(parts, call).way is Way.INLINE


def _is_there(parts: Parts, record: AssessmentRecord, base: str) -> bool:
    try:
        kept = parts.store.inline_result(record.id)
    except StoreUnavailable:
        return False  # another create is harmless
    return kept is not None and kept.reason is None and kept.fhir_base == base


def _keep(parts: Parts, record: AssessmentRecord, base: str, result: InlineResult) -> None:
    created = result.created or Created(existing=False)
    try:
        parts.store.keep_inline_result(
            InlineWriteBack(
                assessment_id=record.id,
                fhir_base=base,
                attempted_at=parts.clock(),
                location=created.location,
                version=created.version,
                reason=result.reason,
            )
        )
    except StoreUnavailable:
        # The assessment is on record, and what came of this is in the log.
        log.warning("result of the inline write-back not kept", assessment=record.id)


def _plan(parts: Parts, call: Call) -> WriteBackPlan:
    return write_back_plan(
        call.caller.client,
        profile=parts.settings.profile,
        fhir_server=call.request.fhir_server,
    )
