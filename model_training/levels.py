"""Where a risk becomes worth a card: cuts chosen by the recipe's rule, on the tune people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_training.features import Floats, Sample
from model_training.measures import flagged_share, positive_predictive_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Lowest probability of each level."""

    moderate: float
    high: float


def choose_cuts(probabilities: Floats, tune: Sample, rule: Mapping[str, Any]) -> Cuts:
    """The lowest cuts on the grid that keep the alert budget and reach the predictive value."""
    weights = tune.weights[None, :]
    steps = round(1 / rule["step"])
    grid = [round(step * rule["step"], 6) for step in range(1, steps)]
    moderate = next(
        cut
        for cut in grid
        if flagged_share(cut)(probabilities, tune.events, weights)[0] <= rule["alert_budget"]
    )
    high = next(
        cut
        for cut in grid
        if cut > moderate
        and _value_at(cut, probabilities, tune, weights) >= rule["high_positive_predictive_value"]
    )
    return Cuts(moderate=moderate, high=high)


def rationale(cuts: Cuts, cycles: list[str], rule: Mapping[str, Any]) -> str:
    return (
        f"Cuts on a grid of {rule['step']:g}, chosen on people of NHANES {cycles[0][:4]}–"
        f"{cycles[-1][-4:]} with survey weights, records as they are; nobody of the test cycle "
        f"was looked at. Moderate from {cuts.moderate:g}: the lowest cut that alerts at most "
        f"{rule['alert_budget']:.0%} of adults without known diabetes. High from {cuts.high:g}: "
        f"the lowest cut at and above which at least {rule['high_positive_predictive_value']:.0%} "
        "have an HbA1c of 6.5 % or more."
    )


def _value_at(cut: float, probabilities: Floats, tune: Sample, weights: Floats) -> float:
    return float(
        np.nan_to_num(positive_predictive_value(cut)(probabilities, tune.events, weights)[0])
    )
