"""Which assessments there are: their ids alone, so that nothing of a patient is read for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import sqlalchemy as sa

from cds_service.store.schema import assessment
from cds_service.store.store import Store

PAGE = 1_000


def oldest_first(store: Store, *, since: datetime | None) -> Iterator[str]:
    """The ids, a page at a time: memory does not grow with the store, and no transaction
    stays open while a page is worked through. What is stored meanwhile is part of it."""
    columns = assessment.c
    place = sa.tuple_(columns.received_at, columns.id)
    query = sa.select(columns.received_at, columns.id).order_by(*place.clauses).limit(PAGE)
    if since is not None:
        query = query.where(columns.received_at >= since)
    page = query
    while True:
        with store.reading() as connection:
            rows = connection.execute(page).all()
        yield from (row.id for row in rows)
        if len(rows) < PAGE:
            return
        last = sa.tuple_(
            sa.literal(rows[-1].received_at, columns.received_at.type), sa.literal(rows[-1].id)
        )
        page = query.where(place > last)


def number(store: Store, *, since: datetime | None) -> int:
    """How many `oldest_first` gives, as far as they are stored by now."""
    query = sa.select(sa.func.count()).select_from(assessment)
    if since is not None:
        query = query.where(assessment.c.received_at >= since)
    with store.reading() as connection:
        return connection.execute(query).scalar_one()
