"""Calls that are committed together: a fault of one is its own, a failed commit is everyone's."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from cds_service.audit.verify import verify
from cds_service.errors import CallTimedOut, StoreUnavailable
from cds_service.limits.call_time import CallTime, on_the_clock
from cds_service.store import Store, group_commit
from cds_service.store.group_commit import _Called
from tests.fakes.records import NOON, a_card, a_message, an_assessment, an_audit_entry, an_id
from tests.fakes.statements import before_each_statement, broken, refused

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path}/cds.db")
    yield store
    store.close()


def keep(store: Store, **changed: Any) -> str:
    """One whole call, about a patient of its own; the id of its assessment."""
    about = an_assessment(**{"patient_id": an_id()} | changed)
    entry = an_audit_entry(hook_instance=about.hook_instance)
    store.record(about, [a_card(about)], entry, a_message(about))
    return about.id


def counts(store: Store) -> set[int]:
    """One number where every call is stored whole."""
    with store._engine.connect() as connection:
        return {
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608
            for table in ("assessment", "card", "audit", "outbox")
        }


@dataclass(slots=True)
class Together:
    """Calls that wait behind one that holds the turn, and are let go at once."""

    store: Store
    threads: ThreadPoolExecutor
    commits: int = 0
    calls: list[Future[Any]] = field(default_factory=list)

    def submit(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Future[Any]:
        """Returns when the call is in the queue."""
        self.calls.append(self.threads.submit(call, *arguments, **named))
        waiting = self.store._transactions._group._waiting
        while waiting.qsize() < len(self.calls):
            time.sleep(0.001)
        return self.calls[-1]


@contextmanager
def together(store: Store) -> Iterator[Together]:
    with ThreadPoolExecutor(64) as threads:
        group = Together(store, threads)
        with store.auditing():
            yield group

        @sa.event.listens_for(store._engine, "commit")
        def count(_: Any) -> None:
            group.commits += 1

    sa.event.remove(store._engine, "commit", count)


def test_calls_that_wait_are_committed_in_one_transaction(store: Store) -> None:
    with together(store) as group:
        calls = [group.submit(keep, store) for _ in range(12)]
    assert len({call.result() for call in calls}) == 12
    assert group.commits <= 2, "the first may be on its way before the count begins"
    assert counts(store) == {12}
    assert verify(store).rows == 12
    assert verify(store).chains == 1


def test_no_transaction_grows_without_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MOST_TOGETHER", 4)
    with together(store) as group:
        for _ in range(12):
            group.submit(keep, store)
    assert group.commits in (2, 3)
    assert counts(store) == {12}


def test_a_fault_of_one_is_its_own(store: Store) -> None:
    known = keep(store)
    with together(store) as group:
        good = [group.submit(keep, store) for _ in range(3)]
        bad = group.submit(keep, store, id=known)
        worse = group.submit(keep, store, inputs={"x": float("nan")})
        good += [group.submit(keep, store) for _ in range(3)]
    with pytest.raises(sa.exc.IntegrityError):
        bad.result()
    with pytest.raises((sa.exc.StatementError, ValueError)):
        worse.result()
    assert len({call.result() for call in good}) == 6
    assert counts(store) == {7}
    assert verify(store).chains == 1, "the chain goes on from the last row that is there"


def test_a_commit_that_fails_is_every_ones(store: Store) -> None:
    keep(store)
    calls: list[Future[str]] = []

    def fail_together() -> None:
        with together(store) as group:
            calls.extend(group.submit(keep, store) for _ in range(5))
            sa.event.listen(store._engine, "commit", fail)

    with capture_logs() as logs:
        for call in (fail_together, *(lambda n=n: calls[n].result() for n in range(5))):
            with pytest.raises(StoreUnavailable):
                call()
    sa.event.remove(store._engine, "commit", fail)
    # One line for each transaction: of the one that held the turn, and theirs.
    assert [entry["reason"] for entry in logs] == ["Exception: disk I/O error"] * 2
    assert counts(store) == {1}
    keep(store)
    assert verify(store).rows == 2


def fail(_connection: Any) -> None:
    raise sa.exc.OperationalError("COMMIT", None, Exception("disk I/O error"))


def test_a_full_disk_in_the_midst_is_every_ones(store: Store) -> None:
    """SQLite may have rolled back everything by then: nobody is told that it is stored."""

    def full(cursor: Any, statement: str) -> None:
        if statement.startswith("INSERT INTO card"):
            cursor.connection.rollback()
            raise broken(cursor, "disk is full")

    stack = ExitStack()
    with together(store) as group:
        calls = [group.submit(keep, store) for _ in range(5)]
        stack.enter_context(before_each_statement(store._engine, full))
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call.result()
    stack.close()
    assert counts(store) == {0}
    keep(store)
    assert verify(store).rows == 1


def test_a_call_that_was_given_up_while_it_waited_is_not_stored(store: Store) -> None:
    clocks = [CallTime() for _ in range(4)]

    def call(clock: CallTime) -> str:
        with on_the_clock(clock):
            return keep(store)

    with together(store) as group:
        calls = [group.submit(call, clock) for clock in clocks]
        assert clocks[2].give_up()
    with pytest.raises(CallTimedOut):
        calls[2].result()
    assert [clock.give_up() for clock in clocks] == [False, False, True, False]
    assert counts(store) == {3}
    assert verify(store).rows == 3


def test_one_that_left_the_queue_is_not_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with together(store) as group, capture_logs() as logs:
        first = group.submit(keep, store)
        with monkeypatch.context() as patched:
            patched.setattr(group_commit, "QUEUE_SECONDS", 0.01)
            with pytest.raises(StoreUnavailable):
                group.threads.submit(keep, store).result()
    assert first.result()
    assert [entry["reason"] for entry in logs] == ["no turn to write"]
    assert counts(store) == {1}


class Interrupted(threading.Event):
    """The wait of a person who presses Ctrl-C; `after` it is written, or before."""

    def __init__(self, *, after: bool) -> None:
        super().__init__()
        self._after = after

    def wait(self, timeout: float | None = None) -> bool:
        if self._after:
            super().wait()
        raise KeyboardInterrupt


@pytest.mark.parametrize("after", [False, True])
def test_one_that_is_interrupted_holds_up_nobody(store: Store, after: bool) -> None:
    queue = store._transactions._group
    done: list[bool] = []
    place = _Called(lambda *_: done.append(True))
    place.told = Interrupted(after=after)
    with together(store) as group:
        leaving = group.submit(queue._wait, place)
        if not after:
            with pytest.raises(KeyboardInterrupt):
                leaving.result()
        staying = group.submit(keep, store)
    if after:
        with pytest.raises(KeyboardInterrupt):
            leaving.result()
    assert staying.result()
    assert counts(store) == {1}
    assert done == [True] * after


# Whatever happens ----------------------------------------------------------------------------


@dataclass(slots=True)
class Faults:
    """Strikes at random, between any two statements and at commits."""

    chance: random.Random
    struck: Counter[str] = field(default_factory=Counter)

    def statement(self, cursor: Any, statement: str) -> None:
        if statement.startswith(("INSERT", "SELECT")):
            if self.chance.random() < 0.003:
                self.struck["database"] += 1
                raise broken(cursor, "disk I/O error")
            if statement.startswith("INSERT") and self.chance.random() < 0.05:
                self.struck["own"] += 1
                raise refused(cursor, "constraint failed")

    def commit(self, _connection: Any) -> None:
        if self.chance.random() < 0.1:
            self.struck["commit"] += 1
            raise sa.exc.OperationalError("COMMIT", None, Exception("disk I/O error"))

    @contextmanager
    def on(self, engine: sa.Engine) -> Iterator[None]:
        sa.event.listen(engine, "commit", self.commit)
        with before_each_statement(engine, self.statement):
            yield
        sa.event.remove(engine, "commit", self.commit)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_fails_each_call_is_stored_whole_or_not_at_all(url: str, seed: int) -> None:
    store, faults = Store.open(url), Faults(random.Random(seed))  # noqa: S311
    stored: list[str] = []
    lost: list[str] = []

    def calls(thread: int) -> None:
        chance = random.Random(f"{seed} {thread}")  # noqa: S311
        for _ in range(15):
            id, clock = an_id(), CallTime()
            if chance.random() < 0.1:
                clock.give_up()
            try:
                with on_the_clock(clock):
                    # Few patients: calls wait for each other, and follow each other.
                    keep(store, id=id, patient_id=f"p{chance.randrange(4)}")
            except (StoreUnavailable, CallTimedOut, sa.exc.IntegrityError):
                lost.append(id)
            else:
                stored.append(id)

    with faults.on(store._engine), ThreadPoolExecutor(24) as threads:
        list(threads.map(calls, range(24)))
    assert len(stored) + len(lost) == 24 * 15
    assert faults.struck.total() > 5, "else nothing is proved"
    assert counts(store) == {len(stored)}
    assert all(store.risk_assessment(id) for id in stored)
    assert not any(store.risk_assessment(id) for id in lost)
    assert verify(store).rows == len(stored)
    _, found = store.search(count=999)
    follows = [record.follows for record in found if record.follows]
    assert len(follows) == len(set(follows)) == len(stored) - 4, "four chains, none of them forked"
    store.close()


WRITERS = """
import sys, threading
from cds_service.store import Store
from tests.unit.test_group_commit import keep

