"""One run: load, weather and kills side by side; then calm until the outbox is empty; the count."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.process import free_port
from tests.reliability.calls import Calls
from tests.reliability.count import Account, account, messages, stored
from tests.reliability.fhir_server import CountingServer
from tests.reliability.processes import (
    Arrangement,
    Installation,
    Kills,
    Process,
    freeze,
    set_clock,
    wait_until_ready,
)
from tests.reliability.weather import Weather

AT_WORK_SECONDS = 5
ANSWERS_AT_THE_END = 10
# Days and hours, ahead and back; what is less than a lease, and more.
JUMPS = ("+0", "+2d", "-3h", "+45", "-40d", "+90", "-20")


class FhirServer(Protocol):
    """Where the RiskAssessments go."""

    @property
    def base(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def risk_assessments(self) -> Sequence[Mapping[str, Any]]:
        """Every one that it holds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`kills` are shared out among the arrangements; `outages` are seconds, one in each of the
    first arrangements; `pause` seconds are between the calls of one caller; `patience` seconds
    is how long the outbox may take at the end; `jumps` are what a clock is off by."""

    name: str
    store: str
    seed: str
    kills: int
    arrangements: tuple[Arrangement, ...]
    outages: tuple[float, ...] = ()
    pause: float = 0.2
    lease: float = 60.0
    patience: float = 900.0
    jumps: tuple[str, ...] = JUMPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a run. `audit`: what `cds-service audit verify` said; None: it did not pass."""

    name: str
    store: str
    seed: str
    arrangements: list[str]
    kills: dict[str, int]
    calls: dict[str, int]
    unexpected: list[str]
    answered: int
    stored: int
    on_server: int
    creates: int
    weather: dict[str, int]
    longest_outage: float
    account: Account
    audit: str | None
    audit_rows: int
    seconds: float

    @property
    def faults(self) -> dict[str, int]:
        """What is not as it must be; empty where nothing is lost and nothing doubled."""
        other = {
            "unexpected answers": len(self.unexpected),
            "audit log out of order": int(self.audit is None),
        }
        return self.account.faults | {name: number for name, number in other.items() if number}


