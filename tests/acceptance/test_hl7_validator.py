"""HL7's own validator finds no error in any kind of resource that the service gives out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cds_service.audit.export import Format, export
from cds_service.demo.patients import DemoPatient, demo_patients
from cds_service.demo.prefetch import resolve_prefetch
from cds_service.parts import Parts
from cds_service.store import AuditEntry, Store
from tests.conftest import NOW
from tests.fakes.records import NOON, an_audit_entry
from tests.fhir import condition, observation, patient
from tests.servers import Validator
from tests.service import Service, patient_view, prefetch

ROOT = Path(__file__).parents[2]
PEOPLE = {person.id: person for person in demo_patients(NOW)}
TEMPLATES = json.loads((ROOT / "hooks.json").read_text())["services"][0]["prefetch"]
RESOURCE = dict[str, Any]


# What the validator itself can tell ----------------------------------------------------------


def test_codes_that_are_published_elsewhere_are_no_errors(validator: Validator) -> None:
    found = validator.validate(condition("http://snomed.info/sct", "44054006"))
    found += validator.validate(observation("4548-4", 6.1, "%"))
    assert not [issue for issue in found if issue.is_error]
    assert any("http://loinc.org" in issue.message for issue in found)


@pytest.mark.parametrize(
    ("resource", "location"),
    [
        (patient(gender="woman"), "Patient.gender"),
        (patient(birthDate="1968-02-30"), "Patient.birthDate"),
        (condition("http://snomed.info/sct", "1", clinical="actif"), "Condition.clinicalStatus"),
        ({**observation("4548-4", 6.1, "%"), "status": None}, "Observation.status"),
        (patient(colour="blue"), "Patient"),
        ({"resourceType": "Nonsense"}, "Nonsense"),
    ],
)
def test_what_r4_forbids_is_an_error(
    validator: Validator, resource: RESOURCE, location: str
) -> None:
    assert location in [issue.location for issue in validator.errors(resource)]


# What the service gives out ------------------------------------------------------------------


def called(service: Service, person: DemoPatient, **context: str) -> tuple[RESOURCE, RESOURCE]:
    """A demo patient's chart is opened: the RiskAssessment ({} if none), and the hook's answer."""
    answer = service.call(
        patient_view(
            context={"userId": "Practitioner/1", "patientId": person.id, **context},
            prefetch=resolve_prefetch(TEMPLATES, person.resources),
        )
    )
    assert answer.status_code == 200
    return next(iter(stored(service)), {}), answer.json()


def stored(service: Service) -> Iterator[RESOURCE]:
    bundle = service.request("GET", "/fhir/RiskAssessment").json()
    return (entry["resource"] for entry in bundle.get("entry", ()))


@pytest.mark.parametrize("person", PEOPLE.values(), ids=PEOPLE)
def test_the_risk_assessment_and_the_orders_of_each_demo_patient(
    validator: Validator, app_client: Service, person: DemoPatient
) -> None:
    assessment, answer = called(app_client, person)
    if assessment:
        assert validator.errors(assessment) == []
    for order in orders(answer):
        assert validator.errors(order) == []


def orders(answer: RESOURCE) -> Iterator[RESOURCE]:
    for card in answer["cards"]:
        for suggestion in card.get("suggestions", ()):
            for action in suggestion["actions"]:
                yield action["resource"]


def test_the_demo_patients_have_every_level_and_orders(app_client: Service) -> None:
    """So that what is checked above is every form that there is."""
    answers = [called(app_client, person)[1] for person in PEOPLE.values()]
    levels = {
        resource["prediction"][0]["qualitativeRisk"]["coding"][0]["code"]
        for resource in stored(app_client)
    }
    assert levels == {"low", "moderate", "high"}
    assert any(list(orders(answer)) for answer in answers)


@pytest.mark.parametrize(
    ("sent", "context"),
    [
        (prefetch(), {}),
        (prefetch(), {"encounterId": "e1"}),
        (prefetch(patient=patient(gender="unknown")), {}),
        (prefetch(patient=patient(gender=None)), {"encounterId": "e1"}),
    ],
)
def test_a_risk_assessment_with_absent_inputs_and_of_an_encounter(
    validator: Validator, app_client: Service, sent: RESOURCE, context: dict[str, str]
) -> None:
    who = {"userId": "Practitioner/1", "patientId": "p1"}
    answer = app_client.call(patient_view(context=who | context, prefetch=sent))
    for resource in [*stored(app_client), *orders(answer.json())]:
        assert validator.errors(resource) == []


def test_searchsets_full_and_empty(validator: Validator, app_client: Service) -> None:
    for person in PEOPLE.values():
        called(app_client, person)
    for query in ("", "?_count=2", "?_count=0", "?patient=nobody"):
        bundle = app_client.request("GET", f"/fhir/RiskAssessment{query}").json()
        assert validator.errors(bundle) == []


def test_the_capability_statement(validator: Validator, app_client: Service) -> None:
    statement = app_client.request("GET", "/fhir/metadata").json()
    assert validator.errors(statement) == []


@pytest.mark.parametrize(
    ("method", "url", "how"),
    [
        ("POST", "/cds-services/diabetes-risk", {"content": b"{"}),
        ("POST", "/cds-services/diabetes-risk", {"json": patient_view(hook="order-sign")}),
        ("POST", "/cds-services/diabetes-risk", {"json": patient_view(prefetch={})}),
        ("POST", "/cds-services/unknown", {"json": patient_view()}),
        ("POST", "/cds-services/diabetes-risk/feedback", {"json": {}}),
        ("GET", "/fhir/RiskAssessment/unknown", {}),
        ("GET", "/fhir/RiskAssessment?_count=x", {}),
        ("DELETE", "/fhir/RiskAssessment", {}),
    ],
)
def test_operation_outcomes(
    validator: Validator, app_client: Service, method: str, url: str, how: Any
) -> None:
    answer = app_client.request(method, url, **how)
    assert answer.status_code >= 400
    assert validator.errors(answer.json()) == []


def test_the_operation_outcome_for_a_caller_without_a_token(
    validator: Validator, production: Service
) -> None:
    answer = production.call(patient_view())
    assert answer.status_code == 401
    assert validator.errors(answer.json()) == []


AUDITED = {
    "hook": an_audit_entry(action="patient-view", user="Practitioner/1", patient_id="p1"),
    "refused": an_audit_entry(action="hook-call", status=401, address="192.0.2.1", calls=41),
    "fault": an_audit_entry(action="predict", status=500),
    "read": an_audit_entry(action="read", resource_id="r1", patient_id="p1", client="General"),
    "search": an_audit_entry(action="search-type", patient_id="p1"),
    "feedback": an_audit_entry(action="feedback", user="Practitioner/1", service_id="diabetes"),
    "odd": an_audit_entry(action="hook-call", user="' OR 1=1 --", patient_id="../\x01", tenant=" "),
    "export": an_audit_entry(action="audit-export", user="operator:x"),
    "prune": an_audit_entry(action="audit-prune", user="operator:x"),
    "unnamed": an_audit_entry(),
}


@pytest.mark.parametrize("entry", AUDITED.values(), ids=AUDITED)
def test_audit_events(validator: Validator, parts: Parts, entry: AuditEntry) -> None:
    parts.store.append_audit([entry])
    for event in events(parts.store):
        assert validator.errors(event) == []


def test_the_audit_event_of_a_real_call(validator: Validator, app_client: Service) -> None:
    app_client.call(patient_view())
    for event in events(app_client.parts.store):
        assert validator.errors(event) == []


def events(store: Store) -> list[RESOURCE]:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    lines = export(store, start=None, end=later, format=Format.FHIR, now=NOON, user="operator:x")
    return [json.loads(line) for line in lines]
