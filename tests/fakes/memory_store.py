"""A store that forgets: what the hook, delivery and operators use of the real one, in memory.

It passes the real one's tests, `test_store_contract.py`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from cds_service.errors import StoreUnavailable
from cds_service.limits.call_time import seal_call
from cds_service.store import (
    AnsweredCard,
    AssessmentRecord,
    AuditEntry,
    ClaimedMessage,
    Destination,
    FeedbackItem,
    InlineWriteBack,
    IssuedCard,
    MessageDetail,
    MessageState,
    MessageStatus,
    OutboxFigures,
    OutboxMessage,
)
from cds_service.store.outbox import CLOCKS_APART, LONGEST_WAIT
from fhir_mapping.risk_assessment import following

WAITING = (MessageState.READY, MessageState.CLAIMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    status: MessageStatus
    resource: dict[str, Any]
    claim_id: str | None = None


@dataclass(slots=True, kw_only=True)
class _Tables:
    assessments: dict[str, AssessmentRecord] = field(default_factory=dict)
    cards: dict[str, IssuedCard] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    outbox: dict[str, _Message] = field(default_factory=dict)
    inline: dict[str, InlineWriteBack] = field(default_factory=dict)
    feedback: list[FeedbackItem] = field(default_factory=list)
    tokens: dict[bytes, datetime] = field(default_factory=dict)


class MemoryStore:
    """`unavailable`: what a database does whose disk is full, until it is False again."""

    def __init__(self) -> None:
        self.unavailable = False
        self._lock = threading.Lock()
        self._tables = _Tables()

    @contextmanager
    def _transaction(self) -> Iterator[_Tables]:
        with self._lock:
            if self.unavailable:
                raise StoreUnavailable
            changed = _Tables(
                **{
                    each.name: copy.copy(getattr(self._tables, each.name))
                    for each in fields(_Tables)
                }
            )
            yield changed
            self._tables = changed

    def close(self) -> None:
        """Nothing is open."""

    def ping(self) -> None:
        with self._transaction():
            pass

    # The call --------------------------------------------------------------------------------

    def record(
        self,
        assessment: AssessmentRecord | None,
        cards: Sequence[IssuedCard],
        audit: AuditEntry,
        message: OutboxMessage | None,
    ) -> AssessmentRecord | None:
        if message is not None and (assessment is None or message.assessment_id != assessment.id):
            raise ValueError("a message goes out with the assessment it belongs to")
        with self._transaction() as tables:
            stored = assessment and _kept(tables, assessment, message, audit.recorded_at)
            for card in cards:
                if card.assessment_id is not None and stored is not None:
                    card = replace(card, assessment_id=stored.id)
                tables.cards[card.uuid] = card
            tables.audit.append(audit)
            seal_call()
        return stored

    async def recorded(
        self,
        assessment: AssessmentRecord | None,
        cards: Sequence[IssuedCard],
        audit: AuditEntry,
        message: OutboxMessage | None,
    ) -> AssessmentRecord | None:
        return self.record(assessment, cards, audit, message)

    def risk_assessment(self, id: str) -> AssessmentRecord | None:
        with self._transaction() as tables:
            return tables.assessments.get(id)

    def assessment_of_call(self, hook_instance: str) -> list[AssessmentRecord]:
        with self._transaction() as tables:
            told = {
                card.assessment_id
                for card in tables.cards.values()
                if card.hook_instance == hook_instance
            }
            return sorted(
                (
                    record
                    for record in tables.assessments.values()
                    if record.hook_instance == hook_instance or record.id in told
                ),
                key=_place,
            )

    def search(
        self,
        *,
        patient: str | None = None,
        identifier: str | None = None,
        origin: str | None = None,
        count: int,
        offset: int = 0,
    ) -> tuple[int, list[AssessmentRecord]]:
        with self._transaction() as tables:
            found = [
                record
                for record in sorted(tables.assessments.values(), key=_place, reverse=True)
                if patient in (None, record.patient_id)
                and identifier in (None, record.identifier)
                and origin in (None, record.origin)
            ]
        return len(found), found[offset : offset + count]

    def keep_inline_result(self, result: InlineWriteBack) -> None:
        with self._transaction() as tables:
            before = tables.inline.get(result.assessment_id)
            if before is None or before.reason is not None or result.reason is None:
                tables.inline[result.assessment_id] = result

    def inline_result(self, assessment_id: str) -> InlineWriteBack | None:
        with self._transaction() as tables:
            return tables.inline.get(assessment_id)

    # Audit and feedback ----------------------------------------------------------------------

    def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        with self._transaction() as tables:
            tables.audit.extend(entries)

    def audit_trail(self, *, count: int) -> list[AuditEntry]:
        with self._transaction() as tables:
            return tables.audit[::-1][:count]

    def add_feedback(self, items: Sequence[FeedbackItem], audit: AuditEntry) -> int:
        with self._transaction() as tables:
            before = len(tables.feedback)
            for item in items:
                if _same(item) not in map(_same, tables.feedback):
                    tables.feedback.append(item)
            tables.audit.append(audit)
            seal_call()
            return len(tables.feedback) - before

    def feedback(self, *, count: int, card: str | None = None) -> list[AnsweredCard]:
        with self._transaction() as tables:
            found = [item for item in reversed(tables.feedback) if card in (None, item.card)]
            return [_answered(tables, item) for item in found[:count]]

    # Tokens ----------------------------------------------------------------------------------

    def use_token(self, token: bytes, *, expires_at: datetime, now: datetime) -> bool:
        with self._transaction() as tables:
            kept = tables.tokens.get(token)
            if kept is not None and kept > now:
                return False
            tables.tokens[token] = expires_at
            return True

    def forget_tokens(self, *, now: datetime) -> int:
        with self._transaction() as tables:
            expired = [token for token, until in tables.tokens.items() if until <= now]
            for token in expired:
                del tables.tokens[token]
            return len(expired)

    # Outbox ----------------------------------------------------------------------------------

    def claim(
        self,
        *,
        now: datetime,
        lease: timedelta,
        count: int,
        claim_id: str,
        without: Collection[Destination] = (),
    ) -> list[ClaimedMessage]:
        elsewhere = {(destination.client, destination.fhir_base) for destination in without}
        with self._transaction() as tables:
            due = [
                message
                for message in tables.outbox.values()
                if _due(message.status, now, lease)
                and (message.status.client, message.status.fhir_base) not in elsewhere
            ]
            due.sort(key=lambda message: (message.status.available_at, message.status.id))
            return [
                _claimed(tables, message, claim_id=claim_id, lease_until=now + lease)
                for message in due[:count]
            ]

    def settle(
        self,
        message: ClaimedMessage,
        *,
        location: str | None,
        version: str | None,
        settled_at: datetime,
    ) -> bool:
        return self._finish(
            message,
            state=MessageState.DELIVERED,
            settled_at=settled_at,
            location=location,
            version=version,
            reason=None,
        )

    def reschedule(self, message: ClaimedMessage, *, available_at: datetime, reason: str) -> bool:
        return self._finish(
            message, state=MessageState.READY, available_at=available_at, reason=reason
        )

    def park(self, message: ClaimedMessage, *, reason: str, settled_at: datetime) -> bool:
        return self._finish(message, state=MessageState.DEAD, settled_at=settled_at, reason=reason)

    def _finish(self, message: ClaimedMessage, **values: Any) -> bool:
        with self._transaction() as tables:
            held = tables.outbox.get(message.id)
            if held is None or held.claim_id != message.claim_id:
                return False
            status = replace(held.status, lease_until=None, **values)
            tables.outbox[message.id] = replace(held, status=status, claim_id=None)
            return True

    def message(self, id: str) -> MessageDetail | None:
        with self._transaction() as tables:
            found = tables.outbox.get(id)
            return found and MessageDetail(status=found.status, resource=found.resource)

    def messages(
        self,
        *,
        count: int,
        state: MessageState | None = None,
        discarded: bool | None = None,
        client: str | None = None,
    ) -> list[MessageStatus]:
        with self._transaction() as tables:
            found = sorted(
                (message.status for message in tables.outbox.values()),
                key=lambda status: (status.created_at, status.id),
            )
        return [
            status
            for status in found
            if state in (None, status.state)
            and client in (None, status.client)
            and discarded in (None, status.discarded_at is not None)
        ][:count]

    def retry_messages(self, ids: Sequence[str], *, now: datetime, by: str) -> int:
        def fit(status: MessageStatus) -> bool:
            waiting = status.state == MessageState.READY and status.available_at > now
            return status.state == MessageState.DEAD or waiting

        return self._change(
            ids,
            fit,
            AuditEntry(
                recorded_at=now, outcome="retried", status=200, action="outbox-retry", user=by
            ),
            state=MessageState.READY,
            attempts=0,
            available_at=now,
            settled_at=None,
            discarded_at=None,
            discarded_by=None,
        )

    def discard_messages(self, ids: Sequence[str], *, now: datetime, by: str) -> int:
        def fit(status: MessageStatus) -> bool:
            return status.state == MessageState.DEAD and status.discarded_at is None

        return self._change(
            ids,
            fit,
            AuditEntry(
                recorded_at=now, outcome="discarded", status=200, action="outbox-discard", user=by
            ),
            discarded_at=now,
            discarded_by=by,
        )

    def _change(self, ids: Sequence[str], fit: Any, entry: AuditEntry, **values: Any) -> int:
        changed = 0
        with self._transaction() as tables:
            for id in ids:
                found = tables.outbox.get(id)
                if found is not None and fit(found.status):
                    changed += 1
                    tables.outbox[id] = replace(found, status=replace(found.status, **values))
                    about = tables.assessments[found.status.assessment_id]
                    tables.audit.append(
                        replace(entry, patient_id=about.patient_id, resource_id=about.id)
                    )
        return changed

    def outbox_figures(self, *, now: datetime) -> OutboxFigures:
        with self._transaction() as tables:
            found = [message.status for message in tables.outbox.values()]
        kept = [status for status in found if status.discarded_at is None]
        waiting = [status.created_at for status in kept if status.state in WAITING]
        return OutboxFigures(
            depth={state: sum(s.state == state for s in kept) for state in MessageState},
            discarded=len(found) - len(kept),
            oldest_ready_seconds=(now - min([now, *waiting])).total_seconds(),
        )


def _place(record: AssessmentRecord) -> tuple[datetime, str]:
    return record.received_at, record.id


def _kept(
    tables: _Tables,
    assessment: AssessmentRecord,
    message: OutboxMessage | None,
    recorded_at: datetime,
) -> AssessmentRecord:
    for known in tables.assessments.values():
        if known.identifier == assessment.identifier:
            return known
    followed = {known.follows for known in tables.assessments.values()}
    before = [
        known
        for known in tables.assessments.values()
        if (known.origin, known.patient_id, known.model)
        == (assessment.origin, assessment.patient_id, assessment.model)
        and known.id not in followed
    ]
    if before:
        last = max(before, key=_place)
        resource = following(assessment.resource, last.identifier)
        assessment = replace(assessment, follows=last.id, resource=resource)
        if message is not None:
            message = replace(message, resource=following(message.resource, last.identifier))
    tables.assessments[assessment.id] = assessment
    if message is not None:
        tables.outbox[message.id] = _new(message, recorded_at)
    return assessment


def _new(message: OutboxMessage, now: datetime) -> _Message:
    values = asdict(message)
    resource = values.pop("resource")
    unset = ("lease_until", "settled_at", "reason", "location", "version")
    status = MessageStatus(
        **values,
        state=MessageState.READY,
        attempts=0,
        created_at=now,
        available_at=now,
        **dict.fromkeys((*unset, "discarded_at", "discarded_by")),
    )
    return _Message(status=status, resource=resource)


def _due(status: MessageStatus, now: datetime, lease: timedelta) -> bool:
    match status.state:
        case MessageState.READY:
            moment, longest = status.available_at, LONGEST_WAIT
        case MessageState.CLAIMED if status.lease_until is not None:
            moment, longest = status.lease_until, lease + CLOCKS_APART
        case _:
            return False
    return moment <= now or moment > now + longest


def _claimed(
    tables: _Tables, message: _Message, *, claim_id: str, lease_until: datetime
) -> ClaimedMessage:
    status = replace(
        message.status,
        state=MessageState.CLAIMED,
        attempts=message.status.attempts + 1,
        lease_until=lease_until,
    )
    tables.outbox[status.id] = replace(message, status=status, claim_id=claim_id)
    return ClaimedMessage(
        id=status.id,
        assessment_id=status.assessment_id,
        fhir_base=status.fhir_base,
        client=status.client,
        resource=message.resource,
        attempts=status.attempts,
        claim_id=claim_id,
        lease_until=lease_until,
    )


def _same(item: FeedbackItem) -> tuple[str, str, datetime]:
    return item.card, item.outcome, item.outcome_timestamp


def _answered(tables: _Tables, item: FeedbackItem) -> AnsweredCard:
    card = tables.cards.get(item.card)
    about = tables.assessments.get(card.assessment_id or "") if card else None
    return AnsweredCard(
        item=item,
        kind=card and card.kind,
        assessment_id=card and card.assessment_id,
        model=about and about.model,
        model_version=about and about.model_version,
    )
