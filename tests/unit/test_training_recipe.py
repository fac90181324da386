"""A recipe is read whole or refused with a sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_mapping import compile_mapping, load_catalog
from model_training.dataset import DatasetError
from model_training.recipe import RECIPES, load_recipe, manifest_feature, parse_recipe, titles
from tests.people import recipe_text, small_recipe

SHIPPED = sorted(
    path.name for path in RECIPES.glob("*.toml") if not path.name.endswith(".card.toml")
)
TEXT = recipe_text()


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_names_only_what_it_has(name: str) -> None:
    recipe = load_recipe(RECIPES / name)
    assert recipe.text == (RECIPES / name).read_text(encoding="utf-8")
    assert recipe.statements, "a shipped recipe has a model card"
    assert len(set(recipe.columns)) == len(recipe.columns)
    for panel in recipe.panels.values():
        assert set(panel.features) <= set(recipe.columns), panel.id
    for scenario in recipe.scenarios:
        assert set(scenario.absent) <= set(recipe.panels), scenario.id
    assert recipe.scenarios[0].absent == ()
    assert set(recipe.raw["masking"].get("chance", {})) <= set(recipe.panels)
    for axis in recipe.raw["evaluation"]["groups"]:
        assert axis.get("feature", "age") in recipe.columns


def test_the_service_can_map_what_the_recipe_of_its_model_asks_for() -> None:
    mapping = compile_mapping(load_catalog(), load_recipe().mapping_manifest())
    assert sorted(mapping.order) == sorted(load_recipe().columns)


@pytest.mark.parametrize("name", SHIPPED)
def test_ends_of_a_category_range_are_categories(name: str) -> None:
    for feature in load_recipe(RECIPES / name).features:
        if feature.categories is not None:
            codes = feature.categories.values()
            assert feature.plausible == (min(codes), max(codes)), feature.name


def test_units_and_decimals_follow_from_concept_and_statistic() -> None:
    recipe = load_recipe(RECIPES / "diabetes_inpatient.toml")
    made = {f.name: (f.unit, f.decimals) for f in recipe.features if f.concept == "glucose"}
    assert made == {
        "glucose": ("mg/dL", 0),
        "glucose_min": ("mg/dL", 0),
        "glucose_max": ("mg/dL", 0),
        "glucose_mean": ("mg/dL", 2),
        "glucose_count": ("1", 0),
        "glucose_slope": ("mg/dL/d", 6),
    }


def test_a_feature_that_says_little_takes_the_rest_from_its_concept() -> None:
    recipe = small_recipe()
    age, sex, glucose = recipe.features[:3]
    assert (age.required, age.clip_above, age.monotone) == (True, 80, 1)
    assert (sex.categories, sex.monotone) == ({"male": 0, "female": 1}, 0)
    assert (glucose.title, glucose.unit, glucose.statistic) == ("Glucose", "mg/dL", "latest")
    assert manifest_feature(age)["clip"] == [None, 80]
    assert "categories" not in manifest_feature(glucose)


def test_panels_have_titles_for_readers() -> None:
    assert titles(small_recipe(), ["kidney", "glucose"]) == ["Creatinine", "Glucose"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.replace("[cohort]", "[cohort"), "is not TOML"),
        (TEXT.replace('name = "glucose"', 'name = "gluc0se"'), "gluc0se"),
        (TEXT.replace("plausible = [20, 1500]\n", ""), "plausible"),
        (TEXT.replace("plausible = [20, 1500]", "plausible = 20"), "cannot be used"),
        (TEXT.replace("plausible = [20, 1500]", "plausible = [20]"), "cannot be used"),
        (TEXT.replace("[panels]", "[panel]"), "panels"),
        (TEXT.replace("[[scenarios]]", "[[scenario]]"), "scenarios"),
        (TEXT.replace('features = ["creatinine"]', 'features = ["kreatinin"]'), "kreatinin"),
        (TEXT.replace('absent = ["glucose"]', 'absent = ["sugar"]'), "no_glucose has 'sugar'"),
        ("", "features"),
    ],
)
def test_a_recipe_that_cannot_be_used_names_the_file_and_the_fault(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(DatasetError, match=r"mine\.toml.*" + said):
        load_recipe(write(tmp_path, text))


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.toml cannot be read"):
        load_recipe(tmp_path / "nowhere.toml")


def test_a_recipe_in_another_encoding_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "latin.toml"
    file.write_bytes('title = "Größe"\n'.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"latin\.toml"):
        load_recipe(file)


def test_a_card_that_is_not_toml_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, TEXT)
    (tmp_path / "mine.card.toml").write_text("[broken", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"mine\.card\.toml is not TOML"):
        load_recipe(file)


def test_a_recipe_without_a_card_makes_no_statements(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, TEXT)).statements == {}


def test_text_is_kept_as_it_is_for_the_artifact() -> None:
    assert parse_recipe(TEXT).text == TEXT
