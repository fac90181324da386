"""`cds-service score`: one record or one set of features, scored offline; nothing is stored."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cds_service import prefetch
from cds_service.app import load_models, utc_now
from cds_service.body import parse_object
from cds_service.errors import NotFound, ServiceError
from cds_service.hooks import ServiceDefinition, parse_hook_request, read_hooks_file
from cds_service.judgement import Scored, judge, outcome_name
from cds_service.parts import LoadedModel
from cds_service.routes.predict import described, prediction, read_features
from cds_service.settings import Settings
from fhir_mapping import Absent, FeatureVector, map_features

WIDEST_BAR = 20


def score(
    file: Annotated[Path, typer.Argument(help="JSON file; `-` reads standard input.")],
    service: Annotated[
        str | None, typer.Option(help="Id of the service.", show_default="first of hooks.json")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Score a patient-view request with its prefetch, or a flat object of features.

    A request is judged as the service would judge it, with today as the day.
    """
    settings = Settings.from_environment(os.environ)
    try:
        body = parse_object(read(file), settings.max_json_depth)
        result = scored(settings, service, body)
    except ServiceError as fault:
        for issue in fault.issues:
            typer.echo(issue.text, err=True)
        raise typer.Exit(1) from fault
    if as_json:
        typer.echo(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    else:
        Console().print(shown(result))


def read(file: Path) -> bytes:
    """The bytes of `file`; raises typer.BadParameter."""
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as fault:
        raise typer.BadParameter(f"{file}: {fault.strerror}") from fault


def scored(settings: Settings, service: str | None, body: dict[str, Any]) -> dict[str, Any]:
    """What /predict would answer; for a request also `outcome` and why features are absent."""
    definitions = read_hooks_file(settings.hooks_file)
    definition = definitions.get(service or next(iter(definitions)))
    if definition is None:
        raise NotFound(f"There is no such service; there are: {', '.join(definitions)}")
    loaded = load_models(settings, {definition.id: definition})[definition.model]
    if "hook" in body:
        return of_request(settings, definition, loaded, body)
    return {"outcome": "scored", **prediction(loaded, read_features(loaded, body))}


def of_request(
    settings: Settings, definition: ServiceDefinition, loaded: LoadedModel, body: dict[str, Any]
) -> dict[str, Any]:
    """The judgement of a patient-view request, from its prefetch alone."""
    request = parse_hook_request(body, definition)
    patient_id = request.context.patient_id
    states = prefetch.states(definition.prefetch, request)
    prefetch.check_patient(states, patient_id)
    prefetch.check_available(states, definition)
    vector = map_features(
        loaded.mapping,
        prefetch.resources(states),
        as_of=utc_now().astimezone(settings.time_zone),
        patient_id=patient_id,
        fhir_base=request.fhir_server,
    )
    judgement = judge(vector, loaded.model)
    result: dict[str, Any] = {"outcome": outcome_name(judgement)}
    if isinstance(judgement, Scored):
        result |= described(loaded.model.manifest, judgement.estimate)
    return result | {"absent": reasons(vector)}


def reasons(vector: FeatureVector) -> dict[str, str]:
    """Absent feature -> why."""
    return {
        name: entry.reason.value
        for name, entry in vector.entries.items()
        if isinstance(entry, Absent)
    }


def shown(result: dict[str, Any]) -> RenderableType:
    """A result for a person at a terminal."""
    lines: list[RenderableType] = []
    if "risk_score" in result:
        lines += [_headline(result), _drivers(result["explanation"])]
    else:
        lines.append(Text(f"No figure: {result['outcome']}", style="bold"))
    absent = result["absent"]
    named = [f"{n} ({why})" for n, why in absent.items()] if isinstance(absent, dict) else absent
    if named:
        lines.append(Text(f"Absent: {', '.join(named)}", style="dim"))
    return Group(*lines)


def _headline(result: dict[str, Any]) -> Text:
    model = result["model"]
    return Text.assemble(
        (f"{result['risk_score']:.1%}", "bold"),
        f"  {result['risk_level']}, {result['relative_risk']:.1f} times the average",
        (f"  {model['title']} ({model['name']} {model['version']})", "dim"),
    )


def _drivers(explanation: list[dict[str, Any]]) -> Table:
    table = Table("Feature", "Value", "Log-odds", "", box=None, header_style="bold")
    largest = max((abs(row["contribution"]) for row in explanation), default=0) or 1.0
    for row in explanation:
        share = row["contribution"]
        bar = "█" * round(abs(share) / largest * WIDEST_BAR)
        colour = "red" if share > 0 else "green"
        table.add_row(
            row["title"],
            row.get("category") or f"{row['value']:g} {row['unit']}",
            f"{share:+.2f}",
            Text(bar, style=colour),
        )
    return table