def run(
    plan: Plan,
    folder: Path,
    database_url: str,
    real: FhirServer | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Carry out `plan`, against the counting server or a `real` one, which does not say how often
    it was asked."""
    began = time.monotonic()
    weather = Weather(f"{plan.seed} weather", faults=real is None)
    with ExitStack() as stack:
        counting = stack.enter_context(CountingServer(fault=weather.fault))
        server: FhirServer = real or counting
        place = Installation(
            folder=folder, port=free_port(), database_url=database_url, lease=plan.lease
        )
        place.set_up(server.base, f"{counting.url}/token")
        calls = Calls(
            seed=plan.seed, service_url=place.url, fhir_base=server.base, pause=plan.pause
        )
        kills: Counter[str] = Counter()
        clocks_jumped = time.monotonic() + 10**6
        for number, arrangement in enumerate(plan.arrangements):
            say(f"{plan.name}: {arrangement.name}")
            if arrangement.clock_jumps:
                clocks_jumped = time.monotonic()
            share = Kills(left=_share(plan.kills, len(plan.arrangements), number))
            outage = plan.outages[number] if number < len(plan.outages) else 0.0
            away = threading.Thread(target=weather.outage, args=(server, outage))
            with _going_on(calls, weather):
                if outage:
                    away.start()
                _under_way(place, plan, number, share, away, calls)
            kills += share.done
        say(f"{plan.name}: until the outbox is empty")
        _until_empty(place, plan.patience, say)
        store = stored(database_url)
        resources = server.risk_assessments()
        return Result(
            name=plan.name,
            store=plan.store,
            seed=plan.seed,
            arrangements=[each.name for each in plan.arrangements],
            kills=dict(kills),
            calls=dict(calls.outcomes),
            unexpected=calls.unexpected,
            answered=len(calls.answered),
            stored=len(store.identifiers),
            on_server=len(resources),
            creates=len(counting.attempts),
            weather=dict(weather.met),
            longest_outage=weather.longest_outage,
            account=account(
                calls.answered,
                store,
                resources,
                # A clock that jumps ends other workers' leases, and the server sees to the rest.
                [each for each in counting.attempts if each.received < clocks_jumped],
                plan.lease,
            ),
            audit=_audit(place),
            audit_rows=sum(store.audited.values()),
            seconds=time.monotonic() - began,
        )


def _share(kills: int, parts: int, number: int) -> int:
    return kills // parts + (1 if number < kills % parts else 0)


@contextmanager
def _going_on(calls: Calls, weather: Weather) -> Iterator[None]:
    """Calls and weather while the block runs."""
    over = threading.Event()
    others = [
        threading.Thread(target=calls.run, args=(over,)),
        threading.Thread(target=weather.change, args=(over,)),
    ]
    for each in others:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in others:
            each.join()


def _under_way(
    place: Installation,
    plan: Plan,
    number: int,
    kills: Kills,
    away: threading.Thread,
    calls: Calls,
) -> None:
    arrangement, seed = plan.arrangements[number], f"{plan.seed} {number}"
    processes = place.processes(arrangement)
    for process in processes:
        process.start()
    over = threading.Event()
    others = []
    if arrangement.clock_jumps:
        jump = (place.clock, plan.jumps, over, random.Random(seed))
        others.append(threading.Thread(target=_jump, args=jump))
    if arrangement.freezes:
        sleeper = processes[1]
        others.append(threading.Thread(target=_freeze, args=(sleeper, place.lease)))
    for each in others:
        each.start()
    mortal = [each for each in processes if not arrangement.freezes or each is not processes[1]]
    try:
        kills.run(mortal, place.url, seed)
        while away.is_alive():
            away.join(1)
        # A machine that is busy with other things may not have answered anything yet.
        enough = len(calls.answered) + ANSWERS_AT_THE_END
        give_up = time.monotonic() + plan.patience
        while len(calls.answered) < enough and time.monotonic() < give_up:
            time.sleep(0.1)
    finally:
        over.set()
        for each in others:
            each.join()
        # All of it: the next arrangement, or the end, finds what this one left.
        for process in processes:
            kills.kill(process)


def _freeze(worker: Process, lease: float) -> None:
    """At work; and afterwards it has time to come to an end with what it had begun."""
    time.sleep(AT_WORK_SECONDS)
    freeze(worker, lease + 2)
    time.sleep(AT_WORK_SECONDS)


def _jump(clock: Path, jumps: Sequence[str], over: threading.Event, chance: random.Random) -> None:
    while not over.wait(chance.uniform(0.5, 3.0)):
        set_clock(clock, chance.choice(jumps))


def _until_empty(place: Installation, patience: float, say: Callable[[str], None]) -> None:
    """Nobody calls, nothing is killed: leases end and waits are over by themselves."""
    (service,) = place.processes(Arrangement(name="the end"))
    service.start()
    try:
        wait_until_ready(service, place.url)
        give_up = time.monotonic() + patience
        said = None
        while time.monotonic() < give_up:
            waiting = messages(place.database_url)
            if waiting != said:
                say(f"{place.folder.name}: {waiting}")
            said = waiting
            if not waiting.get("ready") and not waiting.get("claimed"):
                return
            time.sleep(1)
    finally:
        service.stop()


def _audit(place: Installation) -> str | None:
    (service,) = place.processes(Arrangement(name="the end"))
    verify = Process(
        name="audit",
        arguments=["audit", "verify"],
        environment=service.environment,
        log=place.folder / "audit.log",
    )
    verify.start()
    assert verify.running is not None
    if verify.running.wait() != 0:
        return None
    return verify.log.read_text().splitlines()[0]
