"""Golden scores: records whose probabilities any machine must reproduce before it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from model_training.recipe import FeatureSpec, Recipe
from model_training.sample import Floats, Sample, Values

Predict = Callable[[Values], Floats]
_QUANTILES = {"low": 0.05, "lower": 0.25, "middle": 0.5, "upper": 0.75, "high": 0.95}


def golden_cases(predict: Predict, sample: Sample, recipe: Recipe) -> list[dict[str, object]]:
    """Nobody's record: every value is a quantile of its own column, or an end of its range."""
    cases = [(name, dict(values)) for name, values in _cases(sample, recipe)]
    rows = np.array([_row(values, recipe) for _, values in cases], dtype=np.float32)
    probabilities = predict(rows)
    return [
        {"name": name, "values": values, "probability": round(float(probability), 9)}
        for (name, values), probability in zip(cases, probabilities, strict=True)
    ]


def _cases(sample: Sample, recipe: Recipe) -> Iterator[tuple[str, Mapping[str, float]]]:
    for title, quantile in _QUANTILES.items():
        record = {
            feature.name: _at(sample.values[:, n], quantile, feature)
            for n, feature in enumerate(recipe.features)
        }
        for scenario in recipe.scenarios:
            lost = {name for panel in scenario.absent for name in recipe.panels[panel].features}
            kept = {name: value for name, value in record.items() if name not in lost}
            yield f"{title} values: {scenario.title.lower()}", kept
    needed = _least(recipe)
    for end, title in ((0, "least"), (1, "greatest")):
        yield f"{title} plausible values", {f.name: _end(f, end) for f in recipe.features}
        yield (
            f"{title} plausible values of what is needed",
            {f.name: _end(f, end) for f in recipe.features if f.name in needed},
        )


def _at(column: Values, quantile: float, feature: FeatureSpec) -> float:
    """A value that occurs, so that a category stays one."""
    known = column[~np.isnan(column)]
    if not len(known):
        return _end(feature, 0)
    return round(float(np.quantile(known, quantile, method="nearest")), feature.decimals)


def _end(feature: FeatureSpec, end: int) -> float:
    return float(feature.plausible[end])


def _least(recipe: Recipe) -> set[str]:
    """What the service needs to give a figure at all."""
    groups = recipe.raw.get("sufficiency", {}).get("at_least_one_of", [])
    required = {feature.name for feature in recipe.features if feature.required}
    return required | {group[0] for group in groups}


def _row(values: Mapping[str, float], recipe: Recipe) -> list[float]:
    return [
        min(values.get(feature.name, np.nan), feature.clip_above or np.inf)
        for feature in recipe.features
    ]
