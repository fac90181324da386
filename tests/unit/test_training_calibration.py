"""Calibration: what is distorted is put right, and the simplest way that does it is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_training.calibration import (
    Rows,
    calibrated,
    choose_calibration,
    fit_calibration,
    rows_to_calibrate,
)
from model_training.fitting import HOLES, OutOfFold
from model_training.logistic import fit_logistic, log_loss, logistic
from model_training.measures import integrated_calibration_index
from model_training.sample import Floats
from tests.people import drawn, made_up_sample, small_recipe

METHODS = ("none", "sigmoid", "beta", "isotonic")
MARGINS = np.random.default_rng(1).normal(-1.5, 1.3, 4000)


def happened(truth: Floats, seed: int = 2) -> Rows:
    """`truth` are the log-odds at which MARGINS come true."""
    return Rows(margins=MARGINS, events=drawn(truth, seed), weights=np.ones(len(truth)))


def off_by(exported: dict[str, Any], truth: Floats) -> float:
    return float(np.abs(logistic(calibrated(exported, MARGINS)) - logistic(truth)).mean())


def stairs() -> Floats:
    return np.where(MARGINS < -2, -3.5, np.where(MARGINS < -0.5, -1.0, 1.5))


# ------------------------------------------------------------------------- each method


def test_none_leaves_the_margins_as_they_are() -> None:
    exported = fit_calibration(happened(MARGINS), "none")
    assert exported == {"method": "identity"}
    assert np.array_equal(calibrated(exported, MARGINS), MARGINS)


def test_a_sigmoid_finds_the_line_by_which_margins_are_distorted() -> None:
    exported = fit_calibration(happened(0.5 * MARGINS + 0.8), "sigmoid")
    assert exported["slope"] == pytest.approx(0.5, abs=0.06)
    assert exported["intercept"] == pytest.approx(0.8, abs=0.12)


def test_a_beta_finds_a_distortion_that_differs_at_both_ends() -> None:
    margins = np.random.default_rng(5).normal(-1, 1.5, 60_000)
    truth = 0.4 * np.log(logistic(margins)) - 1.8 * np.log1p(-logistic(margins)) - 0.5
    rows = Rows(margins=margins, events=drawn(truth, 6), weights=np.ones(60_000))
    beta, sigmoid = (fit_calibration(rows, method) for method in ("beta", "sigmoid"))
    assert (beta["a"], beta["b"], beta["c"]) == pytest.approx((0.4, 1.8, -0.5), abs=0.15)
    off = [
        np.abs(logistic(calibrated(made, margins)) - logistic(truth)).mean()
        for made in (beta, sigmoid)
    ]
    assert off[0] < 0.005 < off[1]


def test_isotonic_finds_stairs_that_no_line_can_follow() -> None:
    rows = happened(stairs())
    made = {method: off_by(fit_calibration(rows, method), stairs()) for method in METHODS}
    assert made["isotonic"] < 0.02 < made["beta"]
    assert made["isotonic"] < 0.02 < made["sigmoid"]


@pytest.mark.parametrize("method", ["sigmoid", "beta", "isotonic"])
def test_after_calibration_given_and_observed_risks_are_near(method: str) -> None:
    rows = happened(0.5 * MARGINS + 0.8)
    ones, events = np.ones((1, 4000)), drawn(0.5 * MARGINS + 0.8, 3).astype(np.int64)
    before = integrated_calibration_index(logistic(MARGINS), events, ones)[0]
    risks = logistic(calibrated(fit_calibration(rows, method), MARGINS))
    assert before > 0.1
    assert integrated_calibration_index(risks, events, ones)[0] < 0.03


@pytest.mark.parametrize("method", ["sigmoid", "beta", "isotonic"])
def test_weights_count_as_so_many_people(method: str) -> None:
    rows = happened(0.5 * MARGINS)
    times = np.random.default_rng(4).integers(1, 4, 4000)
    weighted = Rows(margins=MARGINS, events=rows.events, weights=times.astype(float))
    repeated = Rows(
        margins=np.repeat(MARGINS, times),
        events=np.repeat(rows.events, times),
        weights=np.ones(times.sum()),
    )
    one, other = (calibrated(fit_calibration(r, method), MARGINS) for r in (weighted, repeated))
    assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("falling", ["a", "b"])
def test_a_beta_of_which_one_slope_would_fall_keeps_the_other_alone(falling: str) -> None:
    """Never a lower risk for a higher margin, so one slope is zero and the other fitted again."""
    p = logistic(MARGINS)
    low, high = np.log(p), -np.log1p(-p)
    rows = happened(1.6 * high - 0.6 * low - 2 if falling == "a" else 1.6 * low - 0.6 * high)
    free = fit_logistic(np.column_stack([low, high]), rows.events, rows.weights)
    assert free[0 if falling == "a" else 1] < 0
    exported = fit_calibration(rows, "beta")
    kept = "b" if falling == "a" else "a"
    slope, c = fit_logistic(high if falling == "a" else low, rows.events, rows.weights)
    assert exported[falling] == 0
    assert (exported[kept], exported["c"]) == pytest.approx((slope, c), abs=1e-9)
    assert (np.diff(calibrated(exported, np.linspace(-6, 4, 50))) >= 0).all()


def test_isotonic_promises_nobody_certainty() -> None:
    rows = Rows(
        margins=np.arange(10.0), events=(np.arange(10) > 4).astype(float), weights=np.ones(10)
    )
    given = logistic(calibrated(fit_calibration(rows, "isotonic"), np.array([-50.0, 50.0])))
    assert given == pytest.approx([1e-4, 1 - 1e-4])


# ------------------------------------------------------------------------- the choice


def thirds() -> list[Any]:
    return [np.arange(4000) % 3 == fold for fold in range(3)]


@pytest.mark.parametrize(
    ("truth", "chosen"),
    [
        (MARGINS, "none"),
        (0.5 * MARGINS + 0.8, "sigmoid"),
        (stairs(), "isotonic"),
    ],
    ids=["calibrated-already", "a-line", "stairs"],
)
def test_the_simplest_method_that_is_as_good_as_the_best_is_chosen(
    truth: Floats, chosen: str
) -> None:
    rows = happened(truth)
    choice = choose_calibration(rows, thirds(), {"methods": METHODS, "in_the_large": 10.0})
    assert choice.method == chosen
    assert choice.exported == fit_calibration(rows, chosen)


def test_losses_are_of_people_held_out_from_the_fit() -> None:
    rows = happened(0.5 * MARGINS + 0.8)
    inside = thirds()[1]
    exported = fit_calibration(rows.only(~inside), "beta")
    held = rows.only(inside)
    expected = log_loss(calibrated(exported, held.margins), held.events, held.weights)
    losses = choose_calibration(rows, thirds(), {"methods": METHODS, "in_the_large": 10.0}).losses
    assert losses["beta"][1] == pytest.approx(expected)
    assert {len(values) for values in losses.values()} == {3}


def test_a_richer_method_is_not_taken_for_a_gain_within_one_standard_error() -> None:
    rows = happened(MARGINS, seed=11)
    choice = choose_calibration(rows, thirds(), {"methods": METHODS, "in_the_large": 10.0})
    mean = {method: np.mean(losses) for method, losses in choice.losses.items()}
    assert choice.method == "none"
    best = min(mean, key=lambda method: mean[method])
    worse = np.subtract(choice.losses["none"], choice.losses[best])
    assert worse.mean() <= worse.std(ddof=1) / np.sqrt(3) or best == "none"


def test_everybody_calibrates_twice_as_recorded_and_with_holes() -> None:
    recipe = small_recipe(masking={"calibration_share": 0.25})
    sample = made_up_sample(recipe, 8)
    unseen = OutOfFold(
        margins={"complete": np.arange(8.0), "no_glucose": np.zeros(8), HOLES: -np.arange(8.0)},
        rounds=1,
    )
    rows = rows_to_calibrate(unseen, sample, recipe)
    assert rows.margins.tolist() == [*np.arange(8.0), *-np.arange(8.0)]
    assert rows.events.tolist() == [*sample.events, *sample.events]
    as_recorded, with_holes = rows.weights.reshape(2, 8)
    assert as_recorded == pytest.approx(sample.weights * 0.75)
    assert with_holes == pytest.approx(sample.weights * 0.25)


def test_a_method_that_leaves_the_level_wrong_for_everybody_is_not_taken() -> None:
    """Where an outcome is rare, a level too high by a third costs little log loss."""
    rows = happened(MARGINS - 0.35, seed=3)
    lenient = choose_calibration(rows, thirds(), {"methods": ["none"], "in_the_large": 0.1})
    assert lenient.observed_to_expected["none"] < 0.9
    choice = choose_calibration(rows, thirds(), {"methods": METHODS, "in_the_large": 0.1})
    assert choice.method != "none"
    assert choice.observed_to_expected[choice.method] == pytest.approx(1, abs=0.05)
