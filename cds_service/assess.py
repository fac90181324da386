"""The use case: a hook request in, cards out, and the assessment on record before they are given.

prefetch complete? → one patient? → features → judgement → cards and RiskAssessment → stored
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from anyio import get_cancelled_exc_class
from starlette.requests import ClientDisconnect

from cds_service import cards, prefetch
from cds_service.audit.facts import CallFacts
from cds_service.call import Call
from cds_service.clients import Caller
from cds_service.complete import Watch, complete, no_watch
from cds_service.delivery import write_back
from cds_service.errors import ServiceError
from cds_service.hooks import HookRequest, ServiceDefinition
from cds_service.inputs import identifier_of, inputs_of
from cds_service.judgement import Judgement, Scored, judge, outcome_name
from cds_service.long_work import CONCLUDING
from cds_service.parts import Parts
from cds_service.risk_assessment import id_of, risk_assessment
from cds_service.store import AssessmentRecord, IssuedCard
from fhir_mapping import FeatureVector, map_features
from fhir_mapping.risk_assessment import About
from fhir_mapping.version_marks import version_of
from fhir_mapping.versions import FhirVersion
from risk_model import Manifest, RiskEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class HookAnswer:
    """What the EHR gets, and by which name it goes into metrics."""

    cards: list[dict[str, Any]]
    system_actions: list[dict[str, Any]]
    outcome: str


# A few milliseconds' work at most. More is done off the event loop, so that one large record does
# not hold up the answers of everyone else; for less the way to a thread and back costs more than
# the work does.
FEW_RESOURCES = 2_000


async def assess(
    parts: Parts,
    request: HookRequest,
    definition: ServiceDefinition,
    caller: Caller,
    facts: CallFacts,
    unless_left: Watch = no_watch,
) -> HookAnswer:
    """Raises PrefetchUnavailable (412), BadRequest for another patient's data, StoreUnavailable.

    `unless_left` is around what asks other servers, and raises ClientDisconnect. An answer's audit
    row is committed with its assessment; `facts` then says so. That of a call which ends in any
    other way is written by `AuditCalls`.
    """
    call = Call(
        parts=parts,
        request=request,
        definition=definition,
        caller=caller,
        received_at=facts.received_at,
        facts=facts,
    )
    try:
        states = prefetch.states(definition.prefetch, request)
        prefetch.check_patient(states, call.patient_id)
        states = await complete(call, states, unless_left)
        prefetch.check_available(states, definition)
        prefetch.check_patient(states, call.patient_id)
    except ServiceError as fault:
        _count(call, f"refused:{type(fault).__name__}")
        raise
    except (get_cancelled_exc_class(), ClientDisconnect):
        # The client has left, or the process ends.
        _count(call, "client-left")
        raise
    if prefetch.how_many(states) <= FEW_RESOURCES:
        said = _conclude(call, states)
    else:
        said = await CONCLUDING.run(partial(_conclude, call, states))
    return await _put_on_record(call, said, unless_left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What a call comes to, before any of it is stored."""

    shown: list[cards.Card]
    record: AssessmentRecord | None
    outcome: str
    version: FhirVersion


def _conclude(call: Call, states: dict[str, prefetch.KeyState]) -> Conclusion:
    """Everything that computes."""
    loaded = call.parts.model_of(call.definition)
    version = _version(call, states)
    vector = map_features(
        loaded.mapping,
        prefetch.resources(states),
        as_of=call.received_at.astimezone(call.parts.settings.time_zone),
        patient_id=call.patient_id,
        fhir_base=call.request.fhir_server,
    )
    call.facts.of_others = vector.of_others
    judgement = judge(vector, loaded.model)
    shown = cards.compose(
        judgement,
        vector=vector,
        manifest=loaded.model.manifest,
        wording=call.definition.wording,
        unread=prefetch.unread(states),
        frame=_frame(call, version),
    )
    return Conclusion(
        shown=shown,
        record=_record(call, judgement, vector, loaded.model.manifest),
        outcome=outcome_name(judgement),
        version=version,
    )


async def _put_on_record(call: Call, said: Conclusion, unless_left: Watch) -> HookAnswer:
    """Store it whole; only then is it answered."""
    record, version, parts = said.record, said.version, call.parts
    message = write_back.message(parts, call, record, version) if record else None
    stored = await parts.store.recorded(
        record,
        [_issued(call, card, record) for card in said.shown],
        call.facts.entry(outcome=said.outcome, status=200),
        message,
    )
    call.facts.written = True
    if message:
        parts.bell.ring()
    _count(call, said.outcome, said.shown)
    if stored and write_back.is_inline(parts, call):
        await unless_left(write_back.inline(parts, call, stored, version))
    return HookAnswer(
        cards=[card.body for card in said.shown],
        system_actions=write_back.system_actions(parts, call, stored, version) if stored else [],
        outcome=said.outcome,
    )


def _version(call: Call, states: dict[str, prefetch.KeyState]) -> FhirVersion:
    """What the EHR takes back: as its entry in the clients file says, else by what it sent."""
    client = call.caller.client
    configured = client.fhir_version if client else None
    return configured or version_of(prefetch.resources(states))


def _frame(call: Call, version: FhirVersion) -> cards.Frame:
    return cards.Frame(
        card_uuid=str(uuid.uuid4()),
        suggestion_uuid=str(uuid.uuid4()),
        patient_id=call.patient_id,
        encounter_id=call.request.context.encounter_id,
        model_card_url=f"{call.parts.settings.public_url}/model-card",
        fhir_version=version,
    )


def _record(
    call: Call, judgement: Judgement, vector: FeatureVector, manifest: Manifest
) -> AssessmentRecord | None:
    """The assessment of a scored call; where there is no figure there is no RiskAssessment."""
    if not isinstance(judgement, Scored):
        return None
    identifier = identifier_of(
        origin=call.origin,
        patient_id=call.patient_id,
        model=manifest.name,
        version=manifest.version,
        vector=vector,
    )
    about = About(
        id=id_of(identifier),
        identifier=identifier,
        patient_id=call.patient_id,
        encounter_id=call.request.context.encounter_id,
        occurrence=vector.as_of,
        mitigation=_mitigation(call.definition, judgement.estimate),
    )
    return AssessmentRecord(
        id=about.id,
        identifier=identifier,
        origin=call.origin,
        patient_id=call.patient_id,
        encounter_id=about.encounter_id,
        service_id=call.definition.id,
        model=manifest.name,
        model_version=manifest.version,
        as_of=vector.as_of,
        received_at=call.received_at,
        hook_instance=call.request.hook_instance,
        probability=judgement.estimate.probability,
        level=judgement.estimate.level,
        inputs=inputs_of(vector, mitigation=about.mitigation),
        resource=risk_assessment(about, judgement.estimate, vector, manifest),
    )


def _mitigation(definition: ServiceDefinition, estimate: RiskEstimate) -> str | None:
    text, order = definition.wording.levels.get(estimate.level), definition.wording.order
    return order.label if text and text.order and order else None


def _issued(call: Call, card: cards.Card, record: AssessmentRecord | None) -> IssuedCard:
    return IssuedCard(
        uuid=card.uuid,
        kind=card.kind,
        indicator=card.body["indicator"],
        assessment_id=record.id if record else None,
        hook_instance=call.request.hook_instance,
        service_id=call.definition.id,
    )


def _count(call: Call, outcome: str, shown: Sequence[cards.Card] = ()) -> None:
    call.parts.metrics.count_assessment(service=call.definition.id, outcome=outcome)
    for card in shown:
        call.parts.metrics.count_card(service=call.definition.id, kind=card.kind)
