"""A recipe is read whole or refused with a sentence that names the file."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from fhir_mapping import compile_mapping, load_catalog
from model_training import calibration, comparators, preprocessing, recipe_sections, thresholds
from model_training.dataset import DatasetError
from model_training.recipe import RECIPES, load_recipe, manifest_feature, parse_recipe, titles
from model_training.recipe_sections import require_sections
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
        (TEXT.replace('features = ["creatinine"]', 'features = ["kreatinin"]'), "kreatinin"),
        (TEXT.replace('absent = ["glucose"]', 'absent = ["sugar"]'), "no_glucose has 'sugar'"),
        (TEXT.replace('["glucose", "body_mass_index"]]', '["weight"]]'), "'weight', no feature"),
        (
            TEXT.replace(
                "[search.space]", "[search.space]\ngamma = { kind = 'float', low = 0, high = 1 }"
            ),
            "'gamma', not among",
        ),
        (
            TEXT.replace('axis = "Age"\nfeature = "age"', 'axis = "Age"\nfeature = "years"'),
            "'years', no",
        ),
        (TEXT.replace('id = "no_glucose"', 'id = "complete"'), "complete more than once"),
        (TEXT.replace("absent = []", 'absent = ["kidney"]'), "complete, must lack nothing"),
        (TEXT.replace("[masking]", "[masking]\nchance = { liver = 0.5 }"), "'liver', no panel"),
        (TEXT.replace("[masking]", "[domain]\nexclude = ['twins']\n[masking]"), "finding 'twins'"),
        (TEXT + "[[gates]]\nid = 'auroc'\ntitle = 'AUROC'\n", "gate auroc needs exactly one"),
    ],
)
def test_a_recipe_that_cannot_be_used_names_the_file_and_the_fault(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(DatasetError, match=r"mine\.toml.*" + said):
        load_recipe(write(tmp_path, text))


SECTIONS = sorted(set(tomllib.loads(TEXT)) - {"sufficiency"})
ENTRIES = [
    (section, key)
    for section, entries in tomllib.loads(TEXT).items()
    if isinstance(entries, dict) and section not in {"panels", "sufficiency"}
    for key in entries
    if (section, key) != ("evaluation", "comparators")
]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_is_not_there_is_named(section: str) -> None:
    raw = tomllib.loads(TEXT)
    array = isinstance(raw[section], list)
    words = (
        section if isinstance(raw[section], str) else f"[[{section}]]" if array else f"[{section}]"
    )
    del raw[section]
    assert said_of(raw) == f"mine.toml lacks {words}."


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_is_something_else_is_named(section: str) -> None:
    raw = tomllib.loads(TEXT) | {section: 7}
    assert re.match(rf"mine\.toml: \[*{section}\]* should be .+, and is 7\.", said_of(raw))


@pytest.mark.parametrize(("section", "key"), ENTRIES)
def test_an_entry_that_is_not_there_is_named_with_its_section(section: str, key: str) -> None:
    raw = tomllib.loads(TEXT)
    del raw[section][key]
    assert re.match(rf"mine\.toml: \[{section}\] .*lacks {key}\.", said_of(raw))


@pytest.mark.parametrize(("section", "key"), ENTRIES)
def test_an_entry_of_the_wrong_type_is_named_with_its_section(section: str, key: str) -> None:
    raw = tomllib.loads(TEXT)
    raw[section][key] = {} if isinstance(raw[section][key], str) else "soon"
    assert re.match(rf"mine\.toml: \[{section}\] {key} .+, and is ('soon'|{{}})\.", said_of(raw))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("features 2 plausible", 20, "[[features]] glucose plausible should be a list, and is 20"),
        ("features 2 plausible", [20], "glucose plausible should have at least 2 items, not 1"),
        ("features 2 plausible", [9, 1], "glucose has a plausible range that is upside down"),
        ("features 2 plausible", [1, math.nan], "should be a finite number, and is nan"),
        ("features 0 monotone", 2, "[[features]] age monotone should be -1, 0 or 1, and is 2"),
        ("features 1 categories male", "m", "sex categories male should be a whole number"),
        ("split test", ["2001-2002"], "[split] has 2001-2002 in development and in test"),
        ("split kind", "person", '[split] of kind "person" lacks test_share, seed'),
        ("cross_validation folds", 1, "[cross_validation] folds should be greater than or equal"),
        ("fit rounds", 12.5, "[fit] rounds should be a whole number, and is 12.5"),
        ("fit rounds", True, "[fit] rounds should be a whole number, and is True"),
        ("fit weighting", "none", "[fit] weighting should be 'equal' or 'survey', and is 'none'"),
        ("search space max_depth low", 9, "[search] space max_depth has low above high"),
        ("search space learning_rate low", 0, "has low at or below 0"),
        ("search space max_depth low", 1.5, "has bounds that are no whole numbers"),
        ("calibration methods", [], "[calibration] methods should have at least 1 item"),
        ("thresholds used high", "luck", "[thresholds] used high should be 'f1', 'alert_budget'"),
        ("studies parameters rounds", "many", "[studies] parameters rounds should be a whole"),
        ("evaluation decision_thresholds", [0.3, 0.1], "has decision_thresholds that do not rise"),
        ("evaluation groups 0 column", "gender", "Sex needs either a feature or a column"),
        ("evaluation groups 0 groups", {"Men": [0]}, "Sex needs two bounds for each group"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_where_it_stands(
    path: str, value: Any, said: str
) -> None:
    raw = tomllib.loads(TEXT)
    *within, last = (int(part) if part.isdigit() else part for part in path.split())
    inside: Any = raw
    for part in within:
        inside = inside[part]
    inside[last] = value
    assert said in said_of(raw)


def said_of(raw: dict[str, Any]) -> str:
    with pytest.raises(DatasetError) as refused:
        require_sections(raw, "mine.toml")
    return str(refused.value)


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (recipe_sections.CalibrationMethod, calibration._FITS),
        (recipe_sections.CutRule, thresholds._RULES),
        (recipe_sections.ComparatorName, comparators._COMPARATORS),
        (recipe_sections.Imputation, preprocessing.IMPUTATIONS),
    ],
    ids=["calibration", "cuts", "comparators", "imputation"],
)
def test_what_a_recipe_may_choose_from_is_what_there_is(names: Any, known: Any) -> None:
    assert set(get_args(names)) == set(known)


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
