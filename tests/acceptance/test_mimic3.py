"""The MIMIC-III demo reads as an independent computation in pandas does, from files and PostgreSQL.

Nothing here uses the reader's SQL, catalog or sums: items, windows and formulas are written again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_training.dataset import DEVELOPMENT, TEST, Dataset, Silent
from model_training.recipe import DIABETES_INPATIENT, load_recipe
from model_training.sources.mimic3 import Direction, read_mimic3
from tests.data import data_folder
from tests.fakes.databases import POSTGRESQL_MISSING, postgresql_binaries
from tests.fakes.mimic3 import mimic3_in_postgresql

pytestmark = pytest.mark.xdist_group("mimic3")
RECIPE = load_recipe(DIABETES_INPATIENT)
DIRECTIONS: tuple[Direction, ...] = ("first", "before")
WINDOW = pd.Timedelta(hours=72)


@pytest.fixture(scope="module")
def demo() -> Path:
    return data_folder("mimic3_demo")


@pytest.fixture(scope="module")
def tables(demo: Path) -> dict[str, pd.DataFrame]:
    times = {
        "ADMISSIONS": ["admittime", "dischtime"],
        "PATIENTS": ["dob"],
        "LABEVENTS": ["charttime"],
        "CHARTEVENTS": ["charttime"],
        "DIAGNOSES_ICD": [],
    }
    return {
        name: pd.read_csv(
            demo / f"{name}.csv.gz",
            parse_dates=columns,
            date_format="%Y-%m-%d %H:%M:%S",
            dtype={"icd9_code": str, "value": str},
            low_memory=False,
        )
        for name, columns in times.items()
    }


@pytest.fixture(scope="module")
def read(demo: Path) -> dict[str, Dataset]:
    return {way: read_mimic3(demo, RECIPE, Silent(), direction=way) for way in DIRECTIONS}


@pytest.fixture(scope="module")
def cohort(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The adults' admissions, by the record under which the reader gives them."""
    admissions = tables["ADMISSIONS"].merge(
        tables["PATIENTS"][["subject_id", "dob", "gender"]], on="subject_id"
    )
    diabetic = tables["DIAGNOSES_ICD"]["icd9_code"].str.startswith("250", na=False)
    coded = tables["DIAGNOSES_ICD"].assign(diabetic=diabetic).groupby("hadm_id")["diabetic"].any()
    admissions = admissions.sort_values(["subject_id", "hadm_id"]).reset_index(drop=True)
    admissions["record"] = [f"{number:07d}" for number in range(1, len(admissions) + 1)]
    birthday = [
        (born.month, born.day) > (at.month, at.day)
        for born, at in zip(admissions["dob"], admissions["admittime"], strict=True)
    ]
    admissions["age"] = (
        admissions["admittime"].dt.year - admissions["dob"].dt.year - np.array(birthday)
    )
    admissions["event"] = admissions["hadm_id"].map(coded)
    kept = (admissions["age"] >= 18) & admissions["event"].notna()
    return admissions[kept].set_index("record")


def everybody(dataset: Dataset) -> pd.DataFrame:
    people = pd.concat([part.people for part in dataset.parts.values()])
    return people.set_index("record").sort_index()


def inside(events: pd.DataFrame, admission: pd.Series[Any], direction: Direction) -> pd.DataFrame:
    at = admission["admittime"]
    if direction == "first":
        own = events[events["hadm_id"] == admission["hadm_id"]]
        return own[(own["charttime"] >= at) & (own["charttime"] < at + WINDOW)]
    own = events[events["subject_id"] == admission["subject_id"]]
    return own[(own["charttime"] < at) & (own["charttime"] >= at - WINDOW)]


def statistics(values: pd.DataFrame, at: pd.Timestamp) -> dict[str, float]:
    values = values.drop_duplicates(["charttime", "valuenum"])
    found = {"count": float(len(values))}
    if values.empty:
        return found | dict.fromkeys(["latest", "min", "max", "mean", "slope"], np.nan)
    numbers = values["valuenum"].astype(float)
    days = (values["charttime"] - at) / pd.Timedelta(days=1)
    slope = np.polyfit(days, numbers, 1)[0] if days.nunique() > 1 else np.nan
    return found | {
        "latest": values.sort_values(["charttime", "valuenum"])["valuenum"].iloc[-1],
        "min": numbers.min(),
        "max": numbers.max(),
        "mean": numbers.mean(),
        "slope": slope,
    }


