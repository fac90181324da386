"""Writers that wait for each other are committed together: one transaction, one fsync for all.

SQLite has one writer at a time and lets the others poll for the file's lock. Within a process they
queue here instead, which is fairer and faster, and whoever comes to the front writes what waits
behind too, each in a SAVEPOINT of its own. https://www.sqlite.org/lang_savepoint.html
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog

from cds_service.audit.chain import ChainWriter
from cds_service.errors import StoreUnavailable
from cds_service.store.engine import WAIT_SECONDS
from cds_service.store.faults import faults_named, is_of_the_database

log = structlog.get_logger(__name__)

T = TypeVar("T")
Work = Callable[[sa.Connection, ChainWriter], T]
Begin = Callable[[], AbstractContextManager[tuple[sa.Connection, ChainWriter]]]

# How long a writer waits for the others of its process. Longer than for the file: the one in front
# may itself be waiting for another process's, and that is no fault of those behind it.
QUEUE_SECONDS = 4 * WAIT_SECONDS

# The first of them waits for the last one's statements, a fraction of a millisecond each.
MOST_TOGETHER = 64


class GroupCommit:
    """The queue of one process's writers. `begin` opens a transaction that holds the file's lock
    and commits where its block ends."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        self._waiting: deque[_Place] = deque()
        self._front: _Place | None = None

    def write(self, work: Work[T]) -> T:
        """What `work` gives, once it is committed. Raises what it raises, and then nothing of it
        is stored, whatever becomes of the others; StoreUnavailable when the commit fails, and then
        nothing of any of them is.

        It may run in another thread, in the context of this one.
        """
        place = _Place(work)
        with self._turn(place) as in_front:
            if in_front:
                self._commit(place)
        found: T = place.outcome()
        return found

    @contextmanager
    def alone(self) -> Iterator[tuple[sa.Connection, ChainWriter]]:
        """A transaction without company, for what takes long."""
        with self._turn(_Place(None)), faults_named(), self._begin() as held:
            yield held

    @contextmanager
    def _turn(self, place: _Place) -> Iterator[bool]:
        """True: `place` is in front. False: another has written it."""
        if not self._comes_to_front(place):
            yield False
            return
        try:
            yield True
        finally:
            self._call_next()

    def _comes_to_front(self, place: _Place) -> bool:
        with self._lock:
            if self._front is None:
                self._front = place
                return True
            self._waiting.append(place)
        try:
            place.called.wait(QUEUE_SECONDS)
        except BaseException:  # Ctrl-C: nobody must wait for one who has left
            if not self._withdraw(place) and self._front is place:
                self._call_next()
            raise
        if self._withdraw(place):
            log.error("store unavailable", reason="no turn to write", seconds=QUEUE_SECONDS)
            raise StoreUnavailable
        if self._front is place:
            return True
        place.called.wait()  # another is writing it, within the database's own waits
        return False

    def _withdraw(self, place: _Place) -> bool:
        """True where it was still waiting: nobody has begun with it, and nobody will."""
        with self._lock:
            try:
                self._waiting.remove(place)
            except ValueError:
                return False
            return True

    def _call_next(self) -> None:
        with self._lock:
            self._front = self._waiting.popleft() if self._waiting else None
            if self._front is not None:
                self._front.called.set()

    def _commit(self, front: _Place) -> None:
        company = [front]
        try:
            with faults_named(), self._begin() as (connection, writer):
                # Only now: for the file's lock it may have had to wait, and others came meanwhile.
                company += self._company()
                for place in company:
                    place.attempt(connection, writer)
        except BaseException as fault:
            for place in company:
                place.fail(fault)
            if not isinstance(fault, Exception):
                raise
        finally:
            for place in company:
                place.called.set()

    def _company(self) -> Iterator[_Place]:
        with self._lock:
            for _ in range(MOST_TOGETHER - 1):
                if not self._waiting or self._waiting[0].work is None:
                    return
                yield self._waiting.popleft()


class _Place:
    """One writer in the queue, and what came of its work. `called`: it is in front, or done."""

    def __init__(self, work: Work[Any] | None) -> None:
        self.work = work
        self.called = threading.Event()
        self._context = copy_context()
        self._value: Any = None
        self._fault: BaseException | None = None

    def attempt(self, connection: sa.Connection, writer: ChainWriter) -> None:
        """Raises a fault of the database only; of that, SQLite may have rolled back everything.

        https://www.sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction"
        """
        assert self.work is not None  # noqa: S101
        end = writer.seq, writer.digest
        try:
            with connection.begin_nested():
                self._value = self._context.run(self.work, connection, writer)
        except Exception as fault:
            if is_of_the_database(fault):
                raise
            # The rows that it linked are not there: the chain goes on from where it was.
            writer.seq, writer.digest = end
            self._fault = fault

    def fail(self, fault: BaseException) -> None:
        """The transaction was not committed; a fault of its own stays what it is.

        Another thread's Ctrl-C is no reason to end this one.
        """
        self._fault = self._fault or (fault if isinstance(fault, Exception) else StoreUnavailable())

    def outcome(self) -> Any:
        if isinstance(self._fault, StoreUnavailable):
            raise StoreUnavailable from self._fault  # one for each thread that raises it
        if self._fault is not None:
            raise self._fault
        return self._value
