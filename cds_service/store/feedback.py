"""Feedback: each item once, joined to what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from cds_service.store import schema
from cds_service.store.records import AnsweredCard, AuditEntry, FeedbackItem
from cds_service.store.rows import insert, row_of, taken

# Enough to tell whether they are one.
_SOME = 50
_OF_THE_CARD = ("kind", "assessment_id", "model", "model_version")


def add(connection: sa.Connection, item: FeedbackItem) -> int:
    """1 where the item is new, else 0."""
    row = row_of(item) | {"accepted_suggestions": list(item.accepted_suggestions)}
    same_item = ["card", "outcome", "outcome_timestamp"]
    insertion = insert(connection.dialect.name, schema.feedback)
    unique = insertion.on_conflict_do_nothing(index_elements=same_item)
    return len(connection.execute(unique.returning(schema.feedback.c.id), row).all())


def about(
    connection: sa.Connection, items: Sequence[FeedbackItem], audit: AuditEntry
) -> AuditEntry:
    """`audit` with the patient and the call that the cards were given for, where they are one:
    feedback itself names neither."""
    issued = schema.card.outerjoin(
        schema.assessment, schema.card.c.assessment_id == schema.assessment.c.id
    )
    named = schema.card.c.uuid.in_({item.card for item in items})
    query = (
        sa.select(schema.card.c.hook_instance, schema.assessment.c.patient_id)
        .select_from(issued)
        .where(named)
        .distinct()
        .limit(_SOME)
    )
    found = connection.execute(query).all()
    calls = {row.hook_instance for row in found}
    patients = {row.patient_id for row in found}
    return replace(
        audit,
        hook_instance=calls.pop() if len(calls) == 1 else None,
        patient_id=patients.pop() if len(patients) == 1 else None,
    )


def latest(connection: sa.Connection, *, count: int, card: str | None) -> list[AnsweredCard]:
    """The latest items (on one card), newest first, with the model version that they answer."""
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
    return [_answered(row) for row in connection.execute(query)]


def _answered(row: sa.Row[Any]) -> AnsweredCard:
    item = taken(FeedbackItem, row)
    item["accepted_suggestions"] = tuple(item["accepted_suggestions"])
    joined = {name: row._mapping[name] for name in _OF_THE_CARD}
    return AnsweredCard(item=FeedbackItem(**item), **joined)