def expect(
    people: pd.DataFrame,
    cohort: pd.DataFrame,
    concept: str,
    events: pd.DataFrame,
    direction: Direction,
) -> int:
    """Every statistic of every admission; returns how many admissions had a value."""
    with_value = 0
    for record, admission in cohort.iterrows():
        found = statistics(inside(events, admission, direction), admission["admittime"])
        with_value += found["count"] > 0
        for statistic, value in found.items():
            name = concept if statistic == "latest" else f"{concept}_{statistic}"
            if name in people:
                close = 6e-3 if statistic == "mean" else 1e-6 * max(1.0, abs(value))
                assert people.at[record, name] == pytest.approx(value, abs=close, nan_ok=True), (
                    record,
                    name,
                )
    return with_value


def test_the_demo_gives_one_row_per_admission_of_an_adult(
    read: dict[str, Dataset], cohort: pd.DataFrame, tables: dict[str, pd.DataFrame]
) -> None:
    flow = read["first"].parts[DEVELOPMENT].flow
    assert (flow[0].kept, flow[0].people) == ("admissions", len(tables["ADMISSIONS"]))
    people = everybody(read["first"])
    assert list(people.index) == list(cohort.index)
    assert people["event"].tolist() == cohort["event"].astype(int).tolist()
    assert people["age"].tolist() == cohort["age"].where(cohort["age"] <= 89, 90).tolist()
    assert people["sex"].tolist() == (cohort["gender"] == "F").astype(float).tolist()
    codes = {"ELECTIVE": 0.0, "URGENT": 1.0, "EMERGENCY": 2.0}
    assert people["admission_type"].tolist() == cohort["admission_type"].map(codes).tolist()
    assert people["person"].nunique() == cohort["subject_id"].nunique()
    assert (people.groupby("person")["sampling_unit"].nunique() == 1).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_glucose_and_creatinine_equal_pandas(
    read: dict[str, Dataset],
    cohort: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    direction: Direction,
) -> None:
    people = everybody(read[direction])
    laboratory = tables["LABEVENTS"].dropna(subset=["valuenum"])
    for concept, items, decimals, (low, high) in [
        ("glucose", [50931, 50809], 0, (10, 2000)),
        ("creatinine", [50912], 2, (0.05, 40)),
        ("potassium", [50971, 50822], 1, (0.5, 20)),
    ]:
        events = laboratory[laboratory["itemid"].isin(items)]
        assert events["valueuom"].str.lower().isin(["mg/dl", "meq/l"]).all()
        events = events.assign(valuenum=events["valuenum"].round(decimals))
        events = events[events["valuenum"].between(low, high)]
        # Where the laboratory has nothing, nurses' copies stand in: those admissions are left out.
        theirs = cohort[[len(inside(events, row, direction)) > 0 for _, row in cohort.iterrows()]]
        assert expect(people, theirs, concept, events, direction) == len(theirs) > 70


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_blood_pressure_equals_pandas(
    read: dict[str, Dataset],
    cohort: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    direction: Direction,
) -> None:
    people = everybody(read[direction])
    charted = tables["CHARTEVENTS"]
    charted = charted[(charted["valueuom"] == "mmHg") & (charted["error"].fillna(0) != 1)]
    for concept, items, (low, high) in [
        (
            "systolic_blood_pressure",
            [51, 442, 455, 6701, 220050, 220179, 224167, 225309, 227243],
            (40, 350),
        ),
        (
            "diastolic_blood_pressure",
            [8368, 8440, 8441, 8555, 220051, 220180, 224643, 225310, 227242],
            (10, 250),
        ),
    ]:
        events = charted[charted["itemid"].isin(items)].dropna(subset=["valuenum"])
        events = events.assign(valuenum=events["valuenum"].round(0))
        events = events[events["valuenum"].between(low, high)]
        with_value = expect(people, cohort, concept, events, direction)
        assert with_value == (people[f"{concept}_count"] > 0).sum() > 5


