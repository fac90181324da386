"""From a manifest's features to a booster's columns: imputation, scaling, one-hot columns.

The exported form of what scikit-learn fitted, so that serving needs no scikit-learn; training uses
the same functions. An artifact without preprocessing.json has one column per feature, as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from risk_model.manifest import PREPROCESSING, ArtifactError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One regression of chained imputation: what `feature` probably was, from `read`.

    value = clip(intercept + Σ coefficient · value of `read`, low, high); indices of features.
    """

    feature: int
    intercept: float
    read: npt.NDArray[np.intp]
    coefficients: Floats
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preprocessing:
    """`start`: per feature, what stands for an absent value at first; NaN: it stays absent.

    Per column: `column_names`; `sources`, the index of its feature; `center` and `scale` of a
    numeric one; `equals`, the value of which a one-hot column says whether it is there, NaN for a
    numeric one. `unknown` is what a one-hot column says of a feature that is still absent.
    """

    start: Floats
    steps: tuple[Step, ...]
    column_names: tuple[str, ...]
    sources: npt.NDArray[np.intp]
    center: Floats
    scale: Floats
    equals: Floats
    unknown: float

    @property
    def changes_nothing(self) -> bool:
        """Whether every column is its feature, in order: then nobody needs to call this."""
        return bool(
            np.isnan(self.start).all()
            and np.array_equal(self.sources, np.arange(len(self.start)))
            and np.isnan(self.equals).all()
            and (self.center == 0).all()
            and (self.scale == 1).all()
        )


def preprocess_rows(preprocessing: Preprocessing, rows: Floats) -> Floats:
    """Rows with one column per feature, NaN where absent → rows with one per booster column."""
    filled = _imputed(preprocessing, np.asarray(rows, dtype=np.float64))
    values = filled[:, preprocessing.sources]
    columns = (values - preprocessing.center) / preprocessing.scale
    one_hot = ~np.isnan(preprocessing.equals)
    chosen = values[:, one_hot]
    columns[:, one_hot] = np.where(
        np.isnan(chosen), preprocessing.unknown, chosen == preprocessing.equals[one_hot]
    )
    return columns


def _imputed(preprocessing: Preprocessing, rows: Floats) -> Floats:
    """As scikit-learn's IterativeImputer.transform; without steps, as its SimpleImputer's."""
    absent = np.isnan(rows)
    filled = np.where(absent, preprocessing.start, rows)
    for step in preprocessing.steps:
        lacking = np.flatnonzero(absent[:, step.feature])
        if lacking.size:
            known = filled[np.ix_(lacking, step.read)]
            # Not a matrix product: its last digits depend on how many rows there are.
            predicted = (known * step.coefficients).sum(axis=1) + step.intercept
            filled[lacking, step.feature] = np.clip(predicted, step.low, step.high)
    return filled


def by_feature(preprocessing: Preprocessing, column_values: Floats) -> Floats:
    """Sums one row of values per booster column to one value per feature.

    What an imputed value moved belongs to the feature that it stands for.
    """
    count = len(preprocessing.start)
    sums = np.bincount(preprocessing.sources, weights=column_values, minlength=count)
    return np.asarray(sums, dtype=np.float64)


# ------------------------------------------------------------------------------------ reading


def parse_preprocessing(raw: Any, features: Sequence[str]) -> Preprocessing:
    """preprocessing.json and the manifest's feature names → Preprocessing; raises ArtifactError."""
    index = {name: position for position, name in enumerate(features)}
    _only(raw, "the file", {"imputation", "columns"})
    method, start, steps = _imputation(raw["imputation"], index)
    entries = _list(raw["columns"], "columns")
    columns = [_column(entry, f"columns[{n}]", index) for n, entry in enumerate(entries)]
    names = [column.name for column in columns]
    _require(len(set(names)) == len(names), "two columns share a name")
    unread = sorted(set(features) - {features[column.source] for column in columns})
    _require(not unread, f"no column reads {', '.join(unread)}")
    return Preprocessing(
        start=start,
        steps=steps,
        column_names=tuple(names),
        sources=np.array([column.source for column in columns], dtype=np.intp),
        center=np.array([column.center for column in columns]),
        scale=np.array([column.scale for column in columns]),
        equals=np.array([column.equals for column in columns]),
        unknown=math.nan if method == "native" else 0.0,
    )


