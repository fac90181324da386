"""What the model is given of a table of people, and what a recipe may say; no data is needed."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest

from fhir_mapping import load_catalog
from model_training.dataset import DatasetError
from model_training.recipe import RECIPES, load_recipe
from model_training.sample import as_values, sample_from

RECIPE = load_recipe()
SHIPPED = sorted(
    path.name for path in RECIPES.glob("*.toml") if not path.name.endswith(".card.toml")
)


def people(**change: Sequence[float | None]) -> pd.DataFrame:
    """Four people with all the columns, of whom only age and sex are known unless changed."""
    columns: dict[str, Sequence[float | None]] = {
        **{name: [None] * 4 for name in RECIPE.columns},
        "age": [18, 40, 60, 85],
        "sex": [1, 0, 1, 0],
        **change,
    }
    return (
        pd.DataFrame(columns)
        .astype(float)
        .assign(
            record=list("abcd"),
            person=list("abcd"),
            period="2015-2016",
            event=[0, 1, 0, 1],
            weight=[1.0, 2.0, 3.0, 4.0],
            stratum=[1, 1, 2, 2],
            sampling_unit=[1, 2, 1, 2],
        )
    )


def test_values_enter_rounded_plausible_and_clipped() -> None:
    frame = people(glucose=[99.6, 19.4, None, 1501], body_mass_index=[27.349, 9.9, 120.2, 31.0])
    sample = sample_from(frame, RECIPE)
    first, second, third, last = (as_values(row, RECIPE) for row in sample.values)
    assert first == {"age": 18, "sex": 1, "glucose": 100, "body_mass_index": 27.3}
    assert second == {"age": 40, "sex": 0}
    assert third == {"age": 60, "sex": 1}
    assert last == {"age": 80, "sex": 0, "body_mass_index": 31.0}


def test_a_table_without_a_feature_or_without_people_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"lacks the columns.*glucose"):
        sample_from(people().drop(columns="glucose"), RECIPE)
    with pytest.raises(DatasetError, match="Nobody is left"):
        sample_from(people().head(0), RECIPE)


@pytest.mark.parametrize("name", SHIPPED)
def test_features_keep_within_the_bounds_of_their_concepts(name: str) -> None:
    concepts = load_catalog().concepts
    for feature in load_recipe(RECIPES / name).features:
        low, high = concepts[feature.concept].plausible
        if feature.statistic not in ("count", "slope"):
            assert low <= feature.plausible[0] < feature.plausible[1] <= high, feature.name


def test_panels_cover_every_input_but_age_once() -> None:
    paneled = [name for panel in RECIPE.panels.values() for name in panel.features]
    assert sorted([*paneled, "age"]) == sorted(RECIPE.columns)


def test_no_cycle_serves_two_purposes() -> None:
    split = RECIPE.raw["split"]
    assert not set(split["development"]) & set(split["test"])
