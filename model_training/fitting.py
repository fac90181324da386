"""Fit every candidate on the fit people, calibrate each on the tune people, take the best there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import xgboost

from model_training.features import Floats, Sample
from model_training.logistic import fit_logistic, log_loss
from model_training.masking import Values, with_holes, without_panels
from model_training.recipe import Candidate, Recipe

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A booster and its calibration: log-odds = slope · margin + intercept."""

    candidate: Candidate
    booster: xgboost.Booster
    slope: float
    intercept: float

    def log_odds(self, values: Values) -> Floats:
        margin = self.booster.inplace_predict(values, predict_type="margin")
        return self.slope * np.asarray(margin, dtype=np.float64) + self.intercept


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best candidate, and the tune people's log loss for each: id → scenario id → loss."""

    best: Fitted
    losses: Mapping[str, Mapping[str, float]]


def choose(fit: Sample, tune: Sample, recipe: Recipe, announce: Announce) -> Choice:
    contenders = list(_contenders(fit, tune, recipe, announce))
    losses = {entry.candidate.id: scenario_losses(entry, tune, recipe) for entry in contenders}
    best = min(contenders, key=lambda entry: _mean(losses[entry.candidate.id].values()))
    return Choice(best=best, losses=losses)


def scenario_losses(fitted: Fitted, tune: Sample, recipe: Recipe) -> dict[str, float]:
    events = tune.events.astype(np.float64)
    return {
        scenario.id: log_loss(
            fitted.log_odds(without_panels(tune.values, scenario.absent, recipe)),
            events,
            tune.weights,
        )
        for scenario in recipe.scenarios
    }


def fit_candidate(fit: Sample, tune: Sample, candidate: Candidate, recipe: Recipe) -> Fitted:
    booster = _boost(fit, candidate, recipe)
    slope, intercept = _calibrate(booster, tune, recipe)
    return Fitted(candidate=candidate, booster=booster, slope=slope, intercept=intercept)


def _contenders(fit: Sample, tune: Sample, recipe: Recipe, announce: Announce) -> Iterable[Fitted]:
    for candidate in recipe.candidates:
        announce(f"Fitting {candidate.id}")
        yield fit_candidate(fit, tune, candidate, recipe)


def _boost(fit: Sample, candidate: Candidate, recipe: Recipe) -> xgboost.Booster:
    survey = fit.weights / fit.weights.mean()
    rows = with_holes(
        fit.values,
        fit.events,
        survey if candidate.weighting == "survey" else np.ones_like(survey),
        recipe,
        share=candidate.masked_share,
        seed=recipe.raw["masking"]["seed"],
    )
    matrix = xgboost.DMatrix(
        rows.values, rows.events, weight=rows.weights, feature_names=recipe.columns, nthread=1
    )
    # One thread: sums in a fixed order, so that the same data give the same bytes.
    signs = "(" + ",".join(str(feature.monotone) for feature in recipe.features) + ")"
    parameters = {**candidate.parameters, "monotone_constraints": signs, "nthread": 1}
    return xgboost.train(parameters, matrix, candidate.rounds)


def _calibrate(booster: xgboost.Booster, tune: Sample, recipe: Recipe) -> tuple[float, float]:
    """Platt scaling on people the booster has not seen, with and without holes, survey-weighted."""
    masking = recipe.raw["masking"]
    rows = with_holes(
        tune.values,
        tune.events,
        tune.weights,
        recipe,
        share=masking["calibration_share"],
        seed=masking["calibration_seed"],
    )
    margin = np.asarray(booster.inplace_predict(rows.values, predict_type="margin"), np.float64)
    slope, intercept = fit_logistic(margin, rows.events.astype(np.float64), rows.weights)
    # Ten decimals are far below what the data can tell, and far above what the CPU may vary.
    return round(float(slope), 10), round(float(intercept), 10)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
