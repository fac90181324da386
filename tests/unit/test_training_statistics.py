"""The statistics of training against independent implementations and hand-made cases."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from model_training.drawing import performance_svg
from model_training.features import Sample
from model_training.levels import choose_cuts, rationale
from model_training.logistic import fit_logistic, log_loss, logistic
from model_training.masking import with_holes, without_panels
from model_training.measures import (
    auroc,
    flagged_share,
    interval,
    observed_to_expected,
    positive_predictive_value,
    replicate_weights,
    sensitivity,
    specificity,
)
from model_training.recipe import load_recipe

RECIPE = load_recipe()


def sample(events: Any, weights: Any = None, *, strata: Any = None, units: Any = None) -> Sample:
    n = len(events)
    return Sample(
        values=np.full((n, len(RECIPE.features)), 50, dtype=np.float32),
        events=np.asarray(events, dtype=np.int64),
        weights=np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64),
        strata=np.zeros(n, dtype=np.int64) if strata is None else np.asarray(strata),
        units=np.arange(n) if units is None else np.asarray(units),
        ethnicity=np.ones(n, dtype=np.int64),
    )


def test_auroc_equals_that_of_scikit_learn_with_ties_and_weights() -> None:
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 40, 500) / 40
    events = (rng.random(500) < scores).astype(np.int64)
    weights = rng.random((3, 500)) + 0.1
    expected = [roc_auc_score(events, scores, sample_weight=row) for row in weights]
    assert auroc(scores, events, weights) == pytest.approx(expected)


def test_auroc_without_a_single_event_is_not_a_number() -> None:
    assert np.isnan(auroc(np.array([0.1, 0.2]), np.array([0, 0]), np.ones((1, 2))))[0]


def test_yield_at_a_cut_by_hand() -> None:
    scores, events = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1])
    weights = np.array([[1.0, 1, 1, 1], [1, 3, 1, 1]])
    assert flagged_share(0.3)(scores, events, weights).tolist() == [0.5, 2 / 6]
    assert sensitivity(0.3)(scores, events, weights).tolist() == [0.5, 0.25]
    assert specificity(0.3)(scores, events, weights).tolist() == [0.5, 0.5]
    assert positive_predictive_value(0.3)(scores, events, weights).tolist() == [0.5, 0.5]
    assert observed_to_expected(scores, events, weights)[0] == pytest.approx(2.0)


def test_replicates_resample_sampling_units_within_their_stratum() -> None:
    people = sample([0] * 6, strata=[1, 1, 1, 2, 2, 2], units=[1, 1, 2, 1, 2, 2])
    multipliers = replicate_weights(people, replicates=200, seed=1)
    assert (multipliers[0] == 1).all()
    assert set(np.unique(multipliers[1:])) == {0.0, 2.0}
    assert (multipliers[:, 0] == multipliers[:, 1]).all()  # one unit, one fate
    assert (multipliers[1:, 0] + multipliers[1:, 2] == 2).all()  # one of two is drawn
    assert multipliers[1:].mean() == pytest.approx(1.0, abs=0.1)


def test_an_interval_holds_the_middle_95_percent_of_the_replicates() -> None:
    got = interval(np.concatenate([[0.5], np.linspace(0, 1, 1001), [np.nan]]))
    assert (got.value, got.low, got.high) == pytest.approx((0.5, 0.025, 0.975))


def test_logistic_regression_equals_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    columns = rng.normal(size=(400, 3))
    events = (rng.random(400) < logistic(columns @ [1.0, -0.5, 0.0] - 1)).astype(float)
    weights = rng.random(400) + 0.5
    weights /= weights.mean()
    theirs = LogisticRegression(C=1.0, tol=1e-10).fit(columns, events, sample_weight=weights)
    ours = fit_logistic(columns, events, weights, ridge=1.0)
    assert ours == pytest.approx([*theirs.coef_[0], *theirs.intercept_], abs=1e-5)


def test_a_perfect_score_needs_no_recalibration() -> None:
    rng = np.random.default_rng(6)
    log_odds = rng.normal(-2, 1.5, 40_000)
    events = (rng.random(40_000) < logistic(log_odds)).astype(float)
    slope, intercept = fit_logistic(log_odds, events, np.ones(40_000))
    assert (slope, intercept) == pytest.approx((1, 0), abs=0.06)


def test_a_separable_outcome_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises((ArithmeticError, np.linalg.LinAlgError)):
        fit_logistic(np.array([-1.0, 1.0]), np.array([0.0, 1.0]), np.ones(2))


def test_log_loss_by_hand() -> None:
    got = log_loss(np.array([0.0, 100.0]), np.array([1.0, 1.0]), np.array([1.0, 3.0]))
    assert got == pytest.approx(np.log(2) / 4)


def test_cuts_keep_the_alert_budget_and_reach_the_predictive_value() -> None:
    probabilities = np.arange(1000) / 1000
    events = (np.random.default_rng(2).random(1000) < probabilities).astype(np.int64)
    people = sample(events)
    rule = {"step": 0.01, "alert_budget": 0.7, "high_positive_predictive_value": 0.9}
    cuts = choose_cuts(probabilities, people, rule)
    assert cuts.moderate == 0.3
    weights = people.weights[None, :]
    assert positive_predictive_value(cuts.high)(probabilities, events, weights)[0] >= 0.9
    below = positive_predictive_value(cuts.high - 0.01)(probabilities, events, weights)[0]
    assert below < 0.9
    assert "at most 70%" in rationale(cuts, ["2011-2012", "2013-2014"], rule)


def test_masking_blanks_whole_panels_and_nothing_else() -> None:
    values = sample([0, 1]).values
    masked = without_panels(values, ["lipids", "glucose"], RECIPE)
    lost = {name for panel in ("lipids", "glucose") for name in RECIPE.panels[panel]}
    for position, name in enumerate(RECIPE.columns):
        assert np.isnan(masked[:, position]).all() == (name in lost)
    assert not np.isnan(values).any()


def test_copies_with_holes_share_the_weight_of_their_person() -> None:
    people = sample([0, 1, 1], [1.0, 2.0, 5.0])
    rows = with_holes(people.values, people.events, people.weights, RECIPE, share=0.8, seed=1)
    copies = RECIPE.raw["masking"]["copies"] + 1
    per_person = rows.weights.reshape(copies, 3).sum(axis=0)
    assert per_person == pytest.approx([1, 2, 5])
    assert rows.events.reshape(copies, 3).tolist() == [[0, 1, 1]] * copies
    assert not np.isnan(rows.values[:3]).any()
    age = RECIPE.columns.index("age")
    assert not np.isnan(rows.values[:, age]).any()


def test_masks_depend_on_the_seed_only() -> None:
    people = sample([0, 1] * 50)
    one, same, other = (
        with_holes(people.values, people.events, people.weights, RECIPE, share=0.5, seed=seed)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one.values, same.values, equal_nan=True)
    assert not np.array_equal(one.values, other.values, equal_nan=True)


def test_the_picture_is_well_formed_even_where_nothing_was_observed() -> None:
    test = {
        "scenarios": {"complete": {"auroc_weighted": [0.9, 0.8, 0.95]}},
        "curve": [[0.0, 0.0], [0.2, 0.9], [1.0, 1.0]],
        "calibration": {"groups": [{"predicted": 0.0001, "observed": 0.0}]},
    }
    root = ElementTree.fromstring(performance_svg(test, "A <title> & more"))  # noqa: S314
    assert root.tag.endswith("svg")
