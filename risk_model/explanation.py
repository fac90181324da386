"""Which values moved this figure, and by how much: exact TreeSHAP on the calibrated scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from risk_model.manifest import Feature


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What knowing one feature added to the log-odds, against not knowing it.

    `value` is the value as given, before clipping; None for an absent feature, whose absence may
    itself say something.
    """

    feature: str
    value: float | None
    log_odds: float


def explain(
    features: Sequence[Feature],
    values: Mapping[str, float],
    shares: Sequence[float],
    log_odds: float,
    scale: float,
) -> tuple[float, tuple[Contribution, ...]]:
    """(baseline, contributions, strongest first) that sum to `log_odds`.

    `shares` are the features' own of the margin; `scale` takes them to the calibrated log-odds: the
    slope of a sigmoid, of a bent calibration the secant (`Calibration.scale`). The baseline is what
    the calibration makes of the expected margin. XGBoost sums in 32 bits: what that leaves over
    (about 1e-6) belongs to no feature and stays in the baseline, so that the sum is exact.
    """
    contributions = [
        Contribution(feature=feature.name, value=values.get(feature.name), log_odds=scale * share)
        for feature, share in zip(features, shares, strict=True)
    ]
    baseline = log_odds - sum(entry.log_odds for entry in contributions)
    strongest_first = sorted(contributions, key=lambda entry: -abs(entry.log_odds))
    return baseline, tuple(strongest_first)
