"""A FHIR export is read as the records were at the moment of the result; nothing later leaks."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model_training.dataset import DEVELOPMENT, TEST, Dataset, DatasetError, Silent
from model_training.recipe import Recipe, parse_recipe
from model_training.sample import require_both_classes, sample_from
from model_training.sources.fhir_ndjson import read_fhir
from model_training.sources.fhir_spool import Spool
from tests.fhir import condition, medication, observation, patient
from tests.people import completed

RECIPE = """
name = "test"
version = "1.0.0"
[cohort]
outcome_definition = "HbA1c"
minimum_age = 18
outcome_concept = "hba1c"
outcome_at_least = 6.5
[split]
kind = "period"
development = ["2011-2012", "2013-2014"]
test = ["2015-2016"]
[domain]
exclude = ["deceased", "known_diabetes", "pregnancy"]
[[features]]
name = "age"
plausible = [18, 120]
[[features]]
name = "sex"
plausible = [0, 1]
categories = { male = 0, female = 1 }
[[features]]
name = "glucose"
plausible = [20, 1500]
look_back_days = 730
[sufficiency]
[evaluation]
replicates = 30
fitted_replicates = 10
seed = 11
decision_thresholds = [0.1, 0.3]
false_positive_rates = [0.1]
sensitivities = [0.8]
[[evaluation.groups]]
axis = "Race and ethnicity"
column = "ethnicity"
groups = { "Mexican American" = [], "Non-Hispanic Black" = [], "Other or multiple" = [] }
[panels.glucose]
title = "Glucose"
features = ["glucose"]
[[scenarios]]
id = "complete"
title = "Complete"
absent = []
"""
WHEN = "2015-06-01T08:00:00Z"
HBA1C, GLUCOSE = "4548-4", "2345-7"
DIABETES = ("http://snomed.info/sct", "44054006")
PREGNANT = ("http://snomed.info/sct", "77386006")
METFORMIN = {"coding": [{"system": "http://www.whocc.no/atc", "code": "A10BA02"}]}
ALL_OF_TEST = {TEST: ("2015-2016",)}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse_recipe(completed(RECIPE))


def hba1c(value: float = 5.4, when: str = WHEN, unit: str = "%", **change: Any) -> dict[str, Any]:
    return observation(HBA1C, value, unit, **{"effectiveDateTime": when, "id": when[:10], **change})


def glucose(value: float, when: str, **change: Any) -> dict[str, Any]:
    return observation(
        GLUCOSE, value, "mg/dL", **{"effectiveDateTime": when, "id": f"g{value}", **change}
    )


def of(patient_id: str, *resources: dict[str, Any]) -> list[dict[str, Any]]:
    """The same resources, as another patient's."""
    return [
        {**one, "id": patient_id}
        if one["resourceType"] == "Patient"
        else {**one, "subject": {"reference": f"Patient/{patient_id}"}}
        for one in resources
    ]


def write(folder: Path, resources: Sequence[Mapping[str, Any]], name: str = "all.ndjson") -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(resource) + "\n" for resource in resources)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


class Notebook(Silent):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, title: str) -> None:
        self.steps.append(title)


def read(tmp_path: Path, recipe: Recipe, *resources: dict[str, Any], **options: Any) -> Dataset:
    folder = write(tmp_path / "export", resources)
    return read_fhir(folder, recipe, Silent(), **{"parts": ALL_OF_TEST, **options})


def only(dataset: Dataset) -> pd.Series[Any]:
    people = dataset.parts[TEST].people
    assert len(people) == 1
    return people.iloc[0]


def left_by(dataset: Dataset) -> list[tuple[str, int]]:
    return [(step.kept, step.people) for step in dataset.parts[TEST].flow]


# ------------------------------------------------------------------------- what was known then


