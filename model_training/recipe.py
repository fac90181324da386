"""A recipe: everything about a model that is decided before the data are seen, read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_mapping import compile_mapping, load_catalog
from fhir_mapping.mapping import MappingError
from model_training.dataset import DatasetError
from model_training.gate_rules import parse_gates
from model_training.recipe_sections import require_sections

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
    """`raw` holds the sections as the file has them; `text` is the file's own, and `file` what it
    is called."""

    features: tuple[FeatureSpec, ...]
    panels: Mapping[str, Panel]
    scenarios: tuple[Scenario, ...]
    statements: Mapping[str, Any]
    raw: Mapping[str, Any]
    text: str
    file: str

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
    require_sections(raw, file)
    recipe = Recipe(
        features=tuple(_feature(entry, file) for entry in raw["features"]),
        panels={
            id_: Panel(id=id_, title=entry["title"], features=tuple(entry["features"]))
            for id_, entry in raw["panels"].items()
        },
        scenarios=tuple(
            Scenario(id=entry["id"], title=entry["title"], absent=tuple(entry["absent"]))
            for entry in raw["scenarios"]
        ),
        statements=_toml(statements, str(_card(Path(file)))),
        raw=raw,
        text=text,
        file=file,
    )
    try:
        _refuse_strangers(recipe)
        parse_gates(raw.get("gates", []))
        # Without the features: of those, each source can read what it has.
        compile_mapping(load_catalog(), recipe.mapping_manifest() | {"features": []})
    except (DatasetError, MappingError) as fault:
        raise DatasetError(f"{file}: {str(fault).rstrip('.')}.") from fault
    return recipe


def required(recipe: Recipe, section: str, *keys: str) -> Mapping[str, Any]:
    """A section of which this source of people reads more than every recipe has to say; raises
    DatasetError where it is not there."""
    entries: Mapping[str, Any] = recipe.raw[section]
    lacking = [key for key in keys if key not in entries]
    if lacking:
        raise DatasetError(
            f"{recipe.file}: [{section}] lacks {', '.join(lacking)}, which these data are read by."
        )
    return entries


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


def _refuse_strangers(recipe: Recipe) -> None:
    """A misspelled name would blank out nothing, or fail late in a run of hours."""
    raw, columns, panels = recipe.raw, recipe.columns, list(recipe.panels)
    _once("features", columns)
    _once("scenarios", [scenario.id for scenario in recipe.scenarios])
    for panel in recipe.panels.values():
        _known(f"the panel {panel.id} has", panel.features, columns, "no feature of it")
    for scenario in recipe.scenarios:
        _known(f"the scenario {scenario.id} has", scenario.absent, panels, "no panel")
    if recipe.scenarios[0].absent:
        raise DatasetError(f"the first scenario, {recipe.scenarios[0].id}, must lack nothing")
    _known("[masking] chance has", raw["masking"].get("chance", ()), panels, "no panel")
    for group in raw.get("sufficiency", {}).get("at_least_one_of", ()):
        _known("[sufficiency] has", group, columns, "no feature of it")
    searched, fitted = raw["search"]["space"], raw["fit"]["parameters"]
    _known("[search] space has", searched, fitted, "not among [fit] parameters, where it starts")
    axes = raw["evaluation"]["groups"]
    grouped = [axis["feature"] for axis in axes if "feature" in axis]
    _known("[evaluation] groups have", grouped, columns, "no feature of it")
    if "glucose" in raw["evaluation"].get("comparators", ()):
        concepts = [feature.concept for feature in recipe.features]
        _known("[evaluation] comparators have", ["glucose"], concepts, "no concept of a feature")


def _known(who: str, names: Iterable[str], known: Collection[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise DatasetError(f"{who} {name!r}, {what}")


def _once(section: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"[[{section}]] has {', '.join(twice)} more than once")


def _feature(entry: Mapping[str, Any], file: str) -> FeatureSpec:
    named = entry.get("concept", entry["name"])
    concept = load_catalog().concepts.get(named)
    if concept is None:
        raise DatasetError(
            f"{file}: the feature {entry['name']} is of the concept {named!r}, which is not in "
            "concepts.toml."
        )
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
