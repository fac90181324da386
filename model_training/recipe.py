"""A recipe: everything about a model that is decided before the data are seen, read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_mapping import load_catalog
from model_training.dataset import DatasetError

RECIPES = Path(__file__).with_name("recipes")
DIABETES_UNDIAGNOSED = RECIPES / "diabetes_undiagnosed.toml"
DIABETES_INPATIENT = RECIPES / "diabetes_inpatient.toml"

# Of a series of values the count has no unit of its own, and the slope is per day.
_UNITS = {"count": "1", "slope": "{unit}/d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """One input: bounds, sign and window from the recipe; unit and decimals from its concept."""

    name: str
    concept: str
    title: str
    unit: str
    decimals: int
    statistic: str
    plausible: tuple[float, float]
    clip_above: float | None
    required: bool
    monotone: int
    categories: Mapping[str, int] | None
    look_back_days: float | None
    stale_after_days: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Inputs that are ordered together, and so are missing together."""

    id: str
    title: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A kind of record that figures are reported for: the panels that it lacks."""

    id: str
    title: str
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """`raw` holds the parts that go into the manifest as they are; `text` is the file's own."""

    features: tuple[FeatureSpec, ...]
    panels: Mapping[str, Panel]
    scenarios: tuple[Scenario, ...]
    statements: Mapping[str, Any]
    raw: Mapping[str, Any]
    text: str

    @property
    def columns(self) -> list[str]:
        return [feature.name for feature in self.features]

    @property
    def name(self) -> str:
        return str(self.raw["name"])

    @property
    def version(self) -> str:
        return str(self.raw["version"])

    def mapping_manifest(self) -> dict[str, Any]:
        """What fhir_mapping.compile_mapping asks of a manifest."""
        return {
            "features": [manifest_feature(feature) for feature in self.features],
            "settled_by": self.raw.get("settled_by", []),
            "domain": self.raw.get("domain", {}),
        }


def load_recipe(path: Path = DIABETES_UNDIAGNOSED) -> Recipe:
    """The recipe, and the sentences of its model card from <recipe>.card.toml beside it.

    Raises DatasetError naming the file and what in it cannot be used.
    """
    card = _card(path)
    statements = _read(card) if card.is_file() else ""
    return parse_recipe(_read(path), statements=statements, file=str(path))


def parse_recipe(text: str, *, statements: str = "", file: str = "recipe.toml") -> Recipe:
    """Raises DatasetError as load_recipe does; `file` is only what it is called there."""
    raw = _toml(text, file)
    said = _toml(statements, str(_card(Path(file))))
    try:
        recipe = Recipe(
            features=tuple(_feature(entry) for entry in raw["features"]),
            panels={
                id_: Panel(id=id_, title=entry["title"], features=tuple(entry["features"]))
                for id_, entry in raw["panels"].items()
            },
            scenarios=tuple(
                Scenario(id=entry["id"], title=entry["title"], absent=tuple(entry["absent"]))
                for entry in raw["scenarios"]
            ),
            statements=said,
            raw=raw,
            text=text,
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise DatasetError(f"{file} cannot be used: {fault!r} is missing or wrong.") from fault
    _refuse_strangers(recipe, file)
    return recipe


def manifest_feature(feature: FeatureSpec) -> dict[str, Any]:
    """A feature as the manifest has it."""
    clip = None if feature.clip_above is None else [None, feature.clip_above]
    categories = {} if feature.categories is None else {"categories": dict(feature.categories)}
    return {
        "name": feature.name,
        "title": feature.title,
        "concept": feature.concept,
        "unit": feature.unit,
        **categories,
        "statistic": feature.statistic,
        "look_back_days": feature.look_back_days,
        "plausible": list(feature.plausible),
        "clip": clip,
        "required": feature.required,
        "monotone": feature.monotone,
        "stale_after_days": feature.stale_after_days,
    }


def titles(recipe: Recipe, panels: Sequence[str]) -> list[str]:
    return [recipe.panels[panel].title for panel in panels]


def _card(path: Path) -> Path:
    return path.with_suffix(".card.toml")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise DatasetError(f"The recipe {path} cannot be read: {fault.strerror}.") from fault
    except UnicodeDecodeError as fault:
        raise DatasetError(f"{path} is not UTF-8 text, as TOML is.") from fault


def _toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise DatasetError(f"{file} is not TOML: {fault}.") from fault


def _refuse_strangers(recipe: Recipe, file: str) -> None:
    """A misspelled name would blank out nothing, or fail late in a run of hours."""
    for panel in recipe.panels.values():
        for name in panel.features:
            if name not in recipe.columns:
                raise DatasetError(f"{file}: the panel {panel.id} has {name!r}, no feature of it.")
    for scenario in recipe.scenarios:
        for name in scenario.absent:
            if name not in recipe.panels:
                raise DatasetError(f"{file}: the scenario {scenario.id} has {name!r}, no panel.")


def _feature(entry: Mapping[str, Any]) -> FeatureSpec:
    concept = load_catalog().concepts[entry.get("concept", entry["name"])]
    statistic = entry.get("statistic", "latest")
    low, high = entry["plausible"]
    return FeatureSpec(
        name=entry["name"],
        concept=concept.id,
        title=entry.get("title", concept.title),
        unit=_UNITS.get(statistic, "{unit}").format(unit=concept.unit),
        decimals=_decimals(statistic, concept.decimals),
        statistic=statistic,
        plausible=(low, high),
        clip_above=entry.get("clip_above"),
        required=entry.get("required", False),
        monotone=entry.get("monotone", 0),
        categories=entry.get("categories"),
        look_back_days=entry.get("look_back_days"),
        stale_after_days=entry.get("stale_after_days"),
    )


def _decimals(statistic: str, decimals: int) -> int:
    """As fhir_mapping.selection has them; it does not round slopes, six places are enough here."""
    return {"count": 0, "mean": decimals + 2, "slope": 6}.get(statistic, decimals)
