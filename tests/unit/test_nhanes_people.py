"""Who of NHANES is in, and what the tables of people hold; on CDC's own tables only at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model_training.dataset import (
    DEVELOPMENT,
    EVENT,
    PERIOD,
    PERSON,
    RECORD,
    SAMPLING_UNIT,
    STRATUM,
    TEST,
    WEIGHT,
    Dataset,
    DatasetError,
    Part,
    Silent,
)
from model_training.recipe import Recipe, load_recipe
from model_training.sources.nhanes import TREATED, load_cycles, read_nhanes
from model_training.sources.nhanes_cohort import select_cohort, select_treated
from tests.data import data_folder
from tests.nhanes import Column, write_csv, write_cycle, write_xpt

RULES = {"minimum_age": 18, "outcome_at_least": 6.5}
EVERY_CYCLE = [entry.years for entry in load_cycles()]


def recipe() -> Recipe:
    """The shipped one; its cycles are given by each test."""
    return load_recipe()


def read(folder: Path, **parts: Sequence[str]) -> Dataset:
    return read_nhanes(folder, recipe(), Silent(), parts=parts or {TEST: ["2015-2016"]})


def people(folder: Path, years: str = "2015-2016", /, **columns: Column) -> pd.DataFrame:
    """The cohort of one cycle; HbA1c is such that both classes are there unless it is given."""
    number = max(len(column) for column in columns.values()) if columns else 3
    hba1c: dict[str, Column] = {"LBXGH": [7.0, *[5.0] * (number - 1)]}
    write_cycle(folder, years, number, **(hba1c | columns))
    return read(folder, test=[years]).parts[TEST].people


def four(**change: Column) -> pd.DataFrame:
    """Four people who all belong in the cohort, unless changed."""
    columns: dict[str, Column] = {
        "examined": [2, 2, 2, 2],
        "survey_weight": [1, 2, 3, 4],
        "age": [18, 40, 60, 85],
        "hba1c": [5.4, 6.5, 6.4, 9.0],
        "pregnant": [2, None, 3, None],
        "told_diabetes": [2, 3, 9, None],
        "takes_insulin": [2, 2, None, 2],
        "takes_pills": [None, 2, None, None],
    }
    return pd.DataFrame({**columns, **change}).astype(float)


def test_borderline_and_unknown_answers_stay_in_the_cohort() -> None:
    cohort = select_cohort(four(), RULES)
    assert cohort.people[EVENT].tolist() == [0, 1, 0, 1]
    assert {step.people for step in cohort.flow} == {4}
    assert {step.events for step in cohort.flow} == {2}


@pytest.mark.parametrize(
    "change",
    [
        {"examined": [1, 2, 2, 2]},
        {"age": [17, 40, 60, 85]},
        {"hba1c": [None, 6.5, 6.4, 9.0]},
        {"survey_weight": [0, 2, 3, 4]},
        {"survey_weight": [None, 2, 3, 4]},
        {"pregnant": [1, None, 3, None]},
        {"told_diabetes": [1, 3, 9, None]},
        {"takes_insulin": [1, 2, None, 2]},
        {"takes_pills": [1, 2, None, None]},
    ],
)
def test_each_rule_leaves_out_whom_it_names(change: dict[str, Column]) -> None:
    cohort = select_cohort(four(**change), RULES)
    assert len(cohort.people) == 3
    assert cohort.flow[-1].people == 3


def test_the_flow_says_the_age_of_the_recipe() -> None:
    flow = select_cohort(four(), {**RULES, "minimum_age": 35}).flow
    assert [(step.kept, step.people) for step in flow][2] == ("aged 35 or over", 3)


def test_the_treated_are_those_whom_only_the_last_rule_left_out() -> None:
    changed = four(takes_pills=[1, 2, 1, None], told_diabetes=[1, 3, 9, None])
    assert select_treated(changed, RULES)["hba1c"].tolist() == [6.4]


def test_the_table_has_the_agreed_columns_and_every_feature(tmp_path: Path) -> None:
    table = people(tmp_path, WTMEC2YR=[10, 20, 30], SDMVSTRA=[5, 5, 6], SDMVPSU=[1, 2, 1])
    assert table[RECORD].tolist() == table[PERSON].tolist() == ["000001", "000002", "000003"]
    assert table[PERIOD].tolist() == ["2015-2016"] * 3
    assert table[EVENT].tolist() == [1, 0, 0]
    assert table[WEIGHT].tolist() == [10, 20, 30]
    assert table[STRATUM].tolist() == [5, 5, 6]
    assert table[SAMPLING_UNIT].tolist() == [1, 2, 1]
    assert {feature.name for feature in recipe().features} <= set(table)
    assert table[[*recipe().columns]].dtypes.map(pd.api.types.is_float_dtype).all()


def test_sex_is_coded_as_the_recipe_says_and_groups_have_their_titles(tmp_path: Path) -> None:
    table = people(
        tmp_path, RIAGENDR=[1, 2, 2, 1, 1, 1], RIDRETH1=[1, 2, 3, 4, 5, None], LBXSNASI=[140] * 6
    )
    sex = next(feature for feature in recipe().features if feature.name == "sex")
    assert sex.categories is not None
    male, female = sex.categories["male"], sex.categories["female"]
    assert table["sex"].tolist() == [male, female, female, male, male, male]
    assert table["ethnicity"].tolist() == [
        "Mexican American",
        "Other Hispanic",
        "Non-Hispanic White",
        "Non-Hispanic Black",
        "Other or multiple",
        None,
    ]


def test_rows_come_by_period_and_person_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    for years in ("2013-2014", "2015-2016"):
        write_cycle(tmp_path, years, LBXGH=[7, 5, 5])
    write_csv(tmp_path, "GHB_I", {"SEQN": [3, 1, 2], "LBXGH": [5, 7, 5]})
    table = read(tmp_path, test=["2015-2016", "2013-2014"]).parts[TEST].people
    assert table[PERIOD].tolist() == ["2013-2014"] * 3 + ["2015-2016"] * 3
    assert table[PERSON].tolist() == ["000001", "000002", "000003"] * 2
    assert table[EVENT].tolist() == [1, 0, 0] * 2


def test_urine_albumin_is_per_gram_of_creatinine(tmp_path: Path) -> None:
    # 10 µg/mL is 1 mg/dL; 1 mg/dL over 100 mg/dL is 10 mg/g.
    table = people(tmp_path, URXUMA=[10, 60, None], URXUCR=[100, 120, 100])
    expected = [10, 50, np.nan]
    found = table["urine_albumin_creatinine_ratio"].tolist()
    assert found == pytest.approx(expected, nan_ok=True)


def test_fasting_outcomes_are_of_the_fasting_subsample_alone(tmp_path: Path) -> None:
    table = people(
        tmp_path,
        LBXGH=[7, 7, 5, 7, 7, 7, 7],
        LBXGLU=[126, 125, 130, 200, 200, 200, None],
        WTSAF2YR=[10, 20, 30, 0, 50, 60, 70],
        PHAFSTHR=[8, 23, 9, 9, 7, 24, 9],
        PHAFSTMN=[0, 59, 0, 0, 59, 0, 0],
    )
    nobody = [np.nan] * 4
    assert table["fasting_glucose"].tolist() == pytest.approx([126, 125, 130, *nobody], nan_ok=True)
    assert table["fasting_weight"].tolist() == pytest.approx([10, 20, 30, *nobody], nan_ok=True)
    assert table["event_fasting_glucose"].tolist() == pytest.approx([1, 0, 1, *nobody], nan_ok=True)
    assert table["event_both"].tolist() == pytest.approx([1, 0, 0, *nobody], nan_ok=True)


def test_weights_of_2021_are_those_of_blood_draws(tmp_path: Path) -> None:
    table = people(tmp_path, "2021-2023", WTPH2YR=[10, 20, 0], LBXGH=[7, 5, 5])
    assert table[WEIGHT].tolist() == [10, 20]


def test_the_parts_are_those_of_the_recipes_split(tmp_path: Path) -> None:
    for years in ("2011-2012", "2013-2014", "2015-2016"):
        write_cycle(tmp_path, years, LBXGH=[7, 5, 5])
    split = {"kind": "period", DEVELOPMENT: ["2011-2012", "2013-2014"], TEST: ["2015-2016"]}
    given = dataclasses.replace(recipe(), raw={**recipe().raw, "split": split})
    dataset = read_nhanes(tmp_path, given, Silent())
    assert set(dataset.parts) == {DEVELOPMENT, TEST}
    assert dataset.parts[DEVELOPMENT].periods == ("2011-2012", "2013-2014")
    assert [step.people for step in dataset.parts[DEVELOPMENT].flow] == [6] * 7
    assert [step.events for step in dataset.parts[TEST].flow] == [1] * 7


def test_the_treated_come_as_a_part_of_their_own(tmp_path: Path) -> None:
    write_cycle(tmp_path, "2015-2016", 4, LBXGH=[7, 5, 5, 8], DIQ070=[2, 2, 1, 1])
    dataset = read(tmp_path)
    assert dataset.parts[TEST].people[PERSON].tolist() == ["000001", "000002"]
    assert dataset.parts[TREATED].people[PERSON].tolist() == ["000003", "000004"]
    assert dataset.parts[TREATED].people[EVENT].tolist() == [0, 1]
    assert dataset.parts[TREATED].periods == ("2015-2016",)


@pytest.mark.parametrize("years", EVERY_CYCLE)
def test_every_cycle_can_be_the_one_that_is_measured(tmp_path: Path, years: str) -> None:
    write_cycle(tmp_path, years, 3, write_xpt, LBXGH=[7, 5, 5])
    part = read(tmp_path, test=[years]).parts[TEST]
    assert (len(part.people), part.periods) == (3, (years,))


def test_the_notes_are_those_of_the_cycles_read(tmp_path: Path) -> None:
    for years in ("1999-2000", "2015-2016", "2021-2023"):
        write_cycle(tmp_path, years, LBXGH=[7, 5, 5])
    early, late, last = (
        read(tmp_path, test=[years]).notes for years in ("1999-2000", "2015-2016", "2021-2023")
    )
    assert len(set(late)) == len(late) > 0
    assert {"Jaffe" in " ".join(notes) for notes in (late, last)} == {False}
    assert "Jaffe" in " ".join(early)
    assert "whose blood was drawn" in " ".join(last)
    both = read(tmp_path, test=["1999-2000", "2021-2023"]).notes
    assert set(both) == set(early) | set(last)
    assert len(set(both)) == len(both)


@pytest.mark.parametrize(
    ("column", "row", "sentence"),
    [
        ("LBXSGL", [5.0, 5.5, 6.0], r"LBXSGL in BIOPRO_I of NHANES 2015-2016 is not in mg/dL"),
        ("LBDHDD", [1.2, 1.3, 1.6], r"LBDHDD in HDL_I .* is not in mg/dL"),
        ("LBXGH", [36, 37, 62], r"LBXGH in GHB_I .* is not in %"),
        ("LBXSCR", [70, 80, 90], r"LBXSCR in BIOPRO_I .* is not in mg/dL"),
        ("BMXWAIST", [35, 40, 45], r"BMXWAIST in BMX_I .* is not in cm"),
    ],
)
def test_a_table_in_another_unit_is_refused(
    tmp_path: Path, column: str, row: Column, sentence: str
) -> None:
    with pytest.raises(DatasetError, match=sentence):
        people(tmp_path, **{column: row})


def test_a_cohort_that_is_empty_says_which_rule_emptied_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"Nobody is left in the test part .*never told"):
        people(tmp_path, DIQ010=[1, 1, 1])


@pytest.mark.parametrize(("hba1c", "who"), [(5.0, "Nobody"), (9.0, "Everybody")])
def test_one_class_only_is_refused(tmp_path: Path, hba1c: float, who: str) -> None:
    with pytest.raises(DatasetError, match=f"{who} of the 3 people .* has the outcome"):
        people(tmp_path, LBXGH=[hba1c] * 3)


def test_an_unknown_cycle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no cycle 2016-2017: those known are 1999-2000, 2001-"):
        read(tmp_path, test=["2016-2017"])


def test_a_recipe_that_wants_more_than_nhanes_has_is_refused(tmp_path: Path) -> None:
    write_cycle(tmp_path, "2015-2016", LBXGH=[7, 5, 5])
    first, *others = recipe().features
    wanted = dataclasses.replace(first, name="vitamin_d")
    given = dataclasses.replace(recipe(), features=(wanted, *others))
    with pytest.raises(DatasetError, match="lacks vitamin_d"):
        read_nhanes(tmp_path, given, Silent(), parts={TEST: ["2015-2016"]})


@pytest.fixture(scope="module")
def measured() -> Part:
    """Every cycle that is there, read as one part."""
    folder = data_folder("nhanes")
    held = [years for years in EVERY_CYCLE if years < "2017"]
    return read(folder, test=held).parts[TEST]


def test_the_people_of_cdcs_own_tables(measured: Part) -> None:
    # Counted from the tables by a script that shares nothing with this reader: people, events.
    events = measured.people.groupby(PERIOD)[EVENT]
    assert {years: (len(group), int(group.sum())) for years, group in events} == {
        "1999-2000": (4038, 102),
        "2001-2002": (4545, 115),
        "2003-2004": (4329, 108),
        "2005-2006": (4214, 98),
        "2007-2008": (4846, 173),
        "2009-2010": (5249, 174),
        "2011-2012": (4571, 153),
        "2013-2014": (4905, 131),
        "2015-2016": (4536, 129),
    }
    assert measured.flow[0].people == 92062


def test_urine_creatinine_before_2007_agrees_with_later_cycles_as_cdc_says(measured: Part) -> None:
    # ALB_CR_E documentation: the weighted means are 123.31 mg/dL (2005-2006, adjusted) and 122.36
    # (2007-2008), of everybody from 6 years on; here of adults not known to have diabetes.
    table = measured.people.dropna(subset=["urine_creatinine"])
    means = {
        years: np.average(rows["urine_creatinine"], weights=rows[WEIGHT])
        for years, rows in table.groupby(PERIOD)
    }
    assert means["2005-2006"] == pytest.approx(123.31, rel=0.06)
    assert means["2005-2006"] / means["2007-2008"] == pytest.approx(123.31 / 122.36, abs=0.03)


def test_whom_cdc_weighted_as_fasting_had_fasted(measured: Part) -> None:
    # Counted by the same script. CDC gives the weight to those who fasted from 8 to less than 24
    # hours, so that the rule about hours takes nobody away from them.
    table = measured.people
    weighted = table["fasting_glucose"].notna()
    assert weighted.groupby(table[PERIOD]).sum().tolist() == [
        *(1833, 2141, 1929, 1843, 2114, 2400, 2087, 2209, 1971)
    ]
    assert (weighted == (table["fasting_weight"] > 0)).all()
    assert set(table.loc[weighted, "event_both"]) == {0, 1}
    assert table.loc[~weighted, ["event_fasting_glucose", "event_both"]].isna().all(axis=None)
