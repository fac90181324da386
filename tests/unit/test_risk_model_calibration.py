"""Calibration: the four methods against scikit-learn, and explanations that sum under each."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, log_expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from risk_model import (
    ArtifactError,
    Model,
    RiskEstimate,
    calibrated_log_odds,
    load_model,
    parse_calibration,
    parse_manifest,
    score,
)
from risk_model.explanation import explain
from risk_model.scoring import sigmoid
from tests.manifests import raw_manifest
from tests.shipped import SHIPPED, shipped_json

KINDS: dict[str, dict[str, Any]] = {
    "identity": {"method": "identity"},
    "sigmoid": {"method": "sigmoid", "slope": 0.8, "intercept": -0.4},
    "beta": {"method": "beta", "a": 1.3, "b": 0.4, "c": -0.7},
    "beta, a alone": {"method": "beta", "a": 1.3, "b": 0, "c": 0.2},
    "isotonic": {
        "method": "isotonic",
        "margins": [-7.5, -5, -4.2, -3, -1, 0.5, 2],
        "probabilities": [0.0004, 0.002, 0.002, 0.05, 0.2, 0.45, 0.9],
    },
    "isotonic, one knot": {"method": "isotonic", "margins": [0], "probabilities": [0.02]},
}
MARGINS = np.linspace(-12, 12, 2001)


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model(SHIPPED)


@pytest.fixture(scope="module")
def observed() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Margins that exaggerate, whether the event came, and weights."""
    random = np.random.default_rng(7)
    margins = random.normal(-3, 2, 4000)
    came = random.random(4000) < expit(0.6 * margins - 0.5)
    return margins, came, random.uniform(0.5, 2, 4000)


def logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


def test_a_sigmoid_is_scikit_learns_logistic_regression_on_the_margin(observed: Any) -> None:
    margins, came, weights = observed
    fitted = LogisticRegression(C=np.inf).fit(margins[:, None], came, weights)
    own = parse_calibration(
        {
            "method": "sigmoid",
            "slope": float(fitted.coef_[0, 0]),
            "intercept": float(fitted.intercept_[0]),
        }
    )
    expected = fitted.decision_function(MARGINS[:, None])
    assert calibrated_log_odds(own, MARGINS) == pytest.approx(expected, abs=1e-12)


def test_a_beta_is_logistic_regression_on_the_two_logarithms(observed: Any) -> None:
    """Kull et al. 2017: logistic regression on ln p and -ln(1 - p)."""
    margins, came, weights = observed

    def logarithms(of: Any) -> Any:
        return np.column_stack([log_expit(of), -log_expit(-of)])

    fitted = LogisticRegression(C=np.inf).fit(logarithms(margins), came, weights)
    a, b = fitted.coef_[0].tolist()
    own = parse_calibration(
        {"method": "beta", "a": a, "b": b, "c": float(fitted.intercept_[0])},
    )
    expected = fitted.decision_function(logarithms(MARGINS))
    assert calibrated_log_odds(own, MARGINS) == pytest.approx(expected, abs=1e-9)


def test_a_beta_of_equal_halves_is_a_sigmoid() -> None:
    beta = parse_calibration({"method": "beta", "a": 0.8, "b": 0.8, "c": -0.3})
    assert calibrated_log_odds(beta, MARGINS) == pytest.approx(0.8 * MARGINS - 0.3, abs=1e-12)


def test_an_isotonic_calibration_is_scikit_learns(observed: Any) -> None:
    margins, came, weights = observed
    fitted = IsotonicRegression(y_min=1e-4, y_max=1 - 1e-4, out_of_bounds="clip")
    fitted.fit(margins, came, weights)
    own = parse_calibration(
        {
            "method": "isotonic",
            "margins": fitted.X_thresholds_.tolist(),
            "probabilities": fitted.y_thresholds_.tolist(),
        }
    )
    log_odds = calibrated_log_odds(own, MARGINS)
    assert expit(log_odds) == pytest.approx(fitted.predict(MARGINS), abs=1e-12)


@pytest.mark.parametrize("raw", KINDS.values(), ids=KINDS)
def test_a_higher_margin_never_means_a_lower_risk(raw: dict[str, Any]) -> None:
    log_odds = calibrated_log_odds(parse_calibration(raw), np.linspace(-800, 800, 20001))
    assert np.isfinite(log_odds).all()
    assert (np.diff(log_odds) >= 0).all()


@pytest.mark.parametrize("raw", KINDS.values(), ids=KINDS)
def test_many_margins_get_the_log_odds_that_each_gets_alone(raw: dict[str, Any]) -> None:
    own = parse_calibration(raw)
    alone = [calibrated_log_odds(own, np.array([margin]))[0] for margin in MARGINS]
    assert calibrated_log_odds(own, MARGINS).tolist() == alone


