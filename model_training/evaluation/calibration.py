"""Whether probabilities mean what they say: slope, level, distance, curve, tenths."""

from __future__ import annotations

import numpy as np

from model_training import measures
from model_training.evaluation.scored import Json, Scored, figure, rounded
from model_training.logistic import logistic
from model_training.measures import Measure, interval
from model_training.sample import Flags, Floats, Ints

_TENTHS = 10
_RISKS = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def calibration(scored: Scored, *, replicates: int, points: int) -> Json:
    """`replicates` for what must be fitted again in each; `points` of the curve."""

    def fitted(measure: Measure, *, weighted: bool) -> list[float | None]:
        return figure(scored.measure(measure, weighted=weighted, replicates=replicates))

    return {
        "slope": fitted(measures.calibration_slope, weighted=True),
        "intercept_in_the_large": fitted(measures.calibration_intercept, weighted=True),
        "observed_to_expected": figure(scored.measure(measures.observed_to_expected)),
        "ici": fitted(measures.integrated_calibration_index, weighted=True),
        "brier": figure(scored.measure(measures.brier)),
        "groups": _tenths(scored),
        "histogram": _histogram(scored),
        "curve": _smooth_curve(scored, replicates, points),
        "unweighted": {
            "slope": fitted(measures.calibration_slope, weighted=False),
            "intercept_in_the_large": fitted(measures.calibration_intercept, weighted=False),
            "observed_to_expected": figure(
                scored.measure(measures.observed_to_expected, weighted=False)
            ),
            "ici": fitted(measures.integrated_calibration_index, weighted=False),
        },
    }


def _smooth_curve(scored: Scored, replicates: int, points: int) -> list[list[float | None]]:
    """[given, observed, low, high] from the 1st to the 99th percentile of the given risks."""
    given = measures.log_odds(scored.probabilities)
    low, high = (float(end) for end in np.quantile(given, [0.01, 0.99]))
    at = logistic(np.linspace(low, high, points))

    def curve(weights: Floats) -> Floats:
        drawn = weights > 0
        if not 0 < scored.events[drawn].sum() < drawn.sum():
            return np.full(len(at), np.nan)
        try:
            return measures.smooth_observed(
                scored.probabilities[drawn], scored.events[drawn], weights[drawn], at
            )
        except (ArithmeticError, np.linalg.LinAlgError):
            return np.full(len(at), np.nan)

    curves = np.array([curve(row) for row in scored.weighted[: replicates + 1]])
    return [
        [rounded(risk, 6), *(None if v is None else rounded(v, 6) for v in _plain(points_there))]
        for risk, points_there in zip(at, curves.T, strict=True)
    ]


def _plain(measured: Floats) -> list[float | None]:
    made = interval(measured)
    return [None if np.isnan(v) else float(v) for v in (made.value, made.low, made.high)]


def _tenths(scored: Scored) -> list[Json]:
    """Groups of equal weight, from the lowest risks up."""
    weights = scored.weighted[0]
    order = np.argsort(scored.probabilities, kind="stable")
    position = np.cumsum(weights[order]) / weights.sum()
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.minimum((position * _TENTHS).astype(int), _TENTHS - 1)
    return [
        {
            "people": int(inside.sum()),
            "events": int(scored.events[inside].sum()),
            "predicted": rounded(_mean(scored.probabilities, weights, inside)),
            "observed": rounded(_mean(scored.events, weights, inside)),
        }
        for inside in (group == number for number in range(_TENTHS))
        if inside.any()
    ]


def _histogram(scored: Scored) -> list[list[float]]:
    """[low, high, weight] of bands of given risk, three to each power of ten."""
    weights = scored.weighted[0]
    shares, edges = np.histogram(scored.probabilities, bins=_RISKS, weights=weights)
    total = weights.sum()
    return [
        [low, high, rounded(share / total, 5)]
        for low, high, share in zip(edges[:-1].tolist(), edges[1:].tolist(), shares, strict=True)
    ]


def _mean(values: Floats | Ints, weights: Floats, chosen: Flags) -> float:
    return float(np.average(values[chosen], weights=weights[chosen]))
