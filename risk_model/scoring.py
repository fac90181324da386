"""Load a verified artifact; score values; say what is missing when they do not suffice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from risk_model.booster import Booster, Floats, Row, load_booster, margins_and_shap_values
from risk_model.calibration import Calibration, parse_calibration
from risk_model.explanation import Contribution, explain
from risk_model.manifest import (
    CALIBRATION,
    GOLDEN_SCORES,
    MODEL,
    PREPROCESSING,
    ArtifactError,
    Feature,
    Manifest,
)
from risk_model.preprocessing import (
    Preprocessing,
    by_feature,
    parse_preprocessing,
    preprocess_rows,
)
from risk_model.tables import Tables, tabulate
from risk_model.verify import VerifiedFiles, read_verified

GOLDEN_TOLERANCE = 1e-6
# In log-odds: more than sums of hundreds of 32-bit figures differ by, in whatever order.
_ROUNDING = 1e-5
_NUMBERS = (int, float, np.integer, np.floating)
_REINSTALL = "Install the xgboost version that the manifest names, or train the model again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A verified, loaded model. Safe to share between threads: scoring changes nothing in it.

    `preprocessing` None: the booster's columns are the features, as they are. `tables`: the
    booster's answers, looked up instead of computed; None: XGBoost computes each.
    """

    manifest: Manifest
    directory: Path
    booster: Booster
    calibration: Calibration
    preprocessing: Preprocessing | None = None
    tables: Tables | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskEstimate:
    """A calibrated probability and its account.

    `baseline` and the contributions' log-odds sum to the log-odds of `probability`;
    `relative_risk` is against the manifest's prevalence.
    """

    probability: float
    level: str
    relative_risk: float
    baseline: float
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InsufficientData:
    """No estimate: the required features that are missing, and the groups with no member present.

    One member of each group would be enough.
    """

    missing: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class _Golden:
    """A golden case that XGBoost has computed as the training machine's did."""

    name: str
    values: Mapping[str, float]
    computed: RiskEstimate


def load_model(directory: Path) -> Model:
    """Verify, parse, load, recompute the golden scores, by XGBoost and then from tables; raises
    ArtifactError."""
    files = read_verified(directory)
    preprocessing = _preprocessing(files)
    model = Model(
        manifest=files.manifest,
        directory=directory,
        booster=_booster(files, preprocessing),
        calibration=parse_calibration(files.json(CALIBRATION)),
        preprocessing=None if preprocessing and preprocessing.changes_nothing else preprocessing,
    )
    golden = _recompute_golden_scores(model, files.json(GOLDEN_SCORES))
    return _with_tables(model, golden)


def score(model: Model, values: Mapping[str, float]) -> RiskEstimate | InsufficientData:
    """Scores the values present, in the manifest's units; absent features are not in `values`.

    Raises ValueError for an unknown name, and for a value that is not a finite number, lies
    outside the feature's plausible range or is none of its categories.
    """
    _refuse_unknown(model.manifest, values)
    row = feature_row(model.manifest, values)
    lacking = insufficiency(model.manifest, values)
    if lacking is not None:
        return lacking
    return _estimate(model, values, row)


def insufficiency(manifest: Manifest, values: Mapping[str, float]) -> InsufficientData | None:
    missing = tuple(
        feature.name
        for feature in manifest.features
        if feature.required and feature.name not in values
    )
    groups = tuple(group for group in manifest.at_least_one_of if not set(group) & set(values))
    return InsufficientData(missing=missing, groups=groups) if missing or groups else None


def feature_row(manifest: Manifest, values: Mapping[str, float]) -> Floats:
    """One row in the features' order, clipped, NaN where absent; raises ValueError naming one."""
    entries = [
        _entered(feature, values[feature.name]) if feature.name in values else math.nan
        for feature in manifest.features
    ]
    return np.array([entries], dtype=np.float64)


def sigmoid(log_odds: float) -> float:
    """Stable at both ends: never exponentiates a large positive number."""
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    exponential = math.exp(log_odds)
    return exponential / (1.0 + exponential)


def _estimate(model: Model, values: Mapping[str, float], row: Floats) -> RiskEstimate:
    columns = preprocess_rows(model.preprocessing, row) if model.preprocessing else row
    margin, column_shares, expected = _answered(model, columns.astype(np.float32))
    log_odds = float(model.calibration.log_odds(np.array([margin]))[0])
    probability = sigmoid(log_odds)
    baseline, contributions = explain(
        model.manifest.features,
        values,
        _by_feature(model, column_shares),
        log_odds,
        model.calibration.scale(margin, expected),
    )
    return RiskEstimate(
        probability=probability,
        level=model.manifest.level_of(probability),
        relative_risk=probability / model.manifest.prevalence,
        baseline=baseline,
        contributions=contributions,
    )


def _answered(model: Model, columns: Row) -> tuple[float, list[float], float]:
    """(margin, what each column adds to the expected margin, expected margin) of one row."""
    if model.tables:
        margin, shares = model.tables.margin_and_shares(columns[0])
        return margin, shares, model.tables.expected
    margins, shap_values = margins_and_shap_values(model.booster, columns)
    *shares, expected = shap_values[0].tolist()
    return float(margins[0]), shares, expected


