"""Assessments: each stored once, each following the one before it; read by id, call or patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
import structlog

from cds_service.errors import RowUnreadable
from cds_service.store.outbox import new_row
from cds_service.store.records import AssessmentRecord, InlineWriteBack, IssuedCard, OutboxMessage
from cds_service.store.rows import insert, is_sqlite, record_of, row_of, taken
from cds_service.store.schema import assessment, card, inline_write_back, outbox, storable
from cds_service.store.sealed_columns import SEALED, opened_record, sealed
from fhir_mapping.risk_assessment import following

log = structlog.get_logger(__name__)


def keep(
    connection: sa.Connection,
    record: AssessmentRecord,
    message: OutboxMessage | None,
    recorded_at: datetime,
) -> AssessmentRecord:
    """Insert `record` after the one before it, with its message; a repeat gives the stored one."""
    _take_turn(connection, record)
    whose = {"patient": record.patient_id, "origin": record.origin, "model": record.model}
    before = connection.execute(_NEWEST_UNFOLLOWED, whose).one_or_none()
    asked = record
    if before is not None:
        resource = following(record.resource, before.identifier)
        record = replace(record, follows=before.id, resource=resource)
    row = sealed(connection, assessment, row_of(record))
    if not connection.execute(_new(connection.dialect.name), row).all():
        return _stored(connection, asked)
    if message is not None:
        if before is not None:
            message = replace(message, resource=following(message.resource, before.identifier))
        connection.execute(
            sa.insert(outbox), sealed(connection, outbox, new_row(message, recorded_at))
        )
    return record


def _take_turn(connection: sa.Connection, record: AssessmentRecord) -> None:
    """One call about a patient after the other, so that no two follow the same.

    SQLite has one writer anyway.
    """
    if is_sqlite(connection):
        return
    whose = "\x1f".join(map(storable, (record.origin, record.patient_id, record.model)))
    lock = sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(whose, 0))
    connection.execute(sa.select(lock))


@cache
def _new(dialect: str) -> sa.Executable:
    # No conflict target: an id made from the identifier conflicts on both columns.
    return insert(dialect, assessment).on_conflict_do_nothing().returning(assessment.c.id)


_later = assessment.alias("later")
# Not the newest alone: where a clock went back, that one is followed already.
_NEWEST_UNFOLLOWED = (
    sa.select(assessment.c.id, assessment.c.identifier)
    .where(
        assessment.c.patient_id == sa.bindparam("patient"),
        assessment.c.origin == sa.bindparam("origin"),
        assessment.c.model == sa.bindparam("model"),
        sa.not_(sa.exists().where(_later.c.follows == assessment.c.id)),
    )
    .order_by(assessment.c.received_at.desc(), assessment.c.id.desc())
    .limit(1)
)


def _stored(connection: sa.Connection, repeat: AssessmentRecord) -> AssessmentRecord:
    query = sa.select(assessment).where(assessment.c.identifier == repeat.identifier)
    row = connection.execute(query).one()
    try:
        return _read(connection, row)
    except RowUnreadable as fault:
        # The clinician need not do without: the same identifier is the same inputs and model. The
        # row stays as it is, and is nobody's to write over.
        log.error("row unreadable", reason=fault.reason)
        now = {name: getattr(repeat, name) for name in SEALED[assessment]}
        return AssessmentRecord(**taken(AssessmentRecord, row) | now)


def _read(connection: sa.Connection, row: sa.Row[Any]) -> AssessmentRecord:
    return opened_record(connection, AssessmentRecord, assessment, row)


def issue(
    connection: sa.Connection,
    cards: Sequence[IssuedCard],
    stored: AssessmentRecord | None,
    issued_at: datetime,
) -> None:
    """Insert the cards of a call; they belong to the assessment that is stored."""
    for issued in cards:
        row = row_of(issued) | {"issued_at": issued_at}
        if issued.assessment_id is not None and stored is not None:
            row["assessment_id"] = stored.id
        connection.execute(sa.insert(card), row)


def with_id(connection: sa.Connection, id: str) -> AssessmentRecord | None:
    """The assessment with this id."""
    row = connection.execute(sa.select(assessment).where(assessment.c.id == id)).one_or_none()
    return None if row is None else _read(connection, row)


def of_call(connection: sa.Connection, hook_instance: str) -> list[AssessmentRecord]:
    """What a call was answered with: an assessment of its own, or the one that it repeated, which
    its cards know. Oldest first."""
    repeated = sa.select(card.c.assessment_id).where(
        card.c.hook_instance == hook_instance, card.c.assessment_id.is_not(None)
    )
    query = (
        sa.select(assessment)
        .where(sa.or_(assessment.c.hook_instance == hook_instance, assessment.c.id.in_(repeated)))
        .order_by(assessment.c.received_at, assessment.c.id)
    )
    return [_read(connection, row) for row in connection.execute(query)]


def matching(
    connection: sa.Connection, wanted: dict[str, str | None], *, count: int, offset: int
) -> tuple[int, list[AssessmentRecord]]:
    """How many have these values in these columns, None being any, and a page, newest first."""
    matches = sa.and_(
        sa.true(),
        *(assessment.c[name] == value for name, value in wanted.items() if value is not None),
    )
    total = sa.select(sa.func.count()).select_from(assessment).where(matches)
    page = (
        sa.select(assessment)
        .where(matches)
        .order_by(assessment.c.received_at.desc(), assessment.c.id.desc())
        .limit(count)
        .offset(offset)
    )
    found = [_read(connection, row) for row in connection.execute(page)]
    return connection.execute(total).scalar_one(), found


def keep_inline(connection: sa.Connection, result: InlineWriteBack) -> None:
    """The latest result, unless it is a failure and the one that is stored is not."""
    insertion = insert(connection.dialect.name, inline_write_back)
    new = insertion.excluded
    taken_now, failed_before = new.reason.is_(None), inline_write_back.c.reason.is_not(None)
    latest = insertion.on_conflict_do_update(
        index_elements=["assessment_id"],
        set_={column.name: new[column.name] for column in inline_write_back.c},
        where=sa.or_(taken_now, failed_before),
    )
    connection.execute(latest, row_of(result))


def inline_of(connection: sa.Connection, assessment_id: str) -> InlineWriteBack | None:
    """What came of the write-back within the call."""
    here = inline_write_back.c.assessment_id == assessment_id
    row = connection.execute(sa.select(inline_write_back).where(here)).one_or_none()
    return None if row is None else record_of(InlineWriteBack, row)
