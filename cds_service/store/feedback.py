"""Feedback: each item once, joined to what it answers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from cds_service.store import schema
from cds_service.store.records import AnsweredCard, FeedbackItem
from cds_service.store.rows import insert, row_of, taken

_OF_THE_CARD = ("kind", "assessment_id", "model", "model_version")


def add(connection: sa.Connection, item: FeedbackItem) -> int:
    """1 where the item is new, else 0."""
    row = row_of(item) | {"accepted_suggestions": list(item.accepted_suggestions)}
    same_item = ["card", "outcome", "outcome_timestamp"]
    insertion = insert(connection.dialect.name, schema.feedback)
    unique = insertion.on_conflict_do_nothing(index_elements=same_item)
    return len(connection.execute(unique.returning(schema.feedback.c.id), row).all())


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
