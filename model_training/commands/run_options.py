"""The options that every `cds-service train` command has, whatever its source of people."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from model_training.publish import DRAFTS


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """One field an option; what typer shows of it is in its annotation."""

    out: Annotated[Path, typer.Option(help="Where <model>/<version>/ is published.")] = Path(
        "model_artifacts"
    )
    recipe: Annotated[
        Path | None,
        typer.Option(help="A recipe of your own (TOML).", show_default="the one that is shipped"),
    ] = None
    settings_of: Annotated[
        Path | None,
        typer.Option(
            metavar="REPORT",
            help="report.json of an earlier run: take the settings that its search found, rather "
            "than searching again.",
        ),
    ] = None
    force: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help="Publish although a gate fails. Reason and gates are recorded."
        ),
    ] = None
    replace: Annotated[
        bool, typer.Option(help="Give up another model that is published under this version.")
    ] = False
    drafts: Annotated[Path, typer.Option(help="Where a model goes that is not published.")] = DRAFTS


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command of its own options and `options: RunOptions`, for typer: one of them all."""
    taken = {field.name for field in fields(RunOptions)}

    def called(**given: Any) -> None:
        options = RunOptions(**{name: given.pop(name) for name in taken})
        command(**given, options=options)

    hints = {
        **get_type_hints(command, include_extras=True),
        **get_type_hints(RunOptions, include_extras=True),
    }
    parameters = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for callable_ in (command, RunOptions)
        for name, parameter in inspect.signature(callable_).parameters.items()
        if name != "options"
    ]
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called
