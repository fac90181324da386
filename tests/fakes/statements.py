"""Between the store and the driver: what is told of every statement, and may fail instead of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

from cds_service.store import statements

# The cursor of the driver, and the text.
Before = Callable[[Any, str], None]


@contextmanager
def before_each_statement(engine: sa.Engine, do: Before) -> Iterator[None]:
    """`do` before every statement of this process on the driver itself, and of `engine`."""
    inner = statements.Driver.cursor

    def watched(driver: statements.Driver) -> Any:
        return _Cursor(inner(driver), do)

    def of_engine(_: Any, cursor: Any, text: str, *__: Any) -> None:
        do(cursor, text)

    sa.event.listen(engine, "before_cursor_execute", of_engine)
    statements.Driver.cursor = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        statements.Driver.cursor = inner  # type: ignore[method-assign]
        sa.event.remove(engine, "before_cursor_execute", of_engine)


def broken(cursor: Any, why: str) -> Exception:
    """The database cannot, in the driver's own words."""
    return _driver(cursor).OperationalError(why)


def refused(cursor: Any, why: str) -> Exception:
    """What is asked for cannot be."""
    return _driver(cursor).IntegrityError(why)


def _driver(cursor: Any) -> Any:
    return psycopg if "psycopg" in type(cursor).__module__ else sqlite3


class _Cursor:
    def __init__(self, cursor: Any, do: Before) -> None:
        self._cursor = cursor
        self._do = do

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, text: str, *arguments: Any, **named: Any) -> Any:
        self._do(self._cursor, text)
        return self._cursor.execute(text, *arguments, **named)

    def executemany(self, text: str, *arguments: Any, **named: Any) -> Any:
        self._do(self._cursor, text)
        return self._cursor.executemany(text, *arguments, **named)
