"""`cds-service evaluate`: a published model on an outside data set, with the same report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model_training.artifact import Artifact, find, read_artifact
from model_training.commands.figures import count, figure
from model_training.commands.layout import plain_table
from model_training.commands.refusals import refusals
from model_training.commands.terminal import reporting
from model_training.dataset import TEST, Dataset, DatasetError, Reporter
from model_training.outside import Outside, evaluate_outside, recipe_inside
from model_training.predictions import predictions_bytes
from model_training.publish import json_bytes
from model_training.recipe import Recipe
from model_training.report_page import report_page, report_pictures
from model_training.sources.fhir_ndjson import read_fhir
from model_training.sources.mimic3 import read_mimic3
from model_training.sources.nhanes import read_nhanes
from model_training.staging import require_writable, staged

EVALUATIONS = Path("var") / "evaluations"
REPORT = "report.json"
_CALIBRATION = (("Calibration slope", "slope"), ("Observed / expected", "observed_to_expected"))

# One command and no commands below it, as `cds-service` adds it: a callback with options that may
# come before or after the model's name.
evaluate = typer.Typer(
    invoke_without_command=True,
    subcommand_metavar="",
    context_settings={"allow_interspersed_args": True},
)


class Source(StrEnum):
    """What --data holds."""

    NHANES = "nhanes"
    MIMIC3 = "mimic3"
    FHIR = "fhir"


@evaluate.callback(
    epilog="Example: cds-service evaluate diabetes-undiagnosed/2.0.0 --source nhanes "
    "--data nhanes --cycle 2017-2020"
)
def _evaluate(
    model: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="Newest if only a name.")],
    data: Annotated[
        str,
        typer.Option(
            metavar="DIR", help="Folder of the outside data set; for mimic3 also a database's URL."
        ),
    ],
    source: Annotated[Source, typer.Option(help="What that folder holds.")],
    cycle: Annotated[
        list[str] | None,
        typer.Option(
            metavar="YEARS",
            help="NHANES only: a cycle to measure on, as in 2017-2020; may be repeated.",
            show_default="the recipe's test cycles",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the report is written.",
            show_default="var/evaluations/<model>-<version>-<source>",
        ),
    ] = None,
    models: Annotated[
        Path, typer.Option(help="Folder with <model>/<version>/.", envvar="CDS_MODEL_DIR")
    ] = Path("model_artifacts"),
) -> None:
    """Measure a published model on people of another data set: the report it was published with,
    with their figures. The model and its folder stay as they are. Its own recipe says who is in: of
    NHANES people of the cycles named, of a FHIR export everybody, of MIMIC-III the admissions that
    the recipe's split keeps for testing.
    """
    with refusals():
        artifact = read_artifact(find(models, model))
        recipe = recipe_inside(artifact)
        folder = out or EVALUATIONS / f"{artifact.reference.replace('/', '-')}-{source}"
        _require_outside(folder, models)
        require_writable(folder / REPORT, "--out")
        with reporting() as reporter:
            dataset = _read(source, data, recipe, cycle, reporter)
            measured = evaluate_outside(artifact, dataset, recipe, reporter)
            reporter.step("Drawing the report")
            files = _files(artifact, measured)
        _write(files, folder)
    _say(artifact, measured, folder)


def _require_outside(folder: Path, models: Path) -> None:
    if folder.resolve().is_relative_to(models.resolve()):
        raise DatasetError(
            f"{folder} is among the published models, which stay as they are: give another --out."
        )


def _read(
    source: Source, data: str, recipe: Recipe, cycles: list[str] | None, reporter: Reporter
) -> Dataset:
    if cycles and source is not Source.NHANES:
        raise DatasetError(f"--cycle is for NHANES: {source} has no survey cycles.")
    if source is Source.NHANES:
        parts = {TEST: cycles or _test(recipe)}
        return read_nhanes(_folder(data, source), recipe, reporter, parts=parts)
    if source is Source.FHIR:
        return read_fhir(_folder(data, source), recipe, reporter, parts={TEST: ()})
    place = data if "://" in data else _folder(data, source)
    return read_mimic3(place, recipe, reporter)


def _folder(data: str, source: Source) -> Path:
    """The folder itself, or the one named like the source in a folder of data sets."""
    inner = Path(data) / source.value
    folder = inner if inner.is_dir() else Path(data)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder: --data names the one of the data set.")
    return folder


def _test(recipe: Recipe) -> list[str]:
    split: Mapping[str, Any] = recipe.raw["split"]
    if split["kind"] != "period":
        raise DatasetError(
            f"The recipe of {recipe.name} names no survey cycles: say which with --cycle."
        )
    return list(split[TEST])


def _files(artifact: Artifact, measured: Outside) -> dict[str, bytes]:
    report = measured.report
    page = report_page(report, dict(artifact.manifest.raw))
    pictures = {path.removeprefix("report/"): c for path, c in report_pictures(report).items()}
    return {
        "predictions.csv.gz": predictions_bytes(measured.predictions),
        **pictures,
        "report.html": page.encode(),
        REPORT: json_bytes(report),
    }


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    """None where one of them cannot be; the report, which speaks of the others, comes last."""
    try:
        with staged(folder / REPORT) as aside:
            for path, content in files.items():
                (aside / path).write_bytes(content)
            for path in files:
                os.replace(aside / path, folder / path)
    except OSError as fault:
        raise DatasetError(f"{folder} cannot be written: {fault.strerror}.") from fault


def _say(artifact: Artifact, measured: Outside, folder: Path) -> None:
    console = Console(highlight=False)
    test, data = measured.report["test"], measured.report["data"]
    console.print(f"[bold]{artifact.reference}[/bold] on {data['source']}: ", end="")
    console.print(f"{count(test['people'], test['events'])} people (with the outcome)")
    table = plain_table("", ("Here", "right"), ("When published", "right"))
    before = artifact.report.get("test") or {}
    for id_, entry in test["scenarios"].items():
        known = before.get("scenarios", {}).get(id_, {})
        table.add_row(
            f"AUROC, {entry['title']}", figure(entry["auroc"]), figure(known.get("auroc"))
        )
    for title, key in _CALIBRATION:
        known = before.get("calibration", {})
        table.add_row(title, figure(test["calibration"][key]), figure(known.get(key)))
    console.print(table)
    notes = Table.grid(padding=(0, 1, 0, 0))
    for note in data["notes"]:
        notes.add_row("•", Text(note, style="dim"))
    console.print(notes)
    console.print(f"Wrote {folder / 'report.html'}, report.json and predictions.csv.gz beside it.")
