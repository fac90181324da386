"""The model card: figures from manifest and report, sentences from the recipe, nothing typed."""

from __future__ import annotations

import copy
import itertools
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_training.model_card import model_card, model_card_json
from model_training.model_card.attributes import Unavailable, source_attributes
from model_training.model_card.evidence import evidence
from model_training.model_card.tripod import NOT_DONE, tripod_items
from model_training.model_card.wording import number, percent, signed
from tests.report_json import made_up_manifest, made_up_report

Json = dict[str, Any]

CODE = Path(__file__).parents[2] / "model_training" / "model_card"
RECIPES = Path(__file__).parents[2] / "model_training" / "recipes"
PICTURES = [
    "report/performance.svg",
    "report/decision-curve.svg",
    "report/groups-auroc.svg",
    "report/groups-observed-expected.svg",
    "report/race.svg",
]

# 45 CFR 170.315(b)(11)(iv)(B): nine groups, and how many attributes each has.
ATTRIBUTES = {"1": 4, "2": 4, "3": 2, "4": 4, "5": 2, "6": 4, "7": 5, "8": 4, "9": 2}
# 45 CFR 170.315(b)(11)(v)(A)(2): where a product must say that information is not available.
MAY_BE_UNAVAILABLE = {
    *("(6)(i)", "(6)(ii)", "(6)(iii)", "(6)(iv)", "(7)(iii)", "(7)(iv)", "(7)(v)"),
    *("(8)(ii)", "(8)(iv)", "(9)(i)", "(9)(ii)"),
}
# Collins et al., BMJ 2024;385:e078378, table 2: items and how many parts they have.
TRIPOD = {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}


def statements(recipe: str = "diabetes_undiagnosed") -> Json:
    return tomllib.loads((RECIPES / f"{recipe}.card.toml").read_text("utf-8"))


REPORT = made_up_report()
CARD = model_card(made_up_manifest(), REPORT, statements(), pictures=PICTURES)


def report_without(*path: str) -> Json:
    report = copy.deepcopy(REPORT)
    *parents, last = path
    part = report
    for step in parents:
        part = part[step]
    del part[last]
    return report


def attributes(report: Json = REPORT, said: Json | None = None, **change: Any) -> dict[str, Any]:
    manifest = made_up_manifest() | change
    known = evidence(manifest, report, statements() if said is None else said, ())
    return {entry.paragraph: entry.answer for entry in source_attributes(known)}


def outside_report() -> Json:
    """What `evaluate` measures on data that the model was not made from."""
    report = {key: copy.deepcopy(REPORT[key]) for key in ("format", "data", "test", "model")}
    del report["data"]["parts"]["development"]
    return report


def figures(value: Any) -> Iterator[list[float | None]]:
    """Every [value, low, high] of the report."""
    if isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(figures, value.values()))
    elif isinstance(value, list):
        if len(value) == 3 and all(isinstance(part, float | int | None) for part in value):
            yield value
        yield from itertools.chain.from_iterable(map(figures, value))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        yield from itertools.chain.from_iterable(
            map(strings, value.values() if isinstance(value, dict) else value)
        )


# ------------------------------------------------------------------------------------- figures


def test_every_figure_with_an_interval_is_one_of_the_report() -> None:
    say: list[Callable[[Any, int], str]] = [number, percent, signed]
    known = {
        say_it(figure, digits)
        for figure in figures(REPORT)
        for say_it in say
        for digits in range(6)
    }
    shown = re.findall(r"[+-]?[\d.,]+%? \([+-]?[\d.,]+%? to [+-]?[\d.,]+%?\)", CARD)
    quartiles = {  # of numbers that describe people: median (quartiles)
        f"{low:g} ({rest[0]:g} to {rest[1]:g})"
        for row in REPORT["data"]["characteristics"]
        if row["kind"] == "number"
        for low, *rest in (row["development"], row["test"])
    }
    assert len(shown) > 300
    assert [text for text in shown if text not in known | quartiles] == []


