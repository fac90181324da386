"""The arithmetic of the benchmarks: medians, percentiles, and ratios taken round by round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure that was measured several times: its median, and how far the rounds lay apart."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError for no values."""
    if not values:
        raise ValueError("nothing was measured")
    return Spread(median=statistics.median(values), least=min(values), most=max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed.

    Nearest rank: always a value that was measured. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("nothing was measured")
    rank = max(1, math.ceil(share * len(values)))
    return sorted(values)[rank - 1]


def ratios(subject: Sequence[float], floor: Sequence[float]) -> Spread:
    """Subject over floor, each round against the same round's floor.

    What a busy neighbour takes from both in one round then cancels out, as it does not in a ratio
    of two medians. Raises ValueError where the rounds do not pair up.
    """
    return spread([one / other for one, other in zip(subject, floor, strict=True)])
