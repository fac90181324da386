"""Sealed at rest with real processes: calls, delivery, reads and replay; rekey, killed over and
over beside a service that answers."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from cds_service.store import Store, rekey
from cds_service.store.sealing import Sealing, fingerprint
from tests.acceptance.test_service_process import eventually
from tests.fakes.databases import POSTGRESQL, a_database
from tests.fakes.ehr import FakeEhr
from tests.fakes.records import a_message, an_assessment, an_audit_entry
from tests.process import ROOT, ServiceProcess
from tests.service import HOOK_URL, patient_view

OLD, NEW = (bytes(range(n, n + 32)) for n in (0, 100))
ROWS = 600
KILLS = 3


def as_text(*keys: bytes) -> str:
    return "\n".join(base64.b64encode(key).decode() for key in keys)


@pytest.fixture(params=["sqlite", POSTGRESQL])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cds.db"
    return a_database(request.getfixturevalue("cluster"))


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    with FakeEhr() as ehr:
        yield ehr


def program(url: str, keys: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [Path(sys.executable).with_name("cds-service"), *arguments],
        cwd=ROOT,
        env={**os.environ, "CDS_DATABASE_URL": url, "CDS_STORE_KEYS_FILE": str(keys)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(url: str, keys: Path, *arguments: str) -> tuple[int, str]:
    started = program(url, keys, *arguments)
    said, errors = started.communicate(timeout=120)
    return started.returncode, said + errors


def keys_file(folder: Path, *keys: bytes) -> Path:
    path = folder / f"keys-{len(keys)}-{fingerprint(keys[0])}"
    path.write_text(as_text(*keys))
    return path


def call(service: ServiceProcess, patient_id: str, **change: Any) -> httpx.Response:
    body = patient_view(**change)
    body["context"]["patientId"] = body["prefetch"]["patient"]["id"] = patient_id
    for entry in body["prefetch"]["observations"]["entry"]:
        entry["resource"]["subject"] = {"reference": f"Patient/{patient_id}"}
    return httpx.post(f"{service.url}{HOOK_URL}", json=body, timeout=30)


def stored_text(url: str) -> str:
    """Every value of the sealed tables, as the database has it."""
    driver = "postgresql+psycopg" if url.startswith("postgresql") else "sqlite"
    engine = sa.create_engine(sa.make_url(url).set(drivername=driver))
    with engine.connect() as connection:
        found = [
            str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())  # noqa: S608
            for table in ("assessment", "outbox", "card", "audit")
        ]
    engine.dispose()
    return "".join(found)


def test_a_sealed_service_answers_delivers_shows_and_replays(
    url: str, tmp_path: Path, ehr: FakeEhr
) -> None:
    clients = tmp_path / "clients.toml"
    clients.write_text(
        f'[[client]]\nname = "Hospital"\nfhir_servers = ["{ehr.base}"]\nwrite_back = "backend"\n'
    )
    keys = keys_file(tmp_path, OLD)
    given = {
        "CDS_DATABASE_URL": url,
        "CDS_STORE_KEYS_FILE": str(keys),
        "CDS_CLIENTS_FILE": str(clients),
    }
    with ServiceProcess(tmp_path, **given) as service:
        assert call(service, "p1", fhirServer=ehr.base).json()["cards"]
        assert eventually(lambda: any(r["resourceType"] == "RiskAssessment" for r in ehr.resources))
        found = httpx.get(f"{service.url}/fhir/RiskAssessment", params={"patient": "p1"}).json()
        (entry,) = found["entry"]
        (sent,) = (r for r in ehr.resources if r["resourceType"] == "RiskAssessment")
        for member in ("prediction", "basis", "identifier"):
            assert sent[member] == entry["resource"][member]
        code, said = run(url, keys, "replay", "--all", "--json")
        assert code == 0, said
        assert json.loads(said.splitlines()[0])["outcome"] == "same"
    marker = entry["resource"]["basis"][0]["reference"]
    assert marker not in stored_text(url)
    assert entry["resource"]["prediction"][0]["rationale"][:40] not in stored_text(url)
    assert as_text(OLD) not in service.log
    code, said = run(url, keys_file(tmp_path, NEW), "replay", "--all")
    assert code == 2
    assert fingerprint(OLD) in said
    assert "Traceback" not in said


def test_a_service_without_the_key_of_its_rows_says_so_and_ends(tmp_path: Path, url: str) -> None:
    store = Store.open(url, Sealing([OLD]))
    store.record(an_assessment(), [], an_audit_entry(), None)
    store.close()
    code, said = run(url, keys_file(tmp_path, NEW), "serve", "--port", "1")
    assert code == 2
    assert fingerprint(OLD) in said
    assert "Traceback" not in said


def test_rekey_killed_at_random_beside_a_service_loses_nothing_and_ends(
    url: str, tmp_path: Path
) -> None:
    plain, old = Store.open(url), Store.open(url, Sealing([OLD]))
    kept = []
    for number in range(ROWS):
        assessment = an_assessment(patient_id=f"kept-{number}")
        store = plain if number % 2 else old
        store.record(assessment, [], an_audit_entry(), a_message(assessment))
        kept.append(assessment)
    plain.close()
    old.close()
    keys, watching = keys_file(tmp_path, NEW, OLD), Store.open(url, Sealing([NEW, OLD]))
    given = {"CDS_DATABASE_URL": url, "CDS_STORE_KEYS_FILE": str(keys)}
    statuses: list[int] = []
    with ServiceProcess(tmp_path, CDS_DELIVERY="apart", **given) as service:
        done = threading.Event()
        calling = threading.Thread(target=keep_calling, args=(service, statuses, done))
        calling.start()
        try:
            left = []
            for kill in range(1, KILLS + 1):
                started = program(url, keys, "store", "rekey")
                wait_until_at_work(watching, started, below=2 * ROWS - 300 * kill)
                started.kill()
                started.communicate()
                left.append(rekey.left_to_do(watching))
            code, said = run(url, keys, "store", "rekey")
        finally:
            done.set()
            calling.join()
        assert code == 0, said
    assert statuses
    assert set(statuses) == {200}
    assert left == sorted(left, reverse=True), "what is done stays done"
    assert any(0 < one < 2 * ROWS for one in left), "none was killed in the middle"
    watching.close()
    newest = Store.open(url, Sealing([NEW]))
    assert rekey.left_to_do(newest) == 0
    assert rekey.keys_in_use(newest) == {fingerprint(NEW)}
    assert all(newest.risk_assessment(one.id) == one for one in kept)
    newest.close()


def keep_calling(service: ServiceProcess, statuses: list[int], done: threading.Event) -> None:
    while not done.is_set():
        statuses.append(call(service, f"p{len(statuses)}").status_code)


def wait_until_at_work(store: Store, started: subprocess.Popen[str], *, below: int) -> None:
    """Until fewer than `below` rows are left, or it has ended by itself."""
    give_up = time.monotonic() + 30
    while started.poll() is None and time.monotonic() < give_up:
        if rekey.left_to_do(store) < below:
            break
        time.sleep(0.01)