def test_the_latest_glucose_up_to_the_result_is_the_input(tmp_path: Path, recipe: Recipe) -> None:
    row = only(
        read(
            tmp_path,
            recipe,
            patient(),
            glucose(90, "2015-01-01T08:00:00Z"),
            glucose(101, WHEN),
            glucose(222, "2015-06-01T08:01:00Z"),
            hba1c(),
        )
    )
    assert row["glucose"] == 101
    assert (row["age"], row["sex"], row["event"], row["period"]) == (47, 1, 0, "2015-2016")


@pytest.mark.parametrize("when", ["2015", "2015-06", "2015-06-02"])
def test_a_glucose_that_may_be_later_is_not_used(tmp_path: Path, recipe: Recipe, when: str) -> None:
    row = only(read(tmp_path, recipe, patient(), glucose(222, when), hba1c()))
    assert pd.isna(row["glucose"])


def test_a_glucose_dated_to_the_day_of_the_result_is_of_the_same_visit(
    tmp_path: Path, recipe: Recipe
) -> None:
    row = only(read(tmp_path, recipe, patient(), glucose(101, "2015-06-01"), hba1c()))
    assert row["glucose"] == 101


@pytest.mark.parametrize("when", ["2015-06-01T09:00:00Z", "2015-06-02", "2016"])
def test_what_is_diagnosed_or_given_later_was_not_known(
    tmp_path: Path, recipe: Recipe, when: str
) -> None:
    dataset = read(
        tmp_path,
        recipe,
        patient(),
        hba1c(7.0),
        condition(*DIABETES, recordedDate=when),
        medication(METFORMIN, authoredOn=when),
    )
    assert only(dataset)["event"] == 1


@pytest.mark.parametrize(
    "dates",
    [
        {"recordedDate": "2015-05-31"},
        {"recordedDate": "2015-06-01"},
        {"onsetDateTime": "2015"},
        {"recordedDate": "2017-01-01", "onsetDateTime": "2010-01-01"},
        {"onsetPeriod": {"start": "2010-01-01"}},
        {},
    ],
)
def test_a_diagnosis_that_may_have_been_known_leaves_the_patient_out(
    tmp_path: Path, recipe: Recipe, dates: dict[str, Any]
) -> None:
    with pytest.raises(DatasetError, match=r"All 1 patients .* left out by the recipe's rules"):
        read(tmp_path, recipe, patient(), hba1c(7.0), condition(*DIABETES, **dates))


def test_diagnoses_of_the_same_day_are_counted_in_the_notes(tmp_path: Path, recipe: Recipe) -> None:
    dataset = read(
        tmp_path,
        recipe,
        *of("p1", patient(), hba1c(7.0), condition(*DIABETES, recordedDate="2015-06-01")),
        *of("p2", patient(), hba1c(7.0), condition(*DIABETES, recordedDate="2015-05-31")),
        *of("p3", patient(), hba1c()),
    )
    noted = [note for note in dataset.notes if "dated to the day of the result" in note]
    assert [note.split()[0] for note in noted] == ["1"]
    assert ("without known diabetes on record by then", 1) in left_by(dataset)


def test_the_treated_are_a_part_of_their_own(tmp_path: Path, recipe: Recipe) -> None:
    dataset = read(
        tmp_path,
        recipe,
        *of("p1", patient(), hba1c()),
        *of("p2", patient(), hba1c(6.6), medication(METFORMIN, authoredOn="2015-05-01")),
    )
    assert only(dataset)["event"] == 0
    assert list(dataset.parts["treated"].people["event"]) == [1]


def test_a_medicine_that_a_request_only_refers_to_is_found(tmp_path: Path, recipe: Recipe) -> None:
    request = medication({}, authoredOn="2015-05-01")
    del request["medicationCodeableConcept"]
    request["medicationReference"] = {"reference": "Medication/m"}
    with pytest.raises(DatasetError, match="left out"):
        read(
            tmp_path,
            recipe,
            patient(),
            hba1c(),
            request,
            {"resourceType": "Medication", "id": "m", "code": METFORMIN},
        )