def _imputation(raw: Any, index: Mapping[str, int]) -> tuple[str, Floats, tuple[Step, ...]]:
    method = raw.get("method") if isinstance(raw, dict) else None
    match method:
        case "native":
            _only(raw, "imputation", {"method"})
            return method, _start({}, index), ()
        case "median":
            _only(raw, "imputation", {"method", "values"})
            return method, _start(_values(raw["values"], "values", index), index), ()
        case "chained":
            _only(raw, "imputation", {"method", "start", "steps"})
            return method, *_chained(raw, index)
    raise _unusable(f"imputation method is {method!r}, none of 'native', 'median', 'chained'")


def _chained(raw: Mapping[str, Any], index: Mapping[str, int]) -> tuple[Floats, tuple[Step, ...]]:
    start = _start(_values(raw["start"], "start", index), index)
    entries = _list(raw["steps"], "steps")
    steps = tuple(_step(entry, f"steps[{n}]", index) for n, entry in enumerate(entries))
    for number, step in enumerate(steps):
        for position in (step.feature, *step.read.tolist()):
            name = list(index)[position]
            _require(not math.isnan(start[position]), f"steps[{number}]: start lacks {name}")
    return start, steps


def _step(raw: Any, where: str, index: Mapping[str, int]) -> Step:
    _only(raw, where, {"feature", "intercept", "coefficients", "low", "high"})
    feature = _known(raw["feature"], where, index)
    coefficients = _values(raw["coefficients"], f"{where}: coefficients", index)
    _require(raw["feature"] not in coefficients, f"{where}: {raw['feature']} predicts itself")
    low = -math.inf if raw["low"] is None else _number(raw["low"], f"{where}: low")
    high = math.inf if raw["high"] is None else _number(raw["high"], f"{where}: high")
    _require(low <= high, f"{where}: low {low} is above high {high}")
    return Step(
        feature=feature,
        intercept=_number(raw["intercept"], f"{where}: intercept"),
        read=np.array([index[name] for name in coefficients], dtype=np.intp),
        coefficients=np.array(list(coefficients.values()), dtype=np.float64),
        low=low,
        high=high,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    name: str
    source: int
    center: float
    scale: float
    equals: float


def _column(raw: Any, where: str, index: Mapping[str, int]) -> _Column:
    one_hot = isinstance(raw, dict) and "equals" in raw
    _only(raw, where, {"name", "feature"} | ({"equals"} if one_hot else {"center", "scale"}))
    name = raw["name"]
    _require(isinstance(name, str) and bool(name), f"{where}: name is {name!r}")
    source = _known(raw["feature"], where, index)
    if one_hot:
        equals = _number(raw["equals"], f"{where}: equals")
        return _Column(name=name, source=source, center=0.0, scale=1.0, equals=equals)
    scale = _number(raw["scale"], f"{where}: scale")
    _require(scale > 0, f"{where}: scale {scale} is not above 0")
    center = _number(raw["center"], f"{where}: center")
    return _Column(name=name, source=source, center=center, scale=scale, equals=math.nan)


def _start(values: Mapping[str, float], index: Mapping[str, int]) -> Floats:
    return np.array([values.get(name, math.nan) for name in index])


def _values(raw: Any, where: str, index: Mapping[str, int]) -> dict[str, float]:
    _require(isinstance(raw, dict), f"{where} is {raw!r}, not an object")
    strangers = sorted(set(raw) - set(index))
    _require(not strangers, f"{where} names {', '.join(strangers)}, no features of the manifest")
    return {name: _number(value, f"{where}: {name}") for name, value in raw.items()}


def _known(name: Any, where: str, index: Mapping[str, int]) -> int:
    _require(
        isinstance(name, str) and name in index,
        f"{where}: feature is {name!r}, no feature of the manifest",
    )
    return index[name]


def _list(raw: Any, where: str) -> list[Any]:
    if not isinstance(raw, list):
        raise _unusable(f"{where} is {raw!r}, not a list")
    return raw


def _only(raw: Any, where: str, keys: set[str]) -> None:
    """Exactly these keys: an unknown one would be a transformation that is not done."""
    _require(isinstance(raw, dict), f"{where} is {raw!r}, not an object")
    lacking, strange = sorted(keys - set(raw)), sorted(set(raw) - keys)
    _require(not lacking, f"{where} lacks {', '.join(lacking)}")
    _require(not strange, f"{where} has {', '.join(strange)}, which this version does not know")


def _number(value: Any, where: str) -> float:
    # JSON has no infinity, and 1e999 becomes one all the same.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise _unusable(f"{where} is {value!r}, not a finite number")
    return float(value)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise _unusable(problem)


def _unusable(problem: str) -> ArtifactError:
    return ArtifactError(PREPROCESSING, problem, "Train the model again")
