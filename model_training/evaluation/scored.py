"""People and what they were given, measured: the figures of the report, [value, low, high]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model_training.measures import Interval, Measure, interval
from model_training.sample import Flags, Floats, Ints

Json = dict[str, Any]
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """People, the probabilities (or scores) they were given, and replicate weights.

    `everyone` counts each person once, `weighted` as many as they stand for; both are of shape
    (1 + replicates, n), the first row the people as they are.
    """

    probabilities: Floats
    events: Ints
    everyone: Floats
    weighted: Floats

    def only(self, chosen: Flags) -> Scored:
        return Scored(
            probabilities=self.probabilities[chosen],
            events=self.events[chosen],
            everyone=self.everyone[:, chosen],
            weighted=self.weighted[:, chosen],
        )

    def given(self, scores: Floats) -> Scored:
        """The same people with other scores."""
        return replace(self, probabilities=scores)

    def measure(
        self, measure: Measure, *, weighted: bool = True, replicates: int | None = None
    ) -> Interval:
        weights = self.weighted if weighted else self.everyone
        kept = None if replicates is None else replicates + 1
        return interval(measure(self.probabilities, self.events, weights[:kept]))


def figure(entry: Interval) -> list[float | None]:
    """As it stands in the report: null where it cannot be told."""
    return [
        None if np.isnan(value) else rounded(value)
        for value in (entry.value, entry.low, entry.high)
    ]


def rounded(value: float, digits: int = _DIGITS) -> float:
    # + 0.0 turns the negative zero, which JSON would show, into zero.
    return round(float(value), digits) + 0.0
