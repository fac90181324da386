"""What a clinician reads: figures, drivers, gaps, and nothing where there is nothing to say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.servicerequest import ServiceRequest
from markdown_it import MarkdownIt

from cds_service import cards, figures
from cds_service.hooks import read_hooks_file
from cds_service.judgement import InsufficientData, OutOfDomain, Scored, Settled
from fhir_mapping import FeatureVector, Source, compile_mapping, load_catalog, map_features
from risk_model import Contribution, RiskEstimate, parse_manifest
from tests.fhir import observation, patient
from tests.manifests import raw_manifest

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
WORDING = read_hooks_file(ROOT / "hooks.json")["diabetes-risk"].wording
MANIFEST = parse_manifest(raw_manifest())
MAPPING = compile_mapping(load_catalog(), raw_manifest())
FRAME = cards.Frame(
    card_uuid="c",
    suggestion_uuid="s",
    patient_id="p1",
    encounter_id="e1",
    model_card_url="https://cds.example.org/model-card",
)


def vector(*resources: dict[str, Any]) -> FeatureVector:
    return map_features(MAPPING, [patient(), *resources], as_of=NOW, patient_id="p1")


def estimate(probability: float = 0.125, level: str = "high", **shares: float) -> RiskEstimate:
    values = dict.fromkeys((f.name for f in MANIFEST.features), 0.0) | shares
    return RiskEstimate(
        probability=probability,
        level=level,
        relative_risk=probability / MANIFEST.prevalence,
        baseline=-3.0,
        contributions=tuple(
            Contribution(feature=name, value=None, log_odds=share) for name, share in values.items()
        ),
    )


def card(judgement: Any, seen: FeatureVector, unread: tuple[str, ...] = ()) -> dict[str, Any]:
    composed = cards.compose(
        judgement, vector=seen, manifest=MANIFEST, wording=WORDING, unread=unread, frame=FRAME
    )
    assert len(composed) == 1
    return composed[0].body


RECORD = (
    observation("14749-6", 6.5, "mmol/L", effectiveDateTime="2026-03-12T09:00:00Z"),
    observation("39156-5", 31.2, "kg/m2", effectiveDateTime="2025-06-01"),
)


def test_a_high_risk_card_says_how_often_why_what_is_missing_and_what_to_do() -> None:
    shown = card(Scored(estimate(glucose=1.4, body_mass_index=0.5, age=-0.2)), vector(*RECORD))
    assert shown["indicator"] == "warning"
    assert "about 1 in 8" in shown["summary"]
    detail = shown["detail"]
    assert "12\u00a0%" in detail
    assert "4.2 times" in detail
    assert detail.index("↑ Glucose 6.5 mmol/L, 2026-03-12") < detail.index("↑ BMI 31.2 kg/m²")
    assert "↓ Age 58 years" in detail
    assert "BMI is 18 months old" in detail
    assert "Not recorded: HDL cholesterol" in detail
    assert "order an HbA1c" in detail


def test_the_order_is_a_draft_hba1c_for_this_patient_and_encounter() -> None:
    shown = card(Scored(estimate()), vector(*RECORD))
    assert shown["selectionBehavior"] == "at-most-one"
    (suggestion,) = shown["suggestions"]
    (action,) = suggestion["actions"]
    resource = action["resource"]
    assert (action["type"], resource["status"], resource["intent"]) == ("create", "draft", "order")
    assert resource["code"]["coding"][0]["code"] == "4548-4"
    assert resource["subject"] == {"reference": "Patient/p1"}
    assert resource["encounter"] == {"reference": "Encounter/e1"}
    ServiceRequest.model_validate(resource)


@pytest.mark.parametrize(
    "judgement",
    [
        Scored(estimate(0.01, "low")),
        OutOfDomain("known_diabetes"),
        Settled(
            band="hba1c-normal",
            value=5.2,
            unit="%",
            comparator=None,
            source=vector(*RECORD).entries["glucose"].sources[0],  # type: ignore[union-attr]
        ),
    ],
)
def test_where_there_is_nothing_to_say_there_is_no_card(judgement: Any) -> None:
    assert not cards.compose(
        judgement,
        vector=vector(*RECORD),
        manifest=MANIFEST,
        wording=WORDING,
        unread=(),
        frame=FRAME,
    )


def test_an_hba1c_in_the_diabetic_range_is_a_card_without_a_risk_figure() -> None:
    seen = vector(observation("4548-4", 7.1, "%", effectiveDateTime="2026-05-02"))
    source: Source = seen.settling["hba1c"].sources[0]  # type: ignore[union-attr]
    settled = Settled(band="hba1c-diabetic", value=7.1, unit="%", comparator=None, source=source)
    shown = card(settled, seen)
    assert "HbA1c 7.1 % (2026-05-02)" in shown["summary"]
    assert shown["indicator"] == "warning"
    assert "in 8" not in shown["detail"]


def test_insufficient_data_names_what_is_missing() -> None:
    lacking = InsufficientData(missing=("age",), groups=(("glucose", "body_mass_index"),))
    shown = card(lacking, vector(observation("2345-7", 99, "furlong")))
    assert "no usable Age, Glucose or BMI" in shown["summary"]
    assert "Glucose: in an unknown unit" in shown["detail"]
    assert "suggestions" not in shown


def test_the_card_says_when_data_could_not_be_read() -> None:
    shown = card(Scored(estimate()), vector(*RECORD), unread=("medications",))
    assert "treatment for diabetes is not ruled out" in shown["detail"]


def test_summaries_stay_below_140_characters_whatever_is_missing() -> None:
    everything = tuple(f.name for f in MANIFEST.features) * 3
    shown = card(InsufficientData(missing=everything, groups=()), vector())
    assert len(shown["summary"]) < 140


@pytest.mark.parametrize(
    ("probability", "percent", "frequency"),
    [
        (0.0000004, "less than 0.1 %", "fewer than 1 in 1000"),
        (0.004, "0.4 %", "about 1 in 250"),
        (0.0263, "2.6 %", "about 1 in 38"),
        (0.125, "12 %", "about 1 in 8"),
        (0.25, "25 %", "about 1 in 4"),
        (0.4, "40 %", "about 4 in 10"),
        (0.55, "55 %", "about 6 in 10"),
        (0.999, "more than 99 %", "about 9 in 10"),
    ],
)
def test_figures_are_said_as_people_judge_them(
    probability: float, percent: str, frequency: str
) -> None:
    assert figures.percent(probability) == percent.replace(" %", "\u00a0%")
    assert figures.frequency(probability) == frequency


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:alert(1))", "**b** `c` ~d~ &lt; | e"]
)
def test_text_is_escaped_so_that_it_shows_as_itself(text: str) -> None:
    """The sandbox renders raw HTML: here a renderer that does so too must show plain text."""
    rendered = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(figures.escape(text))
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert rendered == f"<p>{plain}</p>\n"


def test_a_result_that_settles_is_shown_as_the_laboratory_reported_it() -> None:
    seen = vector(observation("59261-8", 53, "mmol/mol"))
    settled = Settled(
        band="hba1c-diabetic",
        value=7.0,
        unit="%",
        comparator=None,
        source=seen.settling["hba1c"].sources[0],  # type: ignore[union-attr]
    )
    shown = card(settled, seen, unread=("medications",))
    assert "HbA1c 53 mmol/mol (2026-11-01)" in shown["summary"]
    assert "not ruled out" in shown["detail"]
    (suggestion,) = shown["suggestions"]
    reason = suggestion["actions"][0]["resource"]["reasonCode"][0]["text"]
    assert "estimate" not in reason, "nothing was estimated"


def test_an_hba1c_that_cannot_be_used_is_not_passed_over_in_silence() -> None:
    seen = vector(*RECORD, observation("4548-4", 9.8, None))
    assert "HbA1c: without a unit" in card(Scored(estimate()), seen)["detail"]
    low = card(Scored(estimate(0.01, "low")), seen)
    assert low["summary"].startswith("HbA1c without a unit: not used")
    assert low["indicator"] == "info"


def test_an_hba1c_that_is_too_old_to_settle_is_named() -> None:
    seen = vector(*RECORD, observation("4548-4", 5.4, "%", effectiveDateTime="2023-02-01"))
    assert "HbA1c 5.4 % of 2023-02-01 is too old" in card(Scored(estimate()), seen)["detail"]


def test_a_bmi_from_weight_and_height_says_so_and_a_height_of_four_years_is_not_old() -> None:
    weight = observation("29463-7", 97, "kg", effectiveDateTime="2026-11-12")
    height = observation("8302-2", 165, "cm", effectiveDateTime="2022-10-01")
    shown = card(Scored(estimate(body_mass_index=0.9)), vector(weight, height))
    assert "BMI 35.6 kg/m² (from weight and height), 2026-11-12" in shown["detail"]
    assert "months old" not in shown["detail"]
