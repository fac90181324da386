"""Planted markers: what is secret or about a patient is in no log line, metric or error body."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.ehr import FakeEhr, Fault
from tests.process import ServiceProcess
from tests.service import prefetch

TOKEN = "MARKER-access-token"
JWT = "eyJNQVJLRVI.MARKER-jwt.c2ln"
NAME = "MARKER-family-name"
MRN = "MARKER-mrn-4711"
BORN = "1958-03-17"
STREET = "MARKER-street"
COMMENT = "MARKER-comment"
FREE_TEXT = "MARKER-free-text"
PATIENT = "MARKER-patient-id"
QUERY = "MARKER-query"
PATH = "MARKER-path"
USER = "MARKER-user"
MARKERS = (TOKEN, JWT, NAME, MRN, BORN, STREET, COMMENT, FREE_TEXT, PATIENT, QUERY, PATH, USER)
FAULTS: tuple[Fault, ...] = (401, 403, 404, 429, 500, "html", "not-json", "close", "redirect")
SERVICE = "/cds-services/diabetes-risk"


def record() -> dict[str, Any]:
    """A prefetch whose every free field holds a marker."""
    sent = prefetch()
    sent["patient"] |= {
        "id": PATIENT,
        "name": [{"family": NAME, "given": [NAME]}],
        "identifier": [{"system": "urn:mrn", "value": MRN}],
        "birthDate": BORN,
        "address": [{"line": [STREET]}],
    }
    for key in ("observations", "conditions", "medications"):
        for entry in sent[key].get("entry", []):
            entry["resource"] |= {
                "subject": {"reference": f"Patient/{PATIENT}", "display": NAME},
                "note": [{"text": FREE_TEXT}],
                "text": {"status": "generated", "div": f"<div>{FREE_TEXT}</div>"},
            }
    return sent


def body(**change: Any) -> dict[str, Any]:
    sent: dict[str, Any] = {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": f"Practitioner/{USER}", "patientId": PATIENT},
        "prefetch": record(),
        **change,
    }
    return {name: value for name, value in sent.items() if value is not None}


def granted() -> dict[str, Any]:
    return {
        "access_token": TOKEN,
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "patient/*.read",
        "subject": "cds-service",
    }


def every_path(client: httpx.Client, ehr: FakeEhr) -> Iterator[httpx.Response]:
    """The same markers by every route, answered and refused."""
    jwt = {"Authorization": f"Bearer {JWT}"}
    json = {"Content-Type": "application/json"}
    yield client.post(SERVICE, json=body())
    yield client.post(SERVICE, json=body(context={"userId": USER, "patientId": f"{PATIENT}!"}))
    yield client.post(SERVICE, json=body(hookInstance=MRN))
    yield client.post(SERVICE, json=body(hook=FREE_TEXT))
    yield client.post(SERVICE, json=body(prefetch={}))
    yield client.post(SERVICE, json=body(prefetch={**record(), "conditions": FREE_TEXT}))
    yield client.post(SERVICE, json=body(prefetch={**record(), NAME: FREE_TEXT, "patient": MRN}))
    for server in (f"http://{PATH}/{MRN}", f"http://ehr:{MRN}/fhir", f"http://[{MRN}]/fhir"):
        yield client.post(SERVICE, json=body(fhirServer=server))
    yield client.post(SERVICE, json=body(), headers=jwt)
    yield client.post(f"{SERVICE}?{QUERY}", content=f'{{"{NAME}": "{MRN}"', headers=json)
    yield client.post(SERVICE, content=f"name={NAME}", headers={"Content-Type": "text/plain"})
    yield client.post(SERVICE, content=b" " * 300_000 + NAME.encode(), headers=json)
    yield client.put(f"{SERVICE}?{QUERY}", json=body())
    yield client.post(f"/cds-services/{PATH}", json=body())
    yield client.post(f"/cds-services/{PATH}", json=body(), headers=jwt)
    for fault in FAULTS:
        ehr.faults.extend([fault] * 8)
        asked = body(prefetch=None, fhirServer=ehr.base, fhirAuthorization=granted())
        yield client.post(SERVICE, json=asked, timeout=30)
        ehr.faults.clear()
    override = {"userComment": COMMENT, "reason": {"code": MRN, "system": "urn:x"}}
    item = {"card": str(uuid.uuid4()), "outcome": "overridden", "overrideReason": override}
    stamped = item | {"outcomeTimestamp": "2026-01-01T00:00:00Z"}
    yield client.post(f"{SERVICE}/feedback", json={"feedback": [stamped]})
    yield client.post(f"{SERVICE}/feedback", json={"feedback": [item | {"card": MRN}]})
    yield client.post(f"{SERVICE}/feedback", json={"feedback": COMMENT}, headers=jwt)
    yield client.post("/predict", json={"age": 58, "glucose": NAME})
    yield client.post("/predict", json={"age": 58, NAME: 1})
    yield client.post(f"/predict?model={QUERY}", json={"age": 58}, headers=jwt)
    for url in (f"?patient={PATIENT}", f"?patient={PATIENT}!", f"?identifier={MRN}", f"/{PATH}"):
        yield client.get(f"/fhir/RiskAssessment{url}")
        yield client.get(f"/fhir/RiskAssessment{url}", headers=jwt)
    yield client.get(f"/fhir/Patient/{PATH}?{QUERY}")
    yield client.get(f"/{PATH}?{QUERY}", headers={"User-Agent": FREE_TEXT, "Cookie": TOKEN})
    yield client.get("/fhir/RiskAssessment?patient=" + PATIENT, headers=_UPGRADE)


_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "bWFya2VyIG1hcmtlciA=",
}


def shown(answers: list[httpx.Response]) -> str:
    """What refused callers get. An answer is the patient's own, and the caller's to see."""
    return "\n".join(answer.text for answer in answers if answer.status_code >= 400)


def found_in(text: str) -> list[str]:
    return [marker for marker in MARKERS if marker in text]


def test_no_marker_is_in_logs_metrics_or_error_bodies(tmp_path: Path) -> None:
    settings = {"CDS_MAX_BODY_BYTES": "200000", "CDS_DEADLINE_MS": "300", "CDS_LOG_LEVEL": "DEBUG"}
    with FakeEhr() as ehr, ServiceProcess(tmp_path, **settings) as service:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            answers = list(every_path(client, ehr))
            # Faults of ours: the tables that calls need are gone.
            with sqlite3.connect(tmp_path / "cds.db", timeout=30) as database:
                database.execute("DROP TABLE card")
            answers += [client.post(SERVICE, json=body())]
            with sqlite3.connect(tmp_path / "cds.db", timeout=30) as database:
                database.execute("ALTER TABLE assessment RENAME TO elsewhere")
            answers += [client.get(f"/fhir/RiskAssessment/{PATH}")]
            answers += [client.get(f"/fhir/RiskAssessment?patient={PATIENT}")]
            metrics = client.get("/metrics").text
        _speak_no_http(service.port)
    statuses = {answer.status_code for answer in answers}
    assert statuses >= {200, 400, 401, 404, 405, 412, 413, 415}
    assert statuses & {500, 503}, "the faults were forced"
    assert "request" in service.log
    assert found_in(service.log) == []
    assert found_in(metrics) == []
    assert found_in(shown(answers)) == []


def _speak_no_http(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(f"GET /{PATH}?{QUERY} HTTP/9\r\n{NAME}\r\n\r\n".encode())
        wire.settimeout(10)
        wire.recv(1000)


def test_no_marker_is_in_what_several_workers_write(tmp_path: Path) -> None:
    with (
        FakeEhr() as ehr,
        ServiceProcess(tmp_path, CDS_WORKERS="2", CDS_MAX_BODY_BYTES="200000") as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        answers = list(every_path(client, ehr))
        metrics = client.get("/metrics").text
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 404, 412}
    assert found_in(service.log) == []
    assert found_in(metrics) == []
    assert found_in(shown(answers)) == []
    with sqlite3.connect(tmp_path / "cds.db") as database:
        rows = database.execute("SELECT count(*) FROM audit WHERE patient_id = ?", (PATIENT,))
        assert rows.fetchone()[0] > 0, "the audit log says whom it was about"
    database.close()
    audited = subprocess.run(
        [Path(sys.executable).with_name("cds-service"), "audit", "verify"],
        env=os.environ | {"CDS_DATABASE_URL": f"sqlite:///{tmp_path / 'cds.db'}"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert audited.stdout.startswith("In order: ")


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_would_be_found(marker: str) -> None:
    assert found_in(f'{{"event": "x {marker} y"}}') == [marker]
