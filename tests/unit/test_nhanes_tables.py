"""Reading CDC's tables, cycle by cycle, on small made-up ones; no data set is needed."""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fhir_mapping import load_catalog
from model_training.dataset import DatasetError
from model_training.sources.nhanes import load_cycles, read_cycle, read_table
from model_training.sources.nhanes_cycles import load_codes
from tests.nhanes import Column, cycle, transport_file, write_csv, write_cycle, write_xpt

NAN = float("nan")
CONCEPTS = load_catalog().concepts
EVERY_CYCLE = [entry.years for entry in load_cycles()]


def values(folder: Path, years: str, variable: str, columns: Mapping[str, Column]) -> list[float]:
    """What a variable is read to, from a cycle written with these columns."""
    people = max(len(column) for column in columns.values())
    write_cycle(folder, years, people, **columns)
    return [float(value) for value in read_cycle(folder, cycle(years))[variable]]


def test_cdc_transport_files_and_csv_read_alike(tmp_path: Path) -> None:
    table: Mapping[str, Column] = {"SEQN": [1, 2, 3], "BPXDI1": [71.5, 0, None]}
    for suffix in ("xpt", "csv", "xz"):
        (tmp_path / suffix).mkdir()
    write_xpt(tmp_path / "xpt", "BPX", table)
    write_csv(tmp_path / "csv", "BPX", table)
    packed = lzma.compress((tmp_path / "csv" / "BPX.csv").read_bytes())
    (tmp_path / "xz" / "BPX.csv.xz").write_bytes(packed)
    for suffix in ("xpt", "csv", "xz"):
        frame = read_table(tmp_path / suffix, "BPX")
        assert frame["SEQN"].tolist() == [1, 2, 3]
        assert frame["BPXDI1"].tolist()[:2] == [71.5, 0.0]
        assert np.isnan(frame["BPXDI1"][2])


def test_names_are_read_in_capitals_and_only_the_wanted_columns(tmp_path: Path) -> None:
    write_csv(tmp_path, "MCQ_I", {"SEQN": [1], "MCQ300c": [2], "MCQ010": [1]})
    assert list(read_table(tmp_path, "MCQ_I", ["MCQ300C"])) == ["SEQN", "MCQ300C"]


@pytest.mark.parametrize("years", EVERY_CYCLE)
def test_every_cycle_has_the_same_variables(tmp_path: Path, years: str) -> None:
    for each in (years, "2015-2016"):
        (tmp_path / each).mkdir(exist_ok=True)
        write_cycle(tmp_path / each, each)
    here = read_cycle(tmp_path / years, cycle(years))
    there = read_cycle(tmp_path / "2015-2016", cycle("2015-2016"))
    assert set(here) == set(there)
    assert len(here) == 3


@pytest.mark.parametrize("years", ["2017-2020", "2021-2023"])
def test_the_later_releases_read_from_transport_files_as_from_csv(
    tmp_path: Path, years: str
) -> None:
    for write in (write_csv, write_xpt):
        (tmp_path / write.__name__).mkdir()
        write_cycle(tmp_path / write.__name__, years, 3, write)
    first, second = (
        read_cycle(tmp_path / write.__name__, cycle(years)) for write in (write_csv, write_xpt)
    )
    pd.testing.assert_frame_equal(first, second, check_dtype=False)


def test_a_missing_table_says_which_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no DEMO_I\.XPT.*cds-service data nhanes --to"):
        read_table(tmp_path, "DEMO_I")


def test_a_table_without_its_columns_is_refused_by_name_and_cycle(tmp_path: Path) -> None:
    write_cycle(tmp_path, "2015-2016")
    write_csv(tmp_path, "GHB_I", {"SEQN": [1], "LBXGLU": [100]})
    with pytest.raises(DatasetError, match="GHB_I of NHANES 2015-2016 lacks the columns LBXGH"):
        read_cycle(tmp_path, cycle("2015-2016"))


def test_a_table_that_holds_a_person_twice_is_refused(tmp_path: Path) -> None:
    write_cycle(tmp_path, "2015-2016")
    write_csv(tmp_path, "GHB_I", {"SEQN": [1, 1], "LBXGH": [5, 6]})
    with pytest.raises(DatasetError, match="GHB_I of NHANES 2015-2016 does not hold each person"):
        read_cycle(tmp_path, cycle("2015-2016"))