def test_another_figure_in_the_report_is_another_figure_wherever_the_card_says_it() -> None:
    report = copy.deepcopy(REPORT)
    report["test"]["scenarios"]["complete"]["auroc"] = [0.81234, 0.79, 0.83]
    card = model_card(made_up_manifest(), report, statements(), pictures=PICTURES)
    assert card.count("0.812 (0.790 to 0.830)") >= 4  # opening, list, records, attribute, picture
    assert (
        number(REPORT["test"]["scenarios"]["complete"]["auroc"], 3)
        not in attributes(report)["(7)(i)"]
    )


@pytest.mark.parametrize("recipe", ["diabetes_undiagnosed", "diabetes_inpatient"])
def test_what_a_recipe_states_holds_no_measurement(recipe: str) -> None:
    measured = re.compile(r"\b\d*[.,]\d{2,}\b|\b\d+(?:\.\d+)? ?%(?! or more)")
    cited = re.compile(r"\d{4};\d+:[\d-]+|\d+\.\d+\.\d+|250\.xx")
    texts = [cited.sub("", text) for text in strings(statements(recipe))]
    assert [text for text in texts if measured.search(text)] == []


def test_the_code_of_the_card_holds_no_measurement() -> None:
    for path in CODE.glob("*.py"):
        body = re.sub(r'"""[^"]*"""|#.*', "", path.read_text("utf-8"))
        assert re.findall(r"\b0\.\d{2,}\b", body) == [], path


# ----------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize("recipe", ["diabetes_undiagnosed", "diabetes_inpatient"])
def test_everything_that_a_recipe_states_is_on_the_card(recipe: str) -> None:
    said = statements(recipe)
    card = model_card(made_up_manifest(), REPORT, said, pictures=PICTURES)
    assert [text for text in strings(said) if text not in card] == []


def test_the_first_screen_says_what_it_is_how_good_and_for_whom_not() -> None:
    opening = CARD.split("\n## ")[0]
    for said in ("**Question.**", "**Answer.**", "**How good.**", "**For whom.**", "**Not for**"):
        assert said in opening
    assert "people who are pregnant" in opening
    assert "hospital wards" in opening
    assert "A low figure is no reason to withhold a test" in CARD


def test_groups_whose_interval_leaves_out_one_are_named_at_once() -> None:
    report = copy.deepcopy(REPORT)
    groups = report["test"]["groups"]
    for titles in groups.values():
        for entry in titles.values():
            entry["observed_to_expected"] = [1.0, 0.8, 1.2]
    groups["Race and ethnicity"]["Non-Hispanic Black"]["observed_to_expected"] = [2.26, 1.62, 3.37]
    groups["Age"]["40–59"]["observed_to_expected"] = [0.7, 0.5, 0.9]
    opening = model_card(made_up_manifest(), report, statements()).split("\n## ")[0]
    assert (
        "understated (observed / expected) in: Non-Hispanic Black: 2.26 (1.62 to 3.37)" in opening
    )
    assert "overstated (observed / expected) in: Age 40–59: 0.70 (0.50 to 0.90)" in opening


def test_few_events_a_failed_gate_and_force_stand_before_everything_else() -> None:
    report = copy.deepcopy(REPORT)
    report["gates"][1]["passed"] = False
    report["forced"] = "needed for a demonstration"
    report["test"]["events"] = 12
    before = model_card(made_up_manifest(), report, statements()).split("**Question.**")[0]
    assert "> **For testing only: the figures rest on 12 people with the outcome" in before
    assert "> **It failed a gate of its own recipe: Calibration slope" in before
    assert "> **Published in spite of that: needed for a demonstration.**" in before


def test_a_model_with_enough_events_and_gates_passed_has_no_warning() -> None:
    report = copy.deepcopy(REPORT)
    report["test"]["events"] = 100
    assert "\n> " not in model_card(made_up_manifest(), report, statements())


