"""The store: assessments, cards, audit, outbox and feedback; every method is one transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from cds_service.audit.chain import ChainWriter, ChainWriters
from cds_service.errors import StoreUnavailable
from cds_service.limits.call_time import seal_call
from cds_service.store import audit_rows, schema
from cds_service.store.engine import WAIT_SECONDS, WRITES, open_engine
from cds_service.store.records import (
    AnsweredCard,
    AssessmentRecord,
    AuditEntry,
    ClaimedMessage,
    FeedbackItem,
    IssuedCard,
    MessageState,
    MessageStatus,
    OutboxMessage,
)

log = structlog.get_logger(__name__)

# How long a writer waits for the others of its process. Longer than for the file: the one in front
# may itself be waiting for another process's, and that is no fault of those behind it.
QUEUE_SECONDS = 4 * WAIT_SECONDS

# Faults of the database or of the way to it, as against faults of a statement: disk full, file
# read-only or damaged, locked for too long, server gone or in recovery, no connection free.
_FAULTS = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)


class Store:
    """Synchronous and thread-safe: the shell calls it in worker threads.

    Every method raises StoreUnavailable when the database cannot serve it, and then has stored
    nothing.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**WRITES)
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
        self._chains = ChainWriters()
        # SQLite has one writer at a time and lets the others poll; within a process a queue is
        # fairer and faster. Other processes still meet at the file's own lock.
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else None

    @classmethod
    def open(cls, url: str) -> Store:
        """The store at an SQLAlchemy URL, tables created where they are missing."""
        with _faults_named():
            try:
                return cls(open_engine(url))
            except OSError as fault:
                raise StoreUnavailable(f"The store cannot be opened: {fault.strerror}.") from fault

    def close(self) -> None:
        self._engine.dispose()

    def ping(self) -> None:
        """Raises StoreUnavailable unless the database answers."""
        with self._reading() as connection:
            connection.execute(sa.select(sa.func.count()).select_from(_none(schema.assessment)))

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
        back, its message is not sent again, and the cards of this call belong to it.
        """
        if message is not None and (assessment is None or message.assessment_id != assessment.id):
            raise ValueError("a message goes out with the assessment it belongs to")
        with self.auditing() as (connection, writer):
            stored = self._keep(connection, assessment, message, audit.recorded_at)
            for issued in cards:
                connection.execute(
                    sa.insert(schema.card).values(_card_row(issued, stored, audit.recorded_at))
                )
            audit_rows.append(connection, audit, writer)
            seal_call()
        return stored

    def _keep(
        self,
        connection: sa.Connection,
        assessment: AssessmentRecord | None,
        message: OutboxMessage | None,
        recorded_at: datetime,
    ) -> AssessmentRecord | None:
        if assessment is None:
            return None
        insertion = self._insert(schema.assessment).values(_row(assessment))
        # Two equal calls side by side: the second waits for the first to commit, then finds it.
        # No conflict target: an id made from the identifier conflicts on both columns.
        unique = insertion.on_conflict_do_nothing().returning(schema.assessment.c.id)
        if not connection.execute(unique).all():
            known = schema.assessment.c.identifier == assessment.identifier
            return _assessment(connection.execute(sa.select(schema.assessment).where(known)).one())
        if message is not None:
            connection.execute(sa.insert(schema.outbox).values(_message_row(message, recorded_at)))
        return assessment

    def risk_assessment(self, id: str) -> AssessmentRecord | None:
        """The assessment with this id."""
        query = sa.select(schema.assessment).where(schema.assessment.c.id == id)
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _assessment(row)

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
        columns = schema.assessment.c
        wanted = [(columns.patient_id, patient), (columns.identifier, identifier)]
        wanted.append((columns.origin, origin))
        matches = sa.and_(
            sa.true(), *(column == value for column, value in wanted if value is not None)
        )
        page = (
            sa.select(schema.assessment)
            .where(matches)
            .order_by(columns.received_at.desc(), columns.id.desc())
            .limit(count)
            .offset(offset)
        )
        total = sa.select(sa.func.count()).select_from(schema.assessment).where(matches)
        with self._reading() as connection:
            return connection.execute(total).scalar_one(), [
                _assessment(row) for row in connection.execute(page)
            ]

    def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Rows of calls that left nothing else in the store."""
        with self.auditing() as (connection, writer):
            for entry in entries:
                audit_rows.append(connection, entry, writer)

    def audit_trail(self, *, count: int) -> list[AuditEntry]:
        """The latest entries, newest first."""
        query = sa.select(schema.audit).order_by(schema.audit.c.id.desc()).limit(count)
        with self._reading() as connection:
            return [AuditEntry(**_taken(AuditEntry, row)) for row in connection.execute(query)]

    # Feedback --------------------------------------------------------------------------------

    def add_feedback(self, items: Sequence[FeedbackItem], audit: AuditEntry) -> int:
        """Store what is new among `items`, with the audit row of their call; how many were new."""
        with self.auditing() as (connection, writer):
            new = sum(self._add(connection, item) for item in items)
            audit_rows.append(connection, audit, writer)
            seal_call()
        return new

    def _add(self, connection: sa.Connection, item: FeedbackItem) -> int:
        row = _row(item) | {"accepted_suggestions": list(item.accepted_suggestions)}
        same_item = ["card", "outcome", "outcome_timestamp"]
        insertion = self._insert(schema.feedback).values(row)
        unique = insertion.on_conflict_do_nothing(index_elements=same_item)
        return len(connection.execute(unique.returning(schema.feedback.c.id)).all())

    def feedback(self, *, count: int, card: str | None = None) -> list[AnsweredCard]:
        """The latest feedback (on one card), newest first, with the model version it answers."""
        answered = schema.feedback.outerjoin(
            schema.card, schema.feedback.c.card == schema.card.c.uuid
        ).outerjoin(schema.assessment, schema.card.c.assessment_id == schema.assessment.c.id)
        query = (
            sa.select(
                schema.feedback,
                schema.card.c.kind,
                schema.card.c.assessment_id,
                schema.assessment.c.model,
                schema.assessment.c.model_version,
            )
            .select_from(answered)
            .order_by(schema.feedback.c.id.desc())
            .limit(count)
        )
        if card is not None:
            query = query.where(schema.feedback.c.card == card)
        with self._reading() as connection:
            return [_answered(row) for row in connection.execute(query)]

    # Tokens ----------------------------------------------------------------------------------

    def use_token(self, token: bytes, *, expires_at: datetime, now: datetime) -> bool:
        """True for the first use of `token` before it expires, whoever else asks at that moment."""
        used = schema.used_jti
        insertion = self._insert(used).values(token=token, expires_at=expires_at)
        unique = insertion.on_conflict_do_update(
            index_elements=["token"],
            set_={"expires_at": insertion.excluded.expires_at},
            where=used.c.expires_at <= now,
        )
        with self._writing() as connection:
            return len(connection.execute(unique.returning(used.c.token)).all()) == 1

    def forget_tokens(self, *, now: datetime) -> int:
        """Remove those that have expired; how many they were."""
        used = schema.used_jti
        with self._writing() as connection:
            return connection.execute(sa.delete(used).where(used.c.expires_at <= now)).rowcount

    # Outbox ----------------------------------------------------------------------------------

    def claim(
        self, *, now: datetime, lease: timedelta, count: int, claim_id: str
    ) -> list[ClaimedMessage]:
        """Take up to `count` messages that are due, for no one else until the lease ends.

        Due is what is ready and available, and what a worker took and did not finish in time.
        """
        box = schema.outbox
        due = sa.or_(
            sa.and_(box.c.state == MessageState.READY, box.c.available_at <= now),
            sa.and_(box.c.state == MessageState.CLAIMED, box.c.lease_until <= now),
        )
        picked = sa.select(box.c.id).where(due).order_by(box.c.available_at, box.c.id).limit(count)
        if self._engine.dialect.name == "postgresql":
            # In a CTE, which PostgreSQL evaluates once; as a plain subquery with LIMIT it may be
            # evaluated again for every row and lock more rows than were asked for.
            locked = picked.with_for_update(skip_locked=True).cte("picked")
            picked = sa.select(locked.c.id)
        claim = (
            sa.update(box)
            .where(box.c.id.in_(picked))
            .values(
                state=MessageState.CLAIMED,
                attempts=box.c.attempts + 1,
                claim_id=claim_id,
                lease_until=now + lease,
            )
            .returning(box)
        )
        with self._writing() as connection:
            rows = connection.execute(claim).all()
        return [ClaimedMessage(**_taken(ClaimedMessage, row)) for row in rows]

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
        # The claim is the fence: a worker that hung past its lease changes nothing any more.
        held = sa.and_(
            schema.outbox.c.id == message.id, schema.outbox.c.claim_id == message.claim_id
        )
        ending = sa.update(schema.outbox).where(held)
        with self._writing() as connection:
            ended = connection.execute(ending.values(claim_id=None, lease_until=None, **values))
        return ended.rowcount == 1

    def messages(self, *, count: int, state: MessageState | None = None) -> list[MessageStatus]:
        """The oldest messages (in one state), for an operator to look at."""
        box = schema.outbox
        columns = [box.c[field.name] for field in fields(MessageStatus)]
        query = sa.select(*columns).order_by(box.c.created_at, box.c.id).limit(count)
        if state is not None:
            query = query.where(box.c.state == state)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [_status(row) for row in rows]

    def depth(self) -> dict[MessageState, int]:
        """How many messages are in each state."""
        states = schema.outbox.c.state
        query = sa.select(states, sa.func.count().label("number")).group_by(states)
        with self._reading() as connection:
            counted = {row.state: row.number for row in connection.execute(query)}
        return {state: counted.get(state.value, 0) for state in MessageState}

    # Transactions ----------------------------------------------------------------------------

    @contextmanager
    def auditing(self) -> Iterator[tuple[sa.Connection, ChainWriter]]:
        """A transaction that writes audit rows, and the chain that they go to."""
        # The writer is had before the transaction begins and given back after it is committed, so
        # that the next row of its chain follows one that is there. On SQLite one at a time has it.
        with (
            _faults_named(),
            self._in_turn(),
            self._chains.writer() as writer,
            self._writer.begin() as connection,
        ):
            yield connection, writer

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that reads."""
        return self._reading()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _faults_named(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with _faults_named(), self._in_turn(), self._writer.begin() as connection:
            yield connection

    def _in_turn(self) -> AbstractContextManager[object]:
        return nullcontext() if self._turn is None else _turn(self._turn)


@contextmanager
def _turn(lock: threading.Lock) -> Iterator[None]:
    if not lock.acquire(timeout=QUEUE_SECONDS):
        log.error("store unavailable", reason="no turn to write", seconds=QUEUE_SECONDS)
        raise StoreUnavailable
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _faults_named() -> Iterator[None]:
    """A fault of the database leaves as StoreUnavailable; its reason goes to the log alone."""
    try:
        yield
    except (*_FAULTS, exc.DatabaseError) as fault:
        # The siblings of `_FAULTS` under DatabaseError (integrity, data, statement) are ours to
        # mend; the bare class is SQLite's "malformed" and "not a database".
        if not isinstance(fault, _FAULTS) and type(fault) is not exc.DatabaseError:
            raise
        log.error("store unavailable", reason=_reason(fault))
        raise StoreUnavailable from fault


def _reason(fault: exc.SQLAlchemyError) -> str:
    original = getattr(fault, "orig", None) or fault
    return f"{type(original).__name__}: {str(original).splitlines()[0] if str(original) else ''}"


def _none(table: sa.Table) -> sa.Subquery:
    return sa.select(table.c.id).limit(1).subquery()


def _row(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _taken(record: type, row: sa.Row[Any]) -> dict[str, Any]:
    return {field.name: row._mapping[field.name] for field in fields(record)}


def _assessment(row: sa.Row[Any]) -> AssessmentRecord:
    return AssessmentRecord(**_taken(AssessmentRecord, row))


def _status(row: sa.Row[Any]) -> MessageStatus:
    values = _taken(MessageStatus, row)
    return MessageStatus(**values | {"state": MessageState(values["state"])})


def _answered(row: sa.Row[Any]) -> AnsweredCard:
    item = _taken(FeedbackItem, row)
    item["accepted_suggestions"] = tuple(item["accepted_suggestions"])
    joined = {name: row._mapping[name] for name in ("kind", "assessment_id")}
    joined |= {name: row._mapping[name] for name in ("model", "model_version")}
    return AnsweredCard(item=FeedbackItem(**item), **joined)


def _card_row(
    issued: IssuedCard, stored: AssessmentRecord | None, issued_at: datetime
) -> dict[str, Any]:
    row = _row(issued) | {"issued_at": issued_at}
    if issued.assessment_id is not None and stored is not None:
        row["assessment_id"] = stored.id
    return row


def _message_row(message: OutboxMessage, created_at: datetime) -> dict[str, Any]:
    return _row(message) | {
        "state": MessageState.READY,
        "attempts": 0,
        "created_at": created_at,
        "available_at": created_at,
    }
