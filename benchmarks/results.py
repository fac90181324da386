"""What was measured, as it is kept in JSON: round by round, so that rounds can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.machine import Machine
from benchmarks.measures import Spread

# A rate is held if nothing is refused and 99 of 100 calls take less.
MOST_P99_MS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeResult:
    """One subject at one size of record; lists have one entry for each round.

    `rates` and `core` (ms on the core for each call) are with several connections; `medians` (ms)
    and `calm_core` with one, `p95` and `p99` of all those calls of all rounds.
    """

    subject: str
    observations: int
    kilobytes: float
    rates: list[float]
    core: list[float]
    medians: list[float]
    calm_core: list[float]
    calls: int
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheaResult:
    """The records, one client, one call after the other; milliseconds, totals in seconds."""

    title: str
    records: int
    kilobytes_median: float
    kilobytes_most: float
    service_total: float
    floor_total: float
    ratio: Spread
    service_median: float
    service_p95: float
    service_most: float
    outcomes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Seconds until ready; memory of the worker in MB, resident and at its peak; `peaks` of every
    subject's process, by name."""

    ready: Spread
    after_start: float
    after_load: float
    peak: float
    peaks: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStep:
    """One rate held for some seconds. Milliseconds, each from the moment when its call was due.

    `refused` answers other than 200; `unanswered` calls that were not sent or not answered when the
    step was given up. `late_p99`: how late the generator itself was where a connection was free.
    `service_cores` and `generator_cores`: how much of the machine each took.
    """

    offered: int
    seconds: float
    due: int
    refused: int
    unanswered: int
    median: float
    p95: float
    p99: float
    most: float
    late_p99: float
    service_cores: float
    generator_cores: float

    @property
    def held(self) -> bool:
        return not self.refused and not self.unanswered and self.p99 < MOST_P99_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class RateResult:
    """The steps of one number of workers, up to the first that was not held."""

    workers: int
    observations: int
    steps: list[RateStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySample:
    """After so many calls: resident memory of the worker and size of its store, in MB."""

    calls: int
    seconds: float
    resident: float
    store: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryResult:
    """A long run against one worker. `bytes_a_call` is the slope of resident memory over calls, by
    least squares, from `warm_up` calls on."""

    date: str
    command: str
    calls: int
    warm_up: int
    observations: int
    seconds: float
    bytes_a_call: float
    peak: float
    samples: list[MemorySample]

    @property
    def growth_mb(self) -> float:
        """What the slope makes of all calls after the warm-up."""
        return self.bytes_a_call * (self.calls - self.warm_up) / 1e6


@dataclass(slots=True, kw_only=True)
class Results:
    """Everything of one run, filled while it goes on; what was not asked for stays empty.

    `left_out`: which subject, and why. `agreement`: the largest difference between the
    probabilities that the subjects gave the same patients.
    """

    machine: Machine
    rounds: int
    connections: int
    sizes: list[SizeResult] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    agreement: float | None = None
    synthea: list[SyntheaResult] = field(default_factory=list)
    footprint: Footprint | None = None
    rates: list[RateResult] = field(default_factory=list)
    stages: dict[int, dict[str, float]] = field(default_factory=dict)

    def of(self, subject: str, observations: int) -> SizeResult | None:
        """One subject at one size, None where it was not measured."""
        return next(
            (s for s in self.sizes if (s.subject, s.observations) == (subject, observations)), None
        )
