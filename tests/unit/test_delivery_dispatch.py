"""The worker's loop: what one server does to the messages of the others, and what wakes it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cds_service.clients import Client, Clients
from cds_service.clients.addresses import Reach
from cds_service.clients.outbound import open_http
from cds_service.delivery import dispatch
from cds_service.delivery.bell import Bell
from cds_service.delivery.dispatch import Dispatch
from cds_service.delivery.tokens import BackendTokens
from cds_service.delivery.worker import Outcome, Worker
from cds_service.errors import StoreUnavailable
from cds_service.fhir_client import FhirClient
from cds_service.metrics import new_metrics
from cds_service.parts import Parts
from cds_service.settings import Settings
from cds_service.store import MessageState, Store
from tests.fakes.ehr import FakeEhr
from tests.fakes.records import NOON, a_message, an_assessment, an_audit_entry

LOOPBACK = Reach(demo=True)


@dataclass(slots=True, kw_only=True)
class Town:
    """Two EHRs, one store, and a clock that a test may set."""

    ehrs: list[FakeEhr]
    store: Store
    now: Any = NOON

    @property
    def parts(self) -> Parts:
        clients = tuple(
            Client(name=name, fhir_servers=(ehr.base,), write_back="backend")
            for name, ehr in zip("AB", self.ehrs, strict=True)
        )
        return Parts(
            settings=Settings(profile="demo"),
            services={},
            models={},
            store=self.store,
            clients=Clients(clients, demo=True),
            fhir=FhirClient(reach=LOOPBACK),
            clock=lambda: self.now,
            metrics=new_metrics(),
        )

    def keep(self, client: str, number: int = 1, **changed: Any) -> None:
        for _ in range(number):
            assessment = an_assessment()
            base = self.ehrs["AB".index(client)].base
            values = {"fhir_base": base, "client": client} | changed
            entry = an_audit_entry(recorded_at=self.now)
            self.store.record(assessment, [], entry, a_message(assessment, **values))

    def number(self, state: MessageState, client: str) -> int:
        return len(self.store.messages(count=999, state=state, client=client))

    def run(self, work: Callable[[Dispatch], Awaitable[None]]) -> Dispatch:
        async def whole() -> Dispatch:
            parts = self.parts
            async with open_http(reach=LOOPBACK) as http:
                tokens = BackendTokens(http, parts.clock)
                worker = Dispatch(Worker(parts=parts, tokens=tokens))
                try:
                    async with asyncio.timeout(30):
                        await work(worker)
                finally:
                    await parts.fhir.close()
            return worker

        return asyncio.run(whole())

    def run_until(self, holds: Callable[[], bool]) -> Dispatch:
        async def work(worker: Dispatch) -> None:
            stop = asyncio.Event()
            running = asyncio.create_task(worker.until(stop))
            while not holds():
                await asyncio.sleep(0.01)
            for ehr in self.ehrs:
                ehr.release()
            stop.set()
            await running

        return self.run(work)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with ExitStack() as stack:
        ehrs = [stack.enter_context(FakeEhr()) for _ in "AB"]
        store = Store.open(f"sqlite:///{tmp_path}/cds.db")
        yield Town(ehrs=ehrs, store=store)
        store.close()


# One server and the others ------------------------------------------------------------------


def test_a_server_that_stalls_holds_up_nobody_else(town: Town) -> None:
    town.keep("A", 40)
    town.keep("B", 40)
    stalling, other = town.ehrs
    stalling.faults.extend(["stall"] * 40)
    started = time.monotonic()
    town.run_until(lambda: len(other.resources) == 40)
    assert time.monotonic() - started < 8
    # Those that were under way, and no more: the rest was not even claimed.
    assert len(stalling.fhir_requests) <= 2 * dispatch.CLAIMED_AT_ONCE


def test_a_server_that_is_out_is_not_asked_once_for_each_message(town: Town) -> None:
    town.keep("A", 200)
    town.keep("B", 5)
    out, other = town.ehrs
    out.faults.extend([(503, {})] * 500)
    started = time.monotonic()
    town.run_until(lambda: len(other.resources) == 5 and time.monotonic() - started > 2.5)
    assert len(out.fhir_requests) <= 4 * dispatch.CLAIMED_AT_ONCE
    # What was not tried has lost no attempt.
    untried = [m for m in town.store.messages(count=999, client="A") if m.attempts == 0]
    assert len(untried) >= 200 - 4 * dispatch.CLAIMED_AT_ONCE


def test_delivery_goes_on_by_itself_when_a_server_is_back(town: Town) -> None:
    town.keep("A", 30)
    out, _ = town.ehrs
    out.faults.extend(["close"] * 6)
    started = time.monotonic()

    def all_there() -> bool:
        town.now = NOON + timedelta(seconds=10 * (time.monotonic() - started))
        return len(out.resources) == 30

    worker = town.run_until(all_there)
    assert worker.outcomes[Outcome.CREATED] == 30


def test_a_poisoned_message_does_not_block_the_others(town: Town) -> None:
    town.keep("A", resource={"resourceType": "RiskAssessment"})
    town.keep("A", 10)
    ehr, _ = town.ehrs
    ehr.faults.append(500)
    town.run(lambda worker: worker.once(asyncio.Event()))
    assert len(ehr.resources) == 9
    waiting = town.store.messages(count=9, state=MessageState.READY)
    assert {message.attempts for message in waiting} == {1}
    assert {str(message.reason).split("\n")[0] for message in waiting} == {
        "a fault of this program: ValueError",
        "HTTP 500",
    }


def test_each_outcome_is_counted(town: Town) -> None:
    town.keep("A", 3)
    town.ehrs[0].faults.extend([422, 500])
    counted: dict[str, float] = {}

    async def work(worker: Dispatch) -> None:
        await worker.once(asyncio.Event())
        for outcome in Outcome:
            name, labels = "cds_deliveries_total", {"outcome": outcome.value}
            registry = worker._worker.parts.metrics.registry
            counted[outcome] = registry.get_sample_value(name, labels) or 0

    town.run(work)
    assert counted == {
        "created": 1,
        "existing": 0,
        "rescheduled": 1,
        "dead": 1,
        "lease-lost": 0,
    }


# Leases ---------------------------------------------------------------------------------------


def test_a_worker_that_hung_past_its_lease_changes_nothing_any_more(town: Town) -> None:
    town.keep("A")
    ehr = town.ehrs[0]
    ehr.faults.append("stall")

    async def work(hanging: Dispatch) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(hanging.until(stop))
        while not ehr.fhir_requests:
            await asyncio.sleep(0.01)
        # Its lease ends; another worker takes over and delivers.
        town.now += timedelta(minutes=2)
        parts = replace(hanging._worker.parts, bell=Bell())
        other = Dispatch(replace(hanging._worker, parts=parts))
        await other.once(asyncio.Event())
        assert other.outcomes == {Outcome.CREATED: 1}
        ehr.release()
        stop.set()
        await running
        assert hanging.outcomes == {Outcome.LEASE_LOST: 1}

    town.run(work)
    (status,) = town.store.messages(count=9)
    assert (status.state, status.attempts) == (MessageState.DELIVERED, 2)
    assert status.settled_at == NOON + timedelta(minutes=2)
    assert len(ehr.resources) == 1


def test_workers_that_share_a_store_send_each_message_once_within_its_lease(town: Town) -> None:
    town.keep("A", 60)

    async def work(first: Dispatch) -> None:
        others = [
            Dispatch(replace(first._worker, parts=replace(first._worker.parts, bell=Bell())))
            for _ in range(3)
        ]
        await asyncio.gather(*(each.once(asyncio.Event()) for each in (first, *others)))

    town.run(work)
    assert len(town.ehrs[0].fhir_requests) == len(town.ehrs[0].resources) == 60


@pytest.mark.parametrize("jump", [timedelta(days=-30), timedelta(hours=-1), timedelta(days=3)])
def test_a_clock_that_jumps_loses_and_repeats_nothing(town: Town, jump: timedelta) -> None:
    town.keep("A", 5)
    # A worker took two of them and died.
    town.store.claim(now=town.now, lease=timedelta(minutes=1), count=2, claim_id="killed")
    town.now += jump

    async def work(worker: Dispatch) -> None:
        # At the new time, and then as time goes on; a jump of an hour back is waited for.
        for wait in (timedelta(0), timedelta(minutes=2), timedelta(hours=1)):
            town.now += wait
            await worker.once(asyncio.Event())

    town.run(work)
    assert town.number(MessageState.DELIVERED, "A") == 5
    assert len(town.ehrs[0].resources) == 5


# Waking ---------------------------------------------------------------------------------------


def test_a_commit_wakes_the_worker_of_its_process_at_once(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 60.0)
    took: list[float] = []

    async def work(worker: Dispatch) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(worker.until(stop))
        await asyncio.sleep(0.2)

        def commit() -> None:
            town.keep("A")
            took.append(time.monotonic())
            worker._bell.ring()

        thread = threading.Thread(target=commit)
        thread.start()
        while not town.ehrs[0].fhir_requests:
            await asyncio.sleep(0.001)
        took.append(time.monotonic())
        thread.join()
        stop.set()
        await running

    town.run(work)
    assert took[1] - took[0] < 1


def test_an_idle_worker_does_not_spin(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.1)
    looks: list[float] = []
    claim = Store.claim

    def counted(store: Store, **how: Any) -> Any:
        looks.append(time.monotonic())
        return claim(store, **how)

    monkeypatch.setattr(Store, "claim", counted)
    started = time.monotonic()
    town.run_until(lambda: time.monotonic() - started > 1)
    assert len(looks) <= 12


def test_stopping_takes_no_longer_than_what_is_under_way(town: Town) -> None:
    started = time.monotonic()
    town.run_until(lambda: True)
    assert time.monotonic() - started < 0.9


def test_a_bell_without_a_worker_or_with_one_that_has_ended_is_harmless() -> None:
    bell = Bell()
    bell.ring()

    async def listen() -> None:
        bell.hush()
        bell.ring()
        await bell.heard(5)

    asyncio.run(listen())
    bell.ring()


# The store in between ----------------------------------------------------------------------------


def test_a_store_that_is_away_for_a_moment_costs_no_second_create(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.keep("A")
    settle, faults = Store.settle, [StoreUnavailable(), StoreUnavailable()]

    def settle_after_faults(store: Store, *given: Any, **named: Any) -> bool:
        if faults:
            raise faults.pop()
        return settle(store, *given, **named)

    monkeypatch.setattr(Store, "settle", settle_after_faults)
    town.run(lambda worker: worker.once(asyncio.Event()))
    (status,) = town.store.messages(count=9)
    assert (status.state, status.attempts) == (MessageState.DELIVERED, 1)
    assert len(town.ehrs[0].fhir_requests) == 1


def test_no_fault_ends_the_worker(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.02)
    town.keep("A", 3)
    claim, settle = Store.claim, Store.settle
    faults = [RuntimeError("such as a row that nobody can read"), StoreUnavailable()]
    ends: list[Exception] = [RuntimeError("such as a value that the database does not take")]

    def claim_after_faults(store: Store, **how: Any) -> Any:
        if faults:
            raise faults.pop()
        return claim(store, **how)

    def settle_after_faults(store: Store, *given: Any, **named: Any) -> bool:
        if ends:
            raise ends.pop()
        return settle(store, *given, **named)

    monkeypatch.setattr(Store, "claim", claim_after_faults)
    monkeypatch.setattr(Store, "settle", settle_after_faults)
    town.run_until(lambda: town.number(MessageState.DELIVERED, "A") == 2)
    # The third is due again when its lease ends, and is not created a second time.
    assert town.number(MessageState.CLAIMED, "A") == 1
    town.now += timedelta(minutes=2)
    town.run(lambda worker: worker.once(asyncio.Event()))
    assert town.number(MessageState.DELIVERED, "A") == 3
    assert len(town.ehrs[0].resources) == 3


def test_once_says_when_the_store_does_not_answer(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claim(_: Store, **how: Any) -> Any:
        raise StoreUnavailable

    monkeypatch.setattr(Store, "claim", claim)
    with pytest.raises(StoreUnavailable):
        town.run(lambda worker: worker.once(asyncio.Event()))
