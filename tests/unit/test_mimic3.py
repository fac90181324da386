"""MIMIC-III is read as it is written: units checked, windows kept, identities left behind."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model_training.dataset import DEVELOPMENT, TEST, Dataset, DatasetError, Silent
from model_training.recipe import DIABETES_INPATIENT, Recipe, load_recipe, parse_recipe
from model_training.sources.mimic3 import Direction, read_mimic3
from tests.fakes.databases import POSTGRESQL_MISSING, postgresql_binaries, postgresql_cluster
from tests.people import completed

RECIPE = """
name = "small"
version = "1.0.0"
[cohort]
outcome_definition = "ICD-9 250.xx"
minimum_age = 18
outcome_icd9 = ["250"]
[split]
kind = "person"
test_share = 0.25
seed = 1
[mimic3]
direction = "first"
outliers = { method = "keep", concept = "glucose", above = 400, reach = 1.5 }
[panels]
[sufficiency]
[evaluation]
replicates = 30
fitted_replicates = 10
seed = 11
decision_thresholds = [0.1, 0.3]
false_positive_rates = [0.1]
sensitivities = [0.8]
groups = []
[[scenarios]]
id = "complete"
title = "Complete"
absent = []
"""
STATISTICS = ("latest", "min", "max", "mean", "count", "slope")


def feature(name: str, concept: str, statistic: str = "latest", **more: object) -> str:
    bounds = {"count": [0, 10000], "slope": [-100000, 100000]}.get(statistic, [0, 100000])
    entry = {
        "name": name,
        "concept": concept,
        "statistic": statistic,
        "plausible": bounds,
        "look_back_days": 3,
    } | more
    lines = (f"{key} = {_toml(value)}" for key, value in entry.items())
    return "[[features]]\n" + "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_toml(item)}' for key, item in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


def recipe_of(*features: str, settings: str = RECIPE) -> Recipe:
    return parse_recipe(completed(settings + "".join(features)))


GLUCOSE = [feature(f"glucose_{statistic}", "glucose", statistic) for statistic in STATISTICS]
PRESSURE = [feature("systolic", "systolic_blood_pressure")]
BODY = [feature("bmi", "body_mass_index"), feature("bmi_max", "body_mass_index", "max")]


class Hospital:
    """Made-up tables in PhysioNet's shape. Twelve patients fill it, every second with diabetes;
    patient 1, admission 101, is the one that tests are about."""

    def __init__(self) -> None:
        self.patients: list[tuple[Any, ...]] = []
        self.admissions: list[tuple[Any, ...]] = []
        self.diagnoses: list[tuple[Any, ...]] = []
        self.laboratory: list[tuple[Any, ...]] = []
        self.charted: list[tuple[Any, ...]] = []
        for subject in range(1, 13):
            self.admit(subject, diabetes=subject % 2 == 0)

    def admit(
        self,
        subject: int,
        hadm: int | None = None,
        *,
        at: str = "2150-06-01 12:00:00",
        born: str = "2100-01-01 00:00:00",
        diabetes: bool = False,
        ethnicity: str = "WHITE",
        codes: bool = True,
    ) -> None:
        hadm = hadm or subject + 100
        if all(subject != row[0] for row in self.patients):
            self.patients.append((subject, "F", born))
        self.admissions.append((subject, hadm, at, "EMERGENCY", ethnicity))
        if codes:
            self.diagnoses += [(hadm, "4019")] + [(hadm, "25001")] * diabetes

    def lab(
        self,
        item: int,
        value: float,
        unit: str | None,
        at: str,
        *,
        subject: int = 1,
        hadm: int | None = 101,
    ) -> None:
        self.laboratory.append((subject, hadm, item, at, value, unit))

    def chart(
        self, item: int, value: float, unit: str | None, at: str, *, error: int | None = None
    ) -> None:
        self.charted.append((1, 101, item, at, value, unit, error))

    def tables(self) -> dict[str, pd.DataFrame]:
        events = ["subject_id", "hadm_id", "itemid", "charttime", "valuenum", "valueuom"]
        admissions = ["subject_id", "hadm_id", "admittime", "admission_type", "ethnicity"]
        return {
            "patients": pd.DataFrame(self.patients, columns=["subject_id", "gender", "dob"]),
            "admissions": pd.DataFrame(self.admissions, columns=admissions),
            "diagnoses_icd": pd.DataFrame(self.diagnoses, columns=["hadm_id", "icd9_code"]),
            "labevents": pd.DataFrame(self.laboratory, columns=events).astype({"hadm_id": "Int64"}),
            "chartevents": pd.DataFrame(self.charted, columns=[*events, "error"]).astype(
                {"error": "Int64"}
            ),
        }

    def write(self, folder: Path) -> Path:
        for name, table in self.tables().items():
            # Free text that nobody asked for, before the columns that are read.
            table.insert(0, "DIAGNOSIS", 'HYPERGLYCEMIA, "SUGARS"\nUP')
            table.rename(columns=str.upper).to_csv(folder / f"{name.upper()}.csv.gz", index=False)
        return folder


@pytest.fixture
def hospital() -> Hospital:
    return Hospital()


Read = Callable[..., "pd.Series[Any]"]


@pytest.fixture
def read(hospital: Hospital, tmp_path: Path) -> Read:
    """The row of admission 101."""

    def reading(recipe: Recipe, direction: Direction | None = None) -> pd.Series[Any]:
        dataset = read_mimic3(hospital.write(tmp_path), recipe, Silent(), direction=direction)
        people = everybody(dataset)
        return people[people["record"] == "0000001"].iloc[0]

    return reading


def everybody(dataset: Dataset) -> pd.DataFrame:
    return pd.concat([part.people for part in dataset.parts.values()], ignore_index=True)


def notes_of(hospital: Hospital, folder: Path, recipe: Recipe) -> str:
    return "\n".join(read_mimic3(hospital.write(folder), recipe, Silent()).notes)


# ------------------------------------------------------------------------------------ windows


def test_statistics_are_of_the_first_72_hours(hospital: Hospital, read: Read) -> None:
    for value, at in [
        (300.0, "2150-06-01 11:59:59"),
        (100.0, "2150-06-01 12:00:00"),
        (120.0, "2150-06-02 12:00:00"),
        (170.0, "2150-06-04 11:59:59"),
        (400.0, "2150-06-04 12:00:00"),
    ]:
        hospital.lab(50931, value, "mg/dL", at)
    row = read(recipe_of(*GLUCOSE))
    assert [row[f"glucose_{name}"] for name in ("latest", "min", "max", "count")] == [
        170.0,
        100.0,
        170.0,
        3.0,
    ]
    assert row["glucose_mean"] == 130.0
    # Least squares through (0 d, 100), (1 d, 120), (2.99999 d, 170).
    assert row["glucose_slope"] == pytest.approx(23.5715, abs=1e-3)


def test_before_admission_the_laboratory_counts_whatever_admission_it_names(
    hospital: Hospital, read: Read
) -> None:
    hospital.lab(50931, 300.0, "mg/dL", "2150-05-29 11:59:59", hadm=None)
    hospital.lab(50931, 100.0, "mg/dL", "2150-05-29 12:00:00", hadm=None)
    hospital.lab(50931, 110.0, "mg/dL", "2150-06-01 11:59:59", hadm=77)
    hospital.lab(50931, 400.0, "mg/dL", "2150-06-01 12:00:00")
    row = read(recipe_of(*GLUCOSE), "before")
    assert (row["glucose_min"], row["glucose_max"], row["glucose_count"]) == (100.0, 110.0, 2.0)


def test_after_admission_only_its_own_results_count(hospital: Hospital, read: Read) -> None:
    hospital.lab(50931, 100.0, "mg/dL", "2150-06-01 13:00:00")
    hospital.lab(50931, 300.0, "mg/dL", "2150-06-01 14:00:00", hadm=77)
    assert read(recipe_of(*GLUCOSE))["glucose_max"] == 100.0


def test_no_value_is_absent_and_a_count_of_none_is_zero(read: Read) -> None:
    row = read(recipe_of(*GLUCOSE))
    assert row["glucose_count"] == 0.0
    assert all(math.isnan(row[f"glucose_{name}"]) for name in ("latest", "mean", "slope"))


def test_one_moment_has_no_slope_and_its_latest_is_the_greatest(
    hospital: Hospital, read: Read
) -> None:
    hospital.lab(50931, 180.0, "mg/dL", "2150-06-01 13:00:00")
    hospital.lab(50809, 120.0, "mg/dL", "2150-06-01 13:00:00")
    row = read(recipe_of(*GLUCOSE))
    assert math.isnan(row["glucose_slope"])
    assert (row["glucose_latest"], row["glucose_count"]) == (180.0, 2.0)


# -------------------------------------------------------------------------------------- units


def test_values_are_rounded_as_the_mapping_rounds(hospital: Hospital, read: Read) -> None:
    hospital.lab(50912, 1.006, "mg/dL", "2150-06-01 13:00:00")
    hospital.lab(50862, 3.25, "g/dL", "2150-06-01 13:00:00")
    row = read(recipe_of(feature("creatinine", "creatinine"), feature("albumin", "albumin")))
    assert (row["creatinine"], row["albumin"]) == (1.01, 3.2)


def test_milliequivalents_of_sodium_are_millimoles(hospital: Hospital, read: Read) -> None:
    hospital.lab(50983, 141.0, "mEq/L", "2150-06-01 13:00:00")
    hospital.lab(50983, 139.0, "MEQ/L", "2150-06-01 12:30:00")
    row = read(recipe_of(feature("sodium", "sodium"), feature("sodium_min", "sodium", "min")))
    assert (row["sodium"], row["sodium_min"]) == (141.0, 139.0)


@pytest.mark.parametrize(
    ("unit", "why"),
    [
        ("mmol/L", "with a unit that contradicts its item's"),
        ("furlong", "with an unknown unit"),
        ("", "without a unit"),
        (None, "without a unit"),
    ],
)
def test_a_value_in_another_unit_or_none_is_absent_and_counted(
    hospital: Hospital, read: Read, tmp_path: Path, unit: str | None, why: str
) -> None:
    hospital.lab(50931, 100.0, "mg/dL", "2150-06-01 13:00:00")
    hospital.lab(50931, 5.5, unit, "2150-06-01 14:00:00")
    recipe = recipe_of(*GLUCOSE)
    assert read(recipe)["glucose_latest"] == 100.0
    assert f"Glucose: 1 of 2 values were not used (1 {why})." in notes_of(
        hospital, tmp_path, recipe
    )


def test_errors_and_implausible_values_are_left_out_and_counted(
    hospital: Hospital, read: Read, tmp_path: Path
) -> None:
    hospital.chart(220179, 121.0, "mmHg", "2150-06-01 13:00:00", error=0)
    hospital.chart(220179, 11647.0, "mmHg", "2150-06-01 14:00:00")
    hospital.chart(220179, 180.0, "mmHg", "2150-06-01 15:00:00", error=1)
    recipe = recipe_of(feature("systolic", "systolic_blood_pressure"))
    assert read(recipe)["systolic"] == 121.0
    assert (
        "Systolic blood pressure: 2 of 3 values were not used (1 marked as an error, "
        "1 not plausible)." in notes_of(hospital, tmp_path, recipe)
    )


def test_copies_of_laboratory_results_count_only_where_the_laboratory_has_none(
    hospital: Hospital, read: Read
) -> None:
    recipe = recipe_of(*GLUCOSE, feature("sodium_count", "sodium", "count"))
    hospital.lab(50931, 100.0, "mg/dL", "2150-06-01 13:00:00")
    hospital.chart(220621, 100.0, "mg/dL", "2150-06-01 13:40:00")
    hospital.chart(220645, 140.0, "mEq/L", "2150-06-01 13:40:00")
    row = read(recipe)
    assert (row["glucose_count"], row["sodium_count"]) == (1.0, 1.0)


# ---------------------------------------------------------------------------------------- BMI


def test_bmi_comes_from_pounds_and_inches(hospital: Hospital, read: Read) -> None:
    hospital.chart(226531, 200.0, None, "2150-06-01 13:00:00")
    hospital.chart(226707, 70.0, "Inch", "2150-06-01 13:00:00")
    # 200 lb are 90.7 kg, 70 in are 177.8 cm.
    assert read(recipe_of(*BODY))["bmi"] == round(90.7 / 1.778**2, 1)


def test_bmi_takes_the_newest_height_even_of_years_ago_and_each_weight_of_the_window(
    hospital: Hospital, read: Read
) -> None:
    hospital.chart(226730, 150.0, "cm", "2145-06-01 13:00:00")
    hospital.chart(226730, 170.0, "cm", "2146-06-01 13:00:00")
    hospital.chart(226730, 100.0, "cm", "2130-06-01 13:00:00")
    hospital.chart(763, 90.0, "kg", "2150-06-01 13:00:00")
    hospital.chart(763, 80.0, "kg", "2150-06-02 13:00:00")
    hospital.chart(763, 200.0, "kg", "2150-05-01 13:00:00")
    row = read(recipe_of(*BODY))
    assert (row["bmi"], row["bmi_max"]) == (27.7, 31.1)


def test_a_height_that_makes_no_sense_with_the_weight_is_passed_over(
    hospital: Hospital, read: Read
) -> None:
    hospital.chart(226730, 170.0, "cm", "2150-06-01 13:00:00")
    hospital.chart(226730, 67.0, "cm", "2150-06-01 14:00:00")
    hospital.chart(763, 80.0, "kg", "2150-06-01 13:00:00")
    assert read(recipe_of(*BODY))["bmi"] == 27.7


# ------------------------------------------------------------------------------------- people


def test_children_and_admissions_without_codes_are_out_and_the_flow_says_so(
    hospital: Hospital, tmp_path: Path
) -> None:
    hospital.admit(13, born="2132-06-02 00:00:00", diabetes=True)
    hospital.admit(14, born="2132-06-01 00:00:00")
    hospital.admit(15, codes=False)
    dataset = read_mimic3(hospital.write(tmp_path), recipe_of(*GLUCOSE), Silent())
    flow = dataset.parts[DEVELOPMENT].flow
    assert [(step.kept, step.people, step.events) for step in flow[:3]] == [
        ("admissions", 15, 7),
        ("aged 18 or over", 14, 6),
        ("diagnoses coded", 13, 6),
    ]
    assert flow[3].people + dataset.parts[TEST].flow[3].people == 13


def test_the_oldest_are_90(hospital: Hospital, read: Read, tmp_path: Path) -> None:
    hospital.patients[0] = (1, "M", "1850-06-01 00:00:00")
    recipe = recipe_of(
        *GLUCOSE,
        feature("age", "age", plausible=[18, 120]),
        feature("sex", "sex", categories={"male": 0, "female": 1}),
    )
    row = read(recipe)
    assert (row["age"], row["sex"]) == (90.0, 0.0)


@pytest.mark.parametrize(
    ("text", "group", "code"),
    [
        ("WHITE - RUSSIAN", "White", 0.0),
        ("BLACK/AFRICAN AMERICAN", "Black", 1.0),
        ("HISPANIC/LATINO - PUERTO RICAN", "Hispanic or Latino", 2.0),
        ("UNKNOWN/NOT SPECIFIED", None, None),
    ],
)
def test_ethnicity_is_a_group_and_its_code(
    hospital: Hospital, read: Read, text: str, group: str | None, code: float | None
) -> None:
    hospital.admissions[0] = (*hospital.admissions[0][:4], text)
    shipped = load_recipe(DIABETES_INPATIENT)
    row = read(shipped)
    assert row["ethnicity"] == group
    assert row["ethnicity_group"] == code or math.isnan(row["ethnicity_group"])
    assert row["admission_type"] == 2.0


def test_no_patient_lies_on_both_sides_and_the_seed_decides(
    hospital: Hospital, tmp_path: Path
) -> None:
    for subject in range(1, 13):
        hospital.admit(subject, subject + 200, at="2151-01-01 12:00:00")
    folder = hospital.write(tmp_path)
    recipe = recipe_of(*GLUCOSE)

    def tested(seed: int) -> set[str]:
        other = {**recipe.raw, "split": {**recipe.raw["split"], "seed": seed}}
        parts = read_mimic3(folder, replace(recipe, raw=other), Silent()).parts
        persons = {name: set(part.people["person"]) for name, part in parts.items()}
        assert not persons[TEST] & persons[DEVELOPMENT]
        assert parts[TEST].people["event"].sum() == 2
        assert len(persons[TEST]) == 4
        return persons[TEST]

    assert tested(1) == tested(1)
    assert len({frozenset(tested(seed)) for seed in range(5)}) > 1


# ----------------------------------------------------------------------------------- outliers


def _with_an_outlier(hospital: Hospital) -> None:
    for subject in range(1, 13):
        for hour in range(13, 18):
            hospital.lab(
                50931,
                100.0 + hour,
                "mg/dL",
                f"2150-06-01 {hour}:00:00",
                subject=subject,
                hadm=subject + 100,
            )
    hospital.lab(50931, 900.0, "mg/dL", "2150-06-01 20:00:00")


def test_high_glucose_is_counted_and_kept(hospital: Hospital, read: Read, tmp_path: Path) -> None:
    _with_an_outlier(hospital)
    recipe = recipe_of(*GLUCOSE)
    assert read(recipe)["glucose_max"] == 900.0
    assert (
        "Glucose: of 61 values in the window 1 are above 400 mg/dL and 1 lie outside 111 to 119 "
        "mg/dL (1.5 interquartile ranges beyond the quartiles of development people); all were "
        "kept as they are." in notes_of(hospital, tmp_path, recipe)
    )


def test_winsorizing_sets_values_to_the_fence(hospital: Hospital, read: Read) -> None:
    _with_an_outlier(hospital)
    winsorized = RECIPE.replace('method = "keep"', 'method = "winsorize"')
    row = read(recipe_of(*GLUCOSE, settings=winsorized))
    assert (row["glucose_max"], row["glucose_latest"], row["glucose_count"]) == (119.0, 119.0, 6.0)


# ---------------------------------------------------------------------------------- bad input


def refused(source: str | Path, recipe: Recipe | None = None, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        read_mimic3(source, recipe or recipe_of(*GLUCOSE), Silent(), **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_no_such_folder(tmp_path: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nowhere")


def test_a_missing_table_is_named(hospital: Hospital, tmp_path: Path) -> None:
    (hospital.write(tmp_path) / "LABEVENTS.csv.gz").unlink()
    assert f"{tmp_path} holds no LABEVENTS.csv.gz" in refused(tmp_path)


def test_a_missing_column_is_named(hospital: Hospital, tmp_path: Path) -> None:
    file = hospital.write(tmp_path) / "LABEVENTS.csv.gz"
    pd.read_csv(file).drop(columns=["VALUEUOM"]).to_csv(file, index=False)
    assert f"{file} has no column valueuom" in refused(tmp_path)


@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_half_downloaded_file_is_named(hospital: Hospital, tmp_path: Path, share: float) -> None:
    for minute in range(2000):
        hospital.chart(220179, 100.0 + minute % 37, "mmHg", f"2150-06-01 13:{minute % 60:02}:00")
    file = hospital.write(tmp_path) / "CHARTEVENTS.csv.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert f"{file} is cut off or damaged" in refused(tmp_path)


def test_values_that_are_all_in_another_unit_are_refused(
    hospital: Hospital, tmp_path: Path
) -> None:
    for minute in range(30):
        hospital.chart(220179, 16.0, "kPa", f"2150-06-01 13:{minute:02}:00")
    said = refused(hospital.write(tmp_path), recipe_of(*PRESSURE))
    assert f"{tmp_path}: all 30 values of Systolic blood pressure" in said
    hospital.chart(220179, 120.0, "mmHg", "2150-06-01 14:00:00")
    assert "30 of 31 values were not used" in notes_of(hospital, tmp_path, recipe_of(*PRESSURE))


def test_a_time_that_is_none_is_named_without_what_stands_there(
    hospital: Hospital, tmp_path: Path
) -> None:
    hospital.chart(220179, 120.0, "mmHg", "Tuesday at Jones's")
    said = refused(hospital.write(tmp_path), recipe_of(*PRESSURE))
    assert f"{tmp_path / 'CHARTEVENTS.csv.gz'} cannot be read as MIMIC-III: charttime in" in said
    assert "Jones" not in said


def test_a_csv_that_ends_inside_a_line_is_named(hospital: Hospital, tmp_path: Path) -> None:
    packed = hospital.write(tmp_path) / "PATIENTS.csv.gz"
    whole = gzip.decompress(packed.read_bytes())
    packed.unlink()
    (tmp_path / "PATIENTS.csv").write_bytes(whole[:-3])
    assert f"{tmp_path / 'PATIENTS.csv'} is cut off" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not gzip at all"])
def test_a_file_that_is_no_gzip_is_named(
    hospital: Hospital, tmp_path: Path, content: bytes
) -> None:
    file = hospital.write(tmp_path) / "PATIENTS.csv.gz"
    file.write_bytes(content)
    assert str(file) in refused(tmp_path)


def test_text_in_a_column_of_numbers_is_named(hospital: Hospital, tmp_path: Path) -> None:
    hospital.lab(50931, 100.0, "mg/dL", "2150-06-01 13:00:00")
    file = hospital.write(tmp_path) / "LABEVENTS.csv.gz"
    text = gzip.decompress(file.read_bytes()).replace(b"100.0", b"lots")
    file.write_bytes(gzip.compress(text))
    assert f"{file} cannot be read as MIMIC-III" in refused(tmp_path)


def test_plain_csv_is_read_too(hospital: Hospital, tmp_path: Path) -> None:
    for file in list(hospital.write(tmp_path).iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert len(everybody(read_mimic3(tmp_path, recipe_of(*GLUCOSE), Silent()))) == 12


def test_a_cohort_without_adults_is_empty(hospital: Hospital, tmp_path: Path) -> None:
    hospital.patients = [(n, "F", "2149-01-01 00:00:00") for n, *_ in hospital.patients]
    assert "the cohort is empty" in refused(hospital.write(tmp_path))


@pytest.mark.parametrize("code", ["4019", "25000"])
def test_one_class_only(hospital: Hospital, tmp_path: Path, code: str) -> None:
    hospital.diagnoses = [(hadm, code) for _, hadm, *_ in hospital.admissions]
    assert "has one class only" in refused(hospital.write(tmp_path))


def test_a_part_of_one_class_only(hospital: Hospital, tmp_path: Path) -> None:
    hospital.diagnoses = [row for row in hospital.diagnoses if row != (102, "25001")]
    hospital.diagnoses = [row for row in hospital.diagnoses if row[1] == "4019"] + [(104, "25001")]
    assert "the test part has one class only" in refused(hospital.write(tmp_path))


def test_a_direction_that_does_not_exist(hospital: Hospital, tmp_path: Path) -> None:
    assert "direction is 'after'" in refused(hospital.write(tmp_path), direction="after")


def test_a_recipe_for_another_source(tmp_path: Path) -> None:
    settings = RECIPE.replace("[mimic3]", "[other]")
    assert "is not for MIMIC-III" in refused(tmp_path, recipe_of(*GLUCOSE, settings=settings))


def test_features_of_several_windows_are_refused(tmp_path: Path) -> None:
    mixed = recipe_of(*GLUCOSE, feature("sodium", "sodium", look_back_days=2))
    assert "one look_back_days" in refused(tmp_path, mixed)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://cds@localhost/mimic", "mysql is not supported"),
        ("postgresql://cds:hidden@127.0.0.1:1/mimic", "cannot be read"),
        ("postgresql://cds@host:many/mimic", "The database's URL cannot be read"),
    ],
)
def test_a_database_that_cannot_be_had(url: str, why: str) -> None:
    sentence = refused(url)
    assert why in sentence
    assert "hidden" not in sentence


# --------------------------------------------------------------------------------- PostgreSQL


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    if postgresql_binaries() is None:
        pytest.skip(POSTGRESQL_MISSING)
    with postgresql_cluster() as url:
        yield url


def test_a_database_without_the_schema_or_a_table_or_a_column(database: str) -> None:
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:
        assert "has no schema mimiciii" in refused(database)
        connection.execute("CREATE SCHEMA mimiciii CREATE TABLE admissions (subject_id INT)")
        assert "mimiciii.admissions has no column admission_type" in refused(database)
        connection.execute("DROP TABLE mimiciii.admissions")
        connection.execute("CREATE TABLE mimiciii.patients (subject_id INT)")
        assert "has no table mimiciii.admissions" in refused(database)
        connection.execute("DROP SCHEMA mimiciii CASCADE")
