"""`cds-service audit` on the store of a service that ran as several processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import orjson
import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from cds_service.store.schema import REFUSALS_OF_SQLITE
from tests.process import ROOT, ServiceProcess
from tests.service import HOOK_URL, patient_view

CALLS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after calls to two workers at once, half of them refused."""
    folder = tmp_path_factory.mktemp("audited")
    with ServiceProcess(folder, CDS_WORKERS="2") as service, ThreadPoolExecutor(6) as threads:

        def call(number: int) -> int:
            body = patient_view(hookInstance=str(uuid.uuid4()) if number % 2 else "x")
            return httpx.post(service.url + HOOK_URL, json=body, timeout=30).status_code

        assert sorted(threads.map(call, range(CALLS))) == [200] * 12 + [400] * 12
    return folder


def audit(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("cds-service"), "audit", *arguments],
        env=os.environ | {"CDS_DATABASE_URL": f"sqlite:///{folder / 'cds.db'}"} | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_call_to_every_worker_is_on_record_and_verifies(folder: Path) -> None:
    exported = audit(folder, "export")
    rows = [orjson.loads(line) for line in exported.stdout.splitlines()]
    calls = [row for row in rows if row["action"] == "patient-view"]
    assert sorted(row["status"] for row in calls) == [200] * 12 + [400] * 12
    done = audit(folder, "verify")
    assert done.returncode == 0
    assert done.stdout.startswith("In order: ")


def test_an_export_is_valid_fhir_and_on_record(folder: Path) -> None:
    for line in audit(folder, "export", "--format", "fhir").stdout.splitlines():
        AuditEvent.model_validate_json(line)
    last = audit(folder, "export").stdout.splitlines()[-1]
    assert orjson.loads(last)["action"] == "audit-export"


def test_nothing_young_is_pruned(folder: Path) -> None:
    done = audit(folder, "prune", "--before", "2026-01-01")
    assert done.returncode == 1
    assert "Rows are kept for 7 years" in done.stderr
    shorter = audit(folder, "prune", "--before", "2001-01-01", CDS_AUDIT_RETENTION_YEARS="6")
    assert shorter.returncode == 2
    assert "from 7 to 100" in shorter.stderr


def test_what_someone_removed_from_an_end_is_found_with_a_head_and_without(folder: Path) -> None:
    heads = folder / "heads.ndjson"
    heads.write_text(audit(folder, "head").stdout)
    assert audit(folder, "verify", "--since-head", str(heads)).returncode == 0
    database = sqlite3.connect(folder / "cds.db")
    with database:
        for name in REFUSALS_OF_SQLITE:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)")
    database.close()
    done = audit(folder, "verify", "--since-head", str(heads))
    assert done.returncode == 1
    assert "The end of a chain is gone" in done.stderr
    assert audit(folder, "verify").stderr == done.stderr
    heads.write_text("no head\n")
    assert audit(folder, "verify", "--since-head", str(heads)).returncode == 2


@pytest.mark.parametrize("command", ["verify", "head", "export", "prune"])
def test_help_shows_an_example(folder: Path, command: str) -> None:
    assert f"Example: cds-service audit {command}" in audit(folder, command, "--help").stdout
