"""A recipe: everything about a model that is decided before the data are seen, read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_mapping import load_catalog

DIABETES_UNDIAGNOSED = Path(__file__).with_name("recipes") / "diabetes_undiagnosed.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """One column: bounds and sign from the recipe; unit, title and decimals from its concept."""

    name: str
    title: str
    unit: str
    decimals: int
    plausible: tuple[float, float]
    clip_above: float | None
    required: bool
    monotone: int
    categories: Mapping[str, int] | None
    look_back_days: float | None
    stale_after_days: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A kind of record that figures are reported for: the panels that it lacks."""

    id: str
    title: str
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to fit, compared with the others on the tune people."""

    id: str
    masked_share: float
    weighting: str
    parameters: Mapping[str, Any]
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """`raw` holds the parts that go into the manifest as they are."""

    features: tuple[FeatureSpec, ...]
    panels: Mapping[str, tuple[str, ...]]
    scenarios: tuple[Scenario, ...]
    candidates: tuple[Candidate, ...]
    raw: Mapping[str, Any]

    @property
    def columns(self) -> list[str]:
        return [feature.name for feature in self.features]


def load_recipe(path: Path = DIABETES_UNDIAGNOSED) -> Recipe:
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    return Recipe(
        features=tuple(_feature(entry) for entry in raw["features"]),
        panels={panel: tuple(names) for panel, names in raw["panels"].items()},
        scenarios=tuple(
            Scenario(id=entry["id"], title=entry["title"], absent=tuple(entry["absent"]))
            for entry in raw["scenarios"]
        ),
        candidates=tuple(_candidate(raw["fit"], entry) for entry in raw["candidates"]),
        raw=raw,
    )


def _feature(entry: Mapping[str, Any]) -> FeatureSpec:
    concept = load_catalog().concepts[entry["name"]]
    low, high = entry["plausible"]
    return FeatureSpec(
        name=concept.id,
        title=concept.title,
        unit=concept.unit,
        decimals=concept.decimals,
        plausible=(low, high),
        clip_above=entry.get("clip_above"),
        required=entry.get("required", False),
        monotone=entry["monotone"],
        categories=entry.get("categories"),
        look_back_days=entry.get("look_back_days"),
        stale_after_days=entry.get("stale_after_days"),
    )


def _candidate(fit: Mapping[str, Any], entry: Mapping[str, Any]) -> Candidate:
    return Candidate(
        id=entry["id"],
        masked_share=entry["masked_share"],
        weighting=entry["weighting"],
        parameters={"seed": fit["seed"], **fit["parameters"], **entry["parameters"]},
        rounds=entry.get("rounds", fit["rounds"]),
    )
