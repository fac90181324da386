"""`cds-service demo`: the demo patients as files, and the demo EHR's call from a terminal."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cds_service.demo.patients import DemoPatient, demo_patients
from cds_service.demo.prefetch import resolve_prefetch

USER = "Practitioner/demo-clinician"
SECONDS = 30.0
COLOURS = {"info": "blue", "warning": "yellow", "critical": "red"}

demo = typer.Typer(
    help="Made-up patients: write them as FHIR Bundles, or call the service about one of them.",
    no_args_is_help=True,
)


class CallFailed(Exception):
    """The service could not be reached, or did not answer with a 2xx. The message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one patient-view call brought: cards, and the newest stored RiskAssessment if any."""

    cards: tuple[dict[str, Any], ...]
    risk_assessment: dict[str, Any] | None
    milliseconds: float


@demo.command(epilog="Example: cds-service demo patients --out /tmp/patients")
def patients(
    out: Annotated[Path, typer.Option(help="Folder to write to; it is made if need be.")],
) -> None:
    """Write each demo patient as a FHIR R4 Bundle."""
    out.mkdir(parents=True, exist_ok=True)
    people = demo_patients(datetime.now(UTC))
    for person in people:
        path = out / f"{person.id}.json"
        path.write_text(json.dumps(bundle_of(person), indent=2, ensure_ascii=False) + "\n")
    table = Table("Patient", "Story", box=None, header_style="bold")
    for person in people:
        table.add_row(person.id, person.story)
    console = Console()
    console.print(table)
    console.print(f"{len(people)} Bundles written to {out}", highlight=False)


@demo.command(
    epilog="Example: cds-service demo call okafor-amara --url http://127.0.0.1:8000",
)
def call(
    patient: Annotated[str, typer.Argument(help="Id of a demo patient, see `demo patients`.")],
    url: Annotated[
        str, typer.Option(help="Base URL of a service in the demo profile.")
    ] = "http://127.0.0.1:8000",
    service: Annotated[str, typer.Option(help="Id of the CDS service.")] = "diabetes-risk",
) -> None:
    """Open a demo patient's chart: discovery, prefetch, hook call; print the card."""
    person = _find(patient)
    console, errors = Console(), Console(stderr=True)
    try:
        with httpx.Client(base_url=url, timeout=SECONDS) as client:
            answer = open_chart(client, person, service)
    except CallFailed as fault:
        errors.print(Text(str(fault), style="red"))
        raise typer.Exit(1) from fault
    console.print(_shown(person, answer))


def open_chart(client: httpx.Client, person: DemoPatient, service_id: str) -> Answer:
    """Discovery → prefetch → patient-view call → stored RiskAssessment. Raises CallFailed."""
    services = _json(client, "GET", "cds-services")["services"]
    service = next((found for found in services if found["id"] == service_id), None)
    if service is None:
        offered = ", ".join(found["id"] for found in services) or "none"
        raise CallFailed(f"There is no CDS service '{service_id}' here; offered: {offered}.")
    context = {"userId": USER, "patientId": person.id}
    request = {
        "hook": service["hook"],
        "hookInstance": str(uuid.uuid4()),
        "context": context,
        "prefetch": resolve_prefetch(service["prefetch"], person.resources, context=context),
    }
    started = time.perf_counter()
    response = _send(client, "POST", f"cds-services/{service_id}", request)
    milliseconds = (time.perf_counter() - started) * 1000
    stored = _json(client, "GET", f"fhir/RiskAssessment?patient={person.id}")
    return Answer(
        cards=tuple(response.json()["cards"]),
        risk_assessment=_newest(stored),
        milliseconds=milliseconds,
    )


def bundle_of(person: DemoPatient) -> dict[str, Any]:
    """The record as a collection Bundle."""
    entries = [
        {
            "fullUrl": f"https://demo-ehr.example/fhir/{resource['resourceType']}/{resource['id']}",
            "resource": resource,
        }
        for resource in person.resources
    ]
    return {"resourceType": "Bundle", "id": person.id, "type": "collection", "entry": entries}


def _find(patient: str) -> DemoPatient:
    people = {person.id: person for person in demo_patients(datetime.now(UTC))}
    if patient not in people:
        raise typer.BadParameter(f"no demo patient '{patient}'; there are: {', '.join(people)}")
    return people[patient]


def _json(client: httpx.Client, method: str, url: str) -> Any:
    return _send(client, method, url).json()


def _send(
    client: httpx.Client, method: str, url: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    try:
        response = client.request(method, url, json=body)
    except httpx.HTTPError as fault:
        raise CallFailed(f"{client.base_url} could not be reached: {fault}") from fault
    if not response.is_success:
        raise CallFailed(_refusal(response))
    return response


def _refusal(response: httpx.Response) -> str:
    """The status, and the OperationOutcome's own words where there is one."""
    said = f"{response.request.url.path}: {response.status_code} {response.reason_phrase}"
    try:
        issues = response.json()["issue"]
    except (ValueError, KeyError, TypeError):
        return said
    return "\n".join([said, *(f"- {_issue(issue)}" for issue in issues)])


def _issue(issue: dict[str, Any]) -> str:
    text: str = issue.get("diagnostics") or issue.get("details", {}).get("text") or issue["code"]
    return text


def _newest(searchset: dict[str, Any]) -> dict[str, Any] | None:
    found = [entry["resource"] for entry in searchset.get("entry", [])]
    return max(found, key=lambda resource: resource["occurrenceDateTime"], default=None)


def _shown(person: DemoPatient, answer: Answer) -> RenderableType:
    cards: Sequence[RenderableType] = [_card(card) for card in answer.cards] or [
        Panel("The service has nothing to say about this patient.", title="No card", style="dim")
    ]
    head = Text.assemble((person.name, "bold"), f"  {person.story}")
    took = Text(f"Answered in {answer.milliseconds:.0f} ms", style="dim")
    return Group(head, *cards, _stored(answer.risk_assessment), took)


def _card(card: dict[str, Any]) -> RenderableType:
    actions = [Text(f"→ {suggestion['label']}") for suggestion in card.get("suggestions", [])]
    return Panel(
        Group(Text(card["summary"], style="bold"), Markdown(card.get("detail", "")), *actions),
        title=Text(card["indicator"]),
        subtitle=Text(card["source"]["label"]),
        border_style=COLOURS.get(card["indicator"], "none"),
    )


def _stored(assessment: dict[str, Any] | None) -> RenderableType:
    if assessment is None:
        return Text("No RiskAssessment is stored: this patient was not scored.")
    prediction = assessment["prediction"][0]
    table = Table("RiskAssessment", assessment["id"], box=None, header_style="bold")
    table.add_row("Outcome", Text(prediction["outcome"]["text"]))
    table.add_row("Probability", f"{prediction['probabilityDecimal']:.1f} %")
    table.add_row("Level", prediction["qualitativeRisk"]["coding"][0]["code"])
    table.add_row("Model", Text(assessment["method"]["text"]))
    table.add_row("Based on", f"{len(assessment.get('basis', []))} Observations")
    return table
