"""Scoring with the shipped model: what it answers, what it refuses, what it explains."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from risk_model import InsufficientData, Model, RiskEstimate, load_model, score
from risk_model.scoring import feature_row
from tests.shipped import SHIPPED, shipped_json

PERSON = {
    "age": 61,
    "sex": 0,
    "glucose": 121,
    "body_mass_index": 34.2,
    "systolic_blood_pressure": 146,
    "hdl_cholesterol": 37,
    "triglycerides": 260,
}
ABSENT = "not recorded"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(SHIPPED)


def estimate(model: Model, **change: float | str) -> RiskEstimate:
    values = {k: v for k, v in (PERSON | change).items() if v != ABSENT}
    outcome = score(model, values)  # type: ignore[arg-type]
    assert isinstance(outcome, RiskEstimate)
    return outcome


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_an_estimate_has_probability_level_and_relative_risk(model: Model) -> None:
    got = estimate(model)
    assert 0 < got.probability < 1
    assert got.level == model.manifest.level_of(got.probability)
    assert got.relative_risk == pytest.approx(got.probability / model.manifest.prevalence)


def test_golden_scores_are_many_varied_and_include_records_with_holes() -> None:
    cases = shipped_json("golden_scores.json")["cases"]
    present = {len(case["values"]) for case in cases}
    assert len(cases) >= 20
    assert min(present) == 2
    assert max(present) == len(shipped_json("manifest.json")["features"])
    assert max(c["probability"] for c in cases) > 0.5 > 0.001 > min(c["probability"] for c in cases)


def test_baseline_and_contributions_sum_to_the_log_odds(model: Model) -> None:
    for case in shipped_json("golden_scores.json")["cases"]:
        got = score(model, case["values"])
        assert isinstance(got, RiskEstimate)
        total = got.baseline + sum(entry.log_odds for entry in got.contributions)
        assert total == pytest.approx(logit(got.probability), abs=1e-9)


def test_the_baseline_is_the_same_for_everybody(model: Model) -> None:
    one, other = estimate(model), estimate(model, glucose=88, age=30)
    assert one.baseline == pytest.approx(other.baseline, abs=1e-4)


def test_contributions_come_strongest_first_and_name_every_feature(model: Model) -> None:
    got = estimate(model, glucose=ABSENT)
    sizes = [abs(entry.log_odds) for entry in got.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert {entry.feature for entry in got.contributions} == {
        feature.name for feature in model.manifest.features
    }
    assert {e.feature: e.value for e in got.contributions}["glucose"] is None


@pytest.mark.filterwarnings("ignore")  # shap's own imports warn; that is not ours to fix
def test_contributions_equal_those_of_the_shap_package(model: Model) -> None:
    import shap

    explainer = shap.TreeExplainer(model.booster)
    for change in ({}, {"glucose": ABSENT}, {"sex": 1, "age": 25}, {"triglycerides": ABSENT}):
        got = estimate(model, **change)
        values = {k: float(v) for k, v in (PERSON | change).items() if v != ABSENT}
        expected = np.asarray(explainer.shap_values(feature_row(model.manifest, values)))[0]
        own = {entry.feature: entry.log_odds for entry in got.contributions}
        # What calibration does to the sum of them it does to each.
        factor = sum(own.values()) / expected.sum()
        assert factor > 0
        for feature, shap_value in zip(model.manifest.features, expected, strict=True):
            assert own[feature.name] == pytest.approx(factor * shap_value, abs=1e-4)


def test_too_little_data_names_what_is_missing(model: Model) -> None:
    nothing_useful = score(model, {"sex": 1, "albumin": 4.1})
    assert nothing_useful == InsufficientData(
        missing=("age",), groups=(("glucose", "body_mass_index"),)
    )
    assert score(model, {"glucose": 100}) == InsufficientData(missing=("age",), groups=())


def test_one_member_of_a_group_is_enough(model: Model) -> None:
    assert isinstance(score(model, {"age": 50, "body_mass_index": 31}), RiskEstimate)
    assert isinstance(score(model, {"age": 50, "glucose": 99}), RiskEstimate)


def test_ages_above_80_score_as_80_and_are_reported_as_given(model: Model) -> None:
    old = estimate(model, age=97)
    assert old.probability == estimate(model, age=80).probability
    assert next(entry.value for entry in old.contributions if entry.feature == "age") == 97


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"glucose": 5.5}, "glucose: 5.5 mg/dL lies outside 20 to 1500"),
        ({"age": 17}, "age: 17 a lies outside 18 to 120"),
        ({"hdl_cholesterol": math.nan}, "hdl_cholesterol: nan is not finite"),
        ({"glucose": math.inf}, "glucose: inf is not finite"),
        ({"sex": 0.5}, "sex: 0.5 is none of"),
        ({"sex": True}, "sex: True is not a number"),
        ({"glucose": "121"}, "glucose: '121' is not a number"),
        ({"glucose": None}, "glucose: None is not a number"),
        ({"waist": 100}, "unknown features: waist"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(
    model: Model, change: dict[str, float], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        score(model, PERSON | change)


def test_levels_begin_at_their_cut(model: Model) -> None:
    low, moderate, high = model.manifest.levels
    assert [low.level, moderate.level, high.level] == ["low", "moderate", "high"]
    assert model.manifest.level_of(low.below) == "moderate"
    assert model.manifest.level_of(math.nextafter(low.below, 0)) == "low"
    assert model.manifest.level_of(moderate.below) == "high"
    assert model.manifest.level_of(1.0) == "high"


def test_risk_never_moves_against_the_sign_that_medicine_knows(model: Model) -> None:
    for entry in model.manifest.raw["features"]:
        if entry["monotone"] == 0:
            continue
        low, high = np.nanquantile([*entry["plausible"]], [0, 1])
        grid = np.geomspace(max(low, 1), min(high, 1000), 60)
        risks = [estimate(model, **{entry["name"]: round(float(v), 1)}).probability for v in grid]
        steps = np.diff(risks) * entry["monotone"]
        assert (steps >= -1e-9).all(), entry["name"]


def test_threads_get_the_answers_that_one_caller_gets(model: Model) -> None:
    people = [{"age": 20 + n % 70, "glucose": 70 + n} for n in range(200)]
    alone = [score(model, person) for person in people]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda person: score(model, person), people))
    assert together == alone


def test_serving_loads_no_training_packages() -> None:
    """pandas and scikit-learn are installed here and stay out; scipy comes with xgboost itself:
    xgboost/core.py imports scipy.sparse unconditionally and its package metadata requires it."""
    program = (
        "import sys, pathlib, risk_model\n"
        f"model = risk_model.load_model(pathlib.Path({str(SHIPPED)!r}))\n"
        "risk_model.score(model, {'age': 50, 'glucose': 99})\n"
        "print(*[n for n in ('pandas', 'sklearn', 'shap', 'matplotlib') if n in sys.modules])\n"
        "import pandas, sklearn\n"  # what was hidden for the import is there again afterwards
        "print(pandas.DataFrame.__name__, sklearn.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["", "DataFrame sklearn"]


def test_xgboost_is_what_imports_scipy() -> None:
    import xgboost

    source = (Path(xgboost.__file__).parent / "core.py").read_text(encoding="utf-8")
    assert "\nimport scipy.sparse\n" in source
