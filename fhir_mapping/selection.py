"""From many usable results to one value: windows, statistics and tie-breaks.

Everything here is independent of the order in which results arrive, and holds no more than the
statistic needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from fhir_mapping.units import rounding
from fhir_mapping.vector import (
    REASON_ORDER,
    Absent,
    AbsentReason,
    Bound,
    Effective,
    Present,
    Source,
)

OrderKey = tuple[datetime, int, datetime, float, str]
EARLIEST = datetime.min.replace(tzinfo=UTC)
STATISTICS = ("latest", "min", "max", "mean", "count", "slope")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A usable result. `order` makes "latest" one and the same for every order of arrival:
    effective time, corrected after original, issued, value, reference."""

    value: float
    effective: Effective
    order: OrderKey
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One number wanted: a concept, over a look-back window, by a statistic.

    `look_back` None: of any age. `plausible` in `unit`. `name` is the feature's.
    """

    name: str
    concept: str
    unit: str
    decimals: int
    statistic: str
    look_back: timedelta | None
    plausible: tuple[float, float]

    def admits(self, effective: Effective, as_of: datetime) -> bool:
        """Whether all of the time in question lies inside the window."""
        return self.look_back is None or effective.earliest >= as_of - self.look_back

    def is_plausible(self, value: float) -> bool:
        return self.plausible[0] <= value <= self.plausible[1]


class Statistic(Protocol):
    def add(self, candidate: Candidate) -> None: ...
    def result(self) -> tuple[float, tuple[Source, ...]] | None: ...


@dataclass(slots=True)
class Latest:
    best: Candidate | None = None

    def add(self, candidate: Candidate) -> None:
        if self.best is None or candidate.order > self.best.order:
            self.best = candidate

    def result(self) -> tuple[float, tuple[Source, ...]] | None:
        return (self.best.value, (self.best.source,)) if self.best else None


@dataclass(slots=True)
class Extreme:
    """`sign` +1: the greatest value, -1: the least; the later of equals."""

    sign: int
    best: Candidate | None = None

    def add(self, candidate: Candidate) -> None:
        rank = (self.sign * candidate.value, candidate.order)
        if self.best is None or rank > (self.sign * self.best.value, self.best.order):
            self.best = candidate

    def result(self) -> tuple[float, tuple[Source, ...]] | None:
        return (self.best.value, (self.best.source,)) if self.best else None


@dataclass(slots=True)
class Windowed:
    """mean, count and slope need every result in the window, each once.

    The same resource may arrive under two prefetch keys; the order key tells repeats apart.
    """

    statistic: str
    decimals: int
    as_of: datetime
    results: dict[OrderKey, Candidate] = field(default_factory=dict)

    def add(self, candidate: Candidate) -> None:
        self.results[candidate.order] = candidate

    def result(self) -> tuple[float, tuple[Source, ...]] | None:
        found = [self.results[order] for order in sorted(self.results)]
        if self.statistic == "count":
            return float(len(found)), tuple(c.source for c in found)
        value = self._mean(found) if self.statistic == "mean" else self._slope(found)
        return None if value is None else (value, tuple(c.source for c in found))

    def _mean(self, found: list[Candidate]) -> float | None:
        if not found:
            return None
        # Two places beyond the concept's own: a mean of rounded values knows no more.
        return rounding(self.decimals + 2)(sum(c.value for c in found) / len(found))

    def _slope(self, found: list[Candidate]) -> float | None:
        """Least squares, per day; undefined for fewer than two moments."""
        days = [(c.effective.earliest - self.as_of) / timedelta(days=1) for c in found]
        if len(set(days)) < 2:
            return None
        centre = sum(days) / len(days)
        level = sum(c.value for c in found) / len(found)
        spread = sum((d - centre) ** 2 for d in days)
        return (
            sum((d - centre) * (c.value - level) for d, c in zip(days, found, strict=True)) / spread
        )


@dataclass(slots=True)
class Distinct:
    """The latest result of each value: what a derived concept may choose its ingredient from."""

    by_value: dict[float, Candidate] = field(default_factory=dict)

    def add(self, candidate: Candidate) -> None:
        held = self.by_value.get(candidate.value)
        if held is None or candidate.order > held.order:
            self.by_value[candidate.value] = candidate

    def latest_first(self) -> Iterator[Candidate]:
        return iter(sorted(self.by_value.values(), key=lambda c: c.order, reverse=True))

    def result(self) -> tuple[float, tuple[Source, ...]] | None:
        first = next(self.latest_first(), None)
        return (first.value, (first.source,)) if first else None


def statistic_for(slot: Slot, as_of: datetime) -> Statistic:
    match slot.statistic:
        case "latest":
            return Latest()
        case "min":
            return Extreme(-1)
        case "max":
            return Extreme(1)
        case "distinct":
            return Distinct()
        case _:
            return Windowed(slot.statistic, slot.decimals, as_of)


@dataclass(slots=True)
class Selection:
    """What one slot has seen so far."""

    slot: Slot
    statistic: Statistic
    reason: AbsentReason = AbsentReason.NOT_RECORDED
    stale: Effective | None = None
    bound: tuple[OrderKey, Bound] | None = None

    def refuse(self, reason: AbsentReason, effective: Effective | None = None) -> None:
        """Keeps the reason of whichever result got furthest, and the newest of those too old."""
        if REASON_ORDER[reason] > REASON_ORDER[self.reason]:
            self.reason = reason
        if (
            reason is AbsentReason.TOO_OLD
            and effective
            and (self.stale is None or _later(effective, self.stale))
        ):
            self.stale = effective

    def offer_bound(self, order: OrderKey, bound: Bound) -> None:
        if self.bound is None or order > self.bound[0]:
            self.bound = (order, bound)

    def entry(self) -> Present | Absent:
        found = self.statistic.result()
        if found is None:
            return Absent(name=self.slot.name, reason=self.reason, effective=self.stale)
        value, sources = found
        return Present(name=self.slot.name, value=value, unit=self.slot.unit, sources=sources)


def _later(one: Effective, other: Effective) -> bool:
    return (one.earliest, one.latest, one.text) > (other.earliest, other.latest, other.text)
