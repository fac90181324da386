"""Writers that wait for each other are committed together: one transaction, one fsync for all.

SQLite has one writer at a time and lets the others poll for the file's lock. Within a process they
queue here instead, which is fairer and faster, and one thread writes all that waits. Nothing of a
transaction can be taken back for one of them alone (a SAVEPOINT costs SQLite as much as what it
protects): where one is at fault, none is stored, and each half of them is tried again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from queue import Empty, SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
import structlog

from cds_service.audit.chain import ChainWriter
from cds_service.store.calls import CallRecord, Outcome, store
from cds_service.store.engine import WAIT_SECONDS
from cds_service.store.faults import faults_named, is_of_the_database
from cds_service.store.gathering import Gathered
from cds_service.store.places import Awaited, Called, Place, T, Turn, Work

log = structlog.get_logger(__name__)

Begin = Callable[[], AbstractContextManager[tuple[sa.Connection, ChainWriter]]]

# How long a writer waits for the others of its process. Longer than for the file: the one in front
# may itself be waiting for another process's, and that is no fault of those behind it.
QUEUE_SECONDS = 4 * WAIT_SECONDS

# The first of them waits for the last one's statements, a fraction of a millisecond each.
MOST_TOGETHER = 64


class GroupCommit:
    """The queue of one process's writers, and the thread that writes for them: from the first of
    them until `close`, or again after that.

    Within the context that `writer` gives, one begins transactions: each holds the file's lock, and
    commits where its block ends.
    """

    def __init__(self, writer: Callable[[], AbstractContextManager[Begin]]) -> None:
        self._writer = writer
        self._waiting: SimpleQueue[Place | None] = SimpleQueue()
        self._held_back: Place | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._gathered: WeakKeyDictionary[asyncio.AbstractEventLoop, Gathered]
        self._gathered = WeakKeyDictionary()

    def write(self, work: Work[T]) -> T:
        """What `work` gives, once it is committed. Raises what it raises, and then nothing of it
        is stored, whatever becomes of the others; StoreUnavailable when the commit fails, and then
        nothing of any of them is.

        It runs in another thread, in the context of this one; twice, where another is at fault.
        """
        found: T = self._wait(Called(work))
        return found

    def record(self, call: CallRecord) -> Outcome:
        """What became of `call`, once it is committed; raises as `write` does, and CallTimedOut."""
        found: Outcome = self._wait(Called(call))
        return found

    async def recorded(self, call: CallRecord) -> Outcome:
        """`record`, on the event loop.

        Cancelled before it has begun, nothing is stored. After that it comes too late: where the
        call is stored, this returns (and a scope of anyio cancels what is awaited next).
        """
        place = Awaited(call)
        self._gathered_on(place.loop).add(place)
        clock = place.loop.call_later(QUEUE_SECONDS, place.leave, QUEUE_SECONDS)
        try:
            await place.told
        except asyncio.CancelledError:
            if place.withdraw() or not await place.is_stored():
                raise
            _go_on()
        finally:
            clock.cancel()
        found: Outcome = place.outcome()
        return found

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else of this process writes meanwhile: for what takes long."""
        turn = Turn()
        try:
            self._wait(turn)
            yield
        finally:
            turn.over.set()

    def close(self) -> None:
        """Returns when what waits is written, or after QUEUE_SECONDS."""
        with self._lock:
            thread = self._thread
            if thread is None:
                return
            self._waiting.put(None)
        thread.join(QUEUE_SECONDS)

    # The writers -----------------------------------------------------------------------------

    def _gathered_on(self, loop: asyncio.AbstractEventLoop) -> Gathered:
        found = self._gathered.get(loop)
        if found is None:
            found = self._gathered[loop] = Gathered(loop, self._queue, most=MOST_TOGETHER)
        return found

    def _queue(self, *places: Place) -> None:
        with self._lock:
            for place in places:
                self._waiting.put(place)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
                self._thread.start()

    def _wait(self, place: Called) -> Any:
        self._queue(place)
        try:
            if not place.told.wait(QUEUE_SECONDS):
                place.leave(QUEUE_SECONDS)
                place.told.wait()  # where it is being written, within the database's own waits
        except BaseException:  # Ctrl-C: nobody writes for one who has left
            place.withdraw()
            raise
        return place.outcome()

    # The thread ------------------------------------------------------------------------------

    def _serve(self) -> None:
        with self._writer() as begin:
            while (place := self._next()) is not None:
                if not place.begin():
                    continue
                if isinstance(place, Turn):
                    place.told.set()
                    place.over.wait()
                else:
                    self._commit(begin, [place], self._company())

    def _next(self) -> Place | None:
        place, self._held_back = self._held_back, None
        while place is None:
            place = self._waiting.get()
            if place is None:
                with self._lock:
                    if self._waiting.empty():
                        self._thread = None
                        return None
                    self._waiting.put(None)  # it was put before what waits
        return place

    def _company(self) -> Iterator[Place]:
        """Who waits by now, and does not want to be alone."""
        for _ in range(MOST_TOGETHER - 1):
            try:
                place = self._waiting.get_nowait()
            except Empty:
                return
            if place is None:
                self._waiting.put(None)
                return
            if isinstance(place, Turn):
                self._held_back = place
                return
            if place.begin():
                yield place

    def _commit(self, begin: Begin, places: list[Place], more: Iterable[Place] = ()) -> None:
        ones_own = False
        try:
            with faults_named(), begin() as (connection, writer):
                # Only now: for the file's lock it may have had to wait, and others came meanwhile.
                places += more
                end = writer.seq, writer.digest
                try:
                    _write(connection, writer, places)
                except Exception as fault:
                    ones_own = not is_of_the_database(fault)
                    if ones_own:  # its rows are not there: the chain goes on from where it was
                        writer.seq, writer.digest = end
                    raise
        except BaseException as fault:  # noqa: BLE001 - whoever waits is told
            if ones_own and len(places) > 1:
                half = len(places) // 2
                self._commit(begin, places[:half])
                self._commit(begin, places[half:])
                return
            for place in places:
                place.fail(fault)
        _tell(places)


def _write(connection: sa.Connection, writer: ChainWriter, places: Sequence[Place]) -> None:
    calls = []
    for place in places:
        if isinstance(place.work, CallRecord):
            # Before its statements and not after them: what was given up costs the others nothing.
            if place.is_sealed():
                calls.append((place, place.work))
        else:
            place.value = place.context.run(place.work, connection, writer)
    outcomes = store(connection, writer, [call for _, call in calls], wait=False)
    for (place, _), outcome in zip(calls, outcomes, strict=True):
        place.value = outcome


def _tell(places: Sequence[Place]) -> None:
    """Every thread that waits, and every event loop once."""
    awaited: dict[asyncio.AbstractEventLoop, list[Awaited]] = {}
    for place in places:
        if isinstance(place, Awaited):
            awaited.setdefault(place.loop, []).append(place)
        else:
            place.tell()
    for loop, those in awaited.items():
        try:
            loop.call_soon_threadsafe(_wake, those)
        except RuntimeError:  # the loop is closed, and nobody waits on it
            log.warning("nobody is told what was stored", calls=len(those))


def _wake(places: Sequence[Awaited]) -> None:
    for place in places:
        place.tell()


def _go_on() -> None:
    """https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.uncancel"""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
