"""Every call of a clinical route leaves one audit row, whatever becomes of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cds_service.audit.refusals import MANY, MOST_KINDS, Refusals
from cds_service.audit.suspicious import suspicious
from cds_service.audit.verify import verify
from cds_service.clients import Clients
from cds_service.errors import StoreUnavailable
from cds_service.parts import Parts
from cds_service.store import AuditEntry
from tests.conftest import NOW
from tests.fakes.records import an_assessment, an_audit_entry
from tests.fakes.tokens import a_clients_file, a_key, a_token, jwks
from tests.fhir import observation
from tests.service import FEEDBACK_URL, HOOK_URL, INSTANCE, Service, patient_view, with_context

PUBLIC_URL = "https://cds.example.org"
JSON = {"Content-Type": "application/json"}
READ = "/fhir/RiskAssessment"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# name: (method, url, how, status, action)
CALLS: dict[str, tuple[str, str, Mapping[str, Any], int, str]] = {
    "answered": ("POST", HOOK_URL, {"json": patient_view()}, 200, "patient-view"),
    "unusable": ("POST", HOOK_URL, {"json": with_context(userId="x")}, 400, "patient-view"),
    "not JSON": ("POST", HOOK_URL, {"content": b"{", "headers": JSON}, 400, "patient-view"),
    "no such service": ("POST", "/cds-services/x", {"json": {}}, 404, "hook-call"),
    "wrong method": ("GET", HOOK_URL, {}, 405, "hook-call"),
    "data missing": ("POST", HOOK_URL, {"json": patient_view(prefetch={})}, 412, "patient-view"),
    "too large": (
        "POST",
        HOOK_URL,
        {"content": b" " * 20_000_001, "headers": JSON},
        413,
        "patient-view",
    ),
    "text": (
        "POST",
        HOOK_URL,
        {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
        415,
        "patient-view",
    ),
    "feedback": ("POST", FEEDBACK_URL, {"json": {"feedback": []}}, 200, "feedback"),
    "bad feedback": ("POST", FEEDBACK_URL, {"json": {"feedback": [{}]}}, 400, "feedback"),
    "predict": ("POST", "/predict", {"json": {"age": 58, "glucose": 141}}, 200, "predict"),
    "bad predict": ("POST", "/predict", {"json": {"x": 1}}, 400, "predict"),
    "search": ("GET", f"{READ}?patient=p1", {}, 200, "search-type"),
    "bad search": ("GET", f"{READ}?patient=a%20b", {}, 400, "search-type"),
    "search by form": (
        "POST",
        f"{READ}/_search",
        {"content": b"patient=p1", "headers": FORM},
        200,
        "search-type",
    ),
    "no such resource": ("GET", f"{READ}/1", {}, 404, "read"),
    "head": ("HEAD", f"{READ}?patient=p1", {}, 200, "search-type"),
    "discovery": ("GET", "/cds-services", {}, 200, "discovery"),
    "capabilities": ("GET", "/fhir/metadata", {}, 200, "capabilities"),
    "no such type": ("GET", "/fhir/Patient/1", {}, 404, "read"),
    "bad token": ("POST", HOOK_URL, {"headers": {"Authorization": "Bearer x"}}, 401, "hook-call"),
}


def test_what_came_of_other_patients_is_dropped_and_counted(app_client: Service) -> None:
    """Vector 22: foreign Observations are dropped with audit."""
    body = patient_view()
    foreign = observation("2345-7", 300, "mg/dL", subject={"reference": "Patient/p2"})
    body["prefetch"]["observations"]["entry"].append({"resource": foreign})
    assert app_client.call(patient_view()).status_code == 200
    assert app_client.call(body).status_code == 200
    assert [row.detail for row in app_client.audited()] == [
        '{"dropped_of_other_patients":1}',
        None,
    ]


def test_feedback_is_on_record_with_the_patient_of_its_card(app_client: Service) -> None:
    card = app_client.call(patient_view()).json()["cards"][0]["uuid"]
    dismissed = {"card": card, "outcome": "overridden", "outcomeTimestamp": "2026-11-20T11:59:00Z"}
    app_client.request("POST", FEEDBACK_URL, json={"feedback": [dismissed]})
    answer, call = app_client.audited()
    assert (answer.action, answer.patient_id) == ("feedback", call.patient_id)
    assert answer.hook_instance == call.hook_instance == INSTANCE
    app_client.request(
        "POST", FEEDBACK_URL, json={"feedback": [dismissed | {"card": str(uuid.uuid4())}]}
    )
    assert app_client.audited()[0].patient_id is None


@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_one_row(app_client: Service, name: str) -> None:
    method, url, how, status, action = CALLS[name]
    answer = app_client.request(method, url, **how)
    assert answer.status_code == status
    (row,) = app_client.audited()
    assert (row.status, row.action, row.address) == (status, action, "127.0.0.1")
    assert row.recorded_at == NOW
    assert row.suspicious is None
    assert verify(app_client.parts.store).rows == 1


@pytest.mark.parametrize("url", ["/healthz", "/metrics", "/x"])
def test_what_is_the_same_for_everyone_leaves_none(app_client: Service, url: str) -> None:
    app_client.request("GET", url)
    assert app_client.audited() == []


def test_a_refused_hook_call_says_who_asked_about_whom(app_client: Service) -> None:
    app_client.call(patient_view(prefetch={}))
    (row,) = app_client.audited()
    assert (row.user, row.patient_id, row.hook_instance) == ("Practitioner/1", "p1", INSTANCE)
    assert (row.service_id, row.outcome) == ("diabetes-risk", "refused:PrefetchUnavailable")
    assert row.model_version == app_client.parts.services["diabetes-risk"].model_version


def test_a_read_says_whose_assessment_it_was(app_client: Service) -> None:
    record = an_assessment(patient_id="p7")
    app_client.parts.store.record(record, [], an_audit_entry(), None)
    app_client.request("GET", f"{READ}/{record.id}")
    app_client.request("GET", f"{READ}?identifier={record.identifier}")
    searched, read, _ = app_client.audited()
    assert (read.patient_id, read.resource_id) == ("p7", record.id)
    assert (searched.patient_id, searched.action) == ("p7", "search-type")


# Answers and refusals that cannot be put on record -------------------------------------------


@pytest.fixture
def forgetful(app_client: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service with a store that takes no audit rows by themselves."""

    def refuse(_entries: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(app_client.parts.store, "append_audit", refuse)
    return app_client


def test_an_answer_that_cannot_be_put_on_record_is_not_given(forgetful: Service) -> None:
    answer = forgetful.request("GET", f"{READ}?patient=p1")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert 'cds_unaudited_calls_total{call="answered"} 1.0' in forgetful.metrics()


def test_a_refusal_that_cannot_be_put_on_record_stands(forgetful: Service) -> None:
    with capture_logs() as logs:
        assert forgetful.call({}).status_code == 400
    (said,) = [line for line in logs if line["log_level"] == "error"]
    assert said["event"] == "audit rows of refused calls are lost"
    assert 'cds_unaudited_calls_total{call="refused"} 1.0' in forgetful.metrics()


def test_a_fault_of_ours_is_a_row_too(app_client: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_id: str) -> None:
        raise RuntimeError("p1 said …")

    monkeypatch.setattr(app_client.parts.store, "risk_assessment", fail)
    assert app_client.request("GET", f"{READ}/1").status_code == 500
    (row,) = app_client.audited()
    assert (row.status, row.outcome) == (500, "refused:InternalFault")


# Floods --------------------------------------------------------------------------------------


@pytest.fixture
def hospital(parts: Parts, tmp_path: Path) -> Service:
    file = a_clients_file(tmp_path, keys=jwks(a_key("ES384")))
    settings = replace(parts.settings, profile="production", public_url=PUBLIC_URL)
    clients = Clients.from_file(file, "production")
    return Service.of(replace(parts, settings=settings, clients=clients))


def test_refused_callers_without_a_token_are_counted_not_listed(hospital: Service) -> None:
    for _ in range(50):
        assert hospital.call(patient_view()).status_code == 401
    (first,) = hospital.audited()
    assert (first.status, first.calls, first.user) == (401, 1, None)
    (rest,) = hospital.app.state.refusals.rest()
    assert (rest.status, rest.calls) == (401, 49)


def test_a_refused_client_has_a_row_for_each_call(hospital: Service) -> None:
    now = int(NOW.timestamp())
    for _ in range(3):
        token = a_token(aud=PUBLIC_URL + HOOK_URL, iat=now, exp=now + 300, jti=str(uuid.uuid4()))
        answer = hospital.call({}, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 400
    rows = hospital.audited()
    assert [(row.client, row.status) for row in rows] == [("General Hospital", 400)] * 3


def refused(address: str, seconds: int = 0) -> AuditEntry:
    return an_audit_entry(recorded_at=NOW + timedelta(seconds=seconds), status=401, address=address)


def test_a_minute_that_ends_is_written_by_whoever_comes_next() -> None:
    refusals = Refusals()
    assert [entry.calls for entry in refusals.take(refused("a"))] == [1]
    assert refusals.take(refused("a", 1)) == refusals.take(refused("a", 2)) == []
    due = refusals.take(refused("b", 60))
    assert [(entry.address, entry.calls) for entry in due] == [("a", 2), ("b", 1)]
    assert refusals.ended(NOW + timedelta(minutes=9)) == refusals.rest() == []


def test_rows_of_a_minute_are_bounded_however_many_addresses_there_are() -> None:
    refusals = Refusals()
    calls = 5 * MOST_KINDS
    written = [row for n in range(calls) for row in refusals.take(refused(f"a{n}"))]
    written += refusals.rest()
    assert len(written) == MOST_KINDS + 2
    assert sum(row.calls or 0 for row in written) == calls, "every one of them is counted"
    assert written[-1].address == MANY


def test_a_clock_set_back_loses_no_count() -> None:
    refusals = Refusals()
    refusals.take(refused("a", 120))
    assert refusals.take(refused("a", 0)) == []
    assert [entry.calls for entry in refusals.rest()] == [1]


# Attempts ------------------------------------------------------------------------------------

ATTEMPTS = {
    "1' OR '1'='1": "sql",
    "p1; DROP TABLE audit": "sql",
    "x' UNION SELECT user": "sql",
    "<script>alert(1)</script>": "script",
    "javascript:alert(1)": "script",
    '"><img src=x onerror=alert(1)>': "script",
    "{{7*7}}": "template",
    "${7*7}": "template",
    "../../etc/passwd": "traversal",
    "..%2f..%2fetc": "traversal",
    "%252e%252e%252f": "traversal",
    "p1\r\nSet-Cookie: a=b": "crlf",
    "p1%0d%0aX: y": "crlf",
    "p1%00": "null",
    "${jndi:ldap://x/a}": "jndi",
    "${lower:j}ndi": "jndi",
    "$(curl x)": "command",
    "p1; cat /etc/hosts": "command",
}
ORDINARY = [
    "Practitioner/123",
    "p-1.2",
    "urn:uuid:d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
    "https://ehr.example.org/fhir/R4?a=b&c=d",
    "*/*, text/html;q=0.9, application/fhir+json; charset=utf-8",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari",
    "patient/*.read user/Observation.rs?category=laboratory",
    "Zoë O'Brien or Smith",
]


@pytest.mark.parametrize("text", ATTEMPTS)
def test_an_attempt_is_named(text: str) -> None:
    assert ATTEMPTS[text] in suspicious([text])


@pytest.mark.parametrize("text", ORDINARY)
def test_what_callers_ordinarily_send_is_not_marked(text: str) -> None:
    assert suspicious([text]) == frozenset()


@pytest.mark.parametrize("text", ATTEMPTS)
def test_an_attempt_in_an_id_is_ordinary_bad_input_and_marked(
    app_client: Service, text: str
) -> None:
    assert app_client.call(with_context(userId=text)).status_code == 400
    assert app_client.call(with_context(patientId=text)).status_code == 400
    assert app_client.request("GET", READ, params={"patient": text}).status_code == 400
    for row in app_client.audited():
        assert ATTEMPTS[text] in (row.suspicious or "")


def test_an_attempt_beside_a_good_call_marks_it_and_blocks_nothing(app_client: Service) -> None:
    answer = app_client.call(patient_view(), headers={"User-Agent": "${jndi:ldap://x/a}"})
    assert answer.status_code == 200
    (row,) = app_client.audited()
    assert (row.status, row.suspicious) == (200, "jndi,template")


def test_a_token_and_clinical_words_are_not_looked_at(app_client: Service) -> None:
    comment = {"reason": {"code": "x", "system": "urn:x"}, "userComment": "<script> ' or 1=1"}
    body = {"feedback": [{"card": "x", "outcome": "overridden", "overrideReason": comment}]}
    headers = {"Authorization": "Bearer ${jndi:x}", "Cookie": "../../x"}
    app_client.request("POST", FEEDBACK_URL, json=body)
    app_client.request("POST", FEEDBACK_URL, json=body, headers=headers)
    assert [row.suspicious for row in app_client.audited()] == [None, None]


def test_what_is_kept_of_a_hostile_id_is_bounded(app_client: Service) -> None:
    app_client.call(with_context(userId="x" * 1_000_000, patientId="y" * 1_000_000))
    (row,) = app_client.audited()
    assert (len(row.user or ""), len(row.patient_id or "")) == (200, 200)
