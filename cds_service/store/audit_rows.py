"""Audit rows as the database holds them: written as links of a chain, read as digested."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa

from cds_service.audit.chain import ChainWriter, StoredRow, StoredValue, digest_of_all, new_writer
from cds_service.store.records import AuditEntry
from cds_service.store.rows import insert, row_of
from cds_service.store.schema import (
    REFUSAL_OF_POSTGRESQL,
    REFUSALS_OF_SQLITE,
    audit,
    audit_head,
    storable,
    utc_text,
)
from cds_service.store.statements import Driver, driver_of

SEAL = "audit-seal"
PRUNE = "audit-prune"
EXPORT = "audit-export"
RETRY = "outbox-retry"
DISCARD = "outbox-discard"
PAGE = 1_000

# Past the types: what is digested is what is there, not what a type makes of it.
_RAW = tuple(
    sa.type_coerce(column, sa.Text).label(column.name)
    if isinstance(column.type, sa.TypeDecorator)
    else column
    for column in audit.c
)

# Plain str: SQLAlchemy's own kinds of it are refused as names in JSON.
_NAMES = tuple(f"{column.name}" for column in audit.c)


def append(connection: sa.Connection, entry: AuditEntry, writer: ChainWriter) -> None:
    """Insert `entry` as the next row of the writer's chain, which then ends there."""
    with driver_of(connection) as driver:
        append_all(driver, [entry], writer)


def append_all(driver: Driver, entries: Sequence[AuditEntry], writer: ChainWriter) -> None:
    """Insert `entries` as the next rows of the writer's chain, which then ends with the last."""
    forms = [stored_form(entry) for entry in entries]
    if forms:
        driver.insert_all(audit, [writer.link(form) for form in forms])
        end = {"chain": writer.chain, "seq": writer.seq, "digest": writer.digest}
        driver.execute_with_each(_end(driver.connection.dialect.name), [end])


@cache
def _end(dialect: str) -> sa.ClauseElement:
    head = insert(dialect, audit_head)
    new = {name: head.excluded[name] for name in ("seq", "digest")}
    return head.on_conflict_do_update(index_elements=["chain"], set_=new)


def stored_form(entry: AuditEntry) -> dict[str, StoredValue]:
    """`entry` as both databases will give it back; ValueError for a time without a zone."""
    return {name: _stored(value) for name, value in row_of(entry).items()}


def _stored(value: object) -> StoredValue:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, datetime):
        return utc_text(value)
    raise TypeError(f"an audit row holds no {type(value).__name__}")


def read(connection: sa.Connection, query: sa.Select[Any]) -> Generator[StoredRow, None, None]:
    """The rows of `query`, a page at a time: memory does not grow with the log.

    Whoever may stop before the end closes it.
    """
    paged = {"stream_results": True, "yield_per": PAGE}
    with connection.execute(query, execution_options=paged) as result:
        for row in result:
            yield dict(zip(_NAMES, row, strict=True))


def in_chains() -> sa.Select[Any]:
    """Every chained row, chain by chain, in the order of its chain."""
    return sa.select(*_RAW).where(audit.c.chain.is_not(None)).order_by(audit.c.chain, audit.c.seq)


def outside_chains() -> sa.Select[Any]:
    """What was written by a version without chains."""
    return sa.select(*_RAW).where(audit.c.chain.is_(None)).order_by(audit.c.id)


def of_actions(*actions: str) -> sa.Select[Any]:
    """Rows about the log itself; few."""
    return sa.select(*_RAW).where(audit.c.action.in_(actions)).order_by(audit.c.id)


def between(start: datetime | None, end: datetime | None) -> sa.Select[Any]:
    """Rows from `start` on and before `end`, in the order of time."""
    query = sa.select(*_RAW).order_by(audit.c.recorded_at, audit.c.id)
    if start is not None:
        query = query.where(audit.c.recorded_at >= start)
    return query if end is None else query.where(audit.c.recorded_at < end)


def heads() -> sa.Select[Any]:
    """The last row of every chain."""
    last = sa.select(audit.c.chain, sa.func.max(audit.c.seq).label("seq")).group_by(audit.c.chain)
    ends = last.where(audit.c.chain.is_not(None)).subquery()
    here = sa.and_(audit.c.chain == ends.c.chain, audit.c.seq == ends.c.seq)
    return sa.select(*_RAW).join(ends, here).order_by(audit.c.chain)


