"""What a set of scores is worth: discrimination, calibration, yield at a cut; intervals that
respect the survey's design.

Every measure takes a weight per person and works on a batch: scores and events of n people,
weights of shape (replicates, n), one result per replicate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model_training.logistic import fit_logistic, logistic
from model_training.sample import Flags, Floats, Ints, Sample

# Stored predictions have nine digits: nothing nearer to certainty is told from it.
_CERTAIN = 1e-9

Measure = Callable[[Floats, Ints, Floats], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def auroc(scores: Floats, events: Ints, weights: Floats) -> Floats:
    """The chance that a person with the outcome scores above one without; ties count half."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ordered, happened = weights[:, order], events[order]
    positive = np.add.reduceat(ordered * happened, starts, axis=1)
    negative = np.add.reduceat(ordered * (1 - happened), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs: Floats = positive.sum(axis=1) * negative.sum(axis=1)
    return _ratio((positive * below).sum(axis=1), pairs)


def average_precision(scores: Floats, events: Ints, weights: Floats) -> Floats:
    """The mean over people with the outcome of the predictive value at their own score."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(-scores[order], prepend=-np.inf))
    ordered = weights[:, order]
    found = np.add.reduceat(ordered * events[order], starts, axis=1)
    flagged = np.add.reduceat(ordered, starts, axis=1)
    precision = _ratio(np.cumsum(found, axis=1), np.cumsum(flagged, axis=1))
    return _ratio((found * np.nan_to_num(precision)).sum(axis=1), found.sum(axis=1))


def sensitivity_at_false_positive_rate(rate: float) -> Measure:
    """Sensitivity at the lowest cut that alerts at most `rate` of those without the outcome."""

    def measure(scores: Floats, events: Ints, weights: Floats) -> Floats:
        true, false = _cumulative_rates(scores, events, weights)
        found: Floats = np.max(np.where(false <= rate, true, 0.0), axis=1, initial=0.0)
        return np.where(_both_outcomes(true, false), found, np.nan)

    return measure


def specificity_at_sensitivity(wanted: float) -> Measure:
    """Specificity at the highest cut that finds at least `wanted` of those with the outcome."""

    def measure(scores: Floats, events: Ints, weights: Floats) -> Floats:
        true, false = _cumulative_rates(scores, events, weights)
        reached = true >= wanted - 1e-12
        least: Floats = np.min(np.where(reached, false, 1.0), axis=1, initial=1.0)
        return np.where(_both_outcomes(true, false), 1 - least, np.nan)

    return measure


def f1(cut: float) -> Measure:
    def measure(scores: Floats, events: Ints, weights: Floats) -> Floats:
        found = weights @ ((scores >= cut) * events)
        return _ratio(2 * found, weights @ (scores >= cut) + weights @ events)

    return measure


def net_benefit(cut: float, threshold: float) -> Measure:
    """Of alerting from `cut` on, at the exchange rate of `threshold`, per person (Vickers and
    Elkin, Med Decis Making 2006;26:565-574)."""
    odds = threshold / (1 - threshold)

    def measure(scores: Floats, events: Ints, weights: Floats) -> Floats:
        gain = weights @ ((scores >= cut) * (events - odds * (1 - events)))
        return _ratio(gain, weights.sum(axis=1))

    return measure


def calibration_slope(scores: Floats, events: Ints, weights: Floats) -> Floats:
    """Of the outcome on the given log-odds; NaN where the outcome is separable."""
    return _each(_slope, scores, events, weights)


def calibration_intercept(scores: Floats, events: Ints, weights: Floats) -> Floats:
    """In the large: how far the log-odds are off for all alike."""
    return _each(_intercept, scores, events, weights)


def integrated_calibration_index(scores: Floats, events: Ints, weights: Floats) -> Floats:
    """The mean distance between given and observed risk, observed by a smooth curve (ICI, Austin
    and Steyerberg, Stat Med 2019;38:4051-4065)."""
    return _each(_ici, scores, events, weights)


def smooth_observed(scores: Floats, events: Ints, weights: Floats, at: Floats) -> Floats:
    """The observed risk at given risks: logistic regression on a restricted cubic spline of the
    log-odds, with a ridge of 1e-6 on standardised columns; knots at the 5th, 35th, 65th and 95th
    percentile (Harrell, RMS, section 2.4.6)."""
    given = log_odds(scores)
    knots = np.unique(np.quantile(given, [0.05, 0.35, 0.65, 0.95]))
    design = _spline(given, knots)
    # To one scale: the bends are small and alike, and few people with the outcome leave so little
    # to tell them apart that Newton's steps would never get below what rounding makes of them.
    centre, scale = design.mean(axis=0), design.std(axis=0)
    scale[scale == 0] = 1.0
    coefficients = fit_logistic(
        (design - centre) / scale, events.astype(np.float64), weights, ridge=1e-6
    )
    wanted = (_spline(log_odds(at), knots) - centre) / scale
    return logistic(wanted @ coefficients[:-1] + coefficients[-1])


def log_odds(scores: Floats) -> Floats:
    """Of probabilities; certainty, which has none, counts as the nearest that can be stored."""
    inside = np.clip(scores, _CERTAIN, 1 - _CERTAIN)
    return np.asarray(np.log(inside / (1 - inside)))


def observed_to_expected(scores: Floats, events: Ints, weights: Floats) -> Floats:
    return _ratio(weights @ events, weights @ scores)


def brier(scores: Floats, events: Ints, weights: Floats) -> Floats:
    return _ratio(weights @ (scores - events) ** 2, weights.sum(axis=1))


def prevalence(scores: Floats, events: Ints, weights: Floats) -> Floats:
    del scores
    return _ratio(weights @ events, weights.sum(axis=1))


def flagged_share(cut: float) -> Measure:
    return lambda scores, events, weights: _ratio(weights @ (scores >= cut), weights.sum(axis=1))


def sensitivity(cut: float) -> Measure:
    return lambda scores, events, weights: _ratio(
        weights @ ((scores >= cut) * events), weights @ events
    )


def specificity(cut: float) -> Measure:
    return lambda scores, events, weights: _ratio(
        weights @ ((scores < cut) * (1 - events)), weights @ (1 - events)
    )


def positive_predictive_value(cut: float) -> Measure:
    return lambda scores, events, weights: _ratio(
        weights @ ((scores >= cut) * events), weights @ (scores >= cut)
    )


def replicate_weights(sample: Sample, *, replicates: int, seed: int) -> Floats:
    """Multipliers of shape (1 + replicates, n); the first row is all ones.

    Bootstrap of a stratified cluster sample: in each stratum n − 1 of its n sampling units are
    drawn with replacement and scaled up (Rao, Wu and Yue, Survey Methodology 1992;18:209-217).
    People of one neighbourhood resemble each other, so drawing people would promise too much.
    """
    rng = np.random.default_rng(seed)
    multipliers = np.ones((replicates + 1, len(sample)))
    for stratum in np.unique(sample.strata):
        inside = sample.strata == stratum
        units = np.unique(sample.units[inside])
        if len(units) == 1:
            continue  # nothing to draw from: the unit is in every replicate
        drawn = rng.multinomial(len(units) - 1, [1 / len(units)] * len(units), size=replicates)
        factors = drawn * (len(units) / (len(units) - 1))
        position = np.searchsorted(units, sample.units[inside])
        multipliers[1:, inside] = factors[:, position]
    return multipliers


def interval(measured: Floats) -> Interval:
    """From the figure and its replicates, in that order; the percentiles of the replicates."""
    replicates = measured[1:][np.isfinite(measured[1:])]
    low, high = np.percentile(replicates, [2.5, 97.5]) if len(replicates) else (np.nan, np.nan)
    return Interval(value=float(measured[0]), low=float(low), high=float(high))


def _cumulative_rates(scores: Floats, events: Ints, weights: Floats) -> tuple[Floats, Floats]:
    """Sensitivity and false positive rate at every distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(-scores[order], prepend=-np.inf))
    ordered, happened = weights[:, order], events[order]
    found = np.cumsum(np.add.reduceat(ordered * happened, starts, axis=1), axis=1)
    false = np.cumsum(np.add.reduceat(ordered * (1 - happened), starts, axis=1), axis=1)
    return _ratio(found, found[:, -1:] + 0 * found), _ratio(false, false[:, -1:] + 0 * false)


