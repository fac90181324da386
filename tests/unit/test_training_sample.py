"""From a table of people to what the model is given: the service's own rounding and bounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhir_mapping.units import rounding
from model_training.dataset import DatasetError
from model_training.pipeline import joined
from model_training.sample import (
    as_values,
    column_values,
    require_both_classes,
    sample_from,
)
from tests.people import made_up_people, made_up_sample, small_recipe

RECIPE = small_recipe()
FEATURES = {feature.name: feature for feature in RECIPE.features}


def column(name: str, *values: float) -> list[float]:
    made: list[float] = column_values(pd.DataFrame({name: values}), FEATURES[name]).tolist()
    return made


def test_values_are_rounded_as_the_service_rounds_them() -> None:
    """Halves in binary, values that a conversion leaves a little beside one, negative zeros."""
    halves = [24.15, 24.25, 24.35, 27.449999999999996, 18.05, 33.333, 99.95]
    to_resolution = rounding(1)
    assert column("body_mass_index", *halves) == [to_resolution(value) for value in halves]
    # numpy takes the product with ten for the value, and puts these halves on the other side.
    assert column("body_mass_index", 24.15) == [24.1]
    assert np.round(24.15, 1) == 24.2
    converted = 5.5 * 18.0156
    assert column("glucose", converted, 98.99999999) == [rounding(0)(converted), 99.0]


def test_the_plausible_range_is_asked_after_rounding_and_its_ends_belong_to_it() -> None:
    assert column("glucose", 20, 19.6, 1500, 1500.4) == [20, 20, 1500, 1500]
    assert np.isnan(column("glucose", 19.4, 1501, -1, np.inf, -np.inf)).all()


def test_values_are_clipped_and_not_made_absent_above_the_clip() -> None:
    assert column("age", 80, 81, 120) == [80, 80, 80]
    assert np.isnan(column("age", 121, 17)).all()


def test_an_absent_value_stays_absent() -> None:
    assert np.isnan(column("age", np.nan)).all()
    assert np.isnan(column("glucose", np.nan)).all()


def test_a_row_reads_back_at_its_decimals_without_what_is_absent() -> None:
    table = made_up_people(3).assign(body_mass_index=[27.31, np.nan, 30.0], glucose=[99.6, 80, 70])
    sample = sample_from(table, RECIPE)
    first, second, _ = (as_values(row, RECIPE) for row in sample.values)
    assert (first["body_mass_index"], first["glucose"]) == (27.3, 100.0)
    assert "body_mass_index" not in second


def test_a_missing_column_of_the_design_or_of_a_feature_is_named() -> None:
    for name in ("creatinine", "stratum", "event"):
        with pytest.raises(DatasetError, match=rf"lacks the columns \['{name}'\]"):
            sample_from(made_up_people(5).drop(columns=name), RECIPE)


def test_nobody_is_an_error_that_asks_the_right_question() -> None:
    with pytest.raises(DatasetError, match="Nobody is left after the cohort's rules"):
        sample_from(made_up_people(5).head(0), RECIPE)


@pytest.mark.parametrize(("event", "said"), [(0, "nobody has"), (1, "everybody has")])
def test_one_class_can_neither_be_learned_nor_measured(event: int, said: str) -> None:
    sample = sample_from(made_up_people(6).assign(event=event), RECIPE)
    with pytest.raises(DatasetError, match=rf"6 people of the test part {said} the outcome"):
        require_both_classes(sample, "test")


def test_both_classes_are_enough() -> None:
    require_both_classes(sample_from(made_up_people(2).assign(event=[0, 1]), RECIPE), "test")


def test_another_outcome_comes_with_its_own_weight_and_its_own_people() -> None:
    table = made_up_people(5).assign(
        event_fasting_glucose=[1.0, 0.0, np.nan, 1.0, 0.0],
        fasting_weight=[2.0, 3.0, 4.0, 0.0, np.nan],
    )
    sample = sample_from(table, RECIPE)
    fasting = sample.with_outcome("event_fasting_glucose", "fasting_weight")
    assert fasting.records == sample.records[:2]
    assert fasting.events.tolist() == [1, 0]
    assert fasting.weights.tolist() == [2.0, 3.0]
    assert np.array_equal(fasting.values, sample.values[:2], equal_nan=True)


def test_a_choice_of_people_keeps_all_that_is_known_of_them_together() -> None:
    sample = made_up_sample(RECIPE, 30)
    chosen = np.arange(30) % 3 == 0
    part = sample.only(chosen)
    assert len(part) == 10
    assert part.records == [r for r, inside in zip(sample.records, chosen, strict=True) if inside]
    assert part.people["event"].tolist() == part.events.tolist()
    assert part.people["weight"].tolist() == part.weights.tolist()
    assert list(part.periods) == list(sample.periods[chosen])


def test_two_parts_put_together_are_both_of_them_in_order() -> None:
    one, other = made_up_sample(RECIPE, 4), made_up_sample(RECIPE, 3, seed=2)
    both = joined(one, other)
    assert both.records == [*one.records, *other.records]
    assert both.events.tolist() == [*one.events, *other.events]
    assert both.values.shape == (7, len(RECIPE.features))
