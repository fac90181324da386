"""The figures that docs/clinical.md quotes are those that training printed."""

from __future__ import annotations

import json
from pathlib import Path

from model_training.model_card import model_card

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "model_artifacts" / "diabetes-undiagnosed" / "1.0.0"
# Tables of that page that state rules, not measurements.
RULES = ("Whom it is for", "An HbA1c that is already there")


def rows(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("|") and "---" not in line]


def test_every_row_of_figures_is_a_row_of_the_model_card() -> None:
    card = rows((SHIPPED / "MODEL_CARD.md").read_text("utf-8"))
    sections = (ROOT / "docs" / "clinical.md").read_text("utf-8").split("\n## ")
    quoted = [row for part in sections if not part.startswith(RULES) for row in rows(part)]
    assert len(quoted) > 40
    assert [row for row in quoted if row not in card] == []


def test_the_model_card_is_made_of_manifest_and_report() -> None:
    manifest = json.loads((SHIPPED / "manifest.json").read_text("utf-8"))
    report = json.loads((SHIPPED / "report" / "report.json").read_text("utf-8"))
    assert model_card(manifest, report) == (SHIPPED / "MODEL_CARD.md").read_text("utf-8")


def test_the_hba1c_bands_of_the_page_are_those_of_the_manifest() -> None:
    manifest = json.loads((SHIPPED / "manifest.json").read_text("utf-8"))
    (settled,) = manifest["settled_by"]
    bands = {band["id"]: (band.get("at_least"), band["within_days"]) for band in settled["bands"]}
    assert bands == {
        "hba1c-diabetic": (6.5, 3650),
        "hba1c-intermediate": (5.7, 365),
        "hba1c-normal": (None, 365),
    }
