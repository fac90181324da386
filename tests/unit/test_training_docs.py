"""docs/clinical.md quotes the model card that is served, and the card is made of its report."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from model_training.model_card import model_card, model_card_json
from model_training.model_card.quote import (
    ABSENT,
    ARTIFACTS,
    PAGE,
    find,
    quote,
    served_version,
)

RECIPES = Path(__file__).parents[2] / "model_training" / "recipes"
FOLDER = f"diabetes-undiagnosed/{served_version()}"
SHIPPED = ARTIFACTS / FOLDER
CARD = (SHIPPED / "MODEL_CARD.md").read_text("utf-8")
# Tables of that page that state rules, not measurements.
RULES = ("Whom it is for", "Beside screening guidelines", "An HbA1c that is already there")

# Cards from before there was a model_card.json have other parts, and were made by older code.
needs_whole_card = pytest.mark.skipif(
    not (SHIPPED / "model_card.json").is_file(),
    reason=f"{FOLDER}, which hooks.json serves, has no model_card.json",
)

SMALL_CARD = """# A model: model card

**How good.** AUROC 0.912.

## By group

Small groups.

### Sex

| group | AUROC |
| --- | --- |
| Women | 0.9 |

### Age

| group | AUROC |
| --- | --- |
| 18–39 | 0.8 |

## Limits

- **Groups.** Understated in some.
- **Age.** Above 80 as 80.
"""


def page() -> str:
    return PAGE.read_text("utf-8")


def shipped(name: str) -> Any:
    return json.loads((SHIPPED / name).read_text("utf-8"))


def sentences() -> dict[str, Any]:
    return tomllib.loads((RECIPES / "diabetes_undiagnosed.card.toml").read_text("utf-8"))


# ------------------------------------------------------------------------------------ the page


def test_the_page_quotes_the_card_that_is_served() -> None:
    assert quote(page(), CARD, folder=FOLDER).text == page()


def test_tables_outside_the_quoted_blocks_state_rules() -> None:
    bare = re.sub(r"<!-- card: .*?<!-- end -->", "", page(), flags=re.DOTALL)
    with_tables = [part for part in bare.split("\n## ") if re.search(r"^\|", part, re.MULTILINE)]
    assert [part.splitlines()[0] for part in with_tables if not part.startswith(RULES)] == []


def test_no_measurement_stands_outside_the_quoted_blocks() -> None:
    bare = re.sub(r"<!-- card: .*?<!-- end -->", "", page(), flags=re.DOTALL)
    assert re.findall(r"\b0\.\d{2,}|\d+\.\d+%|\(\d[\d.]* to \d", bare) == []


@needs_whole_card
def test_every_quoted_block_is_in_the_card() -> None:
    assert quote(page(), CARD, folder=FOLDER).absent == ()
    assert ABSENT not in page()
    assert len([line for line in page().splitlines() if line.startswith("|")]) > 100


def test_the_group_that_the_page_warns_of_is_understated_on_the_card() -> None:
    assert "Non-Hispanic Black adults: the figure is too low" in page()
    limit = find(CARD, "Limits / - **Groups.**")
    assert limit is not None
    understated = re.search(r"understated \(observed / expected\) in: (.*?)\.(?: |$)", limit)
    assert understated is not None
    assert "Non-Hispanic Black" in understated[1]


def test_the_hba1c_bands_of_the_page_are_those_of_the_manifest() -> None:
    (settled,) = shipped("manifest.json")["settled_by"]
    bands = {band["id"]: (band.get("at_least"), band["within_days"]) for band in settled["bands"]}
    assert bands == {
        "hba1c-diabetic": (6.5, 3650),
        "hba1c-intermediate": (5.7, 365),
        "hba1c-normal": (None, 365),
    }


# ------------------------------------------------------------------------------------ the card


@needs_whole_card
def test_the_model_card_is_made_of_manifest_report_and_sentences() -> None:
    manifest, report = shipped("manifest.json"), shipped("report/report.json")
    assert model_card(manifest, report, sentences()) == CARD


@needs_whole_card
def test_the_json_card_is_made_of_manifest_report_and_sentences() -> None:
    manifest, report = shipped("manifest.json"), shipped("report/report.json")
    assert model_card_json(manifest, report, sentences()) == shipped("model_card.json")


@needs_whole_card
def test_the_card_shows_every_picture_that_it_can() -> None:
    """A picture whose file got another name would silently be left out."""
    assert len(re.findall(r"^!\[.+\]\(report/.+\.svg\)$", CARD, re.MULTILINE)) == 5


@needs_whole_card
def test_the_card_leaves_no_source_attribute_open_that_its_makers_can_fill() -> None:
    attributes = shipped("model_card.json")["card"]["source_attributes"]
    open_ones = {entry["paragraph"][-8:] for entry in attributes if not entry["available"]}
    assert len(attributes) == 31
    assert all(re.search(r"\((?:6\)\(|7\)\((?:iii|iv|v)|8\)\((?:ii|iv))", at) for at in open_ones)


# ------------------------------------------------------------------------------------- quoting


def test_a_block_takes_the_first_table_of_the_part_it_names() -> None:
    text = "<!-- card: By group > Age -->\nold\n<!-- end -->\n"
    assert quote(text, SMALL_CARD, folder="m/2").text == (
        "<!-- card: By group > Age -->\n\n"
        "| group | AUROC |\n| --- | --- |\n| 18–39 | 0.8 |\n\n"
        "<!-- end -->\n"
    )


def test_a_block_can_name_how_a_paragraph_or_a_line_begins() -> None:
    assert find(SMALL_CARD, "Limits / - **Age.**") == "- **Age.** Above 80 as 80."
    assert find(SMALL_CARD, "A model: model card / **How good.**") == "**How good.** AUROC 0.912."


def test_a_part_ends_where_the_next_one_begins() -> None:
    assert find(SMALL_CARD, "Limits") is None
    assert find(SMALL_CARD, "By group > Limits / -") is None


def test_what_the_card_does_not_have_is_named_and_said() -> None:
    made = quote("<!-- card: Costs -->\n| 1 |\n<!-- end -->\n", SMALL_CARD, folder="m/2")
    assert made.absent == ("Costs",)
    assert made.text == f"<!-- card: Costs -->\n\n{ABSENT}\n\n<!-- end -->\n"


def test_links_into_the_model_follow_the_version() -> None:
    text = "[a](../model_artifacts/m/1.0.0/CARD.md) [b](../model_artifacts/other/1.0.0/CARD.md)"
    assert quote(text, SMALL_CARD, folder="m/2.0.0").text == (
        "[a](../model_artifacts/m/2.0.0/CARD.md) [b](../model_artifacts/other/1.0.0/CARD.md)"
    )


def test_a_page_quoted_twice_is_the_same() -> None:
    text = "<!-- card: By group > Sex -->\n<!-- end -->\n<!-- card: No -->\n<!-- end -->\n"
    once = quote(text, SMALL_CARD, folder="m/2").text
    assert quote(once, SMALL_CARD, folder="m/2").text == once


def test_a_model_that_nobody_serves_has_no_served_version() -> None:
    with pytest.raises(LookupError, match="no model unheard-of"):
        served_version("unheard-of")
