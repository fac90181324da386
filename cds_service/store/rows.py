"""Records as rows of their tables, and back."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Record = TypeVar("Record")


def row_of(record: Any) -> dict[str, Any]:
    """The fields of `record` by their names, which are those of the columns."""
    return {name: getattr(record, name) for name in _names(record.__class__)}


@cache
def _names(record: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


def taken(record: type, row: sa.Row[Any]) -> dict[str, Any]:
    """What `record` has fields for, out of a row that may hold more."""
    return {name: row._mapping[name] for name in _names(record)}


def record_of(record: type[Record], row: sa.Row[Any]) -> Record:
    """The record that the row holds."""
    return record(**taken(record, row))


def insert(dialect: str, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that may say what to do ON CONFLICT; both databases say it alike.

    Made once for each dialect, and executed with a row: SQLAlchemy takes a millisecond to make
    what it takes a tenth of one to execute.
    """
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def is_sqlite(connection: sa.Connection) -> bool:
    """True on SQLite, False on PostgreSQL."""
    return connection.dialect.name == "sqlite"