@pytest.mark.parametrize(
    ("dates", "left"),
    [
        ({"onsetDateTime": "2015-03-01", "abatementDateTime": "2015-11-01"}, 0),
        ({"onsetDateTime": "2014-03-01", "abatementDateTime": "2014-11-01"}, 1),
        ({"onsetDateTime": "2015-07-01", "abatementDateTime": "2016-03-01"}, 1),
    ],
)
def test_a_pregnancy_counts_while_it_lasted(
    tmp_path: Path, recipe: Recipe, dates: dict[str, str], left: int
) -> None:
    dataset = read(
        tmp_path,
        recipe,
        *of("p1", patient(), hba1c(), condition(*PREGNANT, clinical="resolved", **dates)),
        *of("p2", patient(), hba1c()),
    )
    assert ("without pregnancy on record by then", 1 + left) in left_by(dataset)


def test_children_of_then_are_left_out(tmp_path: Path, recipe: Recipe) -> None:
    dataset = read(
        tmp_path,
        recipe,
        *of("p1", patient(birthDate="1997-06-02"), hba1c()),
        *of("p2", patient(birthDate="1997-06-01"), hba1c()),
    )
    assert only(dataset)["age"] == 18
    assert left_by(dataset)[:3] == [
        ("patients in the export", 2),
        ("HbA1c measured in 2015–2016", 2),
        ("aged 18 or over at that moment", 1),
    ]


# ---------------------------------------------------------------------------------- the outcome


@pytest.mark.parametrize(("value", "event"), [(47, 0), (48, 1)])
def test_an_hba1c_in_mmol_mol_is_converted(
    tmp_path: Path, recipe: Recipe, value: float, event: int
) -> None:
    row = only(read(tmp_path, recipe, patient(), hba1c(value, unit="mmol/mol")))
    assert row["event"] == event


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unit": "mg/dL"}, "unit-unknown: 1"),
        ({"status": "entered-in-error"}, "status-not-usable: 1"),
        ({"status": "preliminary"}, "status-not-usable: 1"),
        ({"when": "2015"}, "not dated to the day: 1"),
        ({"effectiveDateTime": None}, "time-unknown: 1"),
        ({"when": "2015-07-02"}, "after death: 1"),
    ],
)
def test_a_result_that_cannot_be_used_is_counted_with_its_reason(
    tmp_path: Path, recipe: Recipe, change: dict[str, Any], reason: str
) -> None:
    dataset = read(
        tmp_path,
        recipe,
        *of("p1", patient(deceasedDateTime="2015-07-01"), hba1c(9.9, **change)),
        *of("p2", patient(), hba1c()),
    )
    assert only(dataset)["event"] == 0
    assert f"Of 2 HbA1c results these could not be used: {reason}." in dataset.notes


@pytest.mark.parametrize(
    ("comparator", "value", "events"),
    [(">", 14, [1]), ("<", 4, [0]), ("<", 9, []), (">", 4, [])],
)
def test_a_bound_counts_where_it_leaves_no_doubt(
    tmp_path: Path, recipe: Recipe, comparator: str, value: float, events: list[int]
) -> None:
    bound = hba1c(value)
    bound["valueQuantity"]["comparator"] = comparator
    dataset = read(
        tmp_path,
        recipe,
        *of("p1", patient(gender="male"), bound),
        *of("p2", patient(), hba1c()),
    )
    people = dataset.parts[TEST].people
    assert people[people["sex"] == 0]["event"].tolist() == events


def test_the_first_of_two_results_counts(tmp_path: Path, recipe: Recipe) -> None:
    later = hba1c(8.0, "2016-06-01T08:00:00Z")
    assert only(read(tmp_path, recipe, patient(), later, hba1c(5.0)))["event"] == 0


