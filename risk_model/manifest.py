"""The manifest: what a model asks for, what its figures mean, which bytes belong to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

FORMAT = 1
MANIFEST = "manifest.json"

# Without these three an artifact can be neither scored nor checked.
MODEL = "model.ubj"
CALIBRATION = "calibration.json"
GOLDEN_SCORES = "golden_scores.json"
REQUIRED_FILES = (MODEL, CALIBRATION, GOLDEN_SCORES)
# Without it, each feature is a column as it is.
PREPROCESSING = "preprocessing.json"

T = TypeVar("T")


class ArtifactError(Exception):
    """An artifact that must not be served: which file, what is wrong with it, what to do."""

    def __init__(self, file: str, problem: str, remedy: str) -> None:
        super().__init__(f"{file}: {problem}. {remedy}")
        self.file = file
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What the bytes of one file of the artifact must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column of the model, in its canonical unit.

    `plausible` bounds what may be scored, inclusive; `clip` bounds what the model has seen, and
    values beyond it enter as the bound; `categories` names the only values of a categorical.
    """

    name: str
    title: str
    unit: str
    plausible: tuple[float, float]
    clip: tuple[float | None, float | None]
    required: bool
    categories: Mapping[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Features that are ordered, and missing, together; `title` is what people call them."""

    id: str
    title: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A named band of probability, up to but not including `below`; the last has no upper end."""

    level: str
    below: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The parsed manifest. `features` is in column order; `raw` is the JSON as it was read."""

    name: str
    version: str
    title: str
    features: tuple[Feature, ...]
    at_least_one_of: tuple[tuple[str, ...], ...]
    levels: tuple[Level, ...]
    prevalence: float
    files: Mapping[str, Digest]
    raw: Mapping[str, Any]
    panels: tuple[Panel, ...] = ()

    def level_of(self, probability: float) -> str:
        return next(band.level for band in self.levels if probability < band.below)


def parse_manifest(raw: Mapping[str, Any]) -> Manifest:
    """Manifest JSON → Manifest; raises ArtifactError naming the entry that cannot be used."""
    _require(raw.get("format") == FORMAT, f"format is {raw.get('format')!r}, not {FORMAT}")
    features = tuple(_feature(entry) for entry in _entry(raw, "features", list))
    names = [feature.name for feature in features]
    _require(bool(names), "features is empty")
    _require(len(set(names)) == len(names), "two features share a name")
    return Manifest(
        name=_entry(raw, "name", str),
        version=_entry(raw, "version", str),
        title=_entry(raw, "title", str),
        features=features,
        at_least_one_of=_groups(raw, names),
        levels=_levels(raw),
        prevalence=_prevalence(raw),
        files=_files(raw),
        raw=raw,
        panels=tuple(_panel(entry, names) for entry in _panel_entries(raw)),
    )


def _feature(raw: Mapping[str, Any]) -> Feature:
    name = _entry(raw, "name", str)
    return Feature(
        name=name,
        title=_entry(raw, "title", str),
        unit=_entry(raw, "unit", str),
        plausible=_plausible(raw, name),
        clip=_clip(raw, name),
        required=_entry(raw, "required", bool),
        categories=_categories(raw, name),
    )


def _plausible(raw: Mapping[str, Any], name: str) -> tuple[float, float]:
    low, high = _converted(f"feature {name}: plausible", lambda: _pair(float, raw["plausible"]))
    _require(low <= high, f"feature {name}: plausible is upside down")
    return low, high


def _clip(raw: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    if raw.get("clip") is None:
        return None, None
    return _converted(
        f"feature {name}: clip",
        lambda: _pair(lambda end: None if end is None else float(end), raw["clip"]),
    )


def _pair(convert: Callable[[Any], T], ends: Any) -> tuple[T, T]:
    low, high = ends
    return convert(low), convert(high)


def _categories(raw: Mapping[str, Any], name: str) -> Mapping[str, float] | None:
    if raw.get("categories") is None:
        return None
    return _converted(
        f"feature {name}: categories",
        lambda: {title: float(value) for title, value in raw["categories"].items()},
    )


def _groups(raw: Mapping[str, Any], names: list[str]) -> tuple[tuple[str, ...], ...]:
    groups = _converted(
        "sufficiency",
        lambda: tuple(
            tuple(group) for group in raw.get("sufficiency", {}).get("at_least_one_of", ())
        ),
    )
    strangers = {name for group in groups for name in group} - set(names)
    _require(not strangers, f"sufficiency names unknown features {sorted(strangers)}")
    return groups


def _panel_entries(raw: Mapping[str, Any]) -> list[Any]:
    return _entry(raw, "panels", list) if "panels" in raw else []


def _panel(raw: Mapping[str, Any], names: list[str]) -> Panel:
    id_ = _entry(raw, "id", str)
    features = _entry(raw, "features", list)
    strangers = [name for name in features if name not in names]
    _require(not strangers, f"panel {id_} names unknown features {strangers}")
    return Panel(id=id_, title=_entry(raw, "title", str), features=tuple(features))


def _levels(raw: Mapping[str, Any]) -> tuple[Level, ...]:
    levels = _converted(
        "levels",
        lambda: tuple(
            Level(level=str(entry["level"]), below=float(entry.get("below", math.inf)))
            for entry in raw["levels"]
        ),
    )
    cuts = [band.below for band in levels]
    rising = all(low < high for low, high in itertools.pairwise(cuts))
    _require(rising and cuts[-1:] == [math.inf], "levels must rise and end without `below`")
    return levels


def _prevalence(raw: Mapping[str, Any]) -> float:
    prevalence = _converted("prevalence", lambda: float(raw["prevalence"]))
    _require(0 < prevalence < 1, f"prevalence {prevalence} is not between 0 and 1")
    return prevalence


def _files(raw: Mapping[str, Any]) -> Mapping[str, Digest]:
    files = {_inside(path): _digest(path, e) for path, e in _entry(raw, "files", dict).items()}
    lacking = [name for name in REQUIRED_FILES if name not in files]
    _require(not lacking, f"files does not name {lacking}")
    return files


def _digest(path: str, raw: Mapping[str, Any]) -> Digest:
    return _converted(
        f"files: {path}", lambda: Digest(sha256=str(raw["sha256"]), bytes=int(raw["bytes"]))
    )


def _inside(path: str) -> str:
    """The path, if it can only mean a file inside the artifact's own folder."""
    parts = PurePosixPath(path).parts
    plain = bool(parts) and "\\" not in path and str(PurePosixPath(path)) == path
    harmless = plain and not path.startswith("/") and not {"..", "."} & set(parts)
    _require(
        harmless and path != MANIFEST, f"files names {path!r}, which is no file of this folder"
    )
    return path


def _entry(raw: Mapping[str, Any], key: str, kind: type[T]) -> T:
    _require(isinstance(raw, Mapping), "an object was expected")
    value = raw.get(key)
    _require(isinstance(value, kind), f"{key} is {value!r}, not a {kind.__name__}")
    assert isinstance(value, kind)  # noqa: S101 - for the type checker; refused on the line above
    return value


def _converted(what: str, convert: Callable[[], T]) -> T:
    """What `convert` makes of an entry, or the refusal of that entry."""
    try:
        return convert()
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise _unusable(f"{what} cannot be read ({fault!r})") from fault


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise _unusable(problem)


def _unusable(problem: str) -> ArtifactError:
    return ArtifactError(
        MANIFEST, problem, "Restore the folder from a release, or train the model again"
    )
