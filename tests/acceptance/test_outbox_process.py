"""Delivery as a process of its own: beside a service that delivers nothing itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fakes.ehr import FakeEhr
from tests.fakes.tokens import a_key
from tests.process import ROOT, ServiceProcess
from tests.service import HOOK_URL, patient_view


def settings(folder: Path, ehr: FakeEhr) -> dict[str, str]:
    (folder / "key.pem").write_bytes(a_key("ES384").as_pem(private=True))
    clients = folder / "clients.toml"
    clients.write_text(
        f'[[client]]\nname = "Hospital"\nfhir_servers = ["{ehr.base}"]\nwrite_back = "backend"\n'
        f'[client.backend]\ntoken_url = "{ehr.url}/token"\nclient_id = "cds"\n'
        'private_key_file = "key.pem"\n'
    )
    return {
        "CDS_PROFILE": "demo",
        "CDS_DATABASE_URL": f"sqlite:///{folder / 'cds.db'}",
        "CDS_DELIVERY": "apart",
        "CDS_CLIENTS_FILE": str(clients),
    }


def call(service: ServiceProcess, ehr: FakeEhr, patient_id: str) -> None:
    body = patient_view(fhirServer=ehr.base)
    body["context"]["patientId"] = body["prefetch"]["patient"]["id"] = patient_id
    for entry in body["prefetch"]["observations"]["entry"]:
        entry["resource"]["subject"] = {"reference": f"Patient/{patient_id}"}
    answer = httpx.post(f"{service.url}{HOOK_URL}", json=body, timeout=30)
    assert answer.status_code == 200, answer.text


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("cds-service")), "outbox", *arguments]


def environment(given: dict[str, str]) -> dict[str, str]:
    return {n: v for n, v in os.environ.items() if not n.startswith("CDS_")} | given


def run(given: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(given), capture_output=True, text=True
    )


@contextmanager
def delivering(given: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as stderr:
        worker = subprocess.Popen(
            command("deliver"), cwd=ROOT, env=environment(given), stderr=stderr
        )
    try:
        yield worker
    finally:
        worker.terminate()
        worker.wait(timeout=40)


def eventually(holds: Callable[[], bool], seconds: float = 30) -> bool:
    give_up = time.monotonic() + seconds
    while not holds() and time.monotonic() < give_up:
        time.sleep(0.05)
    return holds()


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    with FakeEhr() as ehr:
        ehr.tokens = set()
        yield ehr


def test_apart_the_service_delivers_nothing_and_workers_deliver_each_once(
    tmp_path: Path, ehr: FakeEhr
) -> None:
    given = settings(tmp_path, ehr)
    with ServiceProcess(tmp_path, **given) as service:
        for number in range(12):
            call(service, ehr, f"p{number}")
        time.sleep(1.5)
        assert ehr.asked == []
        assert 'cds_outbox_messages{state="ready"} 12.0' in httpx.get(f"{service.url}/metrics").text
        log = tmp_path / "worker.log"
        with delivering(given, log) as first, delivering(given, log) as second:
            assert eventually(lambda: len(ehr.resources) == 12)
            # What is committed while they run is found within a second or so.
            call(service, ehr, "later")
            started = time.monotonic()
            assert eventually(lambda: len(ehr.resources) == 13)
            assert time.monotonic() - started < 5
        assert (first.returncode, second.returncode) == (0, 0)
        creates = [asked for asked in ehr.fhir_requests if asked.method == "POST"]
        assert len(creates) == 13
        assert 'state="delivered"} 13.0' in httpx.get(f"{service.url}/metrics").text
    said = log.read_text() + service.log
    assert '"event": "delivered"' in said
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("cds.db*"))
    for token in ehr.tokens or ():
        assert token not in said
        assert token.encode() not in stored


def test_at_sigterm_what_is_in_flight_is_finished(tmp_path: Path, ehr: FakeEhr) -> None:
    given = settings(tmp_path, ehr)
    with ServiceProcess(tmp_path, **given) as service:
        call(service, ehr, "p1")
    ehr.faults.append("stall")
    with delivering(given, tmp_path / "worker.log") as worker:
        assert eventually(lambda: bool(ehr.fhir_requests))
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert worker.poll() is None
        ehr.release()
        assert worker.wait(timeout=20) == 0
    # The server closed without an answer: that is on record, and nothing is left claimed.
    listed = run(given, "list", "--json")
    assert '"state":"ready"' in listed.stdout
    assert "no answer" in listed.stdout
    time.sleep(2)
    assert run(given, "deliver", "--once").returncode == 0
    assert len(ehr.resources) == 1


def test_in_process_a_commit_is_delivered_at_once(tmp_path: Path, ehr: FakeEhr) -> None:
    given = settings(tmp_path, ehr) | {"CDS_DELIVERY": "in-process"}
    took = []
    with ServiceProcess(tmp_path, **given) as service:
        for number in range(5):
            call(service, ehr, f"p{number}")
            started = time.monotonic()
            assert eventually(lambda expected=number + 1: len(ehr.resources) == expected)
            took.append(time.monotonic() - started)
    assert sorted(took)[2] < 0.5


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CDS_DELIVERY", "somewhere"), ("CDS_DATABASE_URL", "sqlite:////proc/none/cds.db")],
)
def test_settings_that_are_wrong_are_one_line_and_exit_2(
    tmp_path: Path, ehr: FakeEhr, variable: str, value: str
) -> None:
    ran = run(settings(tmp_path, ehr) | {variable: value}, "deliver", "--once")
    assert ran.returncode == 2
    assert variable in ran.stderr