def recorded_ends(connection: sa.Connection) -> dict[str, tuple[int, str]]:
    """Chain -> the number and the digest of its last row, as they were committed with it."""
    rows = connection.execute(sa.select(audit_head))
    return {row.chain: (row.seq, row.digest) for row in rows}


def record_ends(connection: sa.Connection) -> None:
    """For chains of a version that did not: what was taken from their ends by then is lost."""
    ends = heads().subquery()
    known = sa.select(ends.c.chain, ends.c.seq, ends.c.digest)
    connection.execute(sa.insert(audit_head).from_select(["chain", "seq", "digest"], known))


def row_of_chain(chain: str, seq: int) -> sa.Select[Any]:
    """One row by its place."""
    return sa.select(*_RAW).where(audit.c.chain == chain, audit.c.seq == seq)


def first_kept(before: datetime) -> sa.Select[Any]:
    """For every chain its first row that is not older than `before`; none where all are."""
    kept = (
        sa.select(audit.c.chain, sa.func.min(audit.c.seq).label("seq"))
        .where(audit.c.chain.is_not(None), audit.c.recorded_at >= before)
        .group_by(audit.c.chain)
        .subquery()
    )
    here = sa.and_(audit.c.chain == kept.c.chain, audit.c.seq == kept.c.seq)
    return sa.select(*_RAW).join(kept, here).order_by(audit.c.chain)


def remove_prefixes(connection: sa.Connection, before: datetime) -> int:
    """Remove from every chain what comes before its first row that is not older than `before`."""
    younger = sa.case((audit.c.recorded_at >= before, audit.c.seq))
    chains = sa.select(
        audit.c.chain, sa.func.min(younger).label("kept"), sa.func.max(audit.c.seq).label("last")
    ).where(audit.c.chain.is_not(None))
    ends = connection.execute(chains.group_by(audit.c.chain)).all()
    removed = 0
    with _removal_allowed(connection):
        for chain, kept, last in ends:
            old = sa.delete(audit).where(audit.c.chain == chain)
            bound = last + 1 if kept is None else kept
            removed += connection.execute(old.where(audit.c.seq < bound)).rowcount
            if kept is None:
                connection.execute(sa.delete(audit_head).where(audit_head.c.chain == chain))
    return removed


def remove_outside_chains(connection: sa.Connection, before: datetime) -> int:
    """Remove what was written before the chains, all of it or, if any is younger, nothing."""
    outside = audit.c.chain.is_(None)
    younger = sa.select(audit.c.id).where(outside, audit.c.recorded_at >= before).limit(1)
    if connection.execute(younger).first() is not None:
        return 0
    with _removal_allowed(connection):
        return connection.execute(sa.delete(audit).where(outside)).rowcount


@contextmanager
def _removal_allowed(connection: sa.Connection) -> Iterator[None]:
    """The triggers are away for this transaction: nobody else's change passes meanwhile.

    DDL is transactional on both, so a fault brings them back. PostgreSQL locks out other writers
    and asks for the table's owner, which the service itself need not be.
    """
    if connection.dialect.name == "sqlite":
        for name in REFUSALS_OF_SQLITE:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        yield
        for statement in REFUSALS_OF_SQLITE.values():
            connection.exec_driver_sql(statement)
        return
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql(f"ALTER TABLE audit DISABLE TRIGGER {REFUSAL_OF_POSTGRESQL}")
    yield
    connection.exec_driver_sql(f"ALTER TABLE audit ENABLE TRIGGER {REFUSAL_OF_POSTGRESQL}")


def seal(connection: sa.Connection, now: datetime) -> None:
    """Chain a row that holds the number and the digest of everything written before the chains."""
    count, digest = digest_of_all(read(connection, outside_chains()))
    if not count:
        return
    detail = orjson.dumps({"digest": digest, "rows": count}).decode()
    entry = AuditEntry(
        recorded_at=now,
        outcome="sealed",
        status=200,
        action=SEAL,
        user="cds-service",
        detail=detail,
    )
    append(connection, entry, new_writer())
