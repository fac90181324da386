"""Which inputs move the figure, in a seeded sample of people: for beeswarm and dependence plots."""

from __future__ import annotations

from typing import Any

import numpy as np
import xgboost

from model_training.fitting import Fitted
from model_training.preprocessing import one_hot
from model_training.recipe import Recipe
from model_training.sample import Floats, Sample, Values

Json = dict[str, Any]


def explain_sample(fitted: Fitted, sample: Sample, recipe: Recipe) -> Json:
    """The report's explanation: exact TreeSHAP of the margin, in log-odds before calibration."""
    rule = recipe.raw["studies"]
    count = min(rule["explained_people"], len(sample))
    chosen = np.sort(np.random.default_rng(rule["seed"]).choice(len(sample), count, replace=False))
    values = sample.values[chosen]
    contributions = shap_values(fitted, values, recipe)
    strength = np.abs(contributions).mean(axis=0)
    order = np.argsort(-strength, kind="stable")
    return {
        "importance": [
            {
                "feature": recipe.features[n].name,
                "title": recipe.features[n].title,
                "mean_abs_log_odds": round(float(strength[n]), 4),
            }
            for n in order
        ],
        "people": count,
        "rows": [
            {
                "feature": recipe.features[n].name,
                "title": recipe.features[n].title,
                "unit": recipe.features[n].unit,
                "values": [_plain(v, recipe.features[n].decimals) for v in values[:, n]],
                "log_odds": [round(float(v), 4) for v in contributions[:, n]],
            }
            for n in order
        ],
    }


def shap_values(fitted: Fitted, values: Values, recipe: Recipe) -> Floats:
    """(n, features): the columns of a one-hot feature are summed to it."""
    matrix = xgboost.DMatrix(
        fitted.preprocessor.transform(values),
        feature_names=fitted.preprocessor.columns,
        nthread=1,
    )
    by_column = np.asarray(fitted.booster.predict(matrix, pred_contribs=True), np.float64)
    columns = fitted.preprocessor.columns
    return np.column_stack(
        [
            by_column[:, [n for n, name in enumerate(columns) if _belongs(name, feature)]].sum(1)
            for feature in recipe.features
        ]
    )


def _belongs(column: str, feature: Any) -> bool:
    return column.startswith(f"{feature.name}=") if one_hot(feature) else column == feature.name


def _plain(value: float, decimals: int) -> float | None:
    return None if np.isnan(value) else round(float(value), decimals)
