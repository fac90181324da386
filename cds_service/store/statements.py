"""Statements of the hot path: compiled once for each database from the tables of `schema.py`, and
run by the driver itself, which takes a tenth of the time that SQLAlchemy takes for them.

They are given rows in their stored form, and a fault of the driver leaves as SQLAlchemy's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg

from cds_service.store.rows import is_sqlite
from cds_service.store.schema import UtcTime, Words, storable, utc_text
from cds_service.store.stored_json import json_text

Row = Mapping[str, Any]
# Of one statement: what it gave for each row that it was executed with.
Answers = list[list[tuple[Any, ...]]]


def stored_row(table: sa.Table, row: Row) -> dict[str, Any]:
    """`row` as `table` holds it: text, numbers, None."""
    forms = _stored_forms(table)
    return {
        name: value if value is None or (form := forms[name]) is None else form(value)
        for name, value in row.items()
    }


def read_row(table: sa.Table, row: Row) -> dict[str, Any]:
    """The inverse of `stored_row`."""
    forms = _read_forms(table)
    return {
        name: value if value is None or (form := forms[name]) is None else form(value)
        for name, value in row.items()
    }


Form = Callable[[Any], Any] | None


@cache
def _stored_forms(table: sa.Table) -> dict[str, Form]:
    forms: dict[type, Form] = {
        Words: storable,
        UtcTime: utc_text,
        sa.JSON: json_text,
        sa.Text: str,  # the word of an enumeration, for drivers that would store its name
    }
    return {column.name: forms.get(type(column.type)) for column in table.c}


@cache
def _read_forms(table: sa.Table) -> dict[str, Form]:
    forms: dict[type, Form] = {UtcTime: datetime.fromisoformat, sa.JSON: json.loads}
    return {column.name: forms.get(type(column.type)) for column in table.c}


def insert_all(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert `rows`, which have the same columns."""
    if rows:
        execute_with_each(connection, _insertion(table, tuple(rows[0])), rows)


@cache
def _insertion(table: sa.Table, names: tuple[str, ...]) -> sa.ClauseElement:
    # inline: nothing is asked back, on PostgreSQL neither.
    values = {name: sa.bindparam(name, type_=table.c[name].type) for name in names}
    return sa.insert(table).inline().values(values)


def execute_with_each(
    connection: sa.Connection, statement: sa.ClauseElement, rows: Sequence[Row]
) -> None:
    """`statement`, which gives nothing, with each of `rows`."""
    text, _ = _compiled(statement, connection.dialect.name)
    with driver_faults_named(connection), _cursor(connection) as cursor:
        cursor.executemany(text, rows)


def fetch_with_each(
    connection: sa.Connection, statements: Sequence[sa.ClauseElement], rows: Sequence[Row]
) -> list[Answers]:
    """What each of `statements` gives for each of `rows`."""
    if not rows:
        return [[] for _ in statements]
    compiled = [_compiled(statement, connection.dialect.name) for statement in statements]
    with driver_faults_named(connection), ExitStack() as stack:
        cursors = [stack.enter_context(_cursor(connection)) for _ in statements]
        if is_sqlite(connection):
            return [
                [cursor.execute(text, {**constants, **row}).fetchall() for row in rows]
                for cursor, (text, constants) in zip(cursors, compiled, strict=True)
            ]
        with in_one_go(connection):
            for cursor, (text, constants) in zip(cursors, compiled, strict=True):
                asked = [{**constants, **row} for row in rows]
                cursor.executemany(text, asked, returning=True)
        return [[result.fetchall() for result in cursor.results()] for cursor in cursors]


@contextmanager
def in_one_go(connection: sa.Connection) -> Iterator[None]:
    """What is executed within is sent to PostgreSQL together, and answered together.

    https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
    """
    if is_sqlite(connection):
        yield
        return
    with driver_faults_named(connection), _driver(connection).pipeline():
        yield


@cache
def _compiled(statement: sa.ClauseElement, dialect: str) -> tuple[str, dict[str, Any]]:
    """Its text, with parameters by name, and those parameters that are always the same."""
    here: Any = sqlite.dialect(paramstyle="named") if dialect == "sqlite" else psycopg.dialect()  # type: ignore[no-untyped-call]
    compiled = statement.compile(dialect=here)
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return str(compiled), constants


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


@contextmanager
def _cursor(connection: sa.Connection) -> Iterator[Any]:
    cursor = _driver(connection).cursor()
    try:
        yield cursor
    finally:
        cursor.close()


@contextmanager
def driver_faults_named(connection: sa.Connection) -> Iterator[None]:
    """A fault of the driver leaves as the error of SQLAlchemy that stands for it."""
    dialect = connection.dialect
    driver = dialect.loaded_dbapi
    try:
        yield
    except driver.Error as fault:
        raise exc.DBAPIError.instance(
            None, None, fault, driver.Error, hide_parameters=True, dialect=dialect
        ) from fault