def test_the_inpatient_model_is_for_testing_only() -> None:
    card = model_card(made_up_manifest(), REPORT, statements("diabetes_inpatient"))
    assert "for testing only" in card.split("**Question.**")[0]


def test_only_pictures_that_the_artifact_holds_are_shown() -> None:
    card = model_card(made_up_manifest(), REPORT, statements(), pictures=["report/race.svg"])
    assert re.findall(r"!\[.+\]\((.+)\)", card) == ["report/race.svg"]


def test_the_pictures_stand_in_their_parts_with_alternative_texts() -> None:
    shown = re.findall(r"^!\[(.{10,})\]\((.+)\)$", CARD, re.MULTILINE)
    assert [path for _, path in shown] == PICTURES


def test_without_a_list_the_pictures_are_those_of_the_manifest() -> None:
    listed = {path: {"sha256": "0" * 64, "bytes": 1} for path in PICTURES}
    assert model_card(made_up_manifest(files=listed), REPORT, statements()) == CARD


def test_categories_are_said_by_name_and_not_by_code() -> None:
    sex = {"name": "sex", "title": "Sex", "concept": "sex", "unit": "1", "required": False}
    sex |= {"plausible": [0, 1], "categories": {"male": 0, "female": 1}, "monotone": 0}
    card = model_card(made_up_manifest() | {"features": [sex]}, REPORT, statements())
    assert "| Sex | latest | male, female | free |" in card


def test_every_row_of_a_table_has_as_many_cells_as_its_heading() -> None:
    tables = re.findall(r"(?:^\|.*\n?)+", CARD, re.MULTILINE)
    assert len(tables) > 15
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


# --------------------------------------------------------------------------- source attributes


def test_the_31_source_attributes_stand_in_the_order_of_the_rule() -> None:
    numerals = ("i", "ii", "iii", "iv", "v")
    expected = [
        f"({group})({numeral})" for group, size in ATTRIBUTES.items() for numeral in numerals[:size]
    ]
    assert len(expected) == 31
    assert list(attributes()) == expected
    assert re.findall(r"^- \*\*(\(\d\)\([iv]+\)) ", CARD, re.MULTILINE) == expected


def test_each_source_attribute_is_filled_or_says_why_not() -> None:
    for paragraph, answer in attributes().items():
        text = answer.reason if isinstance(answer, Unavailable) else answer
        assert len(text) > 20, paragraph
        assert "None" not in text.split(), paragraph


def test_only_what_the_rule_lets_be_unavailable_is_unavailable() -> None:
    missing = {at for at, answer in attributes().items() if isinstance(answer, Unavailable)}
    assert missing < MAY_BE_UNAVAILABLE
    known = evidence(made_up_manifest(), REPORT, statements(), ())
    allowed = {entry.paragraph for entry in source_attributes(known) if entry.may_be_unavailable}
    assert allowed == MAY_BE_UNAVAILABLE


def test_the_figures_of_validity_and_fairness_are_those_of_the_report() -> None:
    answers = attributes()
    complete = REPORT["test"]["scenarios"]["complete"]
    assert number(complete["auroc"], 3) in answers["(7)(i)"]
    assert percent(complete["at_moderate"]["ppv"]) in answers["(7)(i)"]
    assert number(REPORT["test"]["calibration"]["slope"], 2) in answers["(7)(i)"]
    for titles in REPORT["test"]["groups"].values():
        for title, entry in titles.items():
            ratio = number(entry["observed_to_expected"], 2)
            said = f"{title} AUROC {number(entry['auroc'], 3)}, observed / expected {ratio}"
            assert said in answers["(7)(ii)"]


