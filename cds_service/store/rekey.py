"""With which keys rows are sealed, and how they are sealed anew: a page at a time, beside calls.

Each page is one transaction, so that this may be killed at any moment and begun again: what is
done is marked in the row itself.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cds_service.errors import RowUnreadable
from cds_service.store.sealed_columns import SEALED, opened, sealed
from cds_service.store.store import Store

PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What came of one page: rows sealed anew, and why others could not be opened."""

    sealed: int
    unreadable: tuple[str, ...] = ()


def keys_in_use(store: Store) -> frozenset[str]:
    """The fingerprints that rows name. Two looks into an index for each, whatever there is."""
    found = set()
    with store.reading() as connection:
        for table in SEALED:
            key = ""
            while key := connection.execute(_next_key(table, key)).scalar() or "":
                found.add(key)
    return frozenset(found)


def _next_key(table: sa.Table, after: str) -> sa.Select[Any]:
    by = table.c.sealed_by
    return sa.select(by).where(by > after).order_by(by).limit(1)


def tally(store: Store) -> Mapping[str, Counter[str | None]]:
    """Table -> how many rows are sealed with each key; None is plain."""
    found = {}
    with store.reading() as connection:
        for table in SEALED:
            by = table.c.sealed_by
            keys = sa.select(by, sa.func.count()).where(by.is_not(None)).group_by(by)
            counts = Counter[str | None]()
            for key, number in connection.execute(keys):
                counts[key] = number
            rows = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            counts[None] = rows - counts.total()
            found[str(table.name)] = +counts
    return found


def left_to_do(store: Store) -> int:
    """How many rows are not sealed with the first key, or sealed where there is none."""
    first = store.sealing.sealed_by
    counted = tally(store).values()
    return sum(number for counts in counted for key, number in counts.items() if key != first)


def rekey(store: Store, *, pause: Callable[[float], None] = time.sleep) -> Iterator[Page]:
    """Seal with the first key whatever is not; a Page after each transaction.

    Rows that others hold at that moment are left to another round, and none is waited for. As long
    as a page took is paused, so that on SQLite, which has one writer, calls have their turn.
    """
    for table in SEALED:
        last = ""
        while ids := _ids(store, table, last):
            began = time.monotonic()
            yield _seal_anew(store, table, ids)
            last = ids[-1]
            pause(time.monotonic() - began)
    _empty_log(store)


def unreadable(store: Store) -> Iterator[Page]:
    """Open every row, a page at a time; changes nothing."""
    for table in SEALED:
        last = ""
        while True:
            query = sa.select(table).where(table.c.id > last).order_by(table.c.id).limit(PAGE)
            with store.reading() as connection:
                rows = connection.execute(query).all()
                faults = tuple(fault for row in rows for fault in _faults(connection, table, row))
            if not rows:
                break
            yield Page(sealed=len(rows) - len(faults), unreadable=faults)
            last = rows[-1].id


def _faults(connection: sa.Connection, table: sa.Table, row: sa.Row[Any]) -> Iterator[str]:
    try:
        opened(connection, table, row)
    except RowUnreadable as fault:
        yield fault.reason


def _ids(store: Store, table: sa.Table, last: str) -> list[str]:
    """Looked for before the transaction that writes: it may take long, and holds up nobody."""
    stale = table.c.sealed_by.is_distinct_from(store.sealing.sealed_by)
    query = sa.select(table.c.id).where(table.c.id > last, stale).order_by(table.c.id).limit(PAGE)
    with store.reading() as connection:
        return list(connection.execute(query).scalars())


def _seal_anew(store: Store, table: sa.Table, ids: list[str]) -> Page:
    stale = table.c.sealed_by.is_distinct_from(store.sealing.sealed_by)
    # Nothing is waited for while rows are held, so that no two can wait for each other.
    query = sa.select(table).where(table.c.id.in_(ids), stale).with_for_update(skip_locked=True)
    done, faults = [], []
    with store.auditing() as (connection, _):
        if connection.dialect.name == "sqlite":
            # What is written over must not stay in the file.
            # https://www.sqlite.org/pragma.html#pragma_secure_delete
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
        for row in connection.execute(query).all():
            try:
                plain = {"id": row.id, **opened(connection, table, row)}
            except RowUnreadable as fault:
                faults.append(fault.reason)
            else:
                values = sealed(store.sealing, table, plain)
                done.append({"row": values.pop("id"), **values})
        if done:
            names = (*SEALED[table], "sealed_by")
            update = sa.update(table).where(table.c.id == sa.bindparam("row"))
            connection.execute(update.values({name: sa.bindparam(name) for name in names}), done)
    return Page(sealed=len(done), unreadable=tuple(faults))


def _empty_log(store: Store) -> None:
    """SQLite's write-ahead log may still hold what was written over, until it is reused."""
    with store.reading() as connection:
        engine = connection.engine
    if engine.dialect.name == "sqlite":
        # Not in a transaction: https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
        with engine.execution_options(begin=None).connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
