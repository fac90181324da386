"""The production profile: no door opens without a client's JWT, and a client sees its own."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cds_service.clients import Clients
from cds_service.parts import Parts
from tests.conftest import NOW
from tests.fakes.records import an_assessment, an_audit_entry
from tests.fakes.tokens import a_clients_file, a_key, a_token, jwks
from tests.service import FEEDBACK_URL, HOOK_URL, Service, patient_view

PUBLIC_URL = "https://cds.example.org/api"
DOORS = [
    ("GET", "/cds-services"),
    ("POST", HOOK_URL),
    ("POST", FEEDBACK_URL),
    ("POST", "/predict"),
    ("GET", "/fhir/metadata"),
    ("GET", "/fhir/RiskAssessment?patient=p1"),
    ("GET", "/fhir/RiskAssessment/1"),
    ("POST", "/fhir/RiskAssessment/_search"),
    ("POST", "/cds-services/unknown"),
]


@pytest.fixture
def hospital(parts: Parts, tmp_path: Path) -> Service:
    """The service with one client, called from outside under PUBLIC_URL."""
    file = a_clients_file(tmp_path, keys=jwks(a_key("ES384")))
    settings = replace(parts.settings, profile="production", public_url=PUBLIC_URL)
    clients = Clients.from_file(file, "production")
    return Service.of(replace(parts, settings=settings, clients=clients))


def bearer(path: str, **changed: Any) -> dict[str, str]:
    now = int(NOW.timestamp())
    times = {"iat": now, "exp": now + 300, "jti": str(uuid.uuid4())}
    token = a_token("ES384", **{"aud": PUBLIC_URL + path, **times, **changed})
    return {"Authorization": f"Bearer {token}"}


def call(service: Service, method: str, url: str, **how: Any) -> Any:
    """One call with a token of its own."""
    return service.request(method, url, headers=bearer(url.partition("?")[0]), **how)


@pytest.mark.proves(68, 74)
@pytest.mark.parametrize(("method", "url"), DOORS)
@pytest.mark.parametrize("header", [None, "Basic dTpw", "Bearer a.b.c", "Bearer", "x"])
def test_every_door_is_401_without_a_valid_token(
    hospital: Service, method: str, url: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = hospital.request(method, url, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["issue"][0]["diagnostics"] == "A valid client JWT is required."


@pytest.mark.parametrize("url", ["/healthz", "/readyz", "/metrics"])
def test_monitors_need_no_token(hospital: Service, url: str) -> None:
    assert hospital.request("GET", url).status_code == 200


def test_the_demo_is_not_there(hospital: Service) -> None:
    assert hospital.request("GET", "/").status_code == 404
    assert hospital.request("GET", "/demo/patients").status_code == 404


@pytest.mark.proves(70, 74)
def test_a_token_for_the_endpoint_opens_it_once(hospital: Service) -> None:
    headers = bearer(HOOK_URL)
    first, second = (hospital.call(patient_view(), headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 401)
    assert [entry.client for entry in hospital.audited()] == [None, "General Hospital"]


@pytest.mark.proves(70)
def test_a_token_for_another_endpoint_does_not(hospital: Service) -> None:
    answer = hospital.call(patient_view(), headers=bearer("/cds-services"))
    assert answer.status_code == 401
    assert hospital.stored() == 0


@pytest.mark.proves(65, 70)
def test_each_endpoint_is_its_own_audience(hospital: Service) -> None:
    assert call(hospital, "GET", "/cds-services").status_code == 200
    assert call(hospital, "POST", FEEDBACK_URL, json={"feedback": []}).status_code == 200
    assert call(hospital, "GET", "/fhir/metadata").status_code == 200
    assert call(hospital, "POST", "/predict", json={}).status_code == 400
    assert call(hospital, "POST", "/cds-services/unknown", json={}).status_code == 404


def test_a_client_sees_its_own_assessments_only(hospital: Service) -> None:
    store = hospital.parts.store
    own = an_assessment(patient_id="7", origin="General Hospital")
    other = an_assessment(patient_id="7", origin="Another Hospital")
    for record in (own, other):
        store.record(record, [], an_audit_entry(), None)
    bundle = call(hospital, "GET", "/fhir/RiskAssessment?patient=7").json()
    assert [entry["resource"]["id"] for entry in bundle["entry"]] == [own.id]
    assert bundle["total"] == 1
    assert call(hospital, "GET", f"/fhir/RiskAssessment/{own.id}").status_code == 200
    assert call(hospital, "GET", f"/fhir/RiskAssessment/{other.id}").status_code == 404


def test_a_search_for_everyone_is_400(hospital: Service) -> None:
    answer = call(hospital, "GET", "/fhir/RiskAssessment")
    assert answer.status_code == 400
    assert "patient or identifier" in answer.json()["issue"][0]["diagnostics"]


def test_a_token_that_is_sent_to_the_demo_is_verified_all_the_same(app_client: Service) -> None:
    answer = app_client.call(patient_view(), headers={"Authorization": "Bearer a.b.c"})
    assert answer.status_code == 401


def test_in_the_demo_a_call_belongs_to_the_client_of_its_server(
    parts: Parts, tmp_path: Path
) -> None:
    file = a_clients_file(tmp_path, keys=jwks(a_key("ES384")))
    demo = Service.of(replace(parts, clients=Clients.from_file(file, "demo")))
    demo.call(patient_view(fhirServer="https://ehr.example.org/fhir/"))
    demo.call(patient_view(fhirServer="https://elsewhere.example.org/fhir"))
    assert [entry.client for entry in demo.audited()] == [None, "General Hospital"]
