"""From a Patient and Observations to features: values with sources, absences with reasons."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fhir_mapping import (
    Absent,
    AbsentReason,
    MappingError,
    Present,
    compile_mapping,
    load_catalog,
    map_features,
    prefetch_templates,
)
from tests.fhir import condition, medication, observation, patient

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CATALOG = load_catalog()


def feature(concept: str, /, **extra: Any) -> dict[str, Any]:
    spec = {
        "name": concept,
        "concept": concept,
        "unit": CATALOG.concepts[concept].unit,
        "statistic": "latest",
        "look_back_days": 730,
    }
    return {**spec, **extra}


def mapping_of(*features: dict[str, Any], **manifest: Any) -> Any:
    return compile_mapping(CATALOG, {"features": list(features), **manifest})


def entry(concept: str, *resources: Any, fhir_base: str | None = None, **extra: Any) -> Any:
    mapping = mapping_of(feature(concept, **extra))
    vector = map_features(mapping, resources, as_of=NOW, patient_id="p1", fhir_base=fhir_base)
    return vector.entries[concept]


def value(concept: str, *resources: Any, **extra: Any) -> float:
    found = entry(concept, *resources, **extra)
    assert isinstance(found, Present), found
    return found.value


def reason(concept: str, *resources: Any, **extra: Any) -> AbsentReason:
    found = entry(concept, *resources, **extra)
    assert isinstance(found, Absent), found
    return found.reason


# ------------------------------------------------------------------------------------------ units


@pytest.mark.parametrize(
    ("concept", "code", "number", "unit", "expected"),
    [
        ("glucose", "2345-7", 99, "mg/dL", 99),
        ("glucose", "14749-6", 5.5, "mmol/L", 99),
        ("glucose", "2345-7", 5.5, "mmol/l", 99),
        ("glucose", "2345-7", 0.99, "g/L", 99),
        ("hba1c", "4548-4", 6.5, "%", 6.5),
        ("hba1c", "59261-8", 48, "mmol/mol", 6.54),
        ("hba1c", "59261-8", 47, "mmol/mol", 6.45),
        ("total_cholesterol", "14647-2", 5.17, "mmol/L", 200),
        ("hdl_cholesterol", "14646-4", 1.29, "mmol/L", 50),
        ("triglycerides", "14927-8", 1.69, "mmol/L", 150),
        ("creatinine", "14682-9", 88.4, "umol/L", 1.0),
        ("urate", "14933-6", 357, "umol/L", 6.0),
        ("albumin", "1751-7", 42, "g/L", 4.2),
        ("alanine_aminotransferase", "1742-6", 0.5, "ukat/L", 30),
        ("sodium", "2951-2", 139, "mmol/L", 139),
        ("sodium", "2947-0", 139, "meq/L", 139),
        ("potassium", "2823-3", 4.1, "mEq/L", 4.1),
        ("chloride", "2075-0", 103.4, "meq/L", 103),
        ("bicarbonate", "2028-9", 24, "meq/L", 24),
        ("bicarbonate", "1963-8", 24, "mmol/L", 24),
        ("urea_nitrogen", "3094-0", 14, "mg/dL", 14),
        ("urea_nitrogen", "14937-7", 5, "mmol/L", 14),
        ("urea_nitrogen", "22664-7", 10, "mmol/L", 28),
        ("calcium", "17861-6", 9.6, "mg/dL", 9.6),
        ("calcium", "2000-8", 2.4, "mmol/L", 9.6),
        ("alkaline_phosphatase", "6768-6", 1.2, "ukat/L", 72),
        ("bilirubin", "1975-2", 0.7, "mg/dL", 0.7),
        ("bilirubin", "14631-6", 17.1, "umol/L", 1.0),
        ("total_protein", "2885-2", 7.1, "g/dL", 7.1),
        ("total_protein", "2885-2", 71, "g/L", 7.1),
        ("urine_albumin_creatinine_ratio", "9318-7", 30, "mg/g{creat}", 30),
        ("urine_albumin_creatinine_ratio", "14959-1", 30, "ug/mg", 30),
        ("urine_albumin_creatinine_ratio", "32294-1", 3.4, "mg/mmol", 30.1),
        ("urine_albumin_creatinine_ratio", "30000-4", 3.4, "g/mol", 30.1),
        ("leukocytes", "6690-2", 7.2, "10*9/L", 7.2),
        ("leukocytes", "6690-2", 7200, "/uL", 7.2),
        ("body_weight", "29463-7", 176, "[lb_av]", 79.8),
        ("body_weight", "29463-7", 2800, "[oz_av]", 79.4),
        ("body_weight", "29463-7", 79800, "g", 79.8),
        ("body_height", "8302-2", 70, "[in_i]", 177.8),
        ("body_height", "8302-2", 1.778, "m", 177.8),
        ("systolic_blood_pressure", "8480-6", 16, "kPa", 120),
    ],
)
def test_every_unit_in_use_converts_to_the_canonical_one(
    concept: str, code: str, number: float, unit: str, expected: float
) -> None:
    assert value(concept, observation(code, number, unit)) == expected


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("29463-7", "kilogram"),
        ("29463-7", " Kilograms "),
        ("8480-6", "mmHg"),
        ("8480-6", "mm[Hg]"),
        ("39156-5", "kilogram / (meter ^ 2)"),
        ("39156-5", "kg/m²"),
        ("4548-4", "Percent"),
        ("6690-2", "K/µL"),
        ("14682-9", "μmol/L"),
        ("2951-2", "mEq/L"),
        ("2951-2", "milliequivalents per liter"),
        ("32294-1", "mcg/mg creat"),
    ],
)
def test_units_spelled_out_without_a_code_are_recognised(code: str, text: str) -> None:
    concepts = {c: id_ for id_, concept in CATALOG.concepts.items() for c in concept.loinc}
    sent = observation(code, 80, None)
    sent["valueQuantity"] = {"value": 80, "unit": text}
    if code == "4548-4":
        sent["valueQuantity"]["value"] = 6.1
    assert isinstance(entry(concepts[code], sent), Present)


@pytest.mark.parametrize("code", ["2345-7", "2000-8", "14682-9", "22664-7", "14647-2"])
def test_equivalents_are_moles_of_singly_charged_ions_and_of_nothing_else(code: str) -> None:
    concepts = {c: id_ for id_, concept in CATALOG.concepts.items() for c in concept.loinc}
    assert reason(concepts[code], observation(code, 5, "meq/L")) is AbsentReason.UNIT_UNKNOWN


def test_the_mass_of_urea_is_not_taken_for_that_of_its_nitrogen() -> None:
    urea = observation("22664-7", 30, "mg/dL")
    assert reason("urea_nitrogen", urea) is AbsentReason.UNIT_UNKNOWN
    both = [{"system": "http://loinc.org", "code": code} for code in ("3094-0", "22664-7")]
    coded_as_both = observation("3094-0", 30, "mg/dL", code={"coding": both})
    assert reason("urea_nitrogen", coded_as_both) is AbsentReason.UNIT_UNKNOWN
    assert value("urea_nitrogen", observation("3094-0", 5, "mmol/L", code={"coding": both})) == 14
    assert reason("urea_nitrogen", observation("3091-6", 30, "mg/dL")) is AbsentReason.NOT_RECORDED


def test_codes_read_in_molar_units_only_are_asked_for_like_the_others() -> None:
    templates = prefetch_templates(mapping_of(feature("urea_nitrogen")))
    assert "http://loinc.org|22664-7" in templates["observations"]
    assert "http://loinc.org|3091-6" not in templates["observations"]


@pytest.mark.parametrize(
    ("quantity", "why"),
    [
        ({"value": 99}, AbsentReason.UNIT_MISSING),
        ({"value": 99, "unit": ""}, AbsentReason.UNIT_MISSING),
        ({"value": 99, "unit": "furlongs"}, AbsentReason.UNIT_UNKNOWN),
        ({"value": 99, "unit": "kg"}, AbsentReason.UNIT_UNKNOWN),
        (
            {"value": 99, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "MG"},
            AbsentReason.UNIT_UNKNOWN,
        ),
        (
            {"value": 5, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mg/dL"},
            AbsentReason.UNIT_CONFLICT,
        ),
        ({"value": "99", "unit": "mg/dL"}, AbsentReason.NO_VALUE),
        ({"value": True, "unit": "mg/dL"}, AbsentReason.NO_VALUE),
        ({"value": float("nan"), "unit": "mg/dL"}, AbsentReason.NO_VALUE),
        ({"value": 10**400, "unit": "mg/dL"}, AbsentReason.NO_VALUE),
        ({"unit": "mg/dL"}, AbsentReason.NO_VALUE),
        ({"value": 50, "unit": "mg/dL", "comparator": "<"}, AbsentReason.COMPARATOR),
        ({"value": 9900, "unit": "mg/dL"}, AbsentReason.IMPLAUSIBLE),
        ({"value": -3, "unit": "mg/dL"}, AbsentReason.IMPLAUSIBLE),
    ],
)
def test_a_quantity_that_is_not_certain_is_absent_with_its_reason(
    quantity: dict[str, Any], why: AbsentReason
) -> None:
    assert reason("glucose", observation("2345-7", 1, "mg/dL", valueQuantity=quantity)) is why


def test_the_same_result_in_si_and_in_conventional_units_is_one_value() -> None:
    for mg in range(40, 400):
        si = round(mg / 18.0156, 2)
        assert value("glucose", observation("14749-6", si, "mmol/L")) == mg


# ------------------------------------------------------------------------------------------ codes


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("http://loinc.org", "23457"),
        ("http://loinc", "2345-7"),
        ("https://loinc.org", "2345-7"),
        ("urn:oid:2.16.840.1.113883.6.1", "2345-7"),
        ("http://loinc.org ", " 2345-7"),
    ],
)
def test_spellings_of_loinc_that_leave_no_doubt_are_read(system: str, code: str) -> None:
    coding = [{"system": "urn:vendor", "code": "GLU"}, {"system": system, "code": code}]
    assert value("glucose", observation("x", 99, "mg/dL", code={"coding": coding})) == 99


@pytest.mark.parametrize(
    "code",
    [
        {"text": "Glucose"},
        {"coding": [{"code": "2345-7"}]},
        {"coding": [{"system": "http://snomed.info/sct", "code": "2345-7"}]},
        {"coding": []},
        {"coding": ["2345-7"]},
        {"coding": {"system": "http://loinc.org", "code": "2345-7"}},
        "2345-7",
        None,
    ],
)
def test_codes_are_matched_whole_or_not_at_all(code: Any) -> None:
    assert reason("glucose", observation("x", 99, "mg/dL", code=code)) is AbsentReason.NOT_RECORDED


def test_codings_that_name_two_quantities_are_a_conflict() -> None:
    codings = [{"system": "http://loinc.org", "code": c} for c in ("2345-7", "2093-3")]
    mapping = mapping_of(feature("glucose"), feature("total_cholesterol"))
    sent = observation("x", 99, "mg/dL", code={"coding": codings})
    vector = map_features(mapping, [sent], as_of=NOW, patient_id="p1")
    assert {a.reason for a in vector.absences().values()} == {AbsentReason.CODE_CONFLICT}


@pytest.mark.parametrize("panel", ["85354-9", "55284-4"])
def test_blood_pressure_is_read_from_components_of_either_panel(panel: str) -> None:
    def component(code: str, number: float) -> dict[str, Any]:
        one = observation(code, number, "mm[Hg]")
        return {"code": one["code"], "valueQuantity": one["valueQuantity"]}

    sent = observation(
        panel, 0, None, component=[component("8480-6", 142), component("8462-4", 88)]
    )
    del sent["valueQuantity"]
    assert value("systolic_blood_pressure", sent) == 142
    assert value("diastolic_blood_pressure", sent) == 88
    sent["component"][0]["dataAbsentReason"] = {"coding": [{"code": "not-performed"}]}
    assert reason("systolic_blood_pressure", sent) is AbsentReason.NO_VALUE


def test_bmi_is_computed_from_weight_and_height_where_none_is_recorded() -> None:
    weight = observation("29463-7", 90, "kg", id="w")
    height = observation("8302-2", 180, "cm", id="h", effectiveDateTime="2019-01-01")
    found = entry("body_mass_index", weight, height, patient())
    assert found.value == 27.8
    assert [s.reference for s in found.sources] == ["Observation/w", "Observation/h"]
    measured = observation("39156-5", 28.4, "kg/m2")
    assert value("body_mass_index", weight, height, measured) == 28.4
    unitless = observation("29463-7", 90, None)
    assert reason("body_mass_index", unitless, height, patient()) is AbsentReason.UNIT_MISSING
    assert reason("body_mass_index", weight) is AbsentReason.NOT_RECORDED


def test_a_childs_height_does_not_make_an_adults_bmi() -> None:
    weight = observation("29463-7", 70, "kg", id="w")
    height = observation("8302-2", 120, "cm", id="h", effectiveDateTime="2018-01-01")
    young = patient(birthDate="2007-01-01")
    assert reason("body_mass_index", weight, height, young) is AbsentReason.TOO_OLD
    recent = observation("8302-2", 172, "cm", id="h2", effectiveDateTime="2025-06-01")
    assert value("body_mass_index", weight, height, recent, young) == 23.7


def test_ingredients_that_make_no_plausible_bmi_are_tried_with_few_earlier_ones() -> None:
    """Work is bounded: twenty of each, not thousands times thousands."""
    weights = [observation("29463-7", 300 + n / 10, "kg", id=f"w{n}") for n in range(3000)]
    heights = [observation("8302-2", 40 + n / 10, "cm", id=f"h{n}") for n in range(60)]
    found = entry("body_mass_index", *weights, *heights, patient())
    assert isinstance(found, Absent)
    assert found.reason is AbsentReason.IMPLAUSIBLE


# ---------------------------------------------------------------------------------- status, subject


@pytest.mark.parametrize("status", ["final", "amended", "corrected", "final "])
def test_final_amended_and_corrected_results_are_used(status: str) -> None:
    assert value("glucose", observation("2345-7", 99, "mg/dL", status=status)) == 99


@pytest.mark.parametrize(
    "status", ["entered-in-error", "cancelled", "preliminary", "registered", "unknown", "", None, 3]
)
def test_other_statuses_are_not(status: Any) -> None:
    sent = observation("2345-7", 99, "mg/dL", status=status)
    assert reason("glucose", sent) is AbsentReason.STATUS


def test_a_corrected_result_goes_before_the_original_of_the_same_moment() -> None:
    original = observation("2345-7", 250, "mg/dL", id="z")
    corrected = observation("2345-7", 105, "mg/dL", id="a", status="corrected")
    assert value("glucose", original, corrected) == 105
    assert value("glucose", corrected, original) == 105


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ({"reference": "Patient/p2"}, AbsentReason.OTHER_PATIENT),
        ({"reference": "Group/p1"}, AbsentReason.OTHER_PATIENT),
        (
            {"reference": "https://other.example.org/fhir/Patient/p1"},
            AbsentReason.SUBJECT_UNCERTAIN,
        ),
        ({"reference": "https://ehr.example.org/fhir/Patient/p2"}, AbsentReason.OTHER_PATIENT),
        ({"reference": "#p1"}, AbsentReason.SUBJECT_UNCERTAIN),
        (
            {"reference": "urn:uuid:0b9f1a3e-64a5-4c0e-9d57-1b1f4b8a9d10"},
            AbsentReason.SUBJECT_UNCERTAIN,
        ),
        ({"display": "p1"}, AbsentReason.SUBJECT_UNCERTAIN),
        (None, AbsentReason.SUBJECT_UNCERTAIN),
    ],
)
def test_only_this_patients_results_are_used(subject: Any, why: AbsentReason) -> None:
    sent = observation("2345-7", 99, "mg/dL", subject=subject)
    found = entry("glucose", sent, fhir_base="https://ehr.example.org/fhir/")
    assert isinstance(found, Absent)
    assert found.reason is why


@pytest.mark.parametrize(
    "reference",
    ["Patient/p1", "Patient/p1/_history/3", "https://ehr.example.org/fhir/Patient/p1"],
)
def test_references_that_name_this_patient_are_read(reference: str) -> None:
    sent = observation("2345-7", 99, "mg/dL", subject={"reference": reference})
    found = entry("glucose", sent, fhir_base="https://ehr.example.org/fhir")
    assert isinstance(found, Present)


@pytest.mark.parametrize(
    "qualified", [{"modifierExtension": [{"url": "urn:x"}]}, {"implicitRules": "urn:x"}]
)
def test_what_is_qualified_in_an_unknown_way_is_kept_out(qualified: dict[str, Any]) -> None:
    sent = observation("2345-7", 99, "mg/dL", **qualified)
    assert reason("glucose", sent) is AbsentReason.MODIFIED
    assert isinstance(entry("age", patient(**qualified)), Absent)


def test_a_patient_merged_into_another_is_not_read() -> None:
    link = [{"type": "replaced-by", "other": {"reference": "Patient/p9"}}]
    assert isinstance(entry("age", patient(link=link)), Absent)
    assert isinstance(entry("age", patient(link=[{**link[0], "type": "seealso"}])), Present)


def test_a_value_about_somebody_else_is_kept_out() -> None:
    for focus in ([{"reference": "Patient/fetus"}], [{"display": "fetus"}], "fetus"):
        sent = observation("2345-7", 400, "mg/dL", focus=focus)
        assert reason("glucose", sent) is AbsentReason.SUBJECT_UNCERTAIN
    own = observation("2345-7", 99, "mg/dL", focus=[{"reference": "Patient/p1"}])
    assert value("glucose", own) == 99


def test_two_results_of_one_moment_are_not_decided_by_their_ids() -> None:
    one = observation("4548-4", 8.0, "%", id="a")
    other = observation("4548-4", 5.4, "%", id="b")
    assert value("hba1c", one, other) == value("hba1c", other, one) == 8.0
    swapped = [{**one, "id": "b"}, {**other, "id": "a"}]
    assert value("hba1c", *swapped) == 8.0


@pytest.mark.parametrize("id_", ["a b", "x/../y", "a\n", "x" * 65, "", 7, None])
def test_an_id_that_fhir_does_not_allow_makes_no_reference(id_: Any) -> None:
    found = entry("glucose", observation("2345-7", 99, "mg/dL", id=id_))
    assert found.sources[0].reference is None


def test_a_unit_that_is_no_ucum_code_but_unmistakable_is_read() -> None:
    sent = observation("8480-6", 120, "mmHg")
    assert value("systolic_blood_pressure", sent) == 120
    sent["valueQuantity"]["unit"] = "kPa"
    assert reason("systolic_blood_pressure", sent) is AbsentReason.UNIT_UNKNOWN


# ------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    "effective",
    [
        {"effectiveDateTime": "2026-11-22T10:00:00Z"},
        {"effectiveDateTime": "2026-11-22T13:30:00.123456+02:00"},
        {"effectiveDateTime": "2026-11-22"},
        {"effectiveDateTime": "2026-10"},
        {"effectiveDateTime": "2026"},
        {"effectiveInstant": "2026-11-22T10:00:00.5Z"},
        {"effectivePeriod": {"start": "2026-11-20", "end": "2026-11-21"}},
        {"effectivePeriod": {"start": "2026-11-20T10:00:00Z"}},
        {"effectiveTiming": {"event": ["2026-11-20"]}},
    ],
)
def test_effective_time_is_read_in_every_form(effective: dict[str, Any]) -> None:
    assert value(
        "glucose", observation("2345-7", 99, "mg/dL", **{"effectiveDateTime": None, **effective})
    )


@pytest.mark.parametrize(
    ("effective", "why"),
    [
        ({}, AbsentReason.TIME_UNKNOWN),
        ({"effectiveDateTime": "2026-11-22T10:00:00"}, AbsentReason.TIME_UNKNOWN),
        ({"effectiveDateTime": "22.11.2026"}, AbsentReason.TIME_UNKNOWN),
        ({"effectiveDateTime": "2026-02-30"}, AbsentReason.TIME_UNKNOWN),
        ({"effectiveDateTime": 20261122}, AbsentReason.TIME_UNKNOWN),
        ({"effectivePeriod": {"end": "2026-11-21"}}, AbsentReason.TIME_UNKNOWN),
        (
            {"effectivePeriod": {"start": "2026-11-21", "end": "2026-11-01"}},
            AbsentReason.TIME_UNKNOWN,
        ),
        ({"effectiveTiming": {"event": ["2026-11-20", "2026-11-21"]}}, AbsentReason.TIME_UNKNOWN),
        ({"effectiveDateTime": "2026-11-23"}, AbsentReason.FUTURE),
        ({"effectiveDateTime": "2026-11-22T12:00:01Z"}, AbsentReason.FUTURE),
        ({"effectivePeriod": {"start": "2026-11-20", "end": "2027-01-01"}}, AbsentReason.FUTURE),
        ({"effectiveDateTime": "2024-11-01"}, AbsentReason.TOO_OLD),
        ({"effectiveDateTime": "2024"}, AbsentReason.TOO_OLD),
    ],
)
def test_a_time_that_is_unknown_future_or_too_old_makes_the_value_absent(
    effective: dict[str, Any], why: AbsentReason
) -> None:
    sent = observation("2345-7", 99, "mg/dL")
    del sent["effectiveDateTime"]
    assert reason("glucose", {**sent, **effective}) is why


def test_bare_dates_are_read_in_the_zone_of_the_clock() -> None:
    sydney = timezone(timedelta(hours=11))
    morning = datetime(2026, 11, 23, 8, 0, tzinfo=sydney)
    sent = observation("2345-7", 99, "mg/dL", effectiveDateTime="2026-11-23")
    mapping = mapping_of(feature("glucose"))
    local = map_features(mapping, [sent], as_of=morning, patient_id="p1")
    utc = map_features(mapping, [sent], as_of=morning.astimezone(UTC), patient_id="p1")
    assert isinstance(local.entries["glucose"], Present)
    assert isinstance(utc.entries["glucose"], Absent)


def test_an_absence_by_age_says_how_old_the_newest_result_is() -> None:
    found = entry(
        "glucose",
        observation("2345-7", 99, "mg/dL", effectiveDateTime="2020-05-01"),
        observation("2345-7", 98, "mg/dL", effectiveDateTime="2019-05-01"),
    )
    assert found.effective.text == "2020-05-01"


# -------------------------------------------------------------------------- windows and statistics


@pytest.mark.parametrize(
    ("statistic", "unit", "expected"),
    [
        ("latest", "mg/dL", 120),
        ("min", "mg/dL", 90),
        ("max", "mg/dL", 150),
        ("mean", "mg/dL", 120),
        ("count", "1", 3),
        ("slope", "mg/dL/d", -45.0),
    ],
)
def test_statistics_over_the_last_72_hours(statistic: str, unit: str, expected: float) -> None:
    resources = [
        observation("2345-7", 150, "mg/dL", id="a", effectiveDateTime="2026-11-20T12:00:00Z"),
        observation("2345-7", 90, "mg/dL", id="b", effectiveDateTime="2026-11-21T12:00:00Z"),
        observation("2345-7", 120, "mg/dL", id="c", effectiveDateTime="2026-11-21T12:00:00Z"),
        observation("2345-7", 400, "mg/dL", id="d", effectiveDateTime="2026-11-19T11:00:00Z"),
    ]
    extra = {"statistic": statistic, "unit": unit, "look_back_days": 3}
    assert value("glucose", *resources, *resources, **extra) == expected


def test_a_count_of_nothing_is_none_and_a_slope_needs_two_moments() -> None:
    one = observation("2345-7", 150, "mg/dL")
    assert value("glucose", statistic="count", unit="1") == 0
    assert isinstance(entry("glucose", one, statistic="slope", unit="mg/dL/d"), Absent)


# ---------------------------------------------------------------------------------------- patient


@pytest.mark.parametrize(
    ("birth_date", "years"),
    [("1970-11-22", 56), ("1970-11-23", 55), ("1970-12", 55), ("1970", 55), ("2026", 0)],
)
def test_age_is_the_youngest_that_the_birth_date_allows(birth_date: str, years: int) -> None:
    sent = patient(birthDate=birth_date)
    assert value("age", sent, look_back_days=None) == years


@pytest.mark.parametrize("birth_date", [None, "", "1970-13-01", "2027-01-01", 1970, "abc"])
def test_a_birth_date_that_is_none_gives_no_age(birth_date: Any) -> None:
    assert isinstance(entry("age", patient(birthDate=birth_date)), Absent)


def test_sex_is_read_only_where_the_model_knows_it() -> None:
    categories = {"male": 0, "female": 1}
    assert value("sex", patient(gender="female"), categories=categories) == 1
    for gender in ("other", "unknown", None, 1):
        assert isinstance(entry("sex", patient(gender=gender), categories=categories), Absent)


def test_another_patients_birth_date_is_not_read() -> None:
    assert isinstance(entry("age", patient(id="p2")), Absent)
    assert isinstance(entry("age", patient(id=None)), Present)


@pytest.mark.parametrize(
    ("element", "is_dead"),
    [
        ({"deceasedBoolean": True}, True),
        ({"deceasedDateTime": "2026-01-01"}, True),
        ({"_deceasedDateTime": {"extension": []}}, True),
        ({"deceasedBoolean": "true"}, True),
        ({"deceasedBoolean": False}, False),
        ({}, False),
    ],
)
def test_any_statement_of_death_but_a_plain_no_is_one(
    element: dict[str, Any], is_dead: bool
) -> None:
    vector = map_features(
        mapping_of(feature("age")), [patient(**element)], as_of=NOW, patient_id="p1"
    )
    assert vector.deceased is is_dead


# --------------------------------------------------------------------------------------- findings

DOMAIN = {"domain": {"minimum_age": 18, "exclude": ["deceased", "known_diabetes", "pregnancy"]}}


def findings(*resources: Any) -> set[str]:
    mapping = mapping_of(feature("glucose"), **DOMAIN)
    return set(map_features(mapping, resources, as_of=NOW, patient_id="p1").findings)


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("http://snomed.info/sct", "44054006"),
        ("http://snomed.info/sct", "127013003"),
        ("http://hl7.org/fhir/sid/icd-10-cm", "E11.9"),
        ("http://hl7.org/fhir/sid/icd-10", "E14"),
        ("http://hl7.org/fhir/sid/icd-10-cm", "E1165"),
        ("http://hl7.org/fhir/sid/icd-9-cm", "250.00"),
        ("urn:oid:2.16.840.1.113883.6.103", "25000"),
    ],
)
@pytest.mark.parametrize("clinical", ["active", "remission", "resolved", "inactive", None])
def test_known_diabetes_is_known_in_every_coding_and_stays_known(
    system: str, code: str, clinical: str | None
) -> None:
    assert findings(condition(system, code, clinical=clinical)) == {"known_diabetes"}


@pytest.mark.parametrize("verification", ["refuted", "entered-in-error"])
def test_a_refuted_diagnosis_is_none(verification: str) -> None:
    sent = condition("http://snomed.info/sct", "44054006", verification=verification)
    assert findings(sent) == set()
    sent["verificationStatus"] = verification  # STU3: a plain code
    assert findings(sent) == set()


@pytest.mark.parametrize("verification", ["provisional", "differential", "unconfirmed"])
def test_a_diagnosis_in_doubt_counts(verification: str) -> None:
    sent = condition("http://snomed.info/sct", "44054006", verification=verification)
    assert findings(sent) == {"known_diabetes"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Type 2 diabetes mellitus", {"known_diabetes"}),
        ("Diabetic foot", {"known_diabetes"}),
        ("Diabète de type 2", {"known_diabetes"}),
        ("T2DM", {"known_diabetes"}),
        ("Prediabetes", set()),
        ("Pre-diabetes", set()),
        ("Family history of diabetes mellitus", set()),
        ("Screening for diabetes mellitus", set()),
        ("At risk of diabetes", set()),
        ("Diabetes insipidus", set()),
        ("Pregnant", {"pregnancy"}),
        ("Not pregnant", set()),
        ("History of gestational diabetes", set()),
    ],
)
def test_diagnoses_in_words_alone_are_understood(text: str, expected: set[str]) -> None:
    sent = condition("urn:vendor", "1")
    sent["code"] = {"text": text}
    assert findings(sent) == expected


def test_another_patients_diagnosis_is_not_this_patients() -> None:
    sent = condition("http://snomed.info/sct", "44054006")
    sent["subject"] = {"reference": "Patient/p2"}
    assert findings(sent) == set()
    sent["subject"] = {"reference": "https://elsewhere.example.org/Patient/p1"}
    assert findings(sent) == {"known_diabetes"}, "in doubt, no figure"


@pytest.mark.parametrize(
    ("change", "is_pregnant"),
    [
        ({}, True),
        ({"clinicalStatus": None}, True),
        ({"onsetDateTime": "2026-06-01"}, True),
        ({"onsetDateTime": "2024-06-01"}, False),
        ({"onsetDateTime": None, "recordedDate": "2020"}, False),
        ({"abatementDateTime": "2026-11-01"}, False),
        ({"abatementDateTime": "2027-01-01"}, True),
        ({"abatementBoolean": True}, False),
    ],
)
def test_pregnancy_counts_while_it_lasts(change: dict[str, Any], is_pregnant: bool) -> None:
    sent = condition("http://snomed.info/sct", "77386006", **change)
    assert findings(sent) == ({"pregnancy"} if is_pregnant else set())


@pytest.mark.parametrize(
    "sent",
    [
        medication({"coding": [{"system": "http://www.whocc.no/atc", "code": "A10BA02"}]}),
        medication({"text": "metformin 500 mg tablets"}),
        medication(
            {
                "coding": [
                    {
                        "system": "http://www.nlm.nih.gov/research/umls/rxnorm",
                        "code": "106892",
                        "display": "insulin human, isophane 70 UNT/ML",
                    }
                ]
            }
        ),
        {
            **medication({}),
            "medicationCodeableConcept": None,
            "medicationReference": {"reference": "#m"},
            "contained": [
                {"resourceType": "Medication", "id": "m", "code": {"text": "Gliclazide"}}
            ],
        },
    ],
)
def test_treatment_for_diabetes_means_known_diabetes(sent: dict[str, Any]) -> None:
    assert findings(sent) == {"known_diabetes"}
    assert findings({**sent, "status": "entered-in-error"}) == set()


def test_medicines_with_other_uses_do_not() -> None:
    for code in ("A10BJ06", "A10BK01", "C09AA02"):
        coding = {"system": "http://www.whocc.no/atc", "code": code}
        assert findings(medication({"coding": [coding]})) == set()


# ---------------------------------------------------------------------------------------- compile


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (feature("glucose", concept="mood"), "mood"),
        (feature("glucose", unit="mmol/L"), "mmol/L"),
        (feature("glucose", statistic="median"), "median"),
        (feature("glucose", statistic="count"), "mg/dL"),
    ],
)
def test_a_manifest_that_asks_for_what_there_is_not_is_refused(
    spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(MappingError, match=message):
        mapping_of(spec)


def test_a_naive_clock_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        map_features(
            mapping_of(feature("glucose")), [], as_of=NOW.replace(tzinfo=None), patient_id="p1"
        )


def test_templates_ask_for_every_code_that_is_read_and_for_panels() -> None:
    mapping = mapping_of(feature("systolic_blood_pressure"), feature("body_mass_index"), **DOMAIN)
    templates = prefetch_templates(mapping)
    for code in ("8480-6", "85354-9", "55284-4", "39156-5", "29463-7", "8302-2"):
        assert f"http://loinc.org|{code}" in templates["observations"]
    assert set(templates) == {"patient", "observations", "conditions", "medications"}


# ----------------------------------------------------------------------------------------- memory


def test_a_record_of_300000_observations_costs_time_and_not_memory() -> None:
    """The walk holds what the features need, not what has gone by."""
    manifest = {"features": [feature("glucose"), feature("body_mass_index"), feature("creatinine")]}
    mapping = compile_mapping(CATALOG, manifest)

    def record(size: int) -> Iterator[dict[str, Any]]:
        for n in range(size):
            code, unit = (("2345-7", "mg/dL"), ("2160-0", "mg/dL"), ("x", "1"))[n % 3]
            yield observation(code, 1 + n % 300, unit, id=str(n))

    def peak(size: int) -> int:
        tracemalloc.start()
        map_features(mapping, record(size), as_of=NOW, patient_id="p1")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)
    assert peak(300_000) < peak(3_000) + 100_000, "bytes"
