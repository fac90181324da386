"""A real process between an EHR that calls and an EHR's FHIR server that receives."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.ehr import FakeEhr
from tests.fhir import condition, medication, observation, patient, searchset
from tests.process import ServiceProcess

TODAY = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 30 * 86400))


def chart() -> dict[str, Any]:
    """A patient with a high estimate, thirty days old."""
    return {
        "patient": patient(),
        "observations": searchset(
            observation("2345-7", 131, "mg/dL", id="g", effectiveDateTime=TODAY),
            observation("39156-5", 36.2, "kg/m2", id="b", effectiveDateTime=TODAY),
        ),
        "conditions": searchset(condition("http://snomed.info/sct", "38341003")),
        "medications": searchset(medication({"text": "ramipril"})),
    }


def call(service: ServiceProcess, **change: Any) -> httpx.Response:
    body = {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/1", "patientId": "p1"},
        "prefetch": chart(),
        **change,
    }
    kept = {name: value for name, value in body.items() if value is not None}
    return httpx.post(f"{service.url}/cds-services/diabetes-risk", json=kept, timeout=30)


def authorization(scope: str = "patient/*.*") -> dict[str, Any]:
    return {
        "access_token": "s3cret-of-this-call",
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": scope,
        "subject": "cds-service",
    }


def clients_file(folder: Path, base: str, write_back: str) -> str:
    path = folder / "clients.toml"
    path.write_text(
        f'[[client]]\nname = "Test Hospital"\nfhir_servers = ["{base}"]\n'
        f'write_back = "{write_back}"\n'
    )
    return str(path)


def eventually(holds: Callable[[], bool], seconds: float = 20) -> bool:
    give_up = time.monotonic() + seconds
    while not holds() and time.monotonic() < give_up:
        time.sleep(0.05)
    return holds()


def assessments(ehr: FakeEhr) -> list[dict[str, Any]]:
    return [r for r in ehr.resources if r["resourceType"] == "RiskAssessment"]


def stored(service: ServiceProcess) -> int:
    bundle = httpx.get(f"{service.url}/fhir/RiskAssessment", params={"patient": "p1"}).json()
    total: int = bundle["total"]
    return total


@pytest.mark.parametrize("write_back", ["backend", "inline"])
def test_a_scored_call_reaches_the_ehrs_fhir_server_once(tmp_path: Path, write_back: str) -> None:
    with FakeEhr() as ehr:
        settings = {"CDS_CLIENTS_FILE": clients_file(tmp_path, ehr.base, write_back)}
        with ServiceProcess(tmp_path, **settings) as service:
            for _ in range(2):
                answer = call(service, fhirServer=ehr.base, fhirAuthorization=authorization())
                assert answer.json()["cards"]
            assert eventually(lambda: len(assessments(ehr)) == 1)
            assert stored(service) == 1
            log = service.log
        assert len(assessments(ehr)) == 1
    assert "s3cret" not in log
    assert b"s3cret" not in (tmp_path / "cds.db").read_bytes()


@pytest.mark.proves(44, 58)
def test_a_system_action_asks_the_ehr_to_write_a_new_assessment_once(tmp_path: Path) -> None:
    with FakeEhr() as ehr:
        settings = {"CDS_CLIENTS_FILE": clients_file(tmp_path, ehr.base, "system-action")}
        with ServiceProcess(tmp_path, **settings) as service:
            (action,) = call(service, fhirServer=ehr.base).json()["systemActions"]
            assert action["type"] == "create"
            assert action["description"]
            assert action["resource"]["resourceType"] == "RiskAssessment"
            assert "id" not in action["resource"]
            assert "systemActions" not in call(service, fhirServer=ehr.base).json()
        assert assessments(ehr) == []


@pytest.mark.proves(29, 36, 38)
def test_prefetch_that_was_not_sent_is_read_with_the_calls_token(tmp_path: Path) -> None:
    sent = chart()
    with FakeEhr() as ehr:
        ehr.resources += [sent["patient"]]
        for key in ("observations", "conditions", "medications"):
            ehr.resources += [entry["resource"] for entry in sent[key]["entry"]]
        with ServiceProcess(tmp_path, CDS_DEADLINE_MS="5000") as service:
            answer = call(
                service, prefetch=None, fhirServer=ehr.base, fhirAuthorization=authorization()
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["cards"] == answer.json()["cards"] != []
            assert assessments(ehr) == [], "without a client nothing is written back"
        tokens = {asked.headers.get("authorization") for asked in ehr.fhir_requests}
        assert tokens == {"Bearer s3cret-of-this-call"}
        assert len(ehr.fhir_requests) == 4


def test_diagnoses_sent_in_part_are_read_whole_or_refused(tmp_path: Path) -> None:
    """The first page has no diabetes; the second does."""
    first = condition("http://snomed.info/sct", "38341003")
    second = condition("http://snomed.info/sct", "44054006")
    with (
        FakeEhr(resources=[first, second], page_size=1) as ehr,
        ServiceProcess(tmp_path) as service,
    ):
        link = {"relation": "next", "url": f"{ehr.base}/Condition?start=1"}
        part = {**chart(), "conditions": {**searchset(first), "link": [link]}}
        assert call(service, prefetch=part).status_code == 412
        answer = call(
            service, prefetch=part, fhirServer=ehr.base, fhirAuthorization=authorization()
        )
        assert answer.json() == {"cards": []}, "known diabetes: no figure"
        assert stored(service) == 0


def test_a_diagnosis_that_was_sent_is_not_lost_by_reading_again(tmp_path: Path) -> None:
    """The token may see less of the record than the EHR that prefetched."""
    known = condition("http://snomed.info/sct", "44054006")
    with FakeEhr() as ehr, ServiceProcess(tmp_path) as service:
        link = {"relation": "next", "url": f"{ehr.base}/Condition?start=1"}
        part = {**chart(), "conditions": {**searchset(known), "link": [link]}}
        answer = call(
            service, prefetch=part, fhirServer=ehr.base, fhirAuthorization=authorization()
        )
        assert answer.json() == {"cards": []}
        assert stored(service) == 0


def test_a_fhir_server_that_is_not_allowed_is_not_called(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path) as service:
        for server in (
            "http://169.254.169.254/latest",
            "http://10.0.0.1/fhir",
            "https://ehr.example.org/fhir",
            "http://localhost@10.0.0.1/fhir",
            "file:///etc/passwd",
        ):
            started = time.monotonic()
            answer = call(
                service, prefetch=None, fhirServer=server, fhirAuthorization=authorization()
            )
            assert answer.status_code in (400, 412), server
            assert answer.json()["resourceType"] == "OperationOutcome"
            assert time.monotonic() - started < 5, "an attempt to connect would take its time"


def test_what_was_answered_survives_kill_9_and_is_delivered_once(tmp_path: Path) -> None:
    with FakeEhr() as ehr:
        settings = {"CDS_CLIENTS_FILE": clients_file(tmp_path, ehr.base, "backend")}
        ehr.faults.extend([503] * 3)
        with ServiceProcess(tmp_path, **settings) as service:
            assert call(service, fhirServer=ehr.base).status_code == 200
            service.kill()
        with ServiceProcess(tmp_path, **settings) as service:
            assert stored(service) == 1
            assert eventually(lambda: len(assessments(ehr)) == 1, seconds=40)
            assert call(service, fhirServer=ehr.base).status_code == 200
            assert stored(service) == 1
        assert len(assessments(ehr)) == 1
