"""Statements of the hot path: compiled once for each database from the tables of `schema.py`, and
run by the driver itself, which takes a tenth of the time that SQLAlchemy takes for them.

They are given rows in their stored form, and a fault of the driver leaves as SQLAlchemy's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


class Driver:
    """The driver's side of a connection, in its transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.sqlite = is_sqlite(connection)
        self._own: Any = connection.connection.driver_connection

    def execute(self, text: str) -> None:
        """`text`, which gives nothing."""
        self.cursor().execute(text)

    def execute_with_each(self, statement: sa.ClauseElement, rows: Sequence[Row]) -> None:
        """`statement`, which gives nothing, with each of `rows`."""
        text, _ = _compiled(statement, self.sqlite)
        self.cursor().executemany(text, rows)

    def insert_all(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Insert `rows`, which have the same columns."""
        if rows:
            self.execute_with_each(_insertion(table, tuple(rows[0])), rows)

    def fetch_with_each(
        self, statements: Sequence[sa.ClauseElement], rows: Sequence[Row]
    ) -> list[Answers]:
        """What each of `statements` gives for each of `rows`."""
        compiled = [_compiled(statement, self.sqlite) for statement in statements]
        if self.sqlite:
            cursor = self.cursor()
            return [
                [cursor.execute(text, {**row, **fixed}).fetchall() for row in rows]
                for text, fixed in compiled
            ]
        cursors = [self.cursor() for _ in compiled]
        with self.in_one_go():
            for cursor, (text, fixed) in zip(cursors, compiled, strict=True):
                cursor.executemany(text, [{**row, **fixed} for row in rows], returning=True)
        return [[result.fetchall() for result in cursor.results()] for cursor in cursors]

    def in_one_go(self) -> AbstractContextManager[object]:
        """What is executed within is sent to PostgreSQL together, and answered together.

        https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
        """
        return nullcontext() if self.sqlite else self._own.pipeline()

    def cursor(self) -> Any:
        """A cursor of the driver."""
        return self._own.cursor()


@contextmanager
def driver_of(connection: sa.Connection) -> Iterator[Driver]:
    """A fault of the driver within leaves as the error of SQLAlchemy that stands for it."""
    dialect = connection.dialect
    driver = dialect.loaded_dbapi
    try:
        yield Driver(connection)
    except driver.Error as fault:
        raise exc.DBAPIError.instance(
            None, None, fault, driver.Error, hide_parameters=True, dialect=dialect
        ) from fault


@cache
def _insertion(table: sa.Table, names: tuple[str, ...]) -> sa.ClauseElement:
    # inline: nothing is asked back, on PostgreSQL neither.
    values = {name: sa.bindparam(name, type_=table.c[name].type) for name in names}
    return sa.insert(table).inline().values(values)


@cache
def _compiled(statement: sa.ClauseElement, on_sqlite: bool) -> tuple[str, dict[str, Any]]:
    """Its text, with parameters by name, and those parameters that are always the same."""
    dialect: Any = (
        sqlite.dialect(paramstyle="named") if on_sqlite else psycopg.dialect()  # type: ignore[no-untyped-call]
    )
    compiled = statement.compile(dialect=dialect)
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    return str(compiled), fixed
