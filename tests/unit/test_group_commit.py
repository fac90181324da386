"""Calls that are committed together: a fault of one is its own, a failed commit is everyone's."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from cds_service.audit.verify import verify
from cds_service.errors import CallTimedOut, StoreUnavailable
from cds_service.limits.call_time import CallTime, on_the_clock
from cds_service.store import Store, gathering, group_commit
from cds_service.store.calls import CallRecord
from cds_service.store.calls import store as store_calls
from cds_service.store.places import Called
from tests.fakes.databases import POSTGRESQL, a_database
from tests.fakes.records import NOON, a_card, a_message, an_assessment, an_audit_entry, an_id
from tests.fakes.statements import before_each_statement, broken, refused

ROOT = Path(__file__).parents[2]
NAN = float("nan")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url)
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


@contextmanager
def commits(store: Store) -> Iterator[list[Any]]:
    """Grows by one with each."""
    seen: list[Any] = []

    @sa.event.listens_for(store._engine, "commit")
    def count(connection: Any) -> None:
        seen.append(connection)

    yield seen
    sa.event.remove(store._engine, "commit", count)


@dataclass(slots=True)
class Together:
    """Calls that wait behind one that holds the turn, and are let go at once."""

    store: Store
    threads: ThreadPoolExecutor
    commits: list[Any]
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
    with (
        commits(store) as seen,
        ThreadPoolExecutor(64) as threads,
        store._transactions._group.turn(),
    ):
        yield Together(store, threads, seen)


def test_calls_that_wait_are_committed_in_one_transaction(store: Store) -> None:
    with together(store) as group:
        calls = [group.submit(keep, store) for _ in range(12)]
    assert len({call.result() for call in calls}) == 12
    assert len(group.commits) == 1
    assert counts(store) == {12}
    assert verify(store).rows == 12
    assert verify(store).chains == 1


def test_no_transaction_grows_without_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MOST_TOGETHER", 4)
    with together(store) as group:
        for _ in range(12):
            group.submit(keep, store)
    assert len(group.commits) == 3
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
    with capture_logs() as logs, together(store) as group:
        calls = [group.submit(keep, store) for _ in range(5)]
        sa.event.listen(store._engine, "commit", fail)
    sa.event.remove(store._engine, "commit", fail)
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call.result()
    assert [entry["reason"] for entry in logs] == ["Exception: disk I/O error"], "once for all"
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
    place = Called(lambda *_: done.append(True))
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


# On the event loop ---------------------------------------------------------------------------


async def kept(store: Store, **changed: Any) -> str:
    """`keep`, awaited."""
    about = an_assessment(**{"patient_id": an_id()} | changed)
    entry = an_audit_entry(hook_instance=about.hook_instance)
    assert await store.recorded(about, [a_card(about)], entry, a_message(about))
    return about.id


@asynccontextmanager
async def queued(store: Store, tasks: list[asyncio.Task[Any]]) -> AsyncIterator[None]:
    """Within, `tasks` wait in the queue; after it, they are let go at once, and are done."""
    with store._transactions._group.turn():
        while store._transactions._group._waiting.qsize() < len(tasks):
            await asyncio.sleep(0)
        yield
    await asyncio.wait(tasks, timeout=60)


def test_tasks_are_committed_together_and_no_thread_waits_for_them(store: Store) -> None:
    async def calls() -> list[str]:
        tasks = [asyncio.create_task(kept(store)) for _ in range(48)]
        threads = threading.active_count()
        async with queued(store, tasks):
            assert threading.active_count() <= threads + 1
        return [task.result() for task in tasks]

    with commits(store) as seen:
        assert len(set(asyncio.run(calls()))) == 48
    assert len(seen) == 1
    assert counts(store) == {48}
    assert verify(store).rows == 48


def test_calls_that_come_turn_by_turn_are_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "GATHERING_SECONDS", 60.0)

    async def calls() -> None:
        tasks = []
        for _ in range(12):
            tasks.append(asyncio.create_task(kept(store)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    with commits(store) as seen:
        asyncio.run(calls())
    assert len(seen) == 1
    assert counts(store) == {12}


def test_an_event_loop_is_woken_once_for_all_its_calls(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    wake = group_commit._wake

    def counted(places: Any) -> None:
        woken.append(len(places))
        wake(places)

    monkeypatch.setattr(group_commit, "_wake", counted)

    async def calls() -> None:
        tasks = [asyncio.create_task(kept(store)) for _ in range(20)]
        async with queued(store, tasks):
            pass

    asyncio.run(calls())
    assert woken == [20]


def test_tasks_of_several_event_loops_and_threads_share_a_commit(store: Store) -> None:
    with together(store) as group:
        ids = [group.submit(asyncio.run, kept(store)) for _ in range(4)]
        ids += [group.submit(keep, store) for _ in range(4)]
    assert len({id.result() for id in ids}) == 8
    assert len(group.commits) == 1
    assert counts(store) == {8}


def test_a_fault_of_one_task_is_its_own(store: Store) -> None:
    known = keep(store)
    given_up = CallTime()
    assert given_up.give_up()

    async def too_late() -> str:
        with on_the_clock(given_up):
            return await kept(store)

    async def calls() -> list[Any]:
        work = [kept(store), kept(store, id=known), too_late(), kept(store, inputs={"x": NAN})]
        tasks = [asyncio.create_task(each) for each in (*work, kept(store))]
        async with queued(store, tasks):
            pass
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, bad, late, worse, last = asyncio.run(calls())
    assert isinstance(bad, sa.exc.IntegrityError)
    assert isinstance(late, CallTimedOut)
    assert isinstance(worse, ValueError)
    assert store.risk_assessment(first)
    assert store.risk_assessment(last)
    assert counts(store) == {3}
    assert verify(store).chains == 1


def test_a_call_that_is_too_late_costs_the_others_no_second_try(store: Store) -> None:
    clocks = [CallTime() for _ in range(4)]
    assert clocks[1].give_up()

    async def call(clock: CallTime) -> str:
        with on_the_clock(clock):
            return await kept(store)

    async def calls() -> None:
        tasks = [asyncio.create_task(call(clock)) for clock in clocks]
        async with queued(store, tasks):
            pass
        assert [task.exception() is None for task in tasks] == [True, False, True, True]

    with commits(store) as seen:
        asyncio.run(calls())
    assert len(seen) == 1
    assert [clock.give_up() for clock in clocks] == [False, True, False, False]


def test_a_task_that_is_cancelled_while_it_waits_stores_nothing(store: Store) -> None:
    async def calls() -> None:
        tasks = [asyncio.create_task(kept(store)) for _ in range(3)]
        async with queued(store, tasks):
            tasks[1].cancel()
            await asyncio.wait([tasks[1]], timeout=60)
            assert tasks[1].cancelled()
        assert [task.cancelled() for task in tasks] == [False, True, False]

    asyncio.run(calls())
    assert counts(store) == {2}
    assert verify(store).rows == 2


@dataclass(slots=True)
class Held:
    """The thread that writes, stopped before it inserts until it may go on."""

    table: str
    begun: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def statement(self, _cursor: Any, statement: str) -> None:
        if statement.startswith(f"INSERT INTO {self.table} "):
            self.begun.set()
            assert self.may_go_on.wait(60)


async def cancelled_in_mid_write(
    store: Store, call: Any, how: Callable[[Any], Any], table: str = "card"
) -> Any:
    """`call`, cancelled by `how` when its work has begun."""
    held = Held(table)
    with before_each_statement(store._engine, held.statement):
        task = asyncio.create_task(call)
        await asyncio.to_thread(held.begun.wait, 60)
        how(task)
        await asyncio.sleep(0.05)
        assert not task.done(), "it is decided first"
        held.may_go_on.set()
        await asyncio.wait([task], timeout=60)
    return task


def test_a_task_that_is_cancelled_in_mid_write_learns_that_it_is_stored(store: Store) -> None:
    task = asyncio.run(cancelled_in_mid_write(store, kept(store), asyncio.Task.cancel))
    assert store.risk_assessment(task.result())
    assert task.cancelling() == 0
    assert counts(store) == {1}


def test_a_task_that_is_cancelled_in_mid_write_is_so_where_nothing_is_stored(store: Store) -> None:
    known = keep(store)
    work = cancelled_in_mid_write(store, kept(store, id=known), asyncio.Task.cancel, "assessment")
    assert asyncio.run(work).cancelled()
    assert counts(store) == {1}


def test_a_scope_that_is_cancelled_in_mid_write_ends_after_it(store: Store) -> None:
    scopes, learnt = list[anyio.CancelScope](), list[str]()

    async def call() -> str:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            learnt.append(await kept(store))
            await asyncio.sleep(60)
        return "after the scope"

    task = asyncio.run(cancelled_in_mid_write(store, call(), lambda _: scopes[0].cancel()))
    assert task.result() == "after the scope"
    assert len(learnt) == 1
    assert counts(store) == {1}


def test_a_time_out_in_mid_write_is_none_where_the_call_is_stored(store: Store) -> None:
    async def call() -> str:
        async with asyncio.timeout(None) as patience:
            timeouts.append(patience)
            return await kept(store)

    timeouts: list[asyncio.Timeout] = []
    task = asyncio.run(cancelled_in_mid_write(store, call(), lambda _: timeouts[0].reschedule(0)))
    assert store.risk_assessment(task.result())


def test_a_task_whose_turn_never_comes_is_told_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_SECONDS", 0.01)

    async def call() -> None:
        with pytest.raises(StoreUnavailable):
            await kept(store)

    with store._transactions._group.turn(), capture_logs() as logs:
        asyncio.run(call())
    assert [entry["reason"] for entry in logs] == ["no turn to write"]
    assert counts(store) == {0}


def test_a_loop_that_is_gone_is_waited_for_by_nobody(store: Store) -> None:
    loop = asyncio.new_event_loop()

    async def calls() -> None:
        for _ in range(3):
            loop.create_task(kept(store)).add_done_callback(lambda _: None)
        await asyncio.sleep(0)

    with store._transactions._group.turn():
        loop.run_until_complete(calls())
        loop.close()
    keep(store)
    assert counts(store) <= {1, 4}


# What it costs ---------------------------------------------------------------------------------


def statements_of(store: Store, count: int) -> list[str]:
    """What SQLite executes for so many calls that are committed together."""
    seen: list[str] = []

    @sa.event.listens_for(store._engine, "checkout")
    def listen(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(seen.append)

    with together(store) as group:
        for _ in range(count):
            group.submit(keep, store)
    sa.event.remove(store._engine, "checkout", listen)
    begins = [n for n, text in enumerate(seen) if text.startswith("BEGIN IMMEDIATE")]
    return seen[begins[-1] :]


@pytest.mark.parametrize("count", [1, 8, 32])
def test_a_call_costs_six_statements_and_its_group_three(tmp_path: Path, count: int) -> None:
    """Two looks (is it stored, what comes before it), and a row in each of four tables."""
    store = Store.open(f"sqlite:///{tmp_path}/count.db")
    seen = Counter(" ".join(text.split()[:3]) for text in statements_of(store, count))
    store.close()
    assert seen.total() == 6 * count + 3, seen
    assert seen["INSERT INTO audit_head"] == 1, "where the chain ends, once"


@pytest.mark.parametrize("kind", [POSTGRESQL])
def test_what_is_too_long_for_an_index_is_its_own_fault(cluster: str, kind: str) -> None:
    store = Store.open(a_database(cluster))
    with together(store) as group:
        calls = [group.submit(keep, store) for _ in range(2)]
        bad = group.submit(keep, store, hook_instance=os.urandom(8_000).hex())
    with pytest.raises(sa.exc.OperationalError):
        bad.result()
    assert all(call.result() for call in calls)
    assert counts(store) == {2}
    store.close()


@pytest.mark.parametrize("kind", [POSTGRESQL])
@pytest.mark.parametrize("entrance", [keep, lambda *a, **n: asyncio.run(kept(*a, **n))])
def test_who_waits_for_another_process_holds_up_nobody(
    cluster: str, kind: str, entrance: Callable[..., str]
) -> None:
    """One is writing about p1: about p1 is waited, in order; the others are committed."""
    url = a_database(cluster)
    store, other = Store.open(url), Store.open(url)
    inside, go_on = threading.Event(), threading.Event()
    about = CallRecord(
        assessment=an_assessment(patient_id="p1"), cards=(), audit=an_audit_entry(), message=None
    )

    def write(connection: sa.Connection, writer: Any) -> None:
        store_calls(connection, writer, [about], wait=True)
        inside.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor(4) as threads:
        writing = threads.submit(other._transactions.write, write)
        assert inside.wait(60)
        waiting = threads.submit(entrance, store, patient_id="p1")
        assert [entrance(store) for _ in range(3)]
        assert not waiting.done()
        go_on.set()
        writing.result()
    after = store.risk_assessment(waiting.result())
    assert after is not None
    assert about.assessment is not None
    assert after.follows == about.assessment.id
    assert verify(store).rows == 5
    store.close()
    other.close()


@pytest.mark.parametrize("kind", [POSTGRESQL])
def test_a_connection_that_was_ended_is_replaced(cluster: str, kind: str) -> None:
    store = Store.open(a_database(cluster))
    keep(store)
    end = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    def in_the_midst(cursor: Any, statement: str) -> None:
        if statement.startswith("INSERT INTO assessment"):
            with store._engine.connect() as connection:
                connection.execute(end)

    with store._engine.connect() as connection:
        connection.execute(end)
    keep(store)
    with before_each_statement(store._engine, in_the_midst), pytest.raises(StoreUnavailable):
        keep(store)
    keep(store)
    assert counts(store) == {3}
    assert verify(store).rows == 3
    store.close()


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
