"""The one door to what is stored; every method is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from cds_service.audit.chain import ChainWriter
from cds_service.errors import StoreUnavailable
from cds_service.limits.call_time import seal_call
from cds_service.store import assessments, audit_rows, feedback, outbox, schema, tokens
from cds_service.store.calls import CallRecord, Repeated, Stored, opened
from cds_service.store.engine import open_engine
from cds_service.store.faults import faults_named
from cds_service.store.records import (
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
from cds_service.store.rows import record_of
from cds_service.store.sealed_columns import seal_with
from cds_service.store.sealing import Sealing
from cds_service.store.statements import driver_of
from cds_service.store.transactions import Transactions


class Store:
    """Thread-safe and synchronous, but for `recorded`: the shell calls the rest in worker threads.

    Every method raises StoreUnavailable when the database cannot serve it, and then has stored
    nothing.
    """

    def __init__(self, engine: sa.Engine, sealing: Sealing) -> None:
        seal_with(engine, sealing)
        self.sealing = sealing
        self._engine = engine
        self._transactions = Transactions(engine)

    @classmethod
    def open(cls, url: str, sealing: Sealing | None = None) -> Store:
        """The store at an SQLAlchemy URL, its tables made or brought up to date. What is in a
        patient's record is sealed and opened with `sealing`."""
        with faults_named():
            try:
                return cls(open_engine(url), sealing or Sealing())
            except OSError as fault:
                raise StoreUnavailable(f"The store cannot be opened: {fault.strerror}.") from fault

    def close(self) -> None:
        self._transactions.close()
        self._engine.dispose()

    def ping(self) -> None:
        """Raises StoreUnavailable unless the database answers."""
        with self._transactions.read() as connection:
            connection.execute(sa.select(schema.assessment.c.id).limit(1))

    # The call --------------------------------------------------------------------------------

    def record(
        self,
        assessment: AssessmentRecord | None,
        cards: Sequence[IssuedCard],
        audit: AuditEntry,
        message: OutboxMessage | None,
    ) -> AssessmentRecord | None:
        """Store one call whole, or nothing of it; gives the assessment that is in the store.

        An assessment whose identifier is stored already is a repeat: the stored one is given
        back, its message is not sent again, and the cards of this call belong to it. A new one
        follows the one before it, of the same origin, patient and model: `follows` is set, and its
        resource and its message's have it as `parent`.
        """
        call = CallRecord(assessment=assessment, cards=cards, audit=audit, message=message)
        return self._told(call, self._transactions.record(call))

    async def recorded(
        self,
        assessment: AssessmentRecord | None,
        cards: Sequence[IssuedCard],
        audit: AuditEntry,
        message: OutboxMessage | None,
    ) -> AssessmentRecord | None:
        """`record`, for whoever is on the event loop: no thread waits for it.

        Cancelled while it waits for its turn, nothing is stored. Cancelled later than that, it is
        too late: what is stored is returned, as `seal_call` has it.
        """
        call = CallRecord(assessment=assessment, cards=cards, audit=audit, message=message)
        return self._told(call, await self._transactions.recorded(call))

    def _told(self, call: CallRecord, stored: Stored) -> AssessmentRecord | None:
        if not isinstance(stored, Repeated):
            return stored
        assert call.assessment is not None  # noqa: S101 - only that can be repeated
        return opened(self.sealing, stored, call.assessment)

    def risk_assessment(self, id: str) -> AssessmentRecord | None:
        """The assessment with this id."""
        with self._transactions.read() as connection:
            return assessments.with_id(connection, id)

    def assessment_of_call(self, hook_instance: str) -> list[AssessmentRecord]:
        """What a call was answered with, its own or the one it repeated; oldest first."""
        with self._transactions.read() as connection:
            return assessments.of_call(connection, hook_instance)

    def search(
        self,
        *,
        patient: str | None = None,
        identifier: str | None = None,
        origin: str | None = None,
        count: int,
        offset: int = 0,
    ) -> tuple[int, list[AssessmentRecord]]:
        """How many match in all, and one page of them, newest first. None does not restrict."""
        wanted = {"patient_id": patient, "identifier": identifier, "origin": origin}
        with self._transactions.read() as connection:
            return assessments.matching(connection, wanted, count=count, offset=offset)

    def keep_inline_result(self, result: InlineWriteBack) -> None:
        """What came of a write-back within the call. A failure does not replace a success."""
        self._transactions.write(lambda connection, _: assessments.keep_inline(connection, result))

    def inline_result(self, assessment_id: str) -> InlineWriteBack | None:
        """What came of the write-back within the call; None where there was none."""
        with self._transactions.read() as connection:
            return assessments.inline_of(connection, assessment_id)

    # Audit -----------------------------------------------------------------------------------

    def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Rows of calls that left nothing else in the store."""

        def work(connection: sa.Connection, writer: ChainWriter) -> None:
            with driver_of(connection) as driver:
                audit_rows.append_all(driver, entries, writer)

        self._transactions.write(work)

    def audit_trail(self, *, count: int) -> list[AuditEntry]:
        """The latest entries, newest first."""
        query = sa.select(schema.audit).order_by(schema.audit.c.id.desc()).limit(count)
        with self._transactions.read() as connection:
            return [record_of(AuditEntry, row) for row in connection.execute(query)]

    def auditing(self) -> AbstractContextManager[tuple[sa.Connection, ChainWriter]]:
        """A transaction about the log itself, and the chain that its rows go to."""
        return self._transactions.alone()

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that reads one and the same state, however many queries it makes."""
        return self._transactions.read_one_state()

    # Feedback --------------------------------------------------------------------------------

    def add_feedback(self, items: Sequence[FeedbackItem], audit: AuditEntry) -> int:
        """Store what is new among `items`, with the audit row of their call; how many were new."""

        def work(connection: sa.Connection, writer: ChainWriter) -> int:
            new = sum(feedback.add(connection, item) for item in items)
            audit_rows.append(connection, feedback.about(connection, items, audit), writer)
            seal_call()
            return new

        return self._transactions.write(work)

    def feedback(self, *, count: int, card: str | None = None) -> list[AnsweredCard]:
        """The latest feedback (on one card), newest first, with the model version it answers."""
        with self._transactions.read() as connection:
            return feedback.latest(connection, count=count, card=card)

    # Tokens ----------------------------------------------------------------------------------

    def use_token(self, token: bytes, *, expires_at: datetime, now: datetime) -> bool:
        """True for the first use of `token` before it expires, whoever else asks at that moment."""
        return self._transactions.write(
            lambda connection, _: tokens.use(connection, token, expires_at=expires_at, now=now)
        )

    def forget_tokens(self, *, now: datetime) -> int:
        """Remove those that have expired; how many they were."""
        return self._transactions.write(lambda connection, _: tokens.forget(connection, now=now))

    # Outbox: the worker's --------------------------------------------------------------------

    def claim(
        self,
        *,
        now: datetime,
        lease: timedelta,
        count: int,
        claim_id: str,
        without: Collection[Destination] = (),
    ) -> list[ClaimedMessage]:
        """Take up to `count` messages that are due, for no one else until the lease ends; none
        that goes to a destination in `without`.

        Due is what is ready and available, and what a worker took and did not finish in time.
        """
        # A look first: idle workers do not take turns at writing with the calls.
        with self._transactions.read() as connection:
            if not outbox.is_anything_due(connection, now=now, lease=lease, without=without):
                return []
        return self._transactions.write(
            lambda connection, _: outbox.claim(
                connection, now=now, lease=lease, count=count, claim_id=claim_id, without=without
            )
        )

    def settle(
        self,
        message: ClaimedMessage,
        *,
        location: str | None,
        version: str | None,
        settled_at: datetime,
    ) -> bool:
        """The FHIR server holds it. False: the lease was lost, and another worker has it now."""
        return self._finish(
            message,
            state=MessageState.DELIVERED,
            settled_at=settled_at,
            location=location,
            version=version,
            reason=None,
        )

    def reschedule(self, message: ClaimedMessage, *, available_at: datetime, reason: str) -> bool:
        """Not yet: due again at `available_at`. False: the lease was lost."""
        return self._finish(
            message, state=MessageState.READY, available_at=available_at, reason=reason
        )

    def park(self, message: ClaimedMessage, *, reason: str, settled_at: datetime) -> bool:
        """Never: dead until a person looks at the reason. False: the lease was lost."""
        return self._finish(message, state=MessageState.DEAD, settled_at=settled_at, reason=reason)

    def _finish(self, message: ClaimedMessage, **values: Any) -> bool:
        return self._transactions.write(
            lambda connection, _: outbox.finish(connection, message, **values)
        )

    # Outbox: the operator's ------------------------------------------------------------------

    def message(self, id: str) -> MessageDetail | None:
        """One message, with the resource that it brings."""
        with self._transactions.read() as connection:
            return outbox.with_id(connection, id)

    def messages(
        self,
        *,
        count: int,
        state: MessageState | None = None,
        discarded: bool | None = None,
        client: str | None = None,
    ) -> list[MessageStatus]:
        """The oldest messages (in one state; with or without what was discarded; of a client)."""
        with self._transactions.read() as connection:
            return outbox.oldest(
                connection, count=count, state=state, discarded=discarded, client=client
            )

    def retry_messages(self, ids: Sequence[str], *, now: datetime, by: str) -> int:
        """Make due at once, as if never tried, those that are dead or wait for another try; how
        many they were. An audit row for each says that `by` did it."""

        def work(connection: sa.Connection, writer: ChainWriter) -> int:
            changed = outbox.retry(connection, ids, now)
            for row in changed:
                audit_rows.append(connection, _done(row, audit_rows.RETRY, now, by), writer)
            return len(changed)

        return self._transactions.write(work)

    def discard_messages(self, ids: Sequence[str], *, now: datetime, by: str) -> int:
        """Let go of those that are dead; how many they were. They stay, marked, with an audit row
        for each that says that `by` did it."""

        def work(connection: sa.Connection, writer: ChainWriter) -> int:
            changed = outbox.discard(connection, ids, now, by)
            for row in changed:
                audit_rows.append(connection, _done(row, audit_rows.DISCARD, now, by), writer)
            return len(changed)

        return self._transactions.write(work)

    def outbox_figures(self, *, now: datetime) -> OutboxFigures:
        """The outbox in numbers, for metrics."""
        with self._transactions.read() as connection:
            return outbox.figures(connection, now)


def _done(message: sa.Row[Any], action: str, now: datetime, by: str) -> AuditEntry:
    """What an operator did with a message. It is about a patient, whose result it brings."""
    return AuditEntry(
        recorded_at=now,
        outcome="retried" if action == audit_rows.RETRY else "discarded",
        status=200,
        action=action,
        user=by,
        patient_id=message.patient_id,
        resource_id=message.assessment_id,
        detail=orjson.dumps({"message": message.id, "client": message.client}).decode(),
    )
