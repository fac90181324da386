"""`cds-service demo` writes the patients out, and calls the service as an EHR would."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle
from typer.testing import CliRunner

from cds_service.demo.cli import CallFailed, demo, open_chart
from cds_service.demo.patients import demo_patients

PERSON = demo_patients(datetime(2024, 3, 1, tzinfo=UTC))[0]
SERVICE = {
    "id": "diabetes-risk",
    "hook": "patient-view",
    "prefetch": {"patient": "Patient/{{context.patientId}}"},
}
CARD = {"summary": "A risk.", "indicator": "info", "source": {"label": "us"}}


class Service:
    """A CDS service on the other end of the wire; `answer` is what the hook call gets."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.requests.append(json.loads(request.content))
            return self.answer
        if request.url.path == "/cds-services":
            return httpx.Response(200, json={"services": [SERVICE]})
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset"})

    def client(self) -> httpx.Client:
        return httpx.Client(base_url="http://service", transport=httpx.MockTransport(self))


def test_a_call_is_a_patient_view_request_with_prefetch() -> None:
    service = Service(httpx.Response(200, json={"cards": [CARD]}))
    with service.client() as client:
        answer = open_chart(client, PERSON, "diabetes-risk")
    (request,) = service.requests
    assert request["hook"] == "patient-view"
    assert request["context"]["patientId"] == PERSON.id
    assert request["prefetch"] == {"patient": PERSON.resources[0]}
    assert (answer.cards, answer.risk_assessment) == ((CARD,), None)


def test_every_call_has_a_hook_instance_of_its_own() -> None:
    service = Service(httpx.Response(200, json={"cards": []}))
    with service.client() as client:
        open_chart(client, PERSON, "diabetes-risk")
        open_chart(client, PERSON, "diabetes-risk")
    first, second = service.requests
    assert first["hookInstance"] != second["hookInstance"]


def test_a_refusal_is_said_in_the_words_of_its_operation_outcome() -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "No Patient."}]}
    with (
        Service(httpx.Response(412, json=outcome)).client() as client,
        pytest.raises(CallFailed, match=r"412 Precondition Failed\n- No Patient\."),
    ):
        open_chart(client, PERSON, "diabetes-risk")


def test_an_unknown_service_is_answered_with_those_on_offer() -> None:
    with (
        Service(httpx.Response(200)).client() as client,
        pytest.raises(CallFailed, match="offered: diabetes-risk"),
    ):
        open_chart(client, PERSON, "hypertension-risk")


def test_a_service_that_is_not_there_exits_with_1_and_says_where_it_looked() -> None:
    result = CliRunner().invoke(demo, ["call", PERSON.id, "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.stderr


def test_an_unknown_patient_is_answered_with_those_that_exist() -> None:
    result = CliRunner().invoke(demo, ["call", "nobody"])
    assert result.exit_code == 2
    assert "okafor-amara" in result.stderr


def test_patients_are_written_as_valid_bundles(tmp_path: Path) -> None:
    result = CliRunner().invoke(demo, ["patients", "--out", str(tmp_path / "new")])
    assert result.exit_code == 0
    written = sorted(path.stem for path in (tmp_path / "new").iterdir())
    assert written == sorted(person.id for person in demo_patients(datetime.now(UTC)))
    for path in (tmp_path / "new").iterdir():
        Bundle.model_validate_json(path.read_text())


@pytest.mark.parametrize("command", ["patients", "call"])
def test_help_shows_an_example(command: str) -> None:
    assert f"cds-service demo {command}" in CliRunner().invoke(demo, [command, "--help"]).output
