"""Fit the trees; predict people that they have not seen, period by period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xgboost
from joblib import Parallel, delayed
from sklearn.model_selection import StratifiedGroupKFold

from model_training.dataset import PERSON, DatasetError
from model_training.masking import WeightedRows, with_holes, without_panels
from model_training.preprocessing import Preprocessor, fit_preprocessor
from model_training.recipe import Recipe
from model_training.sample import Flags, Floats, Ints, Sample, Values

# A key beside the scenarios' ids: records with random holes, as calibration sees them.
HOLES = "holes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one model is fitted: everything that a search or a study may vary.

    `masked_share` is the part of a person's weight that goes to copies with panels blanked out;
    `weighting` is "equal" or "survey"; `class_weighting` "none" or "balanced".
    """

    parameters: Mapping[str, Any]
    rounds: int
    masked_share: float
    imputation: str
    weighting: str
    class_weighting: str

    def changed(self, **change: Any) -> Settings:
        return replace(self, **change)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A preprocessor and the booster behind it."""

    preprocessor: Preprocessor
    booster: xgboost.Booster

    def margins(self, values: Values) -> Floats:
        """Log-odds before calibration, one per row."""
        rows = self.preprocessor.transform(values)
        return np.asarray(self.booster.inplace_predict(rows, predict_type="margin"), np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfFold:
    """Margins of the development people, each by a model that saw none of their period.

    `margins`: scenario id (and HOLES) → one per person. `rounds` is where the folds stopped.
    """

    margins: Mapping[str, Floats]
    rounds: int


def settings_from(recipe: Recipe, **change: Any) -> Settings:
    fit = recipe.raw["fit"]
    return Settings(
        parameters={**fit["parameters"], "seed": fit["seed"]},
        rounds=fit["rounds"],
        masked_share=recipe.raw["masking"]["share"],
        imputation=recipe.raw["preprocessing"]["imputation"],
        weighting=fit["weighting"],
        class_weighting=fit["class_weighting"],
    ).changed(**change)


def fit_model(
    sample: Sample, settings: Settings, recipe: Recipe, *, stop_on: Sample | None = None
) -> Fitted:
    """One model; with `stop_on`, boosting ends where those people's log loss no longer falls."""
    preprocessor = fit_preprocessor(
        sample.values, recipe, settings.imputation, recipe.raw["preprocessing"]
    )
    rows = preprocessor.rows_to_fit(_rows(sample, settings, recipe))
    watched = None if stop_on is None else _watched(stop_on, settings, recipe, preprocessor)
    parameters = {
        **settings.parameters,
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "monotone_constraints": preprocessor.monotone,
        # One thread: sums in a fixed order, so that the same data give the same bytes.
        "nthread": 1,
    }
    matrix = _matrix(rows)
    if watched is None:
        booster = xgboost.train(parameters, matrix, settings.rounds)
    else:
        booster = xgboost.train(
            parameters,
            matrix,
            settings.rounds,
            evals=[(_matrix(watched), "unseen")],
            early_stopping_rounds=recipe.raw["fit"]["early_stopping"],
            verbose_eval=False,
        )
        booster = booster[: booster.best_iteration + 1]
        booster.set_param({"nthread": 1})
    booster.feature_names = preprocessor.columns
    return Fitted(preprocessor=preprocessor, booster=booster)


def folds_of(sample: Sample, recipe: Recipe) -> list[Flags]:
    """Who is predicted in each fold: whole periods where there are enough, else whole people."""
    rule = recipe.raw["cross_validation"]
    periods = sorted(set(sample.periods))
    if len(periods) >= rule["folds"]:
        return [
            np.isin(sample.periods, periods[fold :: rule["folds"]]) for fold in range(rule["folds"])
        ]
    groups = sample.people[PERSON].to_numpy(str)
    smaller = min(int(sample.events.sum()), len(sample) - int(sample.events.sum()))
    if smaller < rule["folds"]:
        raise DatasetError(
            f"{smaller} people of the smaller class are too few for {rule['folds']} folds."
        )
    splitter = StratifiedGroupKFold(rule["folds"], shuffle=True, random_state=rule["seed"])
    return [
        np.isin(np.arange(len(sample)), inside)
        for _, inside in splitter.split(sample.values, sample.events, groups)
    ]


def out_of_fold(
    sample: Sample,
    settings: Settings,
    recipe: Recipe,
    *,
    scenarios: Sequence[str] | None = None,
    stop_early: bool = False,
) -> OutOfFold:
    """Folds run side by side, each on one thread; the result does not depend on how many."""
    folds = folds_of(sample, recipe)
    made = Parallel(n_jobs=-1)(
        delayed(_fold)(sample, inside, settings, recipe, scenarios, stop_early) for inside in folds
    )
    margins = {key: np.full(len(sample), np.nan) for key in made[0][0]}
    for inside, (predicted, _) in zip(folds, made, strict=True):
        for key, values in predicted.items():
            margins[key][inside] = values
    return OutOfFold(margins=margins, rounds=int(np.median([rounds for _, rounds in made])))


def absent_panels(recipe: Recipe, scenario: str) -> tuple[str, ...]:
    return next(entry.absent for entry in recipe.scenarios if entry.id == scenario)


def holed(sample: Sample, recipe: Recipe) -> Values:
    """The same people, each with panels blanked out at random: one row each."""
    rule = recipe.raw["masking"]
    rows = with_holes(
        sample.values,
        sample.events,
        sample.weights,
        recipe,
        share=1.0,
        seed=rule["calibration_seed"],
    )
    # share 1 gives the people themselves no weight; their first masked copy follows them.
    return rows.values[len(sample) : 2 * len(sample)]


def _fold(
    sample: Sample,
    inside: Flags,
    settings: Settings,
    recipe: Recipe,
    scenarios: Sequence[str] | None,
    stop_early: bool,
) -> tuple[dict[str, Floats], int]:
    unseen = sample.only(inside)
    fitted = fit_model(
        sample.only(~inside), settings, recipe, stop_on=unseen if stop_early else None
    )
    wanted = [s.id for s in recipe.scenarios] if scenarios is None else scenarios
    margins = {
        id_: fitted.margins(without_panels(unseen.values, absent_panels(recipe, id_), recipe))
        for id_ in wanted
    }
    if scenarios is None:
        margins[HOLES] = fitted.margins(holed(unseen, recipe))
    return margins, fitted.booster.num_boosted_rounds()


def _matrix(rows: WeightedRows) -> xgboost.DMatrix:
    return xgboost.DMatrix(rows.values, rows.events, weight=rows.weights, nthread=1)


def _rows(sample: Sample, settings: Settings, recipe: Recipe) -> WeightedRows:
    weights = (
        sample.weights / sample.weights.mean()
        if settings.weighting == "survey"
        else np.ones(len(sample))
    )
    if settings.class_weighting == "balanced":
        weights = weights * _balance(sample.events, weights)
    return with_holes(
        sample.values,
        sample.events,
        weights,
        recipe,
        share=settings.masked_share,
        seed=recipe.raw["masking"]["seed"],
    )


def _balance(events: Ints, weights: Floats) -> Floats:
    """Factors by which both classes weigh the same in sum."""
    share = np.average(events, weights=weights)
    balanced: Floats = np.where(events == 1, 0.5 / share, 0.5 / (1 - share))
    return balanced


def _watched(
    sample: Sample, settings: Settings, recipe: Recipe, preprocessor: Preprocessor
) -> WeightedRows:
    rows = _rows(sample, settings, recipe)
    return WeightedRows(
        values=preprocessor.transform(rows.values), events=rows.events, weights=rows.weights
    )
