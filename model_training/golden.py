"""Golden scores: made-up people whose probabilities any machine must reproduce."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from model_training.fitting import Fitted
from model_training.logistic import logistic
from model_training.recipe import Recipe

# Invented: round numbers around textbook values, nobody's record.
_PEOPLE: Mapping[str, tuple[float, ...]] = {
    # age sex glu bmi sbp dbp chol hdl trig crea alt ast ggt urate alb leuk, the recipe's order
    "young and lean": (24, 1, 84, 21.5, 110, 70, 165, 62, 70, 0.7, 15, 18, 12, 4.1, 4.5, 6.1),
    "middle-aged": (52, 0, 97, 27.8, 128, 80, 205, 47, 140, 0.95, 27, 25, 30, 5.9, 4.3, 7.0),
    "metabolic syndrome": (
        61,
        0,
        121,
        34.2,
        146,
        88,
        214,
        37,
        260,
        1.05,
        44,
        33,
        61,
        7.4,
        4.1,
        8.6,
    ),
    "hyperglycaemic": (57, 1, 212, 36.9, 139, 84, 221, 39, 310, 0.8, 39, 30, 55, 6.3, 4.0, 9.3),
}
_EXTREMES: Mapping[str, Mapping[str, float]] = {
    "youngest, least": {"age": 18, "body_mass_index": 10},
    "oldest, glucose only": {"age": 120, "glucose": 100},
    "all inputs at the low end of 40": {"age": 40, "sex": 1, "glucose": 40, "hdl_cholesterol": 15},
    "all inputs at the high end of 80": {
        "age": 80,
        "sex": 0,
        "glucose": 900,
        "body_mass_index": 75,
        "triglycerides": 5000,
        "gamma_glutamyl_transferase": 2000,
    },
}


def golden_cases(fitted: Fitted, recipe: Recipe) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "values": dict(values),
            "probability": round(_probability(fitted, values, recipe), 9),
        }
        for name, values in _cases(recipe)
    ]


def _cases(recipe: Recipe) -> Iterable[tuple[str, Mapping[str, float]]]:
    for person, row in _PEOPLE.items():
        values = dict(zip(recipe.columns, row, strict=True))
        for scenario in recipe.scenarios:
            lost = {name for panel in scenario.absent for name in recipe.panels[panel]}
            kept = {name: value for name, value in values.items() if name not in lost}
            yield f"{person}: {scenario.title.lower()}", kept
    yield from _EXTREMES.items()


def _probability(fitted: Fitted, values: Mapping[str, float], recipe: Recipe) -> float:
    row = [
        min(values.get(feature.name, np.nan), feature.clip_above or np.inf)
        for feature in recipe.features
    ]
    return float(logistic(fitted.log_odds(np.array([row], dtype=np.float32)))[0])
