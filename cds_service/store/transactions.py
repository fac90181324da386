"""Transactions on either database: what is written is durable before anyone is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from weakref import WeakSet

import sqlalchemy as sa
from anyio import to_thread

from cds_service.audit.chain import ChainWriter, ChainWriters
from cds_service.limits.call_time import seal_call
from cds_service.store.calls import CallRecord, PatientBusy, Stored, store
from cds_service.store.engine import WRITES
from cds_service.store.faults import faults_named
from cds_service.store.group_commit import Begin, GroupCommit
from cds_service.store.places import T, Work

_of_this_process: WeakSet[Transactions] = WeakSet()


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
        self._sqlite = sqlite
        self._begin_anew()
        _of_this_process.add(self)

    def _begin_anew(self) -> None:
        self.chains = ChainWriters()
        self._group = GroupCommit(self._keeping if self._sqlite else self._beginning)

    def leave_to_the_other(self) -> None:
        """In a process that was forked off: what waits, its chains and its connections belong to
        the other. https://www.sqlite.org/howtocorrupt.html, 2.6"""
        self._engine.dispose(close=False)
        self._begin_anew()

    def close(self) -> None:
        """Nothing waits any more."""
        self._group.close()

    def record(self, call: CallRecord) -> Stored:
        """What became of `call`, once it is committed, others perhaps with it."""
        outcome = self._group.record(call)
        return self._record_alone(call) if isinstance(outcome, PatientBusy) else outcome

    async def recorded(self, call: CallRecord) -> Stored:
        """`record`, for whoever is on the event loop."""
        outcome = await self._group.recorded(call)
        if isinstance(outcome, PatientBusy):
            return await to_thread.run_sync(self._record_alone, call)
        return outcome

    def _record_alone(self, call: CallRecord) -> Stored:
        with faults_named(), self._begin() as (connection, writer):
            (stored,) = store(connection, writer, [call], wait=True)
            seal_call()
        assert not isinstance(stored, PatientBusy)  # noqa: S101 - it was waited for
        return stored

    def write(self, work: Work[T]) -> T:
        """What `work` gives, once it is committed. On SQLite others may be committed with it.

        PostgreSQL has many writers, and flushes the commits of several together by itself:
        https://www.postgresql.org/docs/current/wal-configuration.html (commit_delay)
        """
        if self._sqlite:
            return self._group.write(work)
        with faults_named(), self._begin() as (connection, writer):
            return work(connection, writer)

    @contextmanager
    def alone(self) -> Iterator[tuple[sa.Connection, ChainWriter]]:
        """A transaction that nothing else is committed with, and the chain of its audit rows."""
        turn = self._group.turn() if self._sqlite else nullcontext()
        with turn, faults_named(), self._begin() as held:
            yield held

    @contextmanager
    def _begin(self) -> Iterator[tuple[sa.Connection, ChainWriter]]:
        # The writer is had before the transaction begins and given back after it is committed, so
        # that the next row of its chain follows one that is there.
        with self.chains.writer() as writer, self._writer.begin() as connection:
            yield connection, writer

    @contextmanager
    def _beginning(self) -> Iterator[Begin]:
        yield self._begin

    @contextmanager
    def _keeping(self) -> Iterator[Begin]:
        """Transactions on one connection, which knows its statements and the pages it wrote."""
        with ExitStack() as kept:
            connections: list[sa.Connection] = []

            @contextmanager
            def begin() -> Iterator[tuple[sa.Connection, ChainWriter]]:
                if not connections:
                    connections.append(kept.enter_context(self._writer.connect()))
                with self.chains.writer() as writer:
                    try:
                        with connections[0].begin():
                            yield connections[0], writer
                    except BaseException:
                        connections.clear()
                        kept.close()
                        raise

            yield begin

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


def _leave_all_to_the_other() -> None:
    for transactions in _of_this_process:
        transactions.leave_to_the_other()


os.register_at_fork(after_in_child=_leave_all_to_the_other)
