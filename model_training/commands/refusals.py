"""What cannot be done is one sentence on stderr and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from model_training.artifact import UnknownModel
from model_training.dataset import DatasetError
from risk_model import ArtifactError


@contextmanager
def refusals() -> Iterator[None]:
    try:
        yield
    except (ArtifactError, DatasetError, UnknownModel) as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(code=2) from fault
