"""Who the people are: the table that a reader looks at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model_training.evaluation import memberships
from model_training.recipe import FeatureSpec, Recipe
from model_training.sample import Sample

Json = dict[str, Any]


def characteristics(samples: Mapping[str, Sample], recipe: Recipe) -> list[Json]:
    """Per input: median, quartiles and share missing; per group: count and share. Unweighted."""
    rows: list[Json] = []
    for position, feature in enumerate(recipe.features):
        if feature.categories is None:
            rows.append(_number(feature, position, samples))
    for axis in recipe.raw["evaluation"]["groups"]:
        rows += _groups(axis["axis"], samples, recipe)
    return rows


def _number(feature: FeatureSpec, position: int, samples: Mapping[str, Sample]) -> Json:
    return {
        "title": feature.title if feature.unit == "1" else f"{feature.title}, {feature.unit}",
        "kind": "number",
        **{part: _quartiles(sample, position) for part, sample in samples.items()},
    }


def _quartiles(sample: Sample, position: int) -> list[float | None]:
    values = sample.values[:, position].astype(np.float64)
    known = values[~np.isnan(values)]
    missing = round(float(np.isnan(values).mean()), 4)
    if not len(known):
        return [None, None, None, missing]
    return [*(round(float(q), 3) for q in np.quantile(known, [0.5, 0.25, 0.75])), missing]


def _groups(axis: str, samples: Mapping[str, Sample], recipe: Recipe) -> list[Json]:
    inside = {part: memberships(sample, recipe).get(axis, {}) for part, sample in samples.items()}
    names = next(iter(inside.values()))
    return [
        {
            "title": f"{axis}: {title}",
            "kind": "share",
            **{
                part: [int(groups[title].sum()), round(float(groups[title].mean()), 4)]
                for part, groups in inside.items()
                if title in groups
            },
        }
        for title in names
    ]