def test_words_in_the_place_of_numbers_are_refused(tmp_path: Path) -> None:
    write_cycle(tmp_path, "2015-2016")
    (tmp_path / "GHB_I.csv").write_text("SEQN,LBXGH\n1,5.4\n2,high\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"GHB_I .* something else than numbers in LBXGH"):
        read_cycle(tmp_path, cycle("2015-2016"))


def test_a_csv_that_ends_inside_a_line_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "GHB_I.csv").write_text("SEQN,LBXGH\n1,5.4\n2,6.", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"GHB_I\.csv cannot be read"):
        read_table(tmp_path, "GHB_I")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_half_a_transport_file_is_refused_by_name(tmp_path: Path, share: float) -> None:
    whole = transport_file({"SEQN": list(range(500)), "LBXGH": [5.5] * 500})
    part = whole[: int(len(whole) * share)]
    assert len(part) % 80 or not part  # what a broken connection leaves
    (tmp_path / "GHB_I.XPT").write_bytes(part)
    with pytest.raises(DatasetError, match=r"GHB_I\.XPT cannot be read"):
        read_table(tmp_path, "GHB_I")


@pytest.mark.parametrize("records", range(1, 9))
def test_a_transport_file_cut_within_its_headers_is_refused(tmp_path: Path, records: int) -> None:
    whole = transport_file({"SEQN": [1, 2], "LBXGH": [5.5, 5.6]})
    (tmp_path / "GHB_I.XPT").write_bytes(whole[: records * 80])
    with pytest.raises(DatasetError, match=r"GHB_I\.XPT cannot be read"):
        read_table(tmp_path, "GHB_I")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_half_a_packed_file_is_refused_by_name(tmp_path: Path, share: float) -> None:
    whole = lzma.compress(b"SEQN,LBXGH\n" + b"".join(b"%d,5.5\n" % n for n in range(2000)))
    (tmp_path / "GHB_I.csv.xz").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DatasetError, match=r"GHB_I\.csv\.xz cannot be read"):
        read_table(tmp_path, "GHB_I")


def test_an_error_page_under_the_name_of_a_table_is_refused(tmp_path: Path) -> None:
    page = b"<!DOCTYPE html><html><body>Page not found</body></html>"
    (tmp_path / "GHB_I.XPT").write_bytes(page.ljust(160))
    with pytest.raises(DatasetError, match=r"GHB_I\.XPT cannot be read"):
        read_table(tmp_path, "GHB_I")


def test_a_diastolic_reading_of_0_is_not_a_pressure(tmp_path: Path) -> None:
    readings: Mapping[str, Column] = {
        "BPXDI1": [0, 0, 60],
        "BPXDI2": [80, 0, 70],
        "BPXDI3": [84, None, None],
        "BPXDI4": [None, None, None],
    }
    found = values(tmp_path, "2015-2016", "diastolic_blood_pressure", readings)
    assert found == pytest.approx([82, NAN, 65], nan_ok=True)


def test_pressure_is_the_mean_of_the_readings_obtained(tmp_path: Path) -> None:
    readings: Mapping[str, Column] = {
        "BPXOSY1": [120, None, 110],
        "BPXOSY2": [130, None, None],
        "BPXOSY3": [140, None, 120],
    }
    found = values(tmp_path, "2017-2020", "systolic_blood_pressure", readings)
    assert found == pytest.approx([130, NAN, 115], nan_ok=True)


@pytest.mark.parametrize(
    ("years", "column", "expected"),
    [
        ("1999-2000", "LBXSCR", 1.013 * 2 + 0.147),
        ("2001-2002", "LBDSCR", 2),
        ("2003-2004", "LBXSCR", 2),
        ("2005-2006", "LBXSCR", 0.978 * 2 - 0.016),
        ("2007-2008", "LBXSCR", 2),
        ("2015-2016", "LBXSCR", 2),
        ("2021-2023", "LBXSCR", 2),
    ],
)
def test_creatinine_is_corrected_where_cdc_says_so(
    tmp_path: Path, years: str, column: str, expected: float
) -> None:
    assert values(tmp_path, years, "creatinine", {column: [2, 2]}) == pytest.approx([expected] * 2)