@pytest.mark.parametrize("raw", KINDS.values(), ids=KINDS)
def test_baseline_and_contributions_sum_to_the_log_odds(
    shipped: Model, raw: dict[str, Any]
) -> None:
    model = replace(shipped, calibration=parse_calibration(raw))
    for case in shipped_json("golden_scores.json")["cases"]:
        got = score(model, case["values"])
        assert isinstance(got, RiskEstimate)
        total = got.baseline + sum(entry.log_odds for entry in got.contributions)
        assert total == pytest.approx(logit(got.probability), abs=1e-9)


@pytest.mark.parametrize("raw", KINDS.values(), ids=KINDS)
def test_the_baseline_is_the_calibrated_expectation_for_everybody(
    shipped: Model, raw: dict[str, Any]
) -> None:
    model = replace(shipped, calibration=parse_calibration(raw))
    baselines = []
    for case in shipped_json("golden_scores.json")["cases"]:
        got = score(model, case["values"])
        assert isinstance(got, RiskEstimate)
        baselines.append(got.baseline)
    # XGBoost sums hundreds of trees in 32 bits: good to about 2e-6 of a margin of up to ten. Where
    # the calibration is steep, so is what is left over.
    margins = np.linspace(-10, 4, 1401)
    steepest = float(np.max(np.gradient(model.calibration.log_odds(margins), margins)))
    assert max(baselines) - min(baselines) < 2e-5 * max(1.0, steepest)


@pytest.mark.parametrize("raw", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("distance", [0.0, 1e-9, -1e-7, 1e-5, 0.3, -4.0])
def test_shares_that_lead_from_one_margin_to_another_do_so_when_calibrated(
    raw: dict[str, Any], distance: float
) -> None:
    """Also where they meet: shares that cancel out are not lost, and nothing is divided by zero."""
    own, expected = parse_calibration(raw), -3.7
    features = parse_manifest(raw_manifest()).features
    shares = [1.5, -2.5, 0.25, 0.75 + distance, 0.0]
    margin = expected + sum(shares)
    start, end = calibrated_log_odds(own, np.array([expected, margin])).tolist()
    baseline, contributions = explain(features, {}, shares, end, own.scale(margin, expected))
    assert baseline + sum(c.log_odds for c in contributions) == pytest.approx(end, abs=1e-12)
    assert baseline == pytest.approx(start, abs=1e-9 if abs(distance) > 1e-6 else 1e-6)
    assert all(math.isfinite(c.log_odds) for c in contributions)


def test_where_the_margin_is_the_expected_one_contributions_have_the_slope_there() -> None:
    beta = parse_calibration(KINDS["beta"])
    probability = sigmoid(-3.7)
    slope = 1.3 * (1 - probability) + 0.4 * probability
    assert beta.scale(-3.7, -3.7) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "is not a JSON object"),
        ({}, "method is None, none of"),
        ({"method": "spline"}, "method is 'spline', none of"),
        ({"method": "sigmoid", "slope": 0, "intercept": 0}, "slope 0.0 is not above 0"),
        ({"method": "sigmoid", "slope": "1", "intercept": 0}, "slope is '1', not a finite"),
        ({"method": "sigmoid", "slope": True, "intercept": 0}, "slope is True, not a finite"),
        ({"method": "sigmoid", "slope": 1}, "intercept is None, not a finite"),
        ({"method": "sigmoid", "slope": math.inf, "intercept": 0}, "slope is inf"),
        ({"method": "beta", "a": -0.1, "b": 1, "c": 0}, "a -0.1 and b 1.0"),
        ({"method": "beta", "a": 0, "b": 0, "c": 0}, "a 0.0 and b 0.0"),
        ({"method": "beta", "a": 1, "b": 1}, "c is None"),
        ({"method": "isotonic", "margins": [], "probabilities": []}, "has 0 margins and 0"),
        ({"method": "isotonic", "margins": [0], "probabilities": [0.1, 0.2]}, "has 1 margins"),
        ({"method": "isotonic", "margins": 3, "probabilities": [0.1]}, "margins is 3, not a list"),
        ({"method": "isotonic", "margins": [0, 0], "probabilities": [0.1, 0.2]}, "do not rise"),
        ({"method": "isotonic", "margins": [0, 1], "probabilities": [0.2, 0.1]}, "fall"),
        ({"method": "isotonic", "margins": [0, 1], "probabilities": [0, 0.1]}, "reach 0 or 1"),
        ({"method": "isotonic", "margins": [0, 1], "probabilities": [0.1, 1]}, "reach 0 or 1"),
        ({"method": "isotonic", "margins": [0, "x"], "probabilities": [0.1, 0.2]}, "margins[1]"),
    ],
)
def test_a_calibration_that_cannot_be_used_says_why(raw: Any, words: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        parse_calibration(raw)
    assert caught.value.file == "calibration.json"
    assert words in caught.value.problem
    assert "Train the model again" in caught.value.remedy
