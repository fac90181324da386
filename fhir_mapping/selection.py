"""From many usable results to one value: windows, statistics and tie-breaks.

Everything here is independent of the order in which results arrive, and holds no more results than
the statistic needs, each with its Observation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

from fhir_mapping.resources import Reading, reference_to
from fhir_mapping.times import at_instant, in_utc, read_datetime
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


# Report and Candidate are not frozen: a record makes thousands, and to freeze one doubles its cost.
@dataclass(slots=True, eq=False)
class Report:
    """An Observation that may be used: it is this patient's, and of the past.

    `period` None: it is of an instant. Only the time is read at once, as it alone decides between
    most results; the rest when it is asked for.
    """

    observation: Mapping[str, Any]
    earliest: datetime
    period: Effective | None
    zone: tzinfo
    known_rank: tuple[int, datetime, str] | None = None

    @property
    def effective(self) -> Effective:
        return self.period or at_instant(self.observation["effectiveDateTime"], self.earliest)

    @property
    def reference(self) -> str | None:
        return reference_to(self.observation)

    def rank(self) -> tuple[int, datetime, str]:
        """Among results of one time: corrected after original, when issued, reference."""
        if self.known_rank is None:
            is_correction = str(self.observation["status"]).strip() != "final"
            issued = read_datetime(self.observation.get("issued"), self.zone)
            self.known_rank = (
                int(is_correction),
                issued.earliest if issued else EARLIEST,
                self.reference or "",
            )
        return self.known_rank


@dataclass(slots=True, eq=False)
class Candidate:
    """A usable result of a concept that is called `title`."""

    value: float
    report: Report
    reading: Reading
    title: str

    def order(self) -> OrderKey:
        """Makes "latest" one and the same for every order of arrival: effective time, corrected
        after original, issued, value, reference."""
        is_correction, issued, reference = self.report.rank()
        return self.report.earliest, is_correction, issued, self.value, reference

    def is_after(self, other: "Candidate") -> bool:
        """`order() > other.order()`, of which the first part mostly decides."""
        one, another = self.report.earliest, other.report.earliest
        return one > another if one != another else self.order() > other.order()

    def source(self) -> Source:
        return Source(
            reference=self.report.reference,
            effective=self.report.effective,
            recorded_value=self.reading.recorded_value,
            recorded_unit=self.reading.recorded_unit,
            title=self.title,
        )


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

    def since(self, as_of: datetime) -> datetime:
        """Where the window begins: what is admitted lies in it from its earliest moment on."""
        return EARLIEST if self.look_back is None else in_utc(as_of - self.look_back)

    def is_plausible(self, value: float) -> bool:
        return self.plausible[0] <= value <= self.plausible[1]


class Statistic(Protocol):
    def add(self, candidate: Candidate) -> None: ...
    def result(self) -> tuple[float, tuple[Source, ...]] | None: ...


@dataclass(slots=True)
class Latest:
    best: Candidate | None = None

    def add(self, candidate: Candidate) -> None:
        if self.best is None or candidate.is_after(self.best):
            self.best = candidate

    def result(self) -> tuple[float, tuple[Source, ...]] | None:
        return (self.best.value, (self.best.source(),)) if self.best else None


@dataclass(slots=True)
class Extreme:
    """`sign` +1: the greatest value, -1: the least; the later of equals."""

    sign: int
    best: Candidate | None = None

    def add(self, candidate: Candidate) -> None:
        if self.best is None or self._beats(candidate, self.best):
            self.best = candidate

    def _beats(self, one: Candidate, other: Candidate) -> bool:
        if one.value != other.value:
            return self.sign * one.value > self.sign * other.value
        return one.is_after(other)

    def result(self) -> tuple[float, tuple[Source, ...]] | None:
        return (self.best.value, (self.best.source(),)) if self.best else None


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
        self.results[candidate.order()] = candidate

    def result(self) -> tuple[float, tuple[Source, ...]] | None:
        found = [self.results[order] for order in sorted(self.results)]
        if self.statistic == "count":
            return float(len(found)), tuple(c.source() for c in found)
        value = self._mean(found) if self.statistic == "mean" else self._slope(found)
        return None if value is None else (value, tuple(c.source() for c in found))

    def _mean(self, found: list[Candidate]) -> float | None:
        if not found:
            return None
        # Two places beyond the concept's own: a mean of rounded values knows no more.
        return rounding(self.decimals + 2)(sum(c.value for c in found) / len(found))

    def _slope(self, found: list[Candidate]) -> float | None:
        """Least squares, per day; undefined for fewer than two moments."""
        days = [(c.report.earliest - self.as_of) / timedelta(days=1) for c in found]
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
        if held is None or candidate.is_after(held):
            self.by_value[candidate.value] = candidate

    def latest_first(self) -> Iterator[Candidate]:
        return iter(sorted(self.by_value.values(), key=Candidate.order, reverse=True))

    def result(self) -> tuple[float, tuple[Source, ...]] | None:
        first = next(self.latest_first(), None)
        return (first.value, (first.source(),)) if first else None


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
    """What one slot has seen so far. `as_of` is the moment that its window ends at."""

    slot: Slot
    as_of: datetime
    statistic: Statistic
    reason: AbsentReason = AbsentReason.NOT_RECORDED
    since: datetime | None = None
    stale: Effective | None = None
    bound: tuple[OrderKey, Bound] | None = None

    def offer(self, candidate: Candidate) -> None:
        if self.since is None:
            self.since = self.slot.since(self.as_of)
        if not self.slot.is_plausible(candidate.value):
            self.refuse(AbsentReason.IMPLAUSIBLE)
        elif candidate.report.earliest < self.since:
            self.refuse(AbsentReason.TOO_OLD, candidate.report.effective)
        elif candidate.reading.comparator is not None:
            self.refuse(AbsentReason.COMPARATOR)
            self._offer_bound(candidate, candidate.reading.comparator)
        else:
            self.statistic.add(candidate)

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

    def _offer_bound(self, candidate: Candidate, comparator: str) -> None:
        order = candidate.order()
        if self.bound is None or order > self.bound[0]:
            bound = Bound(
                name=self.slot.name,
                comparator=comparator,
                value=candidate.value,
                unit=self.slot.unit,
                source=candidate.source(),
            )
            self.bound = (order, bound)

    def entry(self) -> Present | Absent:
        found = self.statistic.result()
        if found is None:
            return Absent(name=self.slot.name, reason=self.reason, effective=self.stale)
        value, sources = found
        return Present(name=self.slot.name, value=value, unit=self.slot.unit, sources=sources)


@dataclass(slots=True)
class Selections:
    """All slots that read one concept.

    `settled_before`: a result from before this moment changes nothing any more. It is set where
    each slot wants its latest result, and has one of that time or a later: what is left of an older
    one is the reason why a value is absent, and none is. Not where a bound would count beside a
    value (`bounds_count`).
    """

    each: list[Selection]
    bounds_count: bool = False
    settled_before: datetime | None = None

    def refuse(self, reason: AbsentReason) -> None:
        for selection in self.each:
            selection.refuse(reason)

    def offer(self, candidate: Candidate) -> None:
        for selection in self.each:
            selection.offer(candidate)
        self.settled_before = None if self.bounds_count else self._settled_before()

    def _settled_before(self) -> datetime | None:
        earliest = None
        for selection in self.each:
            statistic = selection.statistic
            if not isinstance(statistic, Latest) or statistic.best is None:
                return None
            moment = statistic.best.report.earliest
            if earliest is None or moment < earliest:
                earliest = moment
        return earliest


def _later(one: Effective, other: Effective) -> bool:
    return (one.earliest, one.latest, one.text) > (other.earliest, other.latest, other.text)
