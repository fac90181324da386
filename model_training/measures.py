"""What a set of scores is worth: discrimination, calibration, yield at a cut; intervals that
respect the survey's design.

Every measure takes a weight per person and works on a batch: scores and events of n people,
weights of shape (replicates, n), one result per replicate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_training.features import Floats, Sample

Measure = Callable[[Floats, npt.NDArray[np.int64], Floats], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def auroc(scores: Floats, events: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """The chance that a person with the outcome scores above one without; ties count half."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ordered, happened = weights[:, order], events[order]
    positive = np.add.reduceat(ordered * happened, starts, axis=1)
    negative = np.add.reduceat(ordered * (1 - happened), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs: Floats = positive.sum(axis=1) * negative.sum(axis=1)
    return _ratio((positive * below).sum(axis=1), pairs)


def observed_to_expected(scores: Floats, events: npt.NDArray[np.int64], weights: Floats) -> Floats:
    return _ratio(weights @ events, weights @ scores)


def brier(scores: Floats, events: npt.NDArray[np.int64], weights: Floats) -> Floats:
    return _ratio(weights @ (scores - events) ** 2, weights.sum(axis=1))


def prevalence(scores: Floats, events: npt.NDArray[np.int64], weights: Floats) -> Floats:
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
        drawn = rng.multinomial(len(units) - 1, [1 / len(units)] * len(units), size=replicates)
        factors = drawn * (len(units) / max(len(units) - 1, 1))
        position = np.searchsorted(units, sample.units[inside])
        multipliers[1:, inside] = factors[:, position]
    return multipliers


def interval(measured: Floats) -> Interval:
    """From the figure and its replicates, in that order; the percentiles of the replicates."""
    replicates = measured[1:][np.isfinite(measured[1:])]
    low, high = np.percentile(replicates, [2.5, 97.5]) if len(replicates) else (np.nan, np.nan)
    return Interval(value=float(measured[0]), low=float(low), high=float(high))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where nobody is there to be counted."""
    out: Floats = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
