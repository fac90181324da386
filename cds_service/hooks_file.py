"""`cds-service hooks`: keeps the prefetch templates of hooks.json to the codes that are read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import typer

from cds_service.app import load
from cds_service.hooks import read_hooks_file
from cds_service.settings import Settings
from fhir_mapping import prefetch_templates

hooks = typer.Typer(
    help="Check or rewrite the prefetch templates of hooks.json.", no_args_is_help=True
)


@hooks.command(epilog="Example: cds-service hooks check")
def check() -> None:
    """Say whether hooks.json can be served and asks for what its models read."""
    settings = Settings.from_environment(os.environ)
    read_hooks_file(settings.hooks_file)
    differing = [
        entry["id"]
        for entry in read(settings.hooks_file)["services"]
        if entry.get("prefetch") != templates_of(settings, entry)
    ]
    for service_id in differing:
        typer.echo(f"{service_id}: the prefetch templates differ from the mapping", err=True)
    if differing:
        typer.echo("Run `cds-service hooks write`.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{settings.hooks_file} is in order.")


@hooks.command(epilog="Example: cds-service hooks write")
def write() -> None:
    """Regenerate the prefetch templates from the codes of concepts.toml."""
    settings = Settings.from_environment(os.environ)
    document = read(settings.hooks_file)
    for entry in document["services"]:
        entry["prefetch"] = templates_of(settings, entry)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    settings.hooks_file.write_text(text, encoding="utf-8")
    read_hooks_file(settings.hooks_file)
    typer.echo(f"{settings.hooks_file} is written.")


def read(path: Path) -> dict[str, Any]:
    """hooks.json as it stands, so that what is not ours to generate is written back unchanged."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def templates_of(settings: Settings, entry: dict[str, Any]) -> dict[str, str]:
    """The templates that the model of `entry` asks for."""
    serving = entry["serving"]
    return prefetch_templates(load(settings, serving["model"], serving["modelVersion"]).mapping)
