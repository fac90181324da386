"""From a table of people to what the model is given: rounded, plausible, clipped, NaN if absent.

The same steps as in service, for every source alike: fhir_mapping rounds to the concept's
decimals, the plausible range makes a value absent, risk_model clips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_mapping.units import rounding
from model_training.dataset import (
    EVENT,
    PERIOD,
    PERSON,
    RECORD,
    SAMPLING_UNIT,
    STRATUM,
    WEIGHT,
    DatasetError,
)
from model_training.recipe import FeatureSpec, Recipe

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]

_NEEDED = (RECORD, PERSON, PERIOD, EVENT, WEIGHT, STRATUM, SAMPLING_UNIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """People as arrays, one row each: features in the recipe's order, outcome, survey design.

    `people` is the table they came from, in the same order, for groups and other outcomes.
    """

    values: Values
    events: Ints
    weights: Floats
    strata: Ints
    units: Ints
    people: pd.DataFrame

    def __len__(self) -> int:
        return len(self.events)

    @property
    def periods(self) -> npt.NDArray[np.object_]:
        return self.people[PERIOD].to_numpy(object)

    @property
    def records(self) -> list[str]:
        return [str(record) for record in self.people[RECORD]]

    def only(self, chosen: Flags) -> Sample:
        return Sample(
            values=self.values[chosen],
            events=self.events[chosen],
            weights=self.weights[chosen],
            strata=self.strata[chosen],
            units=self.units[chosen],
            people=self.people[chosen].reset_index(drop=True),
        )

    def with_outcome(self, column: str, weight: str) -> Sample:
        """Those for whom another outcome is known, with it and with that outcome's weight."""
        known = (self.people[column].notna() & (self.people[weight] > 0)).to_numpy()
        inside = self.only(known)
        return Sample(
            values=inside.values,
            events=inside.people[column].to_numpy(np.int64),
            weights=inside.people[weight].to_numpy(np.float64),
            strata=inside.strata,
            units=inside.units,
            people=inside.people,
        )


def sample_from(people: pd.DataFrame, recipe: Recipe) -> Sample:
    """Raises DatasetError where the table has no people, or lacks a column."""
    lacking = [name for name in (*_NEEDED, *recipe.columns) if name not in people]
    if lacking:
        raise DatasetError(f"The table of people lacks the columns {lacking}.")
    if people.empty:
        raise DatasetError("Nobody is left after the cohort's rules: is it the right data set?")
    columns = [column_values(people, feature) for feature in recipe.features]
    return Sample(
        values=np.column_stack(columns).astype(np.float32),
        events=people[EVENT].to_numpy(np.int64),
        weights=people[WEIGHT].to_numpy(np.float64),
        strata=people[STRATUM].to_numpy(np.int64),
        units=people[SAMPLING_UNIT].to_numpy(np.int64),
        people=people.reset_index(drop=True),
    )


def require_both_classes(sample: Sample, what: str) -> None:
    """Raises DatasetError where there is nothing to learn or to measure."""
    events = int(sample.events.sum())
    if events in (0, len(sample)):
        word = "nobody has" if events == 0 else "everybody has"
        raise DatasetError(
            f"Of the {len(sample)} people of the {what} part {word} the outcome: a model can "
            "neither be fitted nor measured on one class."
        )


def as_values(row: Values, recipe: Recipe) -> dict[str, float]:
    """One row as risk_model.score takes it: present features by name, at their decimals."""
    return {
        feature.name: round(float(value), feature.decimals)
        for feature, value in zip(recipe.features, row, strict=True)
        if not np.isnan(value)
    }


def column_values(people: pd.DataFrame, feature: FeatureSpec) -> Floats:
    # The service's own rounding, of Python's floats: numpy's put some halves on the other side.
    to_resolution = rounding(feature.decimals)
    raw = people[feature.name].to_numpy(np.float64).tolist()
    rounded = np.array([value if math.isnan(value) else to_resolution(value) for value in raw])
    low, high = feature.plausible
    # Comparisons with NaN are false: absent stays absent.
    plausible: Floats = np.where((rounded >= low) & (rounded <= high), rounded, np.nan)
    return plausible if feature.clip_above is None else np.minimum(plausible, feature.clip_above)