def test_bmi_is_of_the_latest_weight_and_the_newest_height(
    read: dict[str, Dataset], cohort: pd.DataFrame, tables: dict[str, pd.DataFrame]
) -> None:
    people = everybody(read["first"])
    charted = tables["CHARTEVENTS"].dropna(subset=["valuenum"])
    to_kg = {762: 1.0, 763: 1.0, 224639: 1.0, 3693: 1.0, 226512: 1.0, 226531: 0.45359237}
    to_cm = {920: 2.54, 226707: 2.54, 1394: 2.54, 3486: 2.54, 4187: 2.54}
    to_cm |= {3485: 1.0, 4188: 1.0, 226730: 1.0}

    def metric(factors: dict[int, float], low: float, high: float) -> pd.DataFrame:
        own = charted[charted["itemid"].isin(list(factors))]
        values = (own["valuenum"] * own["itemid"].map(factors)).round(1)
        return own.assign(valuenum=values)[values.between(low, high)]

    weights, heights = metric(to_kg, 1, 650), metric(to_cm, 40, 275)
    found = 0
    for record, admission in cohort.iterrows():
        weighed = inside(weights, admission, "first").sort_values(["charttime", "valuenum"])
        end = admission["admittime"] + WINDOW
        mine = heights[
            (heights["subject_id"] == admission["subject_id"])
            & (heights["charttime"] < end)
            & (heights["charttime"] >= end - pd.Timedelta(days=3650))
        ].sort_values(["charttime", "valuenum"])
        if weighed.empty or mine.empty:
            assert np.isnan(people.at[record, "body_mass_index"])
            continue
        value = weighed["valuenum"].iloc[-1] / (mine["valuenum"].iloc[-1] / 100) ** 2
        assert people.at[record, "body_mass_index"] == pytest.approx(value, abs=0.051), record
        found += 1
    assert found > 40


def test_no_identifier_date_or_free_text_leaves_the_reader(
    read: dict[str, Dataset], tables: dict[str, pd.DataFrame]
) -> None:
    allowed = {
        "record", "person", "period", "event", "weight", "stratum", "sampling_unit", "ethnicity",
    }  # fmt: skip
    identifiers = {
        *tables["ADMISSIONS"]["subject_id"].astype(str),
        *tables["ADMISSIONS"]["hadm_id"].astype(str),
    }
    groups = {"White", "Black", "Hispanic or Latino", "Asian", "Other or multiple", None}
    for dataset in read.values():
        people = everybody(dataset).reset_index()
        assert set(people) == allowed | set(RECIPE.columns)
        assert not [name for name in people if "datetime" in str(people[name].dtype)]
        assert not [name for name in people if "_id" in name or "time" in name]
        for name in ("record", "person"):
            assert not set(people[name].str.lstrip("0")) & identifiers
        assert people["sampling_unit"].max() <= len(tables["PATIENTS"])
        assert set(people["ethnicity"]) <= groups
        texts = people.select_dtypes(exclude="number").columns
        assert set(texts) == {"record", "person", "period", "ethnicity"}
        said = " ".join([dataset.description, *dataset.notes])
        assert not [identifier for identifier in identifiers if f" {identifier} " in said]


def test_the_parts_share_no_patient_and_each_has_both_classes(read: dict[str, Dataset]) -> None:
    parts = read["first"].parts
    development, test = (parts[name].people for name in (DEVELOPMENT, TEST))
    assert not set(development["person"]) & set(test["person"])
    assert development["event"].nunique() == test["event"].nunique() == 2
    assert 0.15 < len(test) / (len(development) + len(test)) < 0.45
    for people in (development, test):
        assert people.equals(people.sort_values(["period", "person", "record"]))


def test_data_of_another_place_are_all_for_the_test(demo: Path, read: dict[str, Dataset]) -> None:
    outside = read_mimic3(demo, RECIPE, Silent(), outside=True)
    assert list(outside.parts) == [TEST]
    assert outside.parts[TEST].flow == read["first"].parts[TEST].flow[:-1]
    pd.testing.assert_frame_equal(everybody(outside), everybody(read["first"]))


def test_the_notes_say_that_it_is_for_testing_and_what_was_left_out(
    read: dict[str, Dataset],
) -> None:
    said = "\n".join(read["first"].notes)
    assert "is for testing only" in said
    assert "stand here as 90" in said
    assert "without a unit" in said
    assert "are above 400 mg/dL" in said
    assert "MIMIC-III holds little from before admission" in "\n".join(read["before"].notes)


@pytest.fixture(scope="module")
def database(demo: Path) -> Iterator[str]:
    if postgresql_binaries() is None:
        pytest.skip(POSTGRESQL_MISSING)
    with mimic3_in_postgresql(demo) as url:
        yield url


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_postgresql_gives_the_same_tables_as_the_files(
    read: dict[str, Dataset], database: str, direction: Direction
) -> None:
    from_files = read[direction]
    from_database = read_mimic3(database, RECIPE, Silent(), direction=direction)
    assert from_database.notes == from_files.notes
    assert from_database.description == from_files.description
    for name, part in from_files.parts.items():
        assert from_database.parts[name].flow == part.flow
        pd.testing.assert_frame_equal(
            from_database.parts[name].people, part.people, check_exact=True
        )


def test_postgresql_is_left_as_it_was(database: str) -> None:
    import psycopg

    read_mimic3(database, RECIPE, Silent())
    with psycopg.connect(database) as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relname LIKE 'cds!_%' ESCAPE '!'"
        )
        assert left.fetchone() == (0,)