store = Store.open(sys.argv[1])
said = threading.Lock()

def write():
    while True:
        id = keep(store, patient_id="p1")
        with said:
            print(id, flush=True)

for _ in range(16):
    threading.Thread(target=write, daemon=True).start()
threading.Event().wait()
"""


@pytest.mark.parametrize("after", [1, 60])
def test_a_process_killed_in_mid_group_has_promised_nothing_that_is_lost(
    url: str, after: int
) -> None:
    command = [sys.executable, "-c", WRITERS, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writers:
        assert writers.stdout is not None
        promised = [writers.stdout.readline().strip() for _ in range(after)]
        os.kill(writers.pid, signal.SIGKILL)
        promised += writers.stdout.read().split()
    store = Store.open(url)
    assert all(store.risk_assessment(id) for id in promised if len(id) == 36)
    (whole,) = counts(store)
    assert whole >= len(promised) - 1
    assert verify(store).rows == whole
    keep(store)
    store.close()


def test_a_group_is_no_slower_to_be_seen(store: Store) -> None:
    """Whoever is told that it is stored finds it, whoever wrote it."""
    with ThreadPoolExecutor(16) as threads:
        found = threads.map(lambda _: store.risk_assessment(keep(store)), range(64))
        assert all(found)
    assert store.outbox_figures(now=NOON).depth["ready"] == 64  # type: ignore[index]
