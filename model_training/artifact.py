"""An artifact, read back for people: what it asks, how it was measured, whether its bytes hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_training.predictions import PREDICTIONS, Predictions, read_predictions
from model_training.recipe import Recipe, parse_recipe
from risk_model import ArtifactError, Manifest
from risk_model.manifest import MANIFEST
from risk_model.verify import read_verified

REPORT = "report/report.json"
RECIPE = "recipe.toml"

Json = Mapping[str, Any]


class UnknownModel(Exception):
    """No such model or version: the message says what there is instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A published version whose every file has the digest that its manifest gives."""

    directory: Path
    manifest: Manifest
    contents: Mapping[str, bytes]
    report: Json

    @property
    def reference(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"

    @property
    def forced(self) -> Json | None:
        """Who published it against its gates and which ones: None where it passed."""
        return self.manifest.raw.get("forced")

    @property
    def predictions(self) -> Predictions | None:
        """None in versions that stored none."""
        content = self.contents.get(PREDICTIONS)
        return None if content is None else read_predictions(content)

    @property
    def recipe(self) -> Recipe | None:
        """The recipe it was made from; None in versions that do not hold theirs."""
        content = self.contents.get(RECIPE)
        return None if content is None else parse_recipe(content.decode(), file=RECIPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A version that the service would refuse, and why."""

    reference: str
    fault: ArtifactError


def read_artifact(directory: Path) -> Artifact:
    """Digests before anything is parsed; raises ArtifactError naming the file that is wrong."""
    files = read_verified(directory)
    report = files.json(REPORT) if REPORT in files.contents else {}
    return Artifact(
        directory=directory, manifest=files.manifest, contents=files.contents, report=report
    )


def find(models: Path, reference: str) -> Path:
    """NAME/VERSION, or NAME for its newest version → its folder; raises UnknownModel."""
    known = folders(models)
    name, _, version = reference.partition("/")
    versions = [folder for folder in known if folder.parent.name == name]
    wanted = [folder for folder in versions if version in ("", folder.name)]
    if not wanted:
        there = ", ".join(_reference(folder) for folder in versions or known) or "none"
        raise UnknownModel(f"There is no model {reference} in {models}. There are: {there}.")
    return wanted[-1]


def folders(models: Path) -> list[Path]:
    """Every <model>/<version> with a manifest, by name, then from the oldest version on."""
    found = (manifest.parent for manifest in models.glob(f"*/*/{MANIFEST}"))
    visible = [folder for folder in found if not folder.name.startswith(".")]
    return sorted(visible, key=lambda folder: (folder.parent.name, _age(folder.name)))


def every_artifact(models: Path) -> Iterator[Artifact | Damaged]:
    for folder in folders(models):
        try:
            yield read_artifact(folder)
        except ArtifactError as fault:
            yield Damaged(reference=_reference(folder), fault=fault)


def newest(models: Path, name: str, *, before: str | None = None) -> Artifact | None:
    """The newest version of a model, or the newest that is older than `before`: what that one is
    held against, so that making it again finds the same one."""
    versions = [folder for folder in folders(models) if folder.parent.name == name]
    older = [folder for folder in versions if before is None or _age(folder.name) < _age(before)]
    return read_artifact(older[-1]) if older else None


def _reference(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _age(version: str) -> tuple[list[tuple[int, str]], bool, list[tuple[int, str]]]:
    """Sorts 1.10.0 after 1.9.0, and 2.0.0-rc.1 before 2.0.0 (https://semver.org, 11)."""
    release, _, early = version.partition("-")
    return _parts(release), early == "", _parts(early)


def _parts(text: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"[.+-]", text)]
