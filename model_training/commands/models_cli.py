"""`cds-service models`: which versions there are, what one of them is, how two of them differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model_training.artifact import every_artifact, find, read_artifact
from model_training.commands.layout import print_json
from model_training.commands.models_diff import (
    compared,
    differences,
    moved,
    not_compared,
    side_by_side,
)
from model_training.commands.models_list import overview
from model_training.commands.models_show import account, shown
from model_training.commands.refusals import refusals
from model_training.commands.versions import listed, served_by
from model_training.comparison import describe
from risk_model import load_model

models = typer.Typer(
    help="The published models: list them, show one, compare two.",
    epilog="Example: cds-service models list",
    no_args_is_help=True,
)

Models = Annotated[
    Path,
    typer.Option("--models", help="Folder with <model>/<version>/.", envvar="CDS_MODEL_DIR"),
]
Hooks = Annotated[
    Path,
    typer.Option("--hooks", help="Which versions are served.", envvar="CDS_HOOKS_FILE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
MODELS = Path("model_artifacts")
HOOKS = Path("hooks.json")


@models.command("list", epilog="Example: cds-service models list")
def list_(models: Models = MODELS, hooks: Hooks = HOOKS, as_json: AsJson = False) -> None:
    """Every version there is, its AUROC, its gates, and which one is served."""
    with refusals():
        served = served_by(hooks)
        found = list(every_artifact(models))
    if as_json:
        print_json([listed(entry, served) for entry in found])
    elif not found:
        Console().print(f"No models in {models}.", highlight=False)
    else:
        Console(highlight=False).print(overview(found, served))


@models.command(epilog="Example: cds-service models show diabetes-undiagnosed/1.0.0")
def show(
    model: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="Newest if only a name.")],
    models: Models = MODELS,
    hooks: Hooks = HOOKS,
    as_json: AsJson = False,
) -> None:
    """What it asks, on whom it was made, how it measured up; every digest is checked."""
    with refusals():
        artifact = read_artifact(find(models, model))
        load_model(artifact.directory)
        served = served_by(hooks)
    if as_json:
        print_json(shown(artifact, served))
    else:
        Console(highlight=False).print(account(artifact, served))


@models.command(
    epilog="Example: cds-service models diff diabetes-undiagnosed/1.0.0 "
    "diabetes-undiagnosed/2.0.0 --data nhanes"
)
def diff(
    before: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="The older one.")],
    after: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="The newer one.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="NHANES tables to score both on. Not needed where both versions have stored "
            "predictions of the same people.",
            show_default=False,
        ),
    ] = None,
    scenario: Annotated[str, typer.Option(help="Kind of record, by its id.")] = "complete",
    movers: Annotated[int, typer.Option(help="How many of the largest changes.", min=0)] = 10,
    models: Models = MODELS,
    as_json: AsJson = False,
) -> None:
    """Two versions side by side, and the people whose level changes."""
    console = Console(highlight=False)
    with refusals():
        pair = (read_artifact(find(models, before)), read_artifact(find(models, after)))
        described = describe(*pair)
        people = compared(pair, data, scenario, movers)
    if as_json:
        print_json(differences(pair, described, people))
        return
    console.print(side_by_side(pair, described))
    if people is None:
        console.print(not_compared(pair))
    else:
        console.print(moved(pair, people))