@pytest.mark.parametrize(
    ("years", "expected"),
    [
        # ALB_CR_E documentation: [1.02·√x − 0.36]² below 75, [1.05·√x − 0.74]² from 75 to below
        # 250, [1.01·√x − 0.10]² from 250; worked out by hand for 64, 100 and 400.
        ("2005-2006", [7.8**2, 9.76**2, 20.1**2, NAN]),
        ("1999-2000", [7.8**2, 9.76**2, 20.1**2, NAN]),
        ("2007-2008", [64, 100, 400, NAN]),
    ],
)
def test_urine_creatinine_before_2007_is_brought_to_the_enzymatic_method(
    tmp_path: Path, years: str, expected: list[float]
) -> None:
    found = values(tmp_path, years, "urine_creatinine", {"URXUCR": [64, 100, 400, None]})
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("years", "variable", "table", "column"),
    [
        ("1999-2000", "hdl_cholesterol", "LAB13", "LBDHDL"),
        ("2003-2004", "hdl_cholesterol", "L13_C", "LBXHDD"),
        ("2005-2006", "hdl_cholesterol", "HDL_D", "LBDHDD"),
        ("2003-2004", "takes_pills", "DIQ_C", "DIQ070"),
        ("2005-2006", "takes_pills", "DIQ_D", "DID070"),
        ("2007-2008", "takes_pills", "DIQ_E", "DID070"),
        ("2009-2010", "takes_pills", "DIQ_F", "DIQ070"),
        ("1999-2000", "phosphate", "LAB18", "LBXSPH"),
        ("2001-2002", "phosphate", "L40_B", "LBDSPH"),
        ("2001-2002", "alkaline_phosphatase", "L40_B", "LBDSAPSI"),
        ("2001-2002", "lactate_dehydrogenase", "L40_B", "LBDSLDSI"),
        ("2001-2002", "bilirubin", "L40_B", "LBDSTB"),
        ("2003-2004", "bilirubin", "L40_C", "LBXSTB"),
        ("1999-2000", "fasting_weight", "LAB10AM", "WTSAF2YR"),
        ("2015-2016", "survey_weight", "DEMO_I", "WTMEC2YR"),
        ("2017-2020", "survey_weight", "P_DEMO", "WTMECPRP"),
        ("2017-2020", "fasting_weight", "P_GLU", "WTSAFPRP"),
        ("2021-2023", "survey_weight", "GHB_L", "WTPH2YR"),
        ("2021-2023", "fasting_weight", "GLU_L", "WTSAF2YR"),
    ],
)
def test_variables_are_found_where_they_moved_to(
    years: str, variable: str, table: str, column: str
) -> None:
    assert cycle(years).variables[variable] == (table, [column])


def test_who_left_the_path_of_questions_with_a_no_takes_no_antihypertensives(
    tmp_path: Path,
) -> None:
    answers: Mapping[str, Column] = {
        "BPQ020": [2, 1, 1, 1, 1, 9, None],
        "BPQ040A": [None, 2, 1, 1, 9, None, None],
        "BPQ050A": [None, None, 2, 1, None, None, None],
    }
    found = values(tmp_path, "2015-2016", "antihypertensives", answers)
    assert found == pytest.approx([0, 0, 0, 1, NAN, NAN, NAN], nan_ok=True)
    told = read_cycle(tmp_path, cycle("2015-2016"))["hypertension"].tolist()
    assert told == pytest.approx([0, 1, 1, 1, 1, NAN, NAN], nan_ok=True)


def test_antihypertensives_of_2021_are_one_question(tmp_path: Path) -> None:
    answers: Mapping[str, Column] = {"BPQ020": [2, 1, 1, 1], "BPQ150": [None, 1, 2, 9]}
    found = values(tmp_path, "2021-2023", "antihypertensives", answers)
    assert found == pytest.approx([0, 1, 0, NAN], nan_ok=True)


@pytest.mark.parametrize("years", ["1999-2000", "2015-2016"])
def test_an_answer_about_the_prescription_goes_before_what_earlier_ones_suggest(
    tmp_path: Path, years: str
) -> None:
    answers: Mapping[str, Column] = {
        "BPQ060": [1, 1, 1, 2, 1, 1, 9],
        "BPQ080": [1, 1, 2, None, 2, 2, None],
        "BPQ090D": [1, 2, None, None, 1, 9, None],
        "BPQ100D": [1, None, None, None, 2, None, None],
    }
    found = values(tmp_path, years, "cholesterol_drug", answers)
    assert found == pytest.approx([1, 0, 0, 0, 0, NAN, NAN], nan_ok=True)


def test_smoking_is_never_former_or_current(tmp_path: Path) -> None:
    answers: Mapping[str, Column] = {
        "SMQ020": [2, 1, 1, 1, 9, 1],
        "SMQ040": [None, 3, 2, 1, None, 9],
    }
    found = values(tmp_path, "2015-2016", "smoking", answers)
    assert found == pytest.approx([0, 1, 2, 2, NAN, NAN], nan_ok=True)


