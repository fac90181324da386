"""Stores that an earlier version made: tables and columns that are missing are added, in place.

Only what is nullable is ever added, and exactly as `schema.py` declares it, so that a tool which
compares the two (Alembic's autogenerate) finds no difference and can take over from here.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from cds_service.store import audit_rows
from cds_service.store.schema import audit, audit_head, metadata


def bring_up_to_date(connection: sa.Connection) -> None:
    """Every table, column and index of `schema.py`; what is there already is left alone.

    In a transaction that no other process of this version is in at the same time.
    """
    before_chains = _lacks_chains(connection)
    before_heads = not sa.inspect(connection).has_table(audit_head.name)
    _add_columns(connection)
    metadata.create_all(connection)
    _add_indexes(connection)
    if before_heads:
        audit_rows.record_ends(connection)
    if before_chains:
        audit_rows.seal(connection, datetime.now(UTC))


def _lacks_chains(connection: sa.Connection) -> bool:
    there = sa.inspect(connection)
    if not there.has_table(audit.name):
        return False
    return audit.c.chain.name not in {column["name"] for column in there.get_columns(audit.name)}


def _add_columns(connection: sa.Connection) -> None:
    there = sa.inspect(connection)
    quoted = connection.dialect.identifier_preparer.quote
    for table in metadata.sorted_tables:
        if not there.has_table(table.name):
            continue
        known = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known and column.nullable:
                kind = column.type.compile(connection.dialect)
                connection.exec_driver_sql(
                    f"ALTER TABLE {quoted(table.name)} ADD COLUMN {quoted(column.name)} {kind}"
                )


def _add_indexes(connection: sa.Connection) -> None:
    there = sa.inspect(connection)
    for table in metadata.sorted_tables:
        known = {index["name"] for index in there.get_indexes(table.name)}
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index.name not in known:
                index.create(connection)
