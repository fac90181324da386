"""120 synthetic records through a running service, and every assessment again by the operator's
command beside it: the same bits, on both databases."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from cds_service.demo.prefetch import resolve_prefetch
from tests.acceptance.test_synthea import records
from tests.data import data_folder
from tests.fakes.databases import POSTGRESQL_MISSING, postgresql_binaries, postgresql_cluster
from tests.process import ROOT, ServiceProcess

# The records end in July 2021; 29 February is not in every year.
YEARS = 5
_DAY = re.compile(r'"(20\d\d)-(\d\d-\d\d)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A store that a service has written, and how much of it are assessments."""

    url: str
    patients: int
    assessments: int


def replayed(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("cds-service"), "replay", *arguments],
        cwd=ROOT,
        env={**os.environ, "CDS_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('store')}/cds.db"
        return
    if postgresql_binaries() is None:
        pytest.skip(POSTGRESQL_MISSING)
    with postgresql_cluster() as cluster:
        yield sa.make_url(cluster).set(drivername="postgresql").render_as_string()


@pytest.fixture(scope="module")
def answered(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    """The service is still running when the command is."""
    data_folder("synthea_r4")
    folder = tmp_path_factory.mktemp("service")
    with (
        ServiceProcess(folder, CDS_DATABASE_URL=url, CDS_TIME_ZONE="America/New_York") as service,
        httpx.Client(base_url=service.url, timeout=60) as ehr,
    ):
        (offered,) = ehr.get("/cds-services").json()["services"]
        patients = [_post(ehr, offered, later(record)) for record in records()]
        stored = ehr.get("/fhir/RiskAssessment", params={"_count": "0"}).json()["total"]
        yield Answered(url=url, patients=len(patients), assessments=stored)


def later(record: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The record as if its patient had lived some years later: within today's look-back."""
    moved = _DAY.sub(lambda day: f'"{int(day[1]) + YEARS}-{day[2]}', json.dumps(record))
    read: list[dict[str, Any]] = json.loads(moved.replace("-02-29", "-02-28"))
    return read


def _post(ehr: httpx.Client, offered: dict[str, Any], record: list[dict[str, Any]]) -> None:
    patient = next(r for r in record if r["resourceType"] == "Patient")
    body = {
        "hook": offered["hook"],
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/1", "patientId": patient["id"]},
        "prefetch": resolve_prefetch(offered["prefetch"], record),
    }
    answer = ehr.post(f"/cds-services/{offered['id']}", json=body)
    assert answer.status_code == 200, answer.text


def test_every_assessment_of_the_service_has_the_same_bits(answered: Answered) -> None:
    assert answered.patients == 120
    assert answered.assessments > 20, "many adults are scored"
    result = replayed(answered.url, "--all", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    outcomes = [json.loads(line)["outcome"] for line in result.stdout.splitlines()]
    assert outcomes == ["same"] * answered.assessments


def test_a_store_that_cannot_be_reached_is_one_line_and_exit_2() -> None:
    result = replayed("postgresql://cds@127.0.0.1:9/none", "--all")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
