"""120 whole synthetic records go through the hook as an EHR would send them."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from fhir.resources.R4B.riskassessment import RiskAssessment

from cds_service.app import create_app
from cds_service.demo.prefetch import resolve_prefetch
from cds_service.settings import Settings
from tests.data import data_folder

# The records end in July 2021.
NOW = datetime(2021, 7, 15, 12, 0, tzinfo=UTC)
KINDS = frozenset({"Patient", "Observation", "Condition", "MedicationRequest"})
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One record, what two identical calls answered, and what was stored about it."""

    patient: dict[str, Any]
    conditions: list[str]
    observations: int
    statuses: tuple[int, int]
    cards: list[dict[str, Any]]
    stored: list[dict[str, Any]]


def records() -> Iterator[list[dict[str, Any]]]:
    for path in sorted(data_folder("synthea_r4").glob("*.json.gz")):
        with gzip.open(path) as file:
            resources = [entry["resource"] for entry in json.load(file)["entry"]]
        if any(r["resourceType"] == "Patient" for r in resources):
            yield [r for r in resources if r["resourceType"] in KINDS]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    data_folder("synthea_r4")
    return asyncio.run(_post_all(tmp_path_factory.mktemp("synthea")))


async def _post_all(folder: Path) -> list[Seen]:
    settings = Settings(
        profile="demo",
        database_url=f"sqlite:///{folder}/cds.db",
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
    )
    app = create_app(settings, clock=lambda: NOW)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=settings.public_url) as ehr:
        services = (await ehr.get("/cds-services")).json()["services"]
        return [await _post(ehr, services[0], resources) for resources in records()]


async def _post(
    ehr: httpx.AsyncClient, service: dict[str, Any], resources: list[dict[str, Any]]
) -> Seen:
    patient = next(r for r in resources if r["resourceType"] == "Patient")
    prefetch = resolve_prefetch(service["prefetch"], resources)
    answers = []
    for _ in range(2):
        request = {
            "hook": service["hook"],
            "hookInstance": str(uuid.uuid4()),
            "context": {"userId": "Practitioner/1", "patientId": patient["id"]},
            "prefetch": prefetch,
        }
        answers.append(await ehr.post(f"/cds-services/{service['id']}", json=request))
    bundle = await ehr.get("/fhir/RiskAssessment", params={"patient": patient["id"]})
    return Seen(
        patient=patient,
        conditions=[
            r["code"]["coding"][0]["display"] for r in resources if r["resourceType"] == "Condition"
        ],
        observations=sum(r["resourceType"] == "Observation" for r in resources),
        statuses=(answers[0].status_code, answers[1].status_code),
        cards=answers[0].json()["cards"],
        stored=[entry["resource"] for entry in bundle.json().get("entry", [])],
    )


def test_every_record_is_answered(seen: list[Seen]) -> None:
    assert len(seen) == 120
    assert {status for one in seen for status in one.statuses} == {200}


def test_known_diabetics_children_and_the_dead_get_no_figure(seen: list[Seen]) -> None:
    outside = [one for one in seen if _is_outside(one)]
    assert len(outside) > 20, "the data set holds all three"
    for one in outside:
        assert one.stored == []
        assert one.cards == []


def _is_outside(one: Seen) -> bool:
    """Judged from the record itself, without the service's own catalog."""
    known = any(re.search(r"\b[Dd]iabet", display) for display in one.conditions)
    child = one.patient["birthDate"] > "2003-07-15"
    return known or child or "deceasedDateTime" in one.patient


def test_a_second_identical_call_stores_nothing_new(seen: list[Seen]) -> None:
    assert {len(one.stored) for one in seen} == {0, 1}
    assert sum(len(one.stored) for one in seen) > 20, "many adults are scored"


def test_what_is_stored_is_valid_fhir(seen: list[Seen]) -> None:
    stored = [resource for one in seen for resource in one.stored]
    for resource in stored:
        RiskAssessment.model_validate(resource)
    with gzip.open(data_folder("hl7_r4") / "fhir.schema.r4.json.gz") as file:
        validator = jsonschema.Draft6Validator(json.load(file))
    for resource in stored[:5]:
        validator.validate(resource)


def test_the_basis_names_observations_of_the_record_only(seen: list[Seen]) -> None:
    for one in seen:
        for resource in one.stored:
            references = [basis["reference"] for basis in resource["basis"]]
            assert len(references) == len(set(references))
            assert all(reference.startswith("Observation/") for reference in references)