def _by_feature(model: Model, column_shares: list[float]) -> list[float]:
    if not model.preprocessing:
        return column_shares
    shares: list[float] = by_feature(model.preprocessing, np.array(column_shares)).tolist()
    return shares


def _refuse_unknown(manifest: Manifest, values: Mapping[str, float]) -> None:
    unknown = sorted(set(values) - {feature.name for feature in manifest.features})
    if unknown:
        raise ValueError(f"unknown features: {', '.join(unknown)}")


def _entered(feature: Feature, value: float) -> float:
    number = _number(feature, value)
    low, high = feature.plausible
    if not low <= number <= high:
        raise ValueError(
            f"{feature.name}: {number:g} {feature.unit} lies outside {low:g} to {high:g}"
        )
    if feature.categories is not None and number not in feature.categories.values():
        raise ValueError(f"{feature.name}: {number:g} is none of {dict(feature.categories)}")
    floor, ceiling = feature.clip
    raised = number if floor is None else max(floor, number)
    return raised if ceiling is None else min(ceiling, raised)


def _number(feature: Feature, value: object) -> float:
    # bool is an int to Python, and to nobody who writes a blood pressure.
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise ValueError(f"{feature.name}: {value!r} is not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{feature.name}: {number} is not finite")
    return number


def _preprocessing(files: VerifiedFiles) -> Preprocessing | None:
    if PREPROCESSING not in files.manifest.files:
        return None
    names = [feature.name for feature in files.manifest.features]
    return parse_preprocessing(files.json(PREPROCESSING), names)


def _booster(files: VerifiedFiles, preprocessing: Preprocessing | None) -> Booster:
    try:
        booster = load_booster(files.contents[MODEL])
    except ValueError as fault:
        raise ArtifactError(MODEL, f"cannot be loaded ({fault})", _REINSTALL) from fault
    if preprocessing:
        columns, where = list(preprocessing.column_names), PREPROCESSING
    else:
        columns, where = [feature.name for feature in files.manifest.features], "the manifest"
    if booster.feature_names != columns:
        problem = f"has columns {booster.feature_names}, {where} says {columns}"
        raise ArtifactError(MODEL, problem, "Train the model again")
    return booster


def _recompute_golden_scores(model: Model, raw: Any) -> list[_Golden]:
    """Proves that this machine's XGBoost computes what the training machine's did."""
    try:
        cases = [(c["name"], c["values"], float(c["probability"])) for c in raw["cases"]]
        scored = [(*case, score(model, case[1])) for case in cases]
    except (KeyError, TypeError, ValueError) as fault:
        raise ArtifactError(GOLDEN_SCORES, f"cannot be used ({fault!r})", _REINSTALL) from fault
    if not scored:
        raise ArtifactError(GOLDEN_SCORES, "holds no cases", "Train the model again")
    return [
        _Golden(name, values, _require_golden(name, outcome, expected))
        for name, values, expected, outcome in scored
    ]


def _require_golden(
    name: str, outcome: RiskEstimate | InsufficientData, expected: float
) -> RiskEstimate:
    got = outcome.probability if isinstance(outcome, RiskEstimate) else math.nan
    if isinstance(outcome, RiskEstimate) and abs(got - expected) <= GOLDEN_TOLERANCE:
        return outcome
    problem = f"case {name!r} scores {got:.9f} here and {expected:.9f} when trained"
    raise ArtifactError(GOLDEN_SCORES, problem, _REINSTALL)


def _with_tables(model: Model, golden: list[_Golden]) -> Model:
    """The model, scored from tables from now on, if they hold it and give XGBoost's own bits.

    Bits, because stored assessments are replayed and compared. With an XGBoost that rounds in other
    places, it goes on computing. What is more than rounding is a fault, and refused.
    """
    tables = tabulate(model.booster)
    if tables is None:
        return model
    looked_up = replace(model, tables=tables)
    found = [score(looked_up, case.values) for case in golden]
    if found == [case.computed for case in golden]:
        return looked_up
    for case, outcome in zip(golden, found, strict=True):
        _require_rounding(case, outcome)
    return model


def _require_rounding(case: _Golden, outcome: RiskEstimate | InsufficientData) -> None:
    found, computed = _log_odds(outcome), _log_odds(case.computed)
    far = [name for name in computed if not abs(found[name] - computed[name]) <= _ROUNDING]
    if far:
        problem = f"case {case.name!r} has another {', '.join(far)} in tables than of XGBoost"
        raise ArtifactError(GOLDEN_SCORES, problem, _REINSTALL)


def _log_odds(outcome: RiskEstimate | InsufficientData) -> dict[str, float]:
    """All that an estimate is made of; the probability is their sum's."""
    assert isinstance(outcome, RiskEstimate)  # noqa: S101 - of these values, XGBoost had an estimate
    shares = {entry.feature: entry.log_odds for entry in outcome.contributions}
    return {"baseline": outcome.baseline, **shares}
