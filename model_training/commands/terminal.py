"""Where a long run says on a terminal what it is doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from model_training.dataset import Reporter


class _Line:
    """One line that says the step and, behind it, how far it is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("Starting", total=None, detail="")

    def step(self, title: str) -> None:
        self._progress.update(self._task, description=title, detail="")

    def detail(self, text: str) -> None:
        self._progress.update(self._task, detail=text)


@contextmanager
def reporting() -> Iterator[Reporter]:
    """On stderr, so that what is asked for on stdout stays clean; gone when the work is done."""
    columns = (
        SpinnerColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[detail]}", style="dim", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Line(progress)
