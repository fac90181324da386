"""Golden scores: nobody's record, every value one that the service takes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from model_training.fitting import fit_model, settings_from
from model_training.golden import golden_cases
from model_training.logistic import logistic
from model_training.recipe import Recipe, manifest_feature
from model_training.sample import Floats, Sample, Values
from risk_model import parse_manifest
from risk_model.scoring import feature_row, insufficiency
from tests.manifests import raw_manifest
from tests.people import made_up_sample, small_recipe

QUANTILES = ("low", "lower", "middle", "upper", "high")


@cache
def made() -> tuple[Recipe, Sample, list[dict[str, Any]]]:
    recipe = small_recipe(one_hot=True)
    sample = made_up_sample(recipe, 200, missing=0.2)
    return recipe, sample, golden_cases(predict, sample, recipe)


@cache
def fitted() -> Any:
    recipe = small_recipe(one_hot=True)
    return fit_model(made_up_sample(recipe, 200, missing=0.2), settings_from(recipe), recipe)


def predict(rows: Values) -> Floats:
    return logistic(fitted().margins(rows))


def test_every_kind_of_record_is_there_at_five_quantiles_and_at_both_ends() -> None:
    recipe, _, cases = made()
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names) == len(QUANTILES) * len(recipe.scenarios) + 4
    assert names[:2] == ["low values: complete record", "low values: no glucose"]
    assert names[-4:] == [
        "least plausible values",
        "least plausible values of what is needed",
        "greatest plausible values",
        "greatest plausible values of what is needed",
    ]


def test_the_service_takes_every_value_and_answers_every_case() -> None:
    recipe, _, cases = made()
    manifest = parse_manifest(
        raw_manifest(
            features=[manifest_feature(feature) for feature in recipe.features],
            sufficiency=recipe.raw["sufficiency"],
        )
    )
    for case in cases:
        assert insufficiency(manifest, case["values"]) is None, case["name"]
        feature_row(manifest, case["values"])


def test_values_occur_and_categories_stay_categories() -> None:
    recipe, sample, cases = made()
    for case in cases[: len(QUANTILES) * len(recipe.scenarios)]:
        for position, feature in enumerate(recipe.features):
            value = case["values"].get(feature.name)
            if value is not None:
                column = sample.values[:, position]
                assert np.float32(value) in column[~np.isnan(column)], feature.name
                assert value == round(value, feature.decimals)
    codes = {case["values"]["admission_type"] for case in cases[:10]}
    assert codes <= {0.0, 1.0, 2.0}


def test_a_case_lacks_what_its_kind_of_record_lacks_and_nothing_else() -> None:
    recipe, _, cases = made()
    complete, without = cases[4], cases[5]
    assert set(complete["values"]) == set(recipe.columns)
    assert set(recipe.columns) - set(without["values"]) == {"glucose"}
    needed = next(case for case in cases if case["name"].endswith("of what is needed"))
    assert set(needed["values"]) == {"age", "glucose"}


def test_probabilities_are_what_the_model_gives_to_the_clipped_values() -> None:
    recipe, sample, cases = made()
    assert golden_cases(predict, sample, recipe) == cases
    for case in cases:
        values = dict(case["values"])
        values["age"] = min(values["age"], 80)
        row = np.array([[values.get(name, np.nan) for name in recipe.columns]], dtype=np.float32)
        assert case["probability"] == pytest.approx(float(predict(row)[0]), abs=1e-9)


def test_golden_scores_differ_so_that_another_model_would_be_noticed() -> None:
    _, _, cases = made()
    assert len({case["probability"] for case in cases}) > 8


def test_an_input_that_nobody_has_stands_at_the_end_of_its_range() -> None:
    recipe, sample, _ = made()
    values = sample.values.copy()
    values[:, recipe.columns.index("creatinine")] = np.nan
    cases: list[Any] = golden_cases(predict, replace(sample, values=values), recipe)
    assert cases[0]["values"]["creatinine"] == 0.1
