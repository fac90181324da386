"""From a table of people to what the model is given: rounded, plausible, clipped, NaN if absent.

The same steps as in service: fhir_mapping rounds to the concept's decimals, the plausible range
makes a value absent, risk_model clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from model_training.recipe import FeatureSpec, Recipe

_FEMALE = 2  # RIAGENDR: 1 male, 2 female

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """People as arrays, one row each: features in the recipe's order, outcome, survey design."""

    values: npt.NDArray[np.float32]
    events: npt.NDArray[np.int64]
    weights: Floats
    strata: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]
    ethnicity: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.events)


def sample_from(people: pd.DataFrame, recipe: Recipe) -> Sample:
    """`people` needs the columns of nhanes.toml and `event`."""
    columns = [_column(people, feature) for feature in recipe.features]
    return Sample(
        values=np.column_stack(columns).astype(np.float32),
        events=people["event"].to_numpy(np.int64),
        weights=people["survey_weight"].to_numpy(np.float64),
        strata=people["stratum"].to_numpy(np.int64),
        units=people["sampling_unit"].to_numpy(np.int64),
        ethnicity=people["ethnicity"].to_numpy(np.int64),
    )


def as_values(row: npt.NDArray[np.float32], recipe: Recipe) -> dict[str, float]:
    """One row as risk_model.score takes it: present features by name, at the concept's decimals."""
    return {
        feature.name: round(float(value), feature.decimals)
        for feature, value in zip(recipe.features, row, strict=True)
        if not np.isnan(value)
    }


def _column(people: pd.DataFrame, feature: FeatureSpec) -> Floats:
    raw = (
        (people["gender"] == _FEMALE).astype(float)
        if feature.name == "sex"
        else people[feature.name]
    )
    rounded: Floats = np.round(raw.to_numpy(np.float64), feature.decimals)
    low, high = feature.plausible
    # Comparisons with NaN are false: absent stays absent.
    plausible: Floats = np.where((rounded >= low) & (rounded <= high), rounded, np.nan)
    return plausible if feature.clip_above is None else np.minimum(plausible, feature.clip_above)
