"""The request of a hook: what is wrong is a 400 that names the field; what is odd is read."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fhir import patient
from tests.service import (
    ABSENT,
    HOOK_URL,
    INSTANCE,
    Service,
    authorization,
    patient_view,
    prefetch,
    with_context,
)

CONTRADICTORY = sorted((Path(__file__).parents[1] / "payloads" / "contradictory").glob("*.json"))


def expressions(answer: Any) -> set[str]:
    return {where for issue in answer.json()["issue"] for where in issue.get("expression", ())}


@pytest.mark.proves(27, 45)
def test_a_good_request_is_answered_with_a_card(app_client: Service) -> None:
    answer = app_client.call(patient_view())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json()["cards"]) == 1
    assert app_client.stored() == 1


BAD_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "no hook": (patient_view(hook=ABSENT), "hook"),
    "hook null": (patient_view(hook=None), "hook"),
    "hook empty": (patient_view(hook=""), "hook"),
    "hook a number": (patient_view(hook=1), "hook"),
    "another hook": (patient_view(hook="order-sign"), "hook"),
    "no hookInstance": (patient_view(hookInstance=ABSENT), "hookInstance"),
    "hookInstance null": (patient_view(hookInstance=None), "hookInstance"),
    "hookInstance empty": (patient_view(hookInstance=""), "hookInstance"),
    "hookInstance no UUID": (patient_view(hookInstance="abc"), "hookInstance"),
    "hookInstance in braces": (patient_view(hookInstance=f"{{{INSTANCE}}}"), "hookInstance"),
    "hookInstance a number": (patient_view(hookInstance=7), "hookInstance"),
    "no context": (patient_view(context=ABSENT), "context"),
    "context null": (patient_view(context=None), "context"),
    "context an array": (patient_view(context=[]), "context"),
    "context a string": (patient_view(context="p1"), "context"),
    "no patientId": (with_context(patientId=ABSENT), "context.patientId"),
    "patientId null": (with_context(patientId=None), "context.patientId"),
    "patientId a number": (with_context(patientId=12), "context.patientId"),
    "patientId with a type": (with_context(patientId="Patient/p1"), "context.patientId"),
    "patientId with spaces": (with_context(patientId="p 1"), "context.patientId"),
    "patientId with a newline": (with_context(patientId="p1\n"), "context.patientId"),
    "patientId upwards": (with_context(patientId="../Patient"), "context.patientId"),
    "patientId two dots": (with_context(patientId=".."), "context.patientId"),
    "patientId other digits": (with_context(patientId="१२"), "context.patientId"),
    "patientId too long": (with_context(patientId="p" * 65), "context.patientId"),
    "patientId empty": (with_context(patientId=""), "context.patientId"),
    "no userId": (with_context(userId=ABSENT), "context.userId"),
    "userId without an id": (with_context(userId="Practitioner"), "context.userId"),
    "userId with a version": (with_context(userId="Practitioner/1/_history/2"), "context.userId"),
    "userId a URL": (with_context(userId="https://a.org/Practitioner/1"), "context.userId"),
    "userId a device": (with_context(userId="Device/1"), "context.userId"),
    "userId an object": (with_context(userId={"a": 1}), "context.userId"),
    "encounterId with a type": (with_context(encounterId="Encounter/1"), "context.encounterId"),
    "encounterId empty": (with_context(encounterId=""), "context.encounterId"),
    "fhirServer a number": (patient_view(fhirServer=1), "fhirServer"),
    "fhirServer relative": (patient_view(fhirServer="/fhir"), "fhirServer"),
    "fhirServer another scheme": (patient_view(fhirServer="file:///etc/passwd"), "fhirServer"),
    "fhirServer with a query": (patient_view(fhirServer="https://a.org/fhir?x=1"), "fhirServer"),
    "fhirServer with a user": (patient_view(fhirServer="https://u:p@a.org/fhir"), "fhirServer"),
    "fhirServer not parsable": (patient_view(fhirServer="http://[::1/fhir"), "fhirServer"),
    "fhirServer bad port": (patient_view(fhirServer="http://a.org:x/fhir"), "fhirServer"),
    "authorization a string": (patient_view(fhirAuthorization="x"), "fhirAuthorization"),
    "no access_token": (authorization(access_token=ABSENT), "fhirAuthorization.access_token"),
    "access_token empty": (authorization(access_token=""), "fhirAuthorization.access_token"),
    "token_type DPoP": (authorization(token_type="DPoP"), "fhirAuthorization.token_type"),
    "expires_in a string": (authorization(expires_in="300"), "fhirAuthorization.expires_in"),
    "expires_in true": (authorization(expires_in=True), "fhirAuthorization.expires_in"),
    "expires_in a fraction": (authorization(expires_in=1.5), "fhirAuthorization.expires_in"),
    "no scope": (authorization(scope=ABSENT), "fhirAuthorization.scope"),
    "scope a list": (authorization(scope=["a"]), "fhirAuthorization.scope"),
    "no subject": (authorization(subject=ABSENT), "fhirAuthorization.subject"),
    "token's patient no id": (authorization(patient="Patient/p1"), "fhirAuthorization.patient"),
    "prefetch an array": (patient_view(prefetch=[]), "prefetch"),
    "prefetch a string": (patient_view(prefetch="x"), "prefetch"),
    "prefetch value an array": (patient_view(prefetch={"patient": []}), "prefetch"),
    "prefetch value false": (patient_view(prefetch={"patient": False}), "prefetch"),
}


@pytest.mark.proves(27, 41)
@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_bad_field_is_a_400_that_names_it(app_client: Service, name: str) -> None:
    body, where = BAD_FIELDS[name]
    answer = app_client.call(body)
    assert answer.status_code == 400
    assert expressions(answer) == {where}
    assert app_client.stored() == 0


@pytest.mark.parametrize("path", CONTRADICTORY, ids=lambda path: path.stem)
def test_a_request_that_contradicts_itself_is_400(app_client: Service, path: Path) -> None:
    assert app_client.call_bytes(path.read_bytes()).status_code == 400
    assert app_client.stored() == 0


def test_every_bad_field_is_named_at_once(app_client: Service) -> None:
    answer = app_client.call({"hook": "patient-view", "hookInstance": "x", "context": {}})
    named = {"hookInstance", "context.userId", "context.patientId"}
    assert expressions(answer) == named


def test_nothing_that_was_sent_is_echoed(app_client: Service) -> None:
    sent = patient_view(hookInstance="secret-1", fhirServer="secret-2", prefetch={"s" * 200: "x"})
    answer = app_client.call(sent)
    assert "secret" not in answer.text
    assert "s" * 100 not in answer.text


ODD_BUT_FINE: dict[str, dict[str, Any]] = {
    "hookInstance upper-case": patient_view(hookInstance=INSTANCE.upper()),
    "hookInstance as a URN": patient_view(hookInstance=f"urn:uuid:{INSTANCE}"),
    "unknown members": patient_view(future={"a": [1]}, x=None),
    "unknown context": with_context(departmentId="9"),
    "unknown prefetch key": patient_view(prefetch=prefetch(a1c={"resourceType": "Bundle"})),
    "extension": patient_view(extension={"org.example": {"a": 1}}),
    "extension a string": patient_view(extension="x"),
    "extension null": patient_view(extension=None),
    "PractitionerRole": with_context(userId="PractitionerRole/1"),
    "Patient": with_context(userId="Patient/1"),
    "RelatedPerson": with_context(userId="RelatedPerson/a-b.c"),
    "encounterId null": with_context(encounterId=None),
    "encounterId": with_context(encounterId="e1"),
    "longest patientId": with_context(patientId="p1"),
    "fhirServer null": patient_view(fhirServer=None, fhirAuthorization=None),
    "fhirServer without a token": patient_view(fhirServer="https://ehr.example.org/fhir/"),
    "bearer in lower case": authorization(token_type="bearer"),
    "expired token": authorization(expires_in=-1),
    "SMART 2 scope": authorization(scope="patient/Observation.rs?category=laboratory"),
    "patient scope without patient": authorization(scope="patient/*.read"),
    "token of this patient": authorization(patient="p1"),
    "medications null": patient_view(prefetch=prefetch(medications=None)),
    "Patient without an id": patient_view(
        prefetch=prefetch(patient={k: v for k, v in patient().items() if k != "id"})
    ),
    "Patient in a Bundle of one": patient_view(
        prefetch=prefetch(
            patient={"resourceType": "Bundle", "entry": [{"resource": patient()}, {"a": 1}]}
        )
    ),
}


@pytest.mark.proves(28, 32)
@pytest.mark.parametrize("name", ODD_BUT_FINE)
def test_what_is_odd_but_harmless_gives_the_same_card(app_client: Service, name: str) -> None:
    usual = app_client.call(patient_view()).json()["cards"]
    answer = app_client.call(ODD_BUT_FINE[name])
    assert answer.status_code == 200
    assert [card["summary"] for card in answer.json()["cards"]] == [c["summary"] for c in usual]


@pytest.mark.proves(30)
@pytest.mark.parametrize(
    "body",
    [patient_view(prefetch=ABSENT), patient_view(prefetch=None), patient_view(prefetch={})],
    ids=["absent", "null", "empty"],
)
def test_no_prefetch_and_no_server_is_412_naming_each_key(
    app_client: Service, body: dict[str, Any]
) -> None:
    answer = app_client.call(body)
    assert answer.status_code == 412
    required = app_client.parts.services["diabetes-risk"].required_prefetch
    assert expressions(answer) == {f"prefetch.{key}" for key in required}
    assert app_client.stored() == 0


@pytest.mark.proves(30, 33)
@pytest.mark.parametrize(
    "value",
    [None, {"resourceType": "Observation"}, {"resourceType": "OperationOutcome"}, {}, {"a": []}],
    ids=["null", "another type", "OperationOutcome", "empty object", "no resource"],
)
def test_a_patient_that_cannot_be_used_is_412(app_client: Service, value: Any) -> None:
    answer = app_client.call(patient_view(prefetch=prefetch(patient=value)))
    assert answer.status_code == 412
    assert expressions(answer) == {"prefetch.patient"}


def test_hook_instances_are_stored_in_their_normal_form(app_client: Service) -> None:
    app_client.call(patient_view(hookInstance=f"urn:uuid:{INSTANCE.upper()}"))
    _, records = app_client.parts.store.search(count=1)
    assert records[0].hook_instance == INSTANCE


@pytest.mark.proves(44)
def test_the_same_call_twice_is_two_answers_and_one_assessment(app_client: Service) -> None:
    first, second = (app_client.call(patient_view()) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert app_client.stored() == 1


@pytest.mark.parametrize(
    "service_id", ["nope", "..%2F..%2Fetc%2Fpasswd", "x" * 10_000, "%00", "diabetes-risk%20"]
)
def test_an_unknown_service_is_404_without_an_echo(app_client: Service, service_id: str) -> None:
    answer = app_client.request("POST", f"/cds-services/{service_id}", json=patient_view())
    assert answer.status_code == 404
    assert service_id[:20] not in answer.text


@pytest.mark.proves(1)
@pytest.mark.parametrize("accept", ["text/html", "application/json+fhir", "image/png", "*/*"])
def test_the_answer_is_json_whatever_is_accepted(app_client: Service, accept: str) -> None:
    answer = app_client.call(patient_view(), headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


def test_big_integers_and_deep_extensions_in_prefetch_are_no_fault_of_ours(
    app_client: Service,
) -> None:
    odd = {"resourceType": "Patient", "id": "p1", "birthDate": 10**18, "gender": [{"a": {}}]}
    answer = app_client.call(patient_view(prefetch=prefetch(patient=odd)))
    assert answer.status_code in (200, 412)


def test_a_body_of_random_uuid_calls_shares_no_card_uuid(app_client: Service) -> None:
    bodies = [patient_view(hookInstance=str(uuid.uuid4())) for _ in range(3)]
    cards = [app_client.call(body).json()["cards"][0]["uuid"] for body in bodies]
    assert len(set(cards)) == 3


def test_requests_are_read_from_bytes_as_an_ehr_sends_them(app_client: Service) -> None:
    body = orjson.dumps(patient_view(), option=orjson.OPT_INDENT_2)
    answer = app_client.request(
        "POST", HOOK_URL, content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
