"""The statistics of training against independent implementations and hand-made cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_score,
    roc_auc_score,
    roc_curve,
)

from model_training.logistic import fit_logistic, log_loss, logistic
from model_training.masking import with_holes, without_panels
from model_training.measures import (
    auroc,
    average_precision,
    brier,
    calibration_intercept,
    calibration_slope,
    f1,
    flagged_share,
    integrated_calibration_index,
    interval,
    log_odds,
    net_benefit,
    observed_to_expected,
    positive_predictive_value,
    prevalence,
    replicate_weights,
    sensitivity,
    sensitivity_at_false_positive_rate,
    smooth_observed,
    specificity,
    specificity_at_sensitivity,
)
from model_training.recipe import load_recipe
from model_training.sample import Floats, Sample
from tests.people import drawn

RECIPE = load_recipe()


def sample(events: Any, weights: Any = None, *, strata: Any = None, units: Any = None) -> Sample:
    n = len(events)
    return Sample(
        values=np.full((n, len(RECIPE.features)), 50, dtype=np.float32),
        events=np.asarray(events, dtype=np.int64),
        weights=np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64),
        strata=np.zeros(n, dtype=np.int64) if strata is None else np.asarray(strata),
        units=np.arange(n) if units is None else np.asarray(units),
        people=pd.DataFrame(index=range(n)),
    )


@pytest.fixture(scope="module")
def scored() -> tuple[Floats, Any, Floats]:
    """Scores with many ties, outcomes, and three sets of weights, one of them with zeros."""
    rng = np.random.default_rng(3)
    scores = rng.integers(1, 40, 500) / 40
    events = (rng.random(500) < scores).astype(np.int64)
    weights = rng.random((3, 500)) + 0.1
    weights[2, rng.random(500) < 0.3] = 0.0
    return scores, events, weights


# ------------------------------------------------------------------------- discrimination


def test_auroc_equals_that_of_scikit_learn_with_ties_and_weights(scored: Any) -> None:
    scores, events, weights = scored
    expected = [roc_auc_score(events, scores, sample_weight=row) for row in weights]
    assert auroc(scores, events, weights) == pytest.approx(expected)


def test_average_precision_equals_that_of_scikit_learn_with_ties_and_weights(scored: Any) -> None:
    scores, events, weights = scored
    expected = [average_precision_score(events, scores, sample_weight=row) for row in weights]
    assert average_precision(scores, events, weights) == pytest.approx(expected)


def test_brier_score_equals_that_of_scikit_learn_with_weights(scored: Any) -> None:
    scores, events, weights = scored
    expected = [brier_score_loss(events, scores, sample_weight=row) for row in weights]
    assert brier(scores, events, weights) == pytest.approx(expected)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_f1_and_predictive_value_equal_those_of_scikit_learn_with_weights(
    scored: Any, cut: float
) -> None:
    scores, events, weights = scored
    flagged = (scores >= cut).astype(int)
    wanted_f1 = [f1_score(events, flagged, sample_weight=row) for row in weights]
    wanted_ppv = [precision_score(events, flagged, sample_weight=row) for row in weights]
    assert f1(cut)(scores, events, weights) == pytest.approx(wanted_f1)
    assert positive_predictive_value(cut)(scores, events, weights) == pytest.approx(wanted_ppv)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.5])
def test_sensitivity_at_a_false_positive_rate_is_read_off_scikit_learns_roc_curve(
    scored: Any, rate: float
) -> None:
    scores, events, weights = scored
    curves = [_roc(events, scores, row) for row in weights]
    expected = [true[false <= rate].max() for false, true in curves]
    measured = sensitivity_at_false_positive_rate(rate)(scores, events, weights)
    assert measured == pytest.approx(expected)


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
def test_specificity_at_a_sensitivity_is_read_off_scikit_learns_roc_curve(
    scored: Any, wanted: float
) -> None:
    scores, events, weights = scored
    curves = [_roc(events, scores, row) for row in weights]
    expected = [1 - false[true >= wanted - 1e-12].min() for false, true in curves]
    assert specificity_at_sensitivity(wanted)(scores, events, weights) == pytest.approx(expected)


def test_where_every_alert_would_break_the_rate_the_sensitivity_is_zero() -> None:
    scores, events = np.array([0.9, 0.5, 0.1]), np.array([0, 1, 0])
    assert sensitivity_at_false_positive_rate(0.1)(scores, events, np.ones((1, 3)))[0] == 0


def test_without_a_single_event_a_ranking_is_not_a_number() -> None:
    scores, events, weights = np.array([0.1, 0.2]), np.array([0, 0]), np.ones((1, 2))
    for measure in (auroc, average_precision, calibration_slope, integrated_calibration_index):
        assert np.isnan(measure(scores, events, weights))[0], measure.__name__


def test_yield_at_a_cut_by_hand() -> None:
    scores, events = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1])
    weights = np.array([[1.0, 1, 1, 1], [1, 3, 1, 1]])
    assert flagged_share(0.3)(scores, events, weights).tolist() == [0.5, 2 / 6]
    assert sensitivity(0.3)(scores, events, weights).tolist() == [0.5, 0.25]
    assert specificity(0.3)(scores, events, weights).tolist() == [0.5, 0.5]
    assert positive_predictive_value(0.3)(scores, events, weights).tolist() == [0.5, 0.5]
    assert observed_to_expected(scores, events, weights)[0] == pytest.approx(2.0)
    assert prevalence(scores, events, weights).tolist() == [0.5, 4 / 6]


def test_nobody_above_the_cut_has_no_predictive_value() -> None:
    measure = positive_predictive_value(0.9)
    assert np.isnan(measure(np.array([0.1, 0.2]), np.array([0, 1]), np.ones((1, 2))))[0]


def test_net_benefit_by_hand() -> None:
    """At a threshold of 1 in 4 a needless alert costs a third of a case found: of 10 people 4 are
    alerted, 3 of them rightly, so (3 - 1/3) / 10; with everybody alerted (4 - 6/3) / 10."""
    scores = np.array([0.9, 0.8, 0.7, 0.6] + [0.1] * 6)
    events = np.array([1, 1, 0, 1, 1, 0, 0, 0, 0, 0])
    weights = np.ones((1, 10))
    assert net_benefit(0.5, 0.25)(scores, events, weights)[0] == pytest.approx((3 - 1 / 3) / 10)
    assert net_benefit(0.0, 0.25)(scores, events, weights)[0] == pytest.approx(0.2)
    assert net_benefit(1.0, 0.25)(scores, events, weights)[0] == 0
    doubled = np.where(events == 1, 2.0, 1.0)[None, :]
    assert net_benefit(0.5, 0.25)(scores, events, doubled)[0] == pytest.approx((6 - 1 / 3) / 14)


# ------------------------------------------------------------------------- calibration


TRUE_LOG_ODDS = np.random.default_rng(6).normal(-1.5, 1.5, 20_000)
HAPPENED = drawn(TRUE_LOG_ODDS, 7).astype(np.int64)
ONCE = np.ones((1, len(HAPPENED)))


def test_a_calibrated_score_has_slope_one_intercept_nought_and_hardly_any_distance() -> None:
    scores = logistic(TRUE_LOG_ODDS)
    assert calibration_slope(scores, HAPPENED, ONCE)[0] == pytest.approx(1, abs=0.05)
    assert calibration_intercept(scores, HAPPENED, ONCE)[0] == pytest.approx(0, abs=0.05)
    assert integrated_calibration_index(scores, HAPPENED, ONCE)[0] < 0.008


@pytest.mark.parametrize(("slope", "shift"), [(2.0, 0.0), (0.5, 0.7), (1.0, -0.8)])
def test_what_is_wrong_with_a_score_is_found_again(slope: float, shift: float) -> None:
    """Given log-odds that are the true ones distorted: slope and, at slope 1, intercept undo it;
    the ICI is the mean distance from the truth, which is known here."""
    scores = logistic(slope * TRUE_LOG_ODDS + shift)
    assert calibration_slope(scores, HAPPENED, ONCE)[0] == pytest.approx(1 / slope, rel=0.05)
    if slope == 1:
        assert calibration_intercept(scores, HAPPENED, ONCE)[0] == pytest.approx(-shift, abs=0.05)
    distance = np.abs(scores - logistic(TRUE_LOG_ODDS)).mean()
    ici = integrated_calibration_index(scores, HAPPENED, ONCE)[0]
    assert distance > 0.05
    assert ici == pytest.approx(distance, abs=0.01)


def test_certainty_counts_as_the_nearest_probability_that_can_be_stored() -> None:
    scores = np.array([0.0, 1e-12, 0.5, 1.0])
    assert log_odds(scores) == pytest.approx([-20.723, -20.723, 0, 20.723], abs=1e-3)
    risks = np.where(np.arange(200) % 2 == 0, 0.0, 1.0)
    events = (np.arange(200) % 10 < 3).astype(np.int64)
    for measure in (calibration_slope, integrated_calibration_index):
        assert np.isfinite(measure(risks, events, np.ones((1, 200))))[0], measure.__name__


def test_the_intercept_in_the_large_equals_expected_and_observed() -> None:
    scores = logistic(0.5 * TRUE_LOG_ODDS + 1)
    intercept = calibration_intercept(scores, HAPPENED, ONCE)[0]
    corrected = logistic(np.log(scores / (1 - scores)) + intercept)
    assert corrected.sum() == pytest.approx(HAPPENED.sum())


def test_the_smooth_curve_follows_a_known_one_that_is_no_line_on_any_scale() -> None:
    given = np.random.default_rng(8).normal(-1, 1.2, 30_000)

    def truth(log_odds: Floats) -> Floats:
        return logistic(0.8 * log_odds + 0.6 * np.sin(log_odds) - 0.2)

    events = (np.random.default_rng(9).random(30_000) < truth(given)).astype(np.int64)
    at = np.linspace(-3, 1, 15)
    observed = smooth_observed(logistic(given), events, np.ones(30_000), logistic(at))
    slope, intercept = fit_logistic(given, events.astype(float), np.ones(30_000))
    off_by = np.abs(observed - truth(at)).max()
    assert off_by < 0.025
    assert np.abs(logistic(slope * at + intercept) - truth(at)).max() > 2 * off_by


def test_measures_count_weights_as_so_many_people() -> None:
    rng = np.random.default_rng(4)
    scores = rng.uniform(0.05, 0.95, 200)
    events, times = (
        drawn(np.log(scores / (1 - scores)), 5).astype(np.int64),
        rng.integers(1, 4, 200),
    )
    weighted = calibration_slope(scores, events, times[None, :].astype(float))
    repeated = calibration_slope(
        np.repeat(scores, times), np.repeat(events, times), np.ones((1, times.sum()))
    )
    assert weighted == pytest.approx(repeated)


# ------------------------------------------------------------------------- intervals


def test_replicates_resample_sampling_units_within_their_stratum() -> None:
    people = sample([0] * 6, strata=[1, 1, 1, 2, 2, 2], units=[1, 1, 2, 1, 2, 2])
    multipliers = replicate_weights(people, replicates=200, seed=1)
    assert (multipliers[0] == 1).all()
    assert set(np.unique(multipliers[1:])) == {0.0, 2.0}
    assert (multipliers[:, 0] == multipliers[:, 1]).all()  # one unit, one fate
    assert (multipliers[1:, 0] + multipliers[1:, 2] == 2).all()  # one of two is drawn
    assert multipliers[1:].mean() == pytest.approx(1.0, abs=0.1)


def test_a_sampling_unit_alone_in_its_stratum_is_in_every_replicate() -> None:
    people = sample([0] * 5, strata=[1, 1, 2, 2, 2], units=[4, 4, 1, 1, 2])
    multipliers = replicate_weights(people, replicates=50, seed=1)
    assert (multipliers[:, :2] == 1).all()
    assert set(np.unique(multipliers[1:, 2:])) == {0.0, 2.0}


def test_replicates_depend_on_the_seed_only() -> None:
    people = sample([0] * 50)
    one, same, other = (replicate_weights(people, replicates=5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_without_a_design_the_spread_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(2).normal(size=400)
    multipliers = replicate_weights(sample([0] * 400), replicates=2000, seed=1)
    means = multipliers[1:] @ values / multipliers[1:].sum(axis=1)
    assert means.std() == pytest.approx(values.std(ddof=1) / 20, rel=0.06)


def test_an_interval_holds_the_middle_95_percent_of_the_replicates() -> None:
    got = interval(np.concatenate([[0.5], np.linspace(0, 1, 1001), [np.nan]]))
    assert (got.value, got.low, got.high) == pytest.approx((0.5, 0.025, 0.975))


def test_an_interval_without_replicates_is_not_a_number() -> None:
    got = interval(np.array([0.5, np.nan]))
    assert got.value == 0.5
    assert np.isnan([got.low, got.high]).all()


# ------------------------------------------------------------------------- logistic regression


def test_logistic_regression_equals_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    columns = rng.normal(size=(400, 3))
    events = (rng.random(400) < logistic(columns @ [1.0, -0.5, 0.0] - 1)).astype(float)
    weights = rng.random(400) + 0.5
    weights /= weights.mean()
    theirs = LogisticRegression(C=1.0, tol=1e-10).fit(columns, events, sample_weight=weights)
    ours = fit_logistic(columns, events, weights, ridge=1.0)
    assert ours == pytest.approx([*theirs.coef_[0], *theirs.intercept_], abs=1e-5)


def test_a_separable_outcome_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises((ArithmeticError, np.linalg.LinAlgError)):
        fit_logistic(np.array([-1.0, 1.0]), np.array([0.0, 1.0]), np.ones(2))


def test_log_loss_by_hand() -> None:
    got = log_loss(np.array([0.0, 100.0]), np.array([1.0, 1.0]), np.array([1.0, 3.0]))
    assert got == pytest.approx(np.log(2) / 4)


# ------------------------------------------------------------------------- records with holes


def test_masking_blanks_whole_panels_and_nothing_else() -> None:
    values = sample([0, 1]).values
    masked = without_panels(values, ["lipids", "glucose"], RECIPE)
    lost = {name for panel in ("lipids", "glucose") for name in RECIPE.panels[panel].features}
    for position, name in enumerate(RECIPE.columns):
        assert np.isnan(masked[:, position]).all() == (name in lost)
    assert not np.isnan(values).any()


def test_copies_with_holes_share_the_weight_of_their_person() -> None:
    people = sample([0, 1, 1], [1.0, 2.0, 5.0])
    rows = with_holes(people.values, people.events, people.weights, RECIPE, share=0.8, seed=1)
    copies = RECIPE.raw["masking"]["copies"] + 1
    per_person = rows.weights.reshape(copies, 3).sum(axis=0)
    assert per_person == pytest.approx([1, 2, 5])
    assert rows.weights[:3] == pytest.approx([0.2, 0.4, 1.0])
    assert rows.events.reshape(copies, 3).tolist() == [[0, 1, 1]] * copies
    assert not np.isnan(rows.values[:3]).any()
    age = RECIPE.columns.index("age")
    assert not np.isnan(rows.values[:, age]).any()


def test_a_copy_loses_panels_whole_and_at_the_chance_of_the_recipe() -> None:
    people = sample([0] * 2000)
    rows = with_holes(people.values, people.events, people.weights, RECIPE, share=1.0, seed=1)
    copies = np.isnan(rows.values[2000:])
    for panel in RECIPE.panels.values():
        lost = copies[:, [RECIPE.columns.index(name) for name in panel.features]]
        assert (lost.all(axis=1) == lost.any(axis=1)).all(), panel.id
        chance = RECIPE.raw["masking"]["chance"].get(panel.id, 0.5)
        assert lost.mean() == pytest.approx(chance, abs=0.02), panel.id


def test_masks_depend_on_the_seed_only() -> None:
    people = sample([0, 1] * 50)
    one, same, other = (
        with_holes(people.values, people.events, people.weights, RECIPE, share=0.5, seed=seed)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one.values, same.values, equal_nan=True)
    assert not np.array_equal(one.values, other.values, equal_nan=True)


def _roc(events: Any, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    false, true, _ = roc_curve(events, scores, sample_weight=weights, drop_intermediate=False)
    return false, true