def test_of_two_results_of_one_moment_the_corrected_one_counts(
    tmp_path: Path, recipe: Recipe
) -> None:
    corrected = hba1c(5.0, id="b", status="corrected")
    assert only(read(tmp_path, recipe, patient(), hba1c(8.0, id="a"), corrected))["event"] == 0


def test_who_had_a_diabetic_result_before_is_known(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(DatasetError, match="left out"):
        read(tmp_path, recipe, patient(), hba1c(7.0, "2009-06-01T08:00:00Z"), hba1c())


def test_a_person_is_in_one_part_only(tmp_path: Path, recipe: Recipe) -> None:
    dataset = read(
        tmp_path,
        recipe,
        *of("p1", patient(), hba1c(5.0, "2012-01-01"), hba1c()),
        *of("p2", patient(), hba1c()),
        parts=None,
    )
    assert [len(dataset.parts[part].people) for part in (DEVELOPMENT, TEST)] == [1, 1]
    assert dataset.parts[DEVELOPMENT].people["period"].tolist() == ["2011-2012"]


def test_results_of_other_years_are_named(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(DatasetError, match="from 2020 to 2022, the recipe's periods are 2015-2016"):
        read(tmp_path, recipe, patient(), hba1c(when="2020-01-01"), hba1c(when="2022-01-01"))


def test_without_periods_each_year_is_one(tmp_path: Path, recipe: Recipe) -> None:
    dataset = read(tmp_path, recipe, patient(), hba1c(when="2022-05-01"), parts={TEST: ()})
    assert only(dataset)["period"] == "2022-2022"
    assert dataset.parts[TEST].periods == ("2022-2022",)


def test_a_bare_date_is_read_in_the_sites_zone(tmp_path: Path, recipe: Recipe) -> None:
    """Midnight of New Year in Tokyo lies in the old year in Greenwich."""
    tokyo = timezone(timedelta(hours=9))
    dataset = read(tmp_path, recipe, patient(), hba1c(when="2015-01-01"), zone=tokyo)
    assert only(dataset)["period"] == "2015-2016"


def test_a_date_that_means_none_is_no_date(tmp_path: Path, recipe: Recipe) -> None:
    boston = timezone(timedelta(hours=-5))
    never = hba1c(9.0, "0001-01-01T00:00:00Z")
    dataset = read(tmp_path, recipe, patient(), never, hba1c(), zone=boston)
    assert only(dataset)["event"] == 0
    assert any(
        note.endswith("could not be used: not dated to the day: 1.") for note in dataset.notes
    )


def test_one_class_only_is_read_and_refused_before_training(tmp_path: Path, recipe: Recipe) -> None:
    people = read(tmp_path, recipe, patient(), hba1c()).parts[TEST].people
    with pytest.raises(DatasetError, match="nobody has the outcome"):
        require_both_classes(sample_from(people, recipe), "test")


def test_the_outcome_cannot_be_an_input(tmp_path: Path) -> None:
    text = RECIPE.replace(
        'name = "glucose"\nplausible = [20, 1500]',
        'name = "glucose"\nconcept = "hba1c"\nplausible = [2, 25]',
    )
    with pytest.raises(DatasetError, match="hba1c both the outcome and an input"):
        read(tmp_path, parse_recipe(completed(text)), patient(), hba1c())


def test_a_split_by_person_is_refused(tmp_path: Path) -> None:
    text = RECIPE.replace('kind = "period"', 'kind = "person"\ntest_share = 0.3\nseed = 1')
    with pytest.raises(DatasetError, match=r"recipe\.toml: \[split\] is by person"):
        read(tmp_path, parse_recipe(completed(text)), patient(), hba1c(), parts=None)


# ------------------------------------------------------------------------------ whose things are


@pytest.mark.parametrize(
    "reference",
    ["Patient/{id}", "https://ehr.example/fhir/Patient/{id}", "urn:uuid:{id}"],
)
def test_every_form_of_reference_is_followed(
    tmp_path: Path, recipe: Recipe, reference: str
) -> None:
    identity = "0a51f1e2-29a0-4f4e-8c04-8a3f0e0f3c11"
    subject = {"reference": reference.format(id=identity)}
    dataset = read(
        tmp_path,
        recipe,
        patient(id=identity),
        hba1c(7.1, subject=subject),
        glucose(101, WHEN, subject=subject),
    )
    assert (only(dataset)["event"], only(dataset)["glucose"]) == (1, 101)


def test_others_results_are_not_taken_and_counted(tmp_path: Path, recipe: Recipe) -> None:
    ours, theirs = "https://a.example/fhir", "https://b.example/fhir"
    dataset = read(
        tmp_path,
        recipe,
        patient(),
        hba1c(subject={"reference": f"{ours}/Patient/p1"}),
        glucose(101, WHEN, subject={"reference": f"{ours}/Patient/p1"}),
        glucose(300, WHEN, subject={"reference": f"{theirs}/Patient/p1"}),
        glucose(301, WHEN, subject={"reference": "Patient/nobody"}),
        glucose(302, WHEN, subject={"display": "Mary"}),
        glucose(303, WHEN, subject={"reference": "Group/p1"}),
    )
    assert only(dataset)["glucose"] == 101
    assert (
        "4 resources were left out for whose they are: 1 of patients who are not in the export, "
        "2 that name none, 1 of patients on another server."
    ) in dataset.notes


def test_the_latest_version_of_a_resource_counts(tmp_path: Path, recipe: Recipe) -> None:
    newer = {"meta": {"lastUpdated": "2016-01-02T00:00:00Z"}, "id": "g"}
    older = {"meta": {"lastUpdated": "2016-01-01T23:00:00-04:00"}, "id": "g"}
    row = only(
        read(
            tmp_path,
            recipe,
            patient(),
            hba1c(),
            glucose(100, WHEN, **older),
            glucose(200, WHEN, status="entered-in-error", **newer),
        )
    )
    assert row["glucose"] == 100, "03:00 of the second day in Greenwich"


def test_ids_are_numbers_in_the_order_of_period_and_patient(tmp_path: Path, recipe: Recipe) -> None:
    dataset = read(
        tmp_path,
        recipe,
        *of("zoe-1990", patient(), hba1c(when="2012-01-01")),
        *of("b", patient(gender="male"), hba1c(when="2013-01-01")),
        *of("a", patient(gender="female"), hba1c(when="2013-01-01")),
        *of("c", patient(), hba1c()),
        parts=None,
    )
    people = pd.concat([dataset.parts[part].people for part in (DEVELOPMENT, TEST)])
    assert people["record"].tolist() == ["000000001", "000000002", "000000003", "000000004"]
    assert people["person"].tolist() == people["record"].tolist()
    assert people["sex"].tolist() == [1, 1, 0, 1]
    assert people["sampling_unit"].tolist() == [1, 2, 3, 4]
    assert set(people["weight"]) == {1.0}
    assert not people.astype(str).isin(["zoe-1990", "a", "b", "c"]).to_numpy().any()


def test_the_share_of_adults_who_were_tested_is_said(tmp_path: Path, recipe: Recipe) -> None:
    dataset = read(
        tmp_path,
        recipe,
        *of("p1", patient(), hba1c()),
        *of("p2", patient()),
        *of("p3", patient()),
        *of("p4", patient()),
        *of("child", patient(birthDate="2010-01-01")),
    )
    assert dataset.notes[0].startswith("1 of 4 adults (25%) had a usable HbA1c")


# -------------------------------------------------------------------------- statistics of people


def design(**parts: Any) -> dict[str, Any]:
    kinds = {"weight": "valueDecimal", "record": "valueString"}
    inner = [{"url": url, kinds.get(url, "valueInteger"): value} for url, value in parts.items()]
    return {"extension": [{"url": "urn:cds-service:survey-design", "extension": inner}]}


def test_a_survey_design_is_kept(tmp_path: Path, recipe: Recipe) -> None:
    parts = {"weight": 12.5, "stratum": 3, "samplingUnit": 2, "record": "042"}
    row = only(read(tmp_path, recipe, patient(**design(**parts)), hba1c()))
    assert [row[name] for name in ("weight", "stratum", "sampling_unit", "record", "person")] == [
        12.5,
        3,
        2,
        "042",
        "042",
    ]


def test_a_design_of_some_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    parts = {"weight": 12.5, "stratum": 3, "samplingUnit": 2}
    with pytest.raises(DatasetError, match="1 of 2 people carry a survey design"):
        read(
            tmp_path,
            recipe,
            *of("p1", patient(**design(**parts)), hba1c()),
            *of("p2", patient(), hba1c()),
        )


def test_a_design_that_lacks_a_part_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(DatasetError, match="survey-design cannot be used"):
        read(tmp_path, recipe, patient(**design(weight=1.0, stratum=1)), hba1c())


def us_core(ethnicity: Sequence[str], races: Sequence[str]) -> dict[str, Any]:
    base = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
    levels = ["ombCategory", "detailed"]
    return {
        "extension": [
            {
                "url": f"{base}ethnicity",
                "extension": [
                    {"url": level, "valueCoding": {"code": code}}
                    for level, code in zip(levels, ethnicity, strict=False)
                ],
            },
            {
                "url": f"{base}race",
                "extension": [
                    {"url": "ombCategory", "valueCoding": {"code": code}} for code in races
                ],
            },
        ]
    }


@pytest.mark.parametrize(
    ("ethnicity", "races", "group"),
    [
        (["2135-2", "2148-5"], ["2106-3"], "Mexican American"),
        (["2186-5"], ["2054-5"], "Non-Hispanic Black"),
        (["2186-5"], ["2054-5", "2106-3"], "Other or multiple"),
        (["2186-5"], ["2028-9"], "Other or multiple"),
        (["2186-5"], ["UNK"], None),
        (["2135-2"], ["2106-3"], None),
        ([], ["2054-5"], None),
    ],
)
def test_groups_are_those_of_the_recipe_or_none(
    tmp_path: Path, recipe: Recipe, ethnicity: list[str], races: list[str], group: str | None
) -> None:
    row = only(read(tmp_path, recipe, patient(**us_core(ethnicity, races)), hba1c()))
    assert (None if pd.isna(row["ethnicity"]) else row["ethnicity"]) == group


# ------------------------------------------------------------------------------------ the files


def test_files_of_any_name_compressed_or_not_are_one_export(tmp_path: Path, recipe: Recipe) -> None:
    folder = write(tmp_path / "export", [patient()], "1.ndjson")
    write(folder / "more", [hba1c(7.0)], "x.Observation.ndjson")
    with gzip.open(folder / "2.ndjson.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(glucose(101, WHEN)) + "\n\n")
    row = only(read_fhir(folder, recipe, Silent(), parts=ALL_OF_TEST))
    assert (row["event"], row["glucose"]) == (1, 101)


def test_a_few_malformed_lines_are_passed_over_and_named(tmp_path: Path, recipe: Recipe) -> None:
    folder = write(tmp_path / "export", [patient(), hba1c()])
    others = [json.dumps({"resourceType": "Encounter", "id": str(n)}) for n in range(298)]
    text = "\n".join([*others, "{broken", '{"no": "Patient"}', '["Patient"]', ""])
    (folder / "b.ndjson").write_text(text, encoding="utf-8")
    notebook = Notebook()
    dataset = read_fhir(folder, recipe, notebook, parts=ALL_OF_TEST)
    assert "3 of 303 lines were not FHIR resources." in dataset.notes
    said = "3 of 303 lines that are not FHIR resources: b.ndjson:299, b.ndjson:300, b.ndjson:301"
    assert any(step.endswith(said) for step in notebook.steps)


def test_many_malformed_lines_are_no_export(tmp_path: Path, recipe: Recipe) -> None:
    folder = write(tmp_path / "export", [patient(), hba1c()])
    (folder / "b.ndjson").write_text("<html>\nlog in first\n</html>\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"3 of 5 lines .*b\.ndjson:1, b\.ndjson:2"):
        read_fhir(folder, recipe, Silent(), parts=ALL_OF_TEST)


@pytest.mark.parametrize("type_", ["Observation", "Claim"])
def test_a_file_whose_last_line_is_cut_is_named(tmp_path: Path, recipe: Recipe, type_: str) -> None:
    folder = write(tmp_path / "export", [patient(), hba1c()])
    whole = json.dumps({"resourceType": type_, "id": "1"}) + "\n"
    (folder / "half.ndjson").write_text(whole * 3 + whole[:-4], encoding="utf-8")
    with pytest.raises(DatasetError, match=r"half\.ndjson is not whole \(line 4"):
        read_fhir(folder, recipe, Silent(), parts=ALL_OF_TEST)


def test_a_last_line_without_its_end_is_a_line(tmp_path: Path, recipe: Recipe) -> None:
    folder = write(tmp_path / "export", [patient()])
    (folder / "b.ndjson").write_text(json.dumps(hba1c(7.0)), encoding="utf-8")
    assert only(read_fhir(folder, recipe, Silent(), parts=ALL_OF_TEST))["event"] == 1


def test_half_of_a_compressed_file_is_named(tmp_path: Path, recipe: Recipe) -> None:
    folder = write(tmp_path / "export", [patient(), hba1c()])
    whole = gzip.compress(b"".join(json.dumps(glucose(n, WHEN)).encode() for n in range(90)))
    (folder / "half.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"half\.ndjson\.gz is not whole"):
        read_fhir(folder, recipe, Silent(), parts=ALL_OF_TEST)


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ([hba1c()], "holds no Patient"),
        ([patient(), glucose(101, WHEN)], r"holds no HbA1c \(LOINC 4548-4"),
        ([patient(), hba1c(unit="mg/dL")], "not usable were unit-unknown: 1"),
        ([patient(birthDate="2010-01-01"), hba1c()], "All 1 patients"),
    ],
)
def test_an_export_without_anybody_says_why(
    tmp_path: Path, recipe: Recipe, resources: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(DatasetError, match=says):
        read(tmp_path, recipe, *resources)


def test_an_empty_folder_and_none_are_told_apart(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(DatasetError, match=r"holds no \*\.ndjson"):
        read_fhir(tmp_path, recipe, Silent())
    with pytest.raises(DatasetError, match="is not a folder"):
        read_fhir(tmp_path / "nowhere", recipe, Silent())


# ------------------------------------------------------------------------------------ the spool


def test_the_spool_gives_back_each_patients_lines_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_training.sources.fhir_spool._PENDING_BYTES", 50)
    with Spool(export_bytes=200 * 2**20) as spool:
        assert spool.parts > 2
        for n in range(300):
            spool.add(f"p{n % 30}", b"O", b'{"tab":\t%d}' % n)
        parts = list(spool.records())
    assert sum(bool(part) for part in parts) > 2
    found = {patient_id: entries for part in parts for patient_id, entries in part}
    assert found["p7"] == [(b"O", b'{"tab":\t%d}' % n) for n in range(7, 300, 30)]
    assert len(found) == 30


def test_nothing_lies_about_while_reading_or_after_a_failure(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    class Fails(Silent):
        def detail(self, text: str) -> None:
            assert list(scratch.iterdir()) == [], "others find nothing to read"
            raise KeyboardInterrupt

    folder = write(tmp_path / "export", [patient(), hba1c()])
    with pytest.raises(KeyboardInterrupt):
        read_fhir(folder, recipe, Fails(), parts=ALL_OF_TEST)
    assert list(scratch.iterdir()) == []
