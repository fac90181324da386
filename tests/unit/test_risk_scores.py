"""The published questionnaires, on people whose points were added up by hand from the forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from model_training.risk_scores import ada_risk_test, findrisc

MAN, WOMAN = 0, 1
# The youngest and slimmest, active, with no to every question.
NOTHING = {
    "age": 30,
    "sex": WOMAN,
    "body_mass_index": 22,
    "waist": 70,
    "family_history": 0,
    "hypertension": 0,
    "antihypertensives": 0,
    "gestational_diabetes": 0,
    "physically_active": 1,
}


def one(**change: float) -> pd.DataFrame:
    return pd.DataFrame([NOTHING | change]).astype(float)


@pytest.mark.parametrize(
    ("change", "points"),
    [
        ({}, 0),
        ({"age": 39}, 0),
        ({"age": 40}, 1),
        ({"age": 49}, 1),
        ({"age": 50}, 2),
        ({"age": 59}, 2),
        ({"age": 60}, 3),
        ({"age": 85}, 3),
        ({"sex": MAN}, 1),
        ({"gestational_diabetes": 1}, 1),
        ({"family_history": 1}, 1),
        ({"hypertension": 1}, 1),
        ({"physically_active": 0}, 1),
        ({"body_mass_index": 24.9}, 0),
        ({"body_mass_index": 25}, 1),
        ({"body_mass_index": 29.9}, 1),
        ({"body_mass_index": 30}, 2),
        ({"body_mass_index": 40}, 3),
        # Treatment and waist are not asked about.
        ({"antihypertensives": 1, "waist": 120}, 0),
        # A woman of 62 with hypertension and BMI 31, active: 3 + 1 + 2.
        ({"age": 62, "hypertension": 1, "body_mass_index": 31}, 6),
    ],
)
def test_ada_points_are_those_of_the_form(change: dict[str, float], points: int) -> None:
    assert ada_risk_test(one(**change)).points.tolist() == [points]


@pytest.mark.parametrize(
    ("change", "points"),
    [
        ({}, 0),
        ({"age": 44}, 0),
        ({"age": 45}, 2),
        ({"age": 54}, 2),
        ({"age": 55}, 3),
        ({"age": 64}, 3),
        ({"age": 65}, 4),
        ({"body_mass_index": 25}, 1),
        ({"body_mass_index": 30}, 1),
        ({"body_mass_index": 30.1}, 3),
        ({"waist": 79.9}, 0),
        ({"waist": 80}, 3),
        ({"waist": 88}, 3),
        ({"waist": 88.1}, 4),
        ({"sex": MAN, "waist": 93.9}, 0),
        ({"sex": MAN, "waist": 94}, 3),
        ({"sex": MAN, "waist": 102}, 3),
        ({"sex": MAN, "waist": 102.1}, 4),
        ({"physically_active": 0}, 2),
        ({"antihypertensives": 1}, 2),
        ({"family_history": 1}, 5),
        # Told of hypertension, but not treated: no points, unlike the ADA test.
        ({"hypertension": 1}, 0),
        # A man of 58, BMI 31.2, waist 104, inactive, treated, father with diabetes: 3+3+4+2+2+5.
        (
            {
                "age": 58,
                "sex": MAN,
                "body_mass_index": 31.2,
                "waist": 104,
                "physically_active": 0,
                "antihypertensives": 1,
                "family_history": 1,
            },
            19,
        ),
    ],
)
def test_findrisc_points_are_those_of_the_form(change: dict[str, float], points: int) -> None:
    assert findrisc(one(**change)).points.tolist() == [points]


def test_the_most_points_are_reached_by_somebody() -> None:
    everything = {
        "age": 70,
        "body_mass_index": 45,
        "waist": 130,
        "family_history": 1,
        "hypertension": 1,
        "antihypertensives": 1,
        "gestational_diabetes": 1,
        "physically_active": 0,
    }
    for sex in (MAN, WOMAN):
        person = one(**everything, sex=sex)
        for score in (ada_risk_test(person), findrisc(person)):
            assert score.points.tolist() == [score.most]


def test_missing_items_count_nothing_and_their_share_is_told() -> None:
    nan = float("nan")
    people = pd.concat(
        [
            one(age=60),
            one(age=60, family_history=nan, physically_active=nan),
            one(age=60, gestational_diabetes=nan),
            one(age=60, sex=MAN, gestational_diabetes=nan),
        ],
        ignore_index=True,
    )
    score = ada_risk_test(people)
    assert score.points.tolist() == [3, 3, 3, 4]
    assert score.missing["family_history"] == 0.25
    assert score.missing["gestational_diabetes"] == 0.25  # a man's answer is known
    assert score.incomplete == 0.5


def test_an_unknown_sex_leaves_the_items_that_hang_on_it_missing() -> None:
    people = one(sex=float("nan"), waist=130, gestational_diabetes=1)
    assert ada_risk_test(people).missing["sex"] == 1
    assert findrisc(people).missing["waist"] == 1
    assert findrisc(people).points.tolist() == [0]


def test_points_come_in_the_rows_order_whatever_the_index() -> None:
    people = pd.concat([one(age=60), one(), one(age=45)]).set_axis([7, 3, 5])
    assert ada_risk_test(people).points.tolist() == [3, 0, 1]
    assert findrisc(people).points.tolist() == [3, 0, 2]
    assert ada_risk_test(people).points.dtype == np.float64
