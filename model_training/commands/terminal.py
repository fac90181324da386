"""Where a long run says on a terminal what it is doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from model_training.dataset import Reporter


class _Line:
    """One line that says the step and, behind it, how far it is."""

    def __init__(self, progress: Progress, steps: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task("Starting", total=steps, detail="")

    def step(self, title: str) -> None:
        self._progress.update(self._task, description=title, detail="", advance=1)

    def detail(self, text: str) -> None:
        self._progress.update(self._task, detail=text)


@contextmanager
def reporting(steps: int | None = None) -> Iterator[Reporter]:
    """On stderr, so that what is asked for on stdout stays clean; gone when the work is done.

    With the number of steps known, a bar shows how far the run is.
    """
    bar: tuple[ProgressColumn, ...] = (
        () if steps is None else (BarColumn(bar_width=20), MofNCompleteColumn())
    )
    columns: tuple[ProgressColumn, ...] = (
        SpinnerColumn(),
        TimeElapsedColumn(),
        *bar,
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[detail]}", style="dim", markup=False),
    )
    console = Console(stderr=True)
    # Where nothing can be drawn over, rich would leave an empty line behind for each run of it.
    drawn = console.is_interactive
    with Progress(*columns, console=console, transient=True, disable=not drawn) as progress:
        yield _Line(progress, steps)
