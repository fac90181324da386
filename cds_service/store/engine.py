"""One engine per database: durable commits, bounded waits, and tables that exist."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from cds_service.store.statements import driver_of
from cds_service.store.stored_json import json_text
from cds_service.store.upgrade import bring_up_to_date, is_up_to_date

# How long a statement waits for another writer before the store counts as unavailable.
WAIT_SECONDS = 5

# A transaction that reads first and writes later cannot wait for SQLite's lock (SQLITE_BUSY at
# once): a writer takes it at its start. https://www.sqlite.org/isolation.html
WRITES: dict[str, Any] = {"begin": "BEGIN IMMEDIATE"}

# The service's worker threads (anyio's default is 40) may all want a connection at once.
_POOL: dict[str, Any] = {"pool_size": 16, "max_overflow": 32, "pool_timeout": WAIT_SECONDS}

# Two processes that start together must not both create the tables: the second waits here.
# The number is arbitrary, and must only be the same in every release.
_SCHEMA_LOCK = 7_264_310_559

# How long it waits there: an index over the rows of years takes its time.
UPGRADE_SECONDS = 600


def open_engine(url: str) -> sa.Engine:
    """An engine for `url` whose tables exist. Raises ValueError for a URL that cannot be durable,
    OSError where the directory of a SQLite file cannot be made, SQLAlchemyError otherwise."""
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite":
        return _open_sqlite(address)
    if address.get_backend_name() == "postgresql":
        return _open_postgresql(address)
    raise ValueError(f"{address.get_backend_name()} is not supported: use sqlite or postgresql")


def _open_sqlite(address: sa.URL) -> sa.Engine:
    in_memory = address.database in (None, "", ":memory:")
    if in_memory or address.query.get("mode") == "memory":
        raise ValueError("an SQLite database in memory would lose every record: name a file")
    if "uri" not in address.query:
        # The file holds patient data: no one else on the machine needs to look into it.
        Path(str(address.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = _sqlite_engine(address, WAIT_SECONDS)
    with _closed_on_a_fault(engine):
        _use_write_ahead_log(engine)
        with engine.begin() as connection:
            if is_up_to_date(connection):
                return engine
        upgrading = _sqlite_engine(address, UPGRADE_SECONDS)
        try:
            with upgrading.execution_options(**WRITES).begin() as connection:
                bring_up_to_date(connection)
        finally:
            upgrading.dispose()
    return engine


def _sqlite_engine(address: sa.URL, wait_seconds: float) -> sa.Engine:
    engine = _create(address, connect_args={"timeout": wait_seconds})
    sa.event.listen(engine, "connect", _set_pragmas)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _open_postgresql(address: sa.URL) -> sa.Engine:
    limits = (
        "-c synchronous_commit=on"
        f" -c lock_timeout={WAIT_SECONDS * 1000} -c statement_timeout={WAIT_SECONDS * 2000}"
    )
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
    options = f"{limits} {address.query.get('options', '')}".strip()
    engine = _create(
        address.difference_update_query(["options"]),
        connect_args={"connect_timeout": WAIT_SECONDS, "options": options},
        pool_pre_ping=True,
    )
    with _closed_on_a_fault(engine):
        with engine.begin() as connection:
            if is_up_to_date(connection):
                return engine
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{UPGRADE_SECONDS}s'")
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            bring_up_to_date(connection)
    return engine


@contextmanager
def _closed_on_a_fault(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def _create(address: sa.URL, **options: Any) -> sa.Engine:
    return sa.create_engine(
        address,
        hide_parameters=True,  # parameters are patient data, and errors are logged
        json_serializer=json_text,
        **_POOL,
        **options,
    )


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    # None: pysqlite opens no transactions of its own, `_begin` does.
    connection.isolation_level = None
    # FULL: in WAL mode NORMAL may lose the last commits when power fails.
    # https://www.sqlite.org/pragma.html#pragma_synchronous
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_write_ahead_log(engine: sa.Engine) -> None:
    """Once per file: readers no longer wait for the writer."""
    with engine.execution_options(begin=None).connect() as connection:
        # The change of mode does not wait for the lock as statements do: two services that start
        # side by side on a new file need another try. https://www.sqlite.org/wal.html
        for pause in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, None):
            try:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            except exc.OperationalError as fault:
                if pause is None or "locked" not in str(fault):
                    raise
                time.sleep(pause)
            else:
                return


def _begin(connection: sa.Connection) -> None:
    statement = connection.get_execution_options().get("begin", "BEGIN")
    if statement is not None:
        with driver_of(connection) as driver:
            driver.execute(statement)