def test_demographic_inputs_are_told_from_the_features() -> None:
    assert "Not used: race, ethnicity, language" in attributes()["(4)(ii)"]
    assert "sex (as Sex) and date of birth (as Age)" in attributes()["(4)(ii)"]
    ethnicity = {**made_up_manifest()["features"][0], "name": "ethnicity", "title": "Ethnicity"}
    used = attributes(features=[ethnicity])["(4)(ii)"]
    assert "Used: race (as Ethnicity) and ethnicity (as Ethnicity)" in used


def test_without_a_card_file_each_attribute_says_what_was_not_stated() -> None:
    answers = attributes(said={})
    assert answers["(1)(ii)"] == Unavailable(
        reason="the recipe's card file does not state `funding`."
    )
    assert not isinstance(answers["(7)(i)"], Unavailable)
    assert len(answers) == 31


def test_on_an_outside_data_set_the_figures_are_those_of_external_validation() -> None:
    answers = attributes(outside_report())
    assert isinstance(answers["(7)(i)"], Unavailable)
    assert number(REPORT["test"]["scenarios"]["complete"]["auroc"], 3) in answers["(7)(iii)"]
    assert "Women AUROC" in answers["(7)(iv)"]
    assert "National Health and Nutrition" in answers["(6)(i)"]
    assert "Women: test" in answers["(6)(iii)"]


# --------------------------------------------------------------------------------- TRIPOD+AI


def test_the_52_parts_of_the_27_tripod_items_stand_in_order() -> None:
    expected = [
        f"{item}{letter}"
        for item in range(1, 28)
        for letter in ("abcdefg"[: TRIPOD[item]] if item in TRIPOD else [""])
    ]
    known = evidence(made_up_manifest(), REPORT, statements(), ())
    items = tripod_items(known)
    assert len(expected) == 52
    assert [item.number for item in items] == expected
    assert [item.number for item in items if not item.where] == []


@pytest.mark.parametrize("recipe", ["diabetes_undiagnosed", "diabetes_inpatient"])
def test_a_whole_report_and_card_file_answer_every_item(recipe: str) -> None:
    known = evidence(made_up_manifest(), REPORT, statements(recipe), ())
    assert [item.number for item in tripod_items(known) if item.status == NOT_DONE] == []


def test_parts_of_the_card_that_items_point_to_exist() -> None:
    headings = set(re.findall(r"^## (.+)$", CARD, re.MULTILINE))
    known = evidence(made_up_manifest(), REPORT, statements(), ())
    named = {
        name for item in tripod_items(known) for name in re.findall(r'"([A-Z][^"]+)"', item.where)
    }
    assert named - headings == {"Question"}  # it stands above the first heading
    assert len(named) > 10


def test_an_item_whose_figures_are_missing_was_not_done() -> None:
    report = report_without("choices")
    items = {
        item.number: item
        for item in tripod_items(evidence(made_up_manifest(), report, statements(), ()))
    }
    assert items["12c"].status == NOT_DONE
    assert "choices.search" in items["12c"].where


# ------------------------------------------------------------------------------ parts missing


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        (("race",), "Race and ethnicity"),
        (("gates",), "Gates"),
        (("data",), "Data"),
        (("model",), "How it was made"),
        (("choices", "panels"), "What earned its place"),
        (("test", "groups"), "By group"),
        (("test", "outcomes"), "Other outcomes"),
        (("test", "calibration"), "Calibration"),
        (("test", "comparators"), "Against simpler means"),
        (("test", "scenarios"), "What an incomplete record costs"),
    ],
)
def test_a_part_that_the_report_lacks_is_left_out(path: tuple[str, ...], heading: str) -> None:
    card = model_card(made_up_manifest(), report_without(*path), statements())
    assert f"\n## {heading}\n" in CARD
    assert f"\n## {heading}\n" not in card


@pytest.mark.parametrize("key", [key for key in made_up_report() if key != "format"])
def test_any_part_of_the_report_may_be_null(key: str) -> None:
    card = model_card(made_up_manifest(), {**REPORT, key: None}, statements())
    assert "## Source attributes" in card