def test_only_parents_brothers_and_sisters_count_in_the_wider_question_of_early_cycles(
    tmp_path: Path,
) -> None:
    answers: Mapping[str, Column] = {
        "MCQ250A": [2, 1, 1, 1, 1, 1, 1, 9],
        "MCQ260AA": [None, 1, None, None, None, None, 99, None],
        "MCQ260AB": [None, None, 2, None, None, None, None, None],
        "MCQ260AG": [None, None, None, 7, None, None, None, None],
        "MCQ260AH": [None, None, None, None, 8, None, None, None],
    }
    found = values(tmp_path, "2003-2004", "family_history", answers)
    assert found == pytest.approx([0, 1, 1, 1, 1, 0, NAN, NAN], nan_ok=True)


def test_family_history_of_later_cycles_is_one_question(tmp_path: Path) -> None:
    found = values(tmp_path, "2005-2006", "family_history", {"MCQ300C": [1, 2, 9, None]})
    assert found == pytest.approx([1, 0, NAN, NAN], nan_ok=True)


def test_diabetes_in_pregnancy_is_0_for_men_and_for_women_never_pregnant(tmp_path: Path) -> None:
    answers: Mapping[str, Column] = {
        "RIAGENDR": [1, 2, 2, 2, 2, 2],
        "RHQ131": [None, 2, 1, 1, 1, None],
        "RHQ162": [None, None, 1, 2, 3, None],
    }
    found = values(tmp_path, "2015-2016", "gestational_diabetes", answers)
    assert found == pytest.approx([0, 0, 1, 0, 0, NAN], nan_ok=True)


@pytest.mark.parametrize("years", ["1999-2000", "2005-2006", "2021-2023"])
def test_women_were_not_asked_about_diabetes_in_pregnancy_in_some_cycles(
    tmp_path: Path, years: str
) -> None:
    found = values(tmp_path, years, "gestational_diabetes", {"RIAGENDR": [1, 2]})
    assert found == pytest.approx([0, NAN], nan_ok=True)


def test_what_a_cycle_does_not_have_is_absent_in_everybody(tmp_path: Path) -> None:
    write_cycle(tmp_path, "2021-2023")
    people = read_cycle(tmp_path, cycle("2021-2023"))
    assert people[["family_history", "physically_active"]].isna().all(axis=None)


def test_210_minutes_of_a_typical_week_are_active(tmp_path: Path) -> None:
    answers: Mapping[str, Column] = {
        # Work, vigorous: 2 days of 105 minutes reach it, 2 of 104 do not.
        "PAQ605": [1, 1, 2, 2, 2, 9, 9],
        "PAQ610": [2, 2, None, None, None, None, None],
        "PAD615": [105, 104, None, None, None, None, None],
        # On the way and in leisure together: 5 · 30 + 3 · 20.
        "PAQ635": [2, 2, 1, 1, 2, 1, 2],
        "PAQ640": [None, None, 5, 99, None, 7, None],
        "PAD645": [None, None, 30, 30, None, 30, None],
        "PAQ665": [2, 2, 1, 1, 2, 2, 2],
        "PAQ670": [None, None, 3, 3, None, None, None],
        "PAD675": [None, None, 20, 9999, None, None, None],
    }
    found = values(tmp_path, "2015-2016", "physically_active", answers)
    # The fourth does not know how many days; the sixth reaches it whatever the unknown is.
    assert found == pytest.approx([1, 0, 1, NAN, 0, 1, NAN], nan_ok=True)


def test_activity_of_the_last_30_days_is_active_before_2007(tmp_path: Path) -> None:
    answers: Mapping[str, Column] = {
        "PAD200": [1, 2, 2, 3, 7, 2],
        "PAD320": [2, 1, 2, 3, 2, 2],
        "PAQ180": [1, 1, 4, 2, 1, 9],
    }
    found = values(tmp_path, "2003-2004", "physically_active", answers)
    assert found == pytest.approx([1, 1, 1, 0, NAN, NAN], nan_ok=True)


def test_units_are_those_of_the_concepts() -> None:
    shared = set(load_codes().median) & set(CONCEPTS)
    assert len(shared) > 20
    assert {name: load_codes().median[name][0] for name in shared} == {
        name: CONCEPTS[name].unit for name in shared
    }


def test_the_page_lists_the_tables_that_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "nhanes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d{4}-\d{4}) \| (.+) \|$", page, flags=re.MULTILINE)
    assert rows == [(entry.years, " ".join(entry.columns)) for entry in load_cycles()]