def _both_outcomes(true: Floats, false: Floats) -> Flags:
    """In which replicates there is anybody with the outcome, and anybody without."""
    return np.isfinite(true[:, -1]) & np.isfinite(false[:, -1])


_One = Callable[[Floats, Ints, Floats], float]


def _each(measure: _One, scores: Floats, events: Ints, weights: Floats) -> Floats:
    """One replicate after the other, for measures that are fitted; rows without weight left out."""
    return np.array([_one(measure, scores, events, row) for row in weights])


def _one(measure: _One, scores: Floats, events: Ints, weights: Floats) -> float:
    drawn = weights > 0
    if not 0 < events[drawn].sum() < drawn.sum():
        return np.nan
    try:
        return measure(scores[drawn], events[drawn], weights[drawn])
    except (ArithmeticError, np.linalg.LinAlgError):
        return np.nan


def _slope(scores: Floats, events: Ints, weights: Floats) -> float:
    return float(fit_logistic(log_odds(scores), events.astype(np.float64), weights)[0])


def _intercept(scores: Floats, events: Ints, weights: Floats) -> float:
    given, nothing = log_odds(scores), np.empty((len(events), 0))
    return float(fit_logistic(nothing, events.astype(np.float64), weights, offset=given)[0])


def _ici(scores: Floats, events: Ints, weights: Floats) -> float:
    observed = smooth_observed(scores, events, weights, scores)
    return float(np.average(np.abs(observed - scores), weights=weights))


def _spline(given: Floats, knots: Floats) -> Floats:
    """Restricted cubic spline basis: linear beyond the outer knots."""
    if len(knots) < 3:
        return given[:, None]
    last, before = knots[-1], knots[-2]
    scale = (last - knots[0]) ** 2

    def cube(at: float) -> Floats:
        return np.asarray(np.maximum(given - at, 0) ** 3)

    bends = [
        (
            cube(knot)
            - cube(before) * (last - knot) / (last - before)
            + cube(last) * (before - knot) / (last - before)
        )
        / scale
        for knot in knots[:-2]
    ]
    return np.column_stack([given, *bends])


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where nobody is there to be counted."""
    out: Floats = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
