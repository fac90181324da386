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
from risk_model import Contribution, Manifest, RiskEstimate, parse_manifest
from tests.fhir import observation, patient
from tests.manifests import feature, raw_manifest

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


def card(
    judgement: Any,
    seen: FeatureVector,
    unread: tuple[str, ...] = (),
    manifest: Manifest = MANIFEST,
) -> dict[str, Any]:
    composed = cards.compose(
        judgement, vector=seen, manifest=manifest, wording=WORDING, unread=unread, frame=FRAME
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


@pytest.mark.proves(47)
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


@pytest.mark.proves(50)
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


# ---------------------------------------------------------------- many inputs, said panel by panel

CHEMISTRY = ("sodium", "potassium", "chloride", "bicarbonate", "urea_nitrogen", "calcium")
LIPIDS = ("total_cholesterol", "hdl_cholesterol", "triglycerides")
PRESSURE = ("systolic_blood_pressure", "diastolic_blood_pressure")


def asking_for_much(**change: Any) -> dict[str, Any]:
    concepts = load_catalog().concepts
    new = [*CHEMISTRY, "total_cholesterol", "triglycerides", *PRESSURE]
    return raw_manifest(
        features=[
            *raw_manifest()["features"],
            *(feature(name, concepts[name].title, concepts[name].unit) for name in new),
        ],
        panels=[
            {"id": "glucose", "title": "Sugar", "features": ["glucose"]},
            {"id": "lipids", "title": "Lipids", "features": list(LIPIDS)},
            {"id": "pressure", "title": "Blood pressure", "features": list(PRESSURE)},
            {"id": "chemistry", "title": "Electrolytes and kidney", "features": list(CHEMISTRY)},
        ],
        **change,
    )


def gaps_of(*resources: dict[str, Any], raw: dict[str, Any] | None = None) -> list[str]:
    """The lines under "Missing, old or not used"."""
    raw = raw or asking_for_much()
    manifest, mapping = parse_manifest(raw), compile_mapping(load_catalog(), raw)
    seen = map_features(mapping, [patient(), *resources], as_of=NOW, patient_id="p1")
    shares = tuple(
        Contribution(feature=f.name, value=None, log_odds=0.0) for f in manifest.features
    )
    estimate = RiskEstimate(
        probability=0.125, level="high", relative_risk=4.2, baseline=-3.0, contributions=shares
    )
    detail: str = card(Scored(estimate), seen, manifest=manifest)["detail"]
    (paragraph,) = [p for p in detail.split("\n\n") if p.startswith("**Missing")]
    return paragraph.split("\n")[1:]


def test_panels_that_are_not_recorded_are_said_by_their_titles_in_one_line() -> None:
    assert gaps_of(*RECORD) == [
        "- BMI is 18 months old",
        "- Not recorded: Lipids, Electrolytes and kidney, Blood pressure",
    ]


def test_of_a_panel_that_is_partly_there_the_missing_inputs_are_named() -> None:
    assert gaps_of(
        *RECORD, observation("2823-3", 4.1, "mmol/L"), observation("2571-8", 150, "mg/dL")
    ) == [
        "- BMI is 18 months old",
        "- Not recorded: HDL cholesterol, Total cholesterol, "
        "Sodium, Chloride, Bicarbonate, Urea nitrogen, Calcium, Blood pressure",
    ]


def test_a_panel_of_one_is_called_by_the_name_of_its_input() -> None:
    assert gaps_of()[-1].startswith("- Not recorded: BMI, Glucose, Lipids")


def test_results_of_one_panel_and_one_day_grow_old_together() -> None:
    drawn = {"effectiveDateTime": "2025-09-20"}
    pressure = {"effectiveDateTime": "2025-06-01"}
    assert gaps_of(
        *RECORD,
        observation("2951-2", 139, "mmol/L", **drawn),
        observation("2823-3", 4.1, "mmol/L", **drawn),
        observation("8480-6", 130, "mm[Hg]", **pressure),
        observation("8462-4", 80, "mm[Hg]", **pressure),
        observation("2093-3", 190, "mg/dL", **drawn),
    ) == [
        "- BMI is 18 months old",
        "- Sodium, Potassium: 14 months old",
        "- Total cholesterol is 14 months old",
        "- Blood pressure: 18 months old",
        "- Not recorded: HDL cholesterol, Triglycerides, "
        "Chloride, Bicarbonate, Urea nitrogen, Calcium",
    ]


def test_a_panel_that_is_too_old_is_said_once_and_what_is_amiss_with_one_input_by_its_name() -> (
    None
):
    drawn = {"effectiveDateTime": "2021-03-08"}
    assert gaps_of(
        *RECORD,
        observation("2093-3", 190, "mg/dL", **drawn),
        observation("2085-9", 44, "mg/dL", **drawn),
        observation("2571-8", 150, "mg/dL", **drawn),
        observation("2951-2", 139, "furlong"),
    ) == [
        "- BMI is 18 months old",
        "- Lipids: too old (2021-03-08)",
        "- Sodium: in an unknown unit",
        "- Not recorded: Potassium, Chloride, Bicarbonate, Urea nitrogen, Calcium, Blood pressure",
    ]


def test_without_panels_each_input_is_named() -> None:
    raw = asking_for_much()
    del raw["panels"]
    assert gaps_of(*RECORD, raw=raw)[-1] == (
        "- Not recorded: HDL cholesterol, Sodium, Potassium, Chloride, Bicarbonate, "
        "Urea nitrogen, Calcium, Total cholesterol, Triglycerides, "
        "Systolic blood pressure, Diastolic blood pressure"
    )


def test_an_input_that_stands_in_two_panels_belongs_to_the_first() -> None:
    raw = asking_for_much()
    raw["panels"].append({"id": "again", "title": "Again", "features": ["sodium", "glucose"]})
    assert gaps_of(*RECORD, raw=raw) == gaps_of(*RECORD)


def test_an_input_whose_first_panel_is_of_one_is_not_said_with_its_second() -> None:
    raw = asking_for_much()
    raw["panels"].insert(0, {"id": "sodium", "title": "Salt", "features": ["sodium"]})
    assert gaps_of(*RECORD, raw=raw) == [
        "- BMI is 18 months old",
        "- Not recorded: Lipids, Sodium, "
        "Potassium, Chloride, Bicarbonate, Urea nitrogen, Calcium, Blood pressure",
    ]
