"""Nothing lost, nothing twice, in short: `make reliability` is the whole of it.

docs/reliability.md says what is tried. Here are a few kills on each store, with leases of seconds.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process import free_port
from tests.reliability.calls import Calls
from tests.reliability.count import messages, stored
from tests.reliability.fhir_server import CountingServer, Fault
from tests.reliability.processes import (
    FAKETIME,
    Arrangement,
    Installation,
    Process,
    wait_until_ready,
)
from tests.reliability.run import Plan, run

LEASE = 10.0
PATIENCE = 120.0
SEED = "ci-1"
IN_PROCESS = Arrangement(name="serve")
APART = Arrangement(name="serve --workers 2, two outbox deliver", serving=2, workers=2)
TWO_WORKERS = Arrangement(name="serve, two outbox deliver", workers=2)
JUMPING = Arrangement(name="one clock jumps", workers=2, clock_jumps=True)
# What is off by more than a lease and less than the clocks of two machines may be apart is waited
# for: not here.
JUMPS = ("+0", "+2d", "-3h", "-40d")
NO_FAKETIME = pytest.mark.skipif(
    not FAKETIME.exists(),
    reason="libfaketime is not installed (Debian: apt-get install libfaketime)",
)


def nothing_is_lost_or_doubled(
    url: str, folder: Path, *arrangements: Arrangement, kills: int, outage: float
) -> None:
    plan = Plan(
        name=url.partition(":")[0],
        store=url.partition(":")[0],
        seed=SEED,
        kills=kills,
        arrangements=arrangements,
        outages=(outage,),
        lease=LEASE,
        jumps=JUMPS,
        patience=PATIENCE,
    )
    result = run(plan, folder, url)
    assert result.faults == {}, (result, result.unexpected)
    assert result.answered > 0
    assert sum(result.kills.values()) >= kills


def test_kills_and_faults_lose_and_double_nothing(url: str, tmp_path: Path) -> None:
    nothing_is_lost_or_doubled(url, tmp_path / "run", IN_PROCESS, APART, kills=6, outage=3.0)


@NO_FAKETIME
def test_a_clock_that_jumps_loses_and_doubles_nothing(url: str, tmp_path: Path) -> None:
    nothing_is_lost_or_doubled(url, tmp_path / "run", JUMPING, kills=4, outage=0.0)


@contextmanager
def ended(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            if process.running is not None and process.running.poll() is None:
                process.signal(signal.SIGCONT)
            process.stop()


def eventually(holds: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < give_up:
        time.sleep(0.1)
    return holds()


def called(
    place: Installation,
    fhir_base: str,
    service: Process,
    wanted: int,
    until: Callable[[], bool] = lambda: True,
) -> int:
    """Calls until so many RiskAssessments are stored and `until` holds; how many they are."""
    over = threading.Event()
    calls = Calls(seed=f"{SEED}-{wanted}", service_url=place.url, fhir_base=fhir_base, pause=0.01)
    wait_until_ready(service, place.url)
    calling = threading.Thread(target=calls.run, args=(over,))
    calling.start()
    try:
        assert eventually(lambda: len(stored(place.database_url).identifiers) >= wanted and until())
    finally:
        over.set()
        calling.join()
    assert calls.unexpected == []
    return len(stored(place.database_url).identifiers)


def test_two_workers_ask_for_each_message_once(url: str, tmp_path: Path) -> None:
    """Where nothing fails there is nothing that the FHIR server would have to make good."""
    place = Installation(
        folder=tmp_path / "run", port=free_port(), database_url=url, lease=PATIENCE
    )
    with CountingServer() as server:

        def both_asked() -> bool:
            return len({each.worker for each in server.attempts}) == 2

        place.set_up(server.base, f"{server.url}/token")
        service, first, second = place.processes(TWO_WORKERS)
        with ended(service, first, second):
            service.start()
            # Some wait when the two begin, the others come while they are at work: the first
            # to be ready could otherwise have sent them all before the second has started.
            called(place, server.base, service, 40)
            first.start()
            second.start()
            number = called(place, server.base, service, 80, until=both_asked)
            assert eventually(lambda: messages(url) == {"delivered": number})
        assert len(server.attempts) == len({each.identifier for each in server.attempts}) == number
        assert both_asked()


def test_a_worker_that_hangs_loses_its_lease_and_changes_nothing_any_more(
    url: str, tmp_path: Path
) -> None:
    place = Installation(folder=tmp_path / "run", port=free_port(), database_url=url, lease=LEASE)
    stalls = itertools.cycle([Fault.STALLED_AFTER_COMMIT, Fault.STALLED])
    calm = threading.Event()
    with CountingServer(fault=lambda: None if calm.is_set() else next(stalls)) as server:
        place.set_up(server.base, f"{server.url}/token")
        service, hanging, other = place.processes(TWO_WORKERS)
        with ended(service, hanging, other):
            service.start()
            number = called(place, server.base, service, 1)
            service.stop()
            hanging.start()
            assert eventually(lambda: bool(server.attempts))
            # Its requests are all under way: it hangs at the FHIR server, not within a transaction,
            # where SQLite's one writer would hold up everybody.
            time.sleep(1)
            hanging.signal(signal.SIGSTOP)
            stalled = list(server.attempts)
            calm.set()
            other.start()
            assert eventually(lambda: messages(url) == {"delivered": number})
            hanging.signal(signal.SIGCONT)
            late = len(stalled)
            assert eventually(lambda: hanging.log.read_text().count('"lease_held": false') == late)
            hanging.stop()
            assert messages(url) == {"delivered": number}
        assert len(server.resources) == number
        for attempt in stalled:
            (again,) = (
                each for each in server.attempts[late:] if each.identifier == attempt.identifier
            )
            assert again.worker != attempt.worker
