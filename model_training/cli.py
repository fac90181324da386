"""`cds-service train` and `cds-service data`: from a data set to a published model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model_training.artifact import newest
from model_training.commands.refusals import refusals
from model_training.commands.run_options import RunOptions, with_run_options
from model_training.commands.terminal import reporting
from model_training.dataset import Dataset, DatasetError, Reporter
from model_training.pipeline import Trained, steps
from model_training.pipeline import train as train_model
from model_training.publish import Held, Published, publish, require_places
from model_training.recipe import DIABETES_INPATIENT, DIABETES_UNDIAGNOSED, Recipe, load_recipe
from model_training.sources.fhir_ndjson import read_fhir
from model_training.sources.mimic3 import Direction, read_mimic3
from model_training.sources.nhanes import read_nhanes
from model_training.sources.nhanes_download import nhanes_download

# Below this many, a model can show that the pipeline runs, and nothing else.
_FOR_TESTING_BELOW = 1000

train = typer.Typer(
    help="Train a model, measure it, and publish it if it passes its gates.",
    epilog="Example: cds-service train nhanes --data nhanes",
    no_args_is_help=True,
)
data = typer.Typer(
    help="Fetch public data sets.",
    epilog="Example: cds-service data nhanes --to nhanes",
    no_args_is_help=True,
)
data.command("nhanes", epilog="Example: cds-service data nhanes --to nhanes")(nhanes_download)


@data.callback()
def _several_sources() -> None:
    """Keeps `nhanes` a command of its own, beside those that may come."""


@train.command(epilog="Example: cds-service train nhanes --data nhanes")
@with_run_options
def nhanes(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder with CDC's tables: TABLE.XPT, TABLE.csv or TABLE.csv.xz. Also a folder "
            "that has them in its subfolder nhanes.",
            envvar="CDS_DATA_DIR",
            show_default=False,
        ),
    ] = None,
    *,
    options: RunOptions,
) -> None:
    """Train diabetes-undiagnosed on NHANES 1999–2016. The same tables give the same bytes."""

    def read(chosen: Recipe, reporter: Reporter) -> Dataset:
        return read_nhanes(_subfolder(folder, "nhanes"), chosen, reporter)

    _run(read, options, DIABETES_UNDIAGNOSED)


@train.command(epilog="Example: cds-service train mimic3 --data mimic-iii --window first")
@with_run_options
def mimic3(
    source: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR or URL",
            help="Folder with PhysioNet's CSV or CSV.gz files, or the SQLAlchemy URL of a "
            "PostgreSQL that has them in the schema mimiciii.",
            show_default="$CDS_DATA_DIR/mimic3_demo",
        ),
    ] = None,
    window: Annotated[
        Direction | None,
        typer.Option(
            help="The hours after admission, or those before it, of which MIMIC-III holds few.",
            show_default="the recipe's: first",
        ),
    ] = None,
    *,
    options: RunOptions,
) -> None:
    """Train diabetes-inpatient, a research model, on MIMIC-III."""

    def read(chosen: Recipe, reporter: Reporter) -> Dataset:
        return read_mimic3(_mimic3_source(source), chosen, reporter, direction=window)

    _run(read, options, DIABETES_INPATIENT)


@train.command(epilog="Example: cds-service train fhir --data export --recipe ours.toml")
@with_run_options
def fhir(
    folder: Annotated[
        Path, typer.Option("--data", help="Folder with the NDJSON files of a Bulk Data export.")
    ],
    *,
    options: RunOptions,
) -> None:
    """Train diabetes-undiagnosed on a site's own records, read as the service reads them.

    The shipped recipe splits by NHANES' years; a recipe of your own names yours.
    """

    def read(chosen: Recipe, reporter: Reporter) -> Dataset:
        return read_fhir(folder, chosen, reporter)

    _run(read, options, DIABETES_UNDIAGNOSED)


def _run(read: Callable[[Recipe, Reporter], Dataset], options: RunOptions, shipped: Path) -> None:
    console = Console()
    with refusals():
        if options.force is not None and not options.force.strip():
            raise DatasetError("Publishing against the gates needs a reason: --force REASON.")
        recipe = load_recipe(options.recipe or shipped)
        chosen = None if options.settings_of is None else _settings(options.settings_of)
        require_places(options.out, options.drafts, recipe.name, recipe.version)
        with reporting() as reporter:
            dataset = read(recipe, reporter)
        with reporting(steps(recipe)) as reporter:
            published = newest(options.out, recipe.name, before=recipe.version)
            trained = train_model(
                dataset, recipe, reporter, published=published, chosen=chosen, force=options.force
            )
        outcome = publish(
            trained.files,
            options.out,
            recipe.name,
            recipe.version,
            results=trained.gates,
            force=options.force,
            replace=options.replace,
            drafts=options.drafts,
        )
    console.print(_flow(trained.report))
    console.print(_figures(trained))
    _say_outcome(outcome, trained, console)


def _settings(report: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(report.read_text(encoding="utf-8"))["choices"]["search"]
        return {**found, "chosen": {**found["chosen"], "rounds": int(found["chosen"]["rounds"])}}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise DatasetError(
            f"{report} is no report.json of a training run with a search ({fault!r})."
        ) from fault


def _subfolder(given: Path | None, name: str) -> Path:
    if given is None:
        raise DatasetError(f"Where is {name}? Give --data DIR or set CDS_DATA_DIR.")
    inner = given / name
    folder = inner if inner.is_dir() else given
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder. Give --data DIR or set CDS_DATA_DIR.")
    return folder


def _mimic3_source(given: str | None) -> str:
    if given is not None:
        return given
    root = os.environ.get("CDS_DATA_DIR")
    return str(_subfolder(Path(root) if root else None, "mimic3_demo"))


def _flow(report: Mapping[str, Any]) -> Table:
    parts = report["data"]["parts"]
    table = Table(title="People kept (with the outcome)")
    table.add_column("kept")
    for part in parts:
        table.add_column(part, justify="right")
    for row in zip(*(part["flow"] for part in parts.values()), strict=True):
        table.add_row(row[0]["kept"], *(f"{s['people']:,} ({s['events']:,})" for s in row))
    return table


def _figures(trained: Trained) -> Table:
    test = trained.report["test"]
    table = Table(title=f"AUROC on {test['people']:,} people ({test['events']:,} with the outcome)")
    table.add_column("record or means")
    table.add_column("AUROC (95 % interval)")
    entries = [(entry["title"], entry) for entry in test["scenarios"].values()]
    entries += [(f"compared: {title}", entry) for title, entry in test["comparators"].items()]
    for title, entry in entries:
        table.add_row(title, _interval(entry["auroc"]))
    return table


def _interval(figure: list[float | None]) -> str:
    shown = ["–" if number is None else f"{number:.3f}" for number in figure]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _say_outcome(outcome: Published | Held, trained: Trained, console: Console) -> None:
    people = trained.report["data"]["parts"]["development"]["people"]
    if people < _FOR_TESTING_BELOW:
        warning = (
            f"A model from {people:,} people is for testing the pipeline only. Do not use it for "
            "anybody."
        )
        console.print(Text(warning, style="bold red"))
    if isinstance(outcome, Held):
        console.print(Text("Not published:", style="bold"))
        for reason in outcome.reasons:
            console.print(Text(f"- {reason}"))
        console.print(f"The draft, with its report, is in {outcome.folder}", highlight=False)
        return
    if outcome.forced:
        console.print(Text(f"Forced past: {', '.join(outcome.forced)}", style="bold red"))
    console.print(
        f"Published {outcome.folder}, verified and loaded as the service does.", highlight=False
    )
