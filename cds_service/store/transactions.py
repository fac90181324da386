"""Transactions on either database: what is written is durable before anyone is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from cds_service.audit.chain import ChainWriter, ChainWriters
from cds_service.store.engine import WRITES
from cds_service.store.faults import faults_named
from cds_service.store.group_commit import GroupCommit, T, Work


class Transactions:
    """Every one of them raises StoreUnavailable when the database cannot serve it, and then has
    stored nothing."""

    def __init__(self, engine: sa.Engine) -> None:
        sqlite = engine.dialect.name == "sqlite"
        self._engine = engine
        self._writer = engine.execution_options(**WRITES)
        # On SQLite every reader has a snapshot: https://www.sqlite.org/isolation.html
        self._reader = (
            engine if sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self.chains = ChainWriters()
        # PostgreSQL flushes the commits of several sessions together by itself:
        # https://www.postgresql.org/docs/current/wal-configuration.html (commit_delay)
        self._group = GroupCommit(self._begin) if sqlite else None

    def write(self, work: Work[T]) -> T:
        """What `work` gives, once it is committed. On SQLite others may be committed with it."""
        if self._group is not None:
            return self._group.write(work)
        with faults_named(), self._begin() as (connection, writer):
            return work(connection, writer)

    @contextmanager
    def alone(self) -> Iterator[tuple[sa.Connection, ChainWriter]]:
        """A transaction that nothing else is committed with, and the chain of its audit rows."""
        if self._group is not None:
            with self._group.alone() as held:
                yield held
        else:
            with faults_named(), self._begin() as held:
                yield held

    @contextmanager
    def _begin(self) -> Iterator[tuple[sa.Connection, ChainWriter]]:
        # The writer is had before the transaction begins and given back after it is committed, so
        # that the next row of its chain follows one that is there.
        with self.chains.writer() as writer, self._writer.begin() as connection:
            yield connection, writer

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that reads."""
        with faults_named(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read_one_state(self) -> Iterator[sa.Connection]:
        """A transaction that reads one and the same state, however many queries it makes."""
        with faults_named(), self._reader.begin() as connection:
            yield connection
