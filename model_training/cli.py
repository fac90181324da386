"""`cds-service train`: the offline commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from model_training.sources.nhanes import DatasetError
from model_training.pipeline import Trained, steps, train_nhanes
from model_training.publish import publish
from model_training.recipe import Recipe, load_recipe

train = typer.Typer(
    help="Train a model from public data and write its artifact.", no_args_is_help=True
)


@train.callback()
def _several_datasets() -> None:
    """Keeps `nhanes` a command of its own, beside those of other data sets."""


@train.command(epilog="Example: cds-service train nhanes --data nhanes")
def nhanes(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with CDC's tables: TABLE.XPT, TABLE.csv or TABLE.csv.xz. Also a folder "
            "that has them in its subfolder nhanes.",
            envvar="CDS_DATA_DIR",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where <model>/<version>/ is written; an older one is replaced.")
    ] = Path("model_artifacts"),
) -> None:
    """Rebuild diabetes-undiagnosed from NHANES 1999–2016: the same bytes from the same tables."""
    console = Console()
    recipe = load_recipe()
    try:
        trained = _with_progress(_tables(data), recipe, console)
    except DatasetError as fault:
        typer.echo(f"{fault}", err=True)
        raise typer.Exit(code=2) from fault
    folder = out / recipe.raw["name"] / recipe.raw["version"]
    publish(trained.files, folder)
    console.print(_flow(trained))
    _say_results(trained, folder, console)


def _tables(data: Path | None) -> Path:
    if data is None:
        raise DatasetError("Where are the NHANES tables? Give --data DIR or set CDS_DATA_DIR.")
    inner = data / "nhanes"
    folder = inner if inner.is_dir() else data
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder. Give --data DIR or set CDS_DATA_DIR.")
    return folder


def _with_progress(folder: Path, recipe: Recipe, console: Console) -> Trained:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Starting", total=steps(recipe))

        def announce(step: str) -> None:
            progress.update(task, advance=1, description=step)

        return train_nhanes(folder, recipe, announce)


def _flow(trained: Trained) -> Table:
    table = Table(title="People kept (with HbA1c ≥ 6.5 %)")
    table.add_column("kept")
    for part in trained.cohorts:
        table.add_column(part, justify="right")
    for row in zip(*(cohort.flow for cohort in trained.cohorts.values()), strict=True):
        table.add_row(row[0][0], *(f"{people:,} ({events:,})" for _, people, events in row))
    return table


def _say_results(trained: Trained, folder: Path, console: Console) -> None:
    test = trained.report["test"]
    for entry in test["scenarios"].values():
        value, low, high = entry["auroc"]
        console.print(f"AUROC {value:.3f} ({low:.3f} to {high:.3f})  {entry['title']}")
    for title, entry in test["comparators"].items():
        value, low, high = entry["auroc"]
        console.print(f"AUROC {value:.3f} ({low:.3f} to {high:.3f})  comparator: {title}")
    console.print(f"Wrote {folder}, verified and loaded as the service does.", highlight=False)