@pytest.mark.parametrize("key", list(made_up_report()["test"]))
def test_any_figure_of_the_test_people_may_be_null(key: str) -> None:
    report = {**REPORT, "test": {**REPORT["test"], key: None}}
    assert "## Source attributes" in model_card(made_up_manifest(), report, statements())


@pytest.mark.parametrize("key", list(made_up_report()["choices"]))
def test_any_choice_may_be_null(key: str) -> None:
    report = {**REPORT, "choices": {**REPORT["choices"], key: None}}
    assert "## Source attributes" in model_card(made_up_manifest(), report, statements())


def test_an_evaluation_without_a_recipe_s_sentences_is_a_card_too() -> None:
    card = model_card(made_up_manifest(), outside_report(), {})
    assert "on data that it was not made from" in card
    assert "who had no part in its making" not in card
    assert "| kept | test: 2015–2016 |" in card


def test_a_figure_that_cannot_be_told_is_a_dash() -> None:
    report = copy.deepcopy(REPORT)
    report["test"]["groups"]["Sex"]["Men"]["auroc"] = [None, None, None]
    card = model_card(made_up_manifest(), report, statements())
    assert re.search(r"^\| Men \| [\d,]+ \| \d+ \| – \|", card, re.MULTILINE)


def test_fasting_outcomes_stand_beside_each_group_s_hba1c() -> None:
    report = copy.deepcopy(REPORT)
    ratios = {
        "Non-Hispanic Black": {"people": 9, "events": 3, "observed_to_expected": [1.1, 0.9, 1.4]}
    }
    report["race"]["fasting"] = {"Fasting glucose ≥ 126 mg/dL": ratios}
    card = model_card(made_up_manifest(), report, statements())
    part = card.split("\n## Race and ethnicity\n")[1].split("\n## ")[0]
    assert "observed / expected for: Fasting glucose ≥ 126 mg/dL" in part
    assert re.search(
        r"^\| Non-Hispanic Black \|.*\| 1\.10 \(0\.90 to 1\.40\) \|$", part, re.MULTILINE
    )


# -------------------------------------------------------------------------------------- JSON


def test_the_json_keeps_the_manifest_s_members_and_adds_the_card() -> None:
    manifest = made_up_manifest()
    card = model_card_json(manifest, REPORT, statements())
    assert {key: card[key] for key in manifest if key != "files"} == {
        key: value for key, value in manifest.items() if key != "files"
    }
    assert "files" not in card
    assert len(card["card"]["source_attributes"]) == 31
    assert len(card["card"]["tripod_ai"]) == 52
    men, told = (
        where["groups"]["Sex"]["Men"] for where in (REPORT["test"], card["card"]["performance"])
    )
    assert told["calibration"]["slope"] == men["calibration"]["slope"]
    assert {key: told[key] for key in men if key in told and key != "calibration"} == {
        key: value for key, value in men.items() if key not in ("calibration", "decision_curve")
    }
    assert "curve" not in told["calibration"]  # curves stay in the report
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_the_json_s_source_attributes_name_their_paragraph_and_reason() -> None:
    entries = model_card_json(made_up_manifest(), REPORT, statements())["card"]["source_attributes"]
    by_paragraph = {entry["paragraph"]: entry for entry in entries}
    external = by_paragraph["45 CFR 170.315(b)(11)(iv)(B)(6)(ii)"]
    assert external["available"] is False
    assert "no data from another source" in external["reason"]
    assert by_paragraph["45 CFR 170.315(b)(11)(iv)(B)(2)(iv)"]["value"].startswith("Informs.")


def test_the_json_of_a_report_without_parts_is_written_too() -> None:
    card = model_card_json(made_up_manifest(), {"format": 2, "test": None}, {})
    assert len(card["card"]["source_attributes"]) == 31
    assert json.loads(json.dumps(card, allow_nan=False)) == card
