"""What the store takes and gives: frozen values, every time aware and kept as UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentRecord:
    """One scored call. `identifier` is the same for the same patient, model version and inputs.

    `follows` is the id of the assessment before it, of the same origin, patient and model; the
    store finds it, and lets `resource` refer to it.
    """

    id: str
    identifier: str
    origin: str
    patient_id: str
    encounter_id: str | None
    service_id: str
    model: str
    model_version: str
    as_of: datetime
    received_at: datetime
    hook_instance: str
    probability: float
    level: str
    inputs: dict[str, Any]
    resource: dict[str, Any]
    follows: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCard:
    """A card that was given out; `uuid` is what its feedback will name."""

    uuid: str
    kind: str
    indicator: str
    assessment_id: str | None
    hook_instance: str
    service_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One call, answered or refused: who asked what about whom, and what came of it.

    `action` is a hook, an interaction of FHIR's REST or an operator's; `resource_id` the
    RiskAssessment that was read; `suspicious` the kinds of attempt that the call looked like;
    `calls` how many refused calls one row stands for; `detail` JSON about an operator's
    action, or about what a call brought that was dropped.
    """

    recorded_at: datetime
    outcome: str
    status: int
    client: str | None = None
    tenant: str | None = None
    user: str | None = None
    address: str | None = None
    patient_id: str | None = None
    hook_instance: str | None = None
    service_id: str | None = None
    model: str | None = None
    model_version: str | None = None
    action: str | None = None
    resource_id: str | None = None
    suspicious: str | None = None
    calls: int | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A RiskAssessment promised to a FHIR server. It holds no token: those are never stored."""

    id: str
    assessment_id: str
    fhir_base: str
    client: str | None
    resource: dict[str, Any]


class MessageState(StrEnum):
    """Where a message is. A claim whose lease has run out counts as ready again."""

    READY = "ready"
    CLAIMED = "claimed"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a message goes: a FHIR server, with the credentials of a client."""

    client: str | None
    fhir_base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedMessage:
    """A message that one worker holds until `lease_until`; `attempts` counts this claim too."""

    id: str
    assessment_id: str
    fhir_base: str
    client: str | None
    resource: dict[str, Any]
    attempts: int
    claim_id: str
    lease_until: datetime

    @property
    def destination(self) -> Destination:
        return Destination(client=self.client, fhir_base=self.fhir_base)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatus:
    """A message as an operator sees it: a dead one may be discarded, by whom and when."""

    id: str
    assessment_id: str
    fhir_base: str
    client: str | None
    state: MessageState
    attempts: int
    created_at: datetime
    available_at: datetime
    lease_until: datetime | None
    settled_at: datetime | None
    reason: str | None
    location: str | None
    version: str | None
    discarded_at: datetime | None
    discarded_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDetail:
    """A message with the resource that it brings."""

    status: MessageStatus
    resource: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxFigures:
    """The outbox in numbers. What a person has discarded is not counted among the dead.

    `oldest_ready_seconds`: how long the oldest message that is ready or claimed has been waiting;
    0 where none is.
    """

    depth: dict[MessageState, int]
    discarded: int
    oldest_ready_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineWriteBack:
    """What came of a write-back within the call; `reason` is None where the server took it."""

    assessment_id: str
    fhir_base: str
    attempted_at: datetime
    location: str | None = None
    version: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackItem:
    """One item of a CDS Hooks feedback call.

    The same card, outcome and outcome timestamp are the same item, however often they are sent
    (CDS Hooks 2.0.1, "Feedback": a client may repeat itself).
    """

    card: str
    outcome: str
    outcome_timestamp: datetime
    service_id: str
    received_at: datetime
    client: str | None = None
    accepted_suggestions: tuple[str, ...] = ()
    override_reason: dict[str, Any] | None = None
    user_comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredCard:
    """Feedback joined to what it answers; the last four are None for a card not issued here."""

    item: FeedbackItem
    kind: str | None
    assessment_id: str | None
    model: str | None
    model_version: str | None
