"""From margins to probabilities: four ways, chosen by cross-validation, never on test people.

- `none`: the booster's own probability.
- `sigmoid`: a line on the log-odds (Platt, 1999).
- `beta`: a line on each of ln p and ln(1 - p) (Kull, Silva Filho and Flach, AISTATS 2017).
- `isotonic`: any rising function (Zadrozny and Elkan, KDD 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression

from model_training.dataset import DatasetError
from model_training.fitting import HOLES, OutOfFold
from model_training.logistic import fit_logistic, log_loss, logistic
from model_training.recipe import Recipe
from model_training.sample import Flags, Floats, Sample
from risk_model import calibrated_log_odds, parse_calibration

Json = dict[str, Any]
# No certainty comes out of a few thousand people: isotonic steps stay this far from 0 and 1.
_MARGIN = 1e-4
# Ten decimals are far below what the data can tell, and far above what a CPU may vary.
_DIGITS = 10
_NOT_RANKED = (
    "Scores of people unseen do not rise with the outcome: too few people, or inputs that say "
    "nothing of it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Margins with what happened and how much it counts."""

    margins: Floats
    events: Floats
    weights: Floats

    def only(self, chosen: Flags) -> Rows:
        return Rows(
            margins=self.margins[chosen], events=self.events[chosen], weights=self.weights[chosen]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationChoice:
    """The chosen method's calibration.json, and of each method the log loss per fold and, over
    all folds, how many events came for each that was foretold; held-out people throughout."""

    method: str
    exported: Json
    losses: Mapping[str, tuple[float, ...]]
    observed_to_expected: Mapping[str, float]


def rows_to_calibrate(out_of_fold: OutOfFold, sample: Sample, recipe: Recipe) -> Rows:
    """Everybody twice: as recorded, and with holes, each with a share of their survey weight."""
    share = recipe.raw["masking"]["calibration_share"]
    complete = recipe.scenarios[0].id
    return Rows(
        margins=np.concatenate([out_of_fold.margins[complete], out_of_fold.margins[HOLES]]),
        events=np.tile(sample.events, 2).astype(np.float64),
        weights=np.concatenate([sample.weights * (1 - share), sample.weights * share]),
    )


def choose_calibration(
    rows: Rows, folds: Sequence[Flags], rule: Mapping[str, Any]
) -> CalibrationChoice:
    """`folds`: who is held out, over the rows. `rule`: the `methods`, from simple to rich, and how
    far observed / expected may lie from 1, `in_the_large`.

    Of the methods that put the level right the simplest within one standard error of the best is
    taken. Log loss alone hardly sees a level that is wrong for everybody; a clinician does. Where
    no method puts it right, all are compared.
    """
    methods = rule["methods"]
    held_out = {method: [_held_out(rows, inside, method) for inside in folds] for method in methods}
    losses = {method: tuple(part.loss for part in held_out[method]) for method in methods}
    level = {method: _level(held_out[method]) for method in methods}
    right = [name for name in methods if abs(level[name] - 1) <= rule["in_the_large"]] or methods
    best = min(right, key=lambda method: np.mean(losses[method]))
    chosen = next(method for method in right if _as_good(losses[method], losses[best]))
    return CalibrationChoice(
        method=chosen,
        exported=fit_calibration(rows, chosen),
        losses=losses,
        observed_to_expected=level,
    )


def fit_calibration(rows: Rows, method: str) -> Json:
    """calibration.json; risk_model reads it. Raises DatasetError where these people do not allow
    it."""
    return _FITS[method](rows)


def calibrated(exported: Json, margins: Floats) -> Floats:
    """Log-odds after calibration, by the service's own arithmetic."""
    return calibrated_log_odds(parse_calibration(exported), margins)


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeldOut:
    """One fold by a method fitted on the others; infinite and NaN where it could not be."""

    loss: float
    observed: float
    expected: float


def _held_out(rows: Rows, inside: Flags, method: str) -> _HeldOut:
    held = rows.only(inside)
    try:
        exported = fit_calibration(rows.only(~inside), method)
    except DatasetError:
        return _HeldOut(loss=np.inf, observed=np.nan, expected=np.nan)
    log_odds = calibrated(exported, held.margins)
    return _HeldOut(
        loss=log_loss(log_odds, held.events, held.weights),
        observed=float(held.weights @ held.events),
        expected=float(held.weights @ logistic(log_odds)),
    )


def _level(parts: Sequence[_HeldOut]) -> float:
    return sum(part.observed for part in parts) / sum(part.expected for part in parts)


def _as_good(losses: Sequence[float], best: Sequence[float]) -> bool:
    if not np.isfinite(losses).all():
        return False
    worse = np.subtract(losses, best)
    if not worse.any():
        return True
    return bool(worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)))


def _identity(rows: Rows) -> Json:
    del rows
    return {"method": "identity"}


def _sigmoid(rows: Rows) -> Json:
    slope, intercept = _fitted(rows.margins, rows)
    if slope <= 0:
        raise DatasetError(_NOT_RANKED)
    return {"method": "sigmoid", "slope": _rounded(slope), "intercept": _rounded(intercept)}


def _beta(rows: Rows) -> Json:
    """Where one of the two slopes would fall, it is zero and the other is fitted alone."""
    p = logistic(rows.margins)
    low, high = np.log(p), -np.log1p(-p)
    a, b, c = _fitted(np.column_stack([low, high]), rows)
    if b < 0:
        (a, c), b = _fitted(low, rows), 0.0
    elif a < 0:
        (b, c), a = _fitted(high, rows), 0.0
    if a + b <= 0:
        raise DatasetError(_NOT_RANKED)
    return {"method": "beta", "a": _rounded(a), "b": _rounded(b), "c": _rounded(c)}


def _fitted(columns: Floats, rows: Rows) -> Floats:
    try:
        return fit_logistic(columns, rows.events, rows.weights)
    except (ArithmeticError, np.linalg.LinAlgError) as fault:
        raise DatasetError(
            "Scores of people unseen part the outcomes completely: too few people to calibrate on."
        ) from fault


def _isotonic(rows: Rows) -> Json:
    steps = IsotonicRegression(y_min=_MARGIN, y_max=1 - _MARGIN, out_of_bounds="clip")
    steps.fit(rows.margins, rows.events, sample_weight=rows.weights)
    return {
        "method": "isotonic",
        "margins": [float(value) for value in steps.X_thresholds_],
        "probabilities": [float(value) for value in steps.y_thresholds_],
    }


_FITS: Mapping[str, Callable[[Rows], Json]] = {
    "none": _identity,
    "sigmoid": _sigmoid,
    "beta": _beta,
    "isotonic": _isotonic,
}


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
