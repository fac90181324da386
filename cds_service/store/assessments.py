"""Assessments read by id, call or patient, and what came of their write-back within the call."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
import structlog

from cds_service.store.records import AssessmentRecord, InlineWriteBack
from cds_service.store.rows import insert, record_of, row_of
from cds_service.store.schema import assessment, card, inline_write_back
from cds_service.store.sealed_columns import opened_record

log = structlog.get_logger(__name__)


def _read(connection: sa.Connection, row: sa.Row[Any]) -> AssessmentRecord:
    return opened_record(connection, AssessmentRecord, assessment, row)


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
