"""Alternating rounds: every subject at every size in every round, the same calls for all of them.

So that a busy minute falls on all of them, and ratios can be taken round by round. A slow subject
is sent fewer of the calls than a fast one: a slice is to take about as long for each.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks import calls
from benchmarks.lineup import LineUp, in_turn
from benchmarks.load import Slice, drive
from benchmarks.measures import percentile
from benchmarks.results import SizeResult
from benchmarks.subjects import Subject

# Bounds of a slice: enough for a median; not so many that making the calls takes longer than they.
LEAST_CALLS, MOST_CALLS, MOST_OBSERVATIONS = 8, 1000, 40_000
WARM_UP_OBSERVATIONS, MOST_WARM_UP = 8_000, 200


@dataclass(slots=True)
class Series:
    """The slices of one subject at one size, with several connections and with one."""

    busy: list[Slice] = field(default_factory=list)
    calm: list[Slice] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How many calls one subject gets at one size: busy, and calm."""

    busy: int
    calm: int


def calls_of(seconds: float, per_second: float, observations: int) -> int:
    """As many as take about `seconds`, within the bounds of a slice."""
    most = max(LEAST_CALLS, min(MOST_CALLS, MOST_OBSERVATIONS // observations))
    return max(LEAST_CALLS, min(most, round(seconds * per_second)))


def warm_up_calls(observations: int) -> int:
    return max(LEAST_CALLS, min(MOST_WARM_UP, WARM_UP_OBSERVATIONS // observations))


class Measurement:
    """All rounds; `run` gives what came of them. Raises SubjectFailed unless every call was
    scored."""

    def __init__(
        self, line_up: LineUp, sizes: Sequence[int], *, connections: int, seconds: float
    ) -> None:
        self._line_up, self._sizes = line_up, sizes
        self._connections, self._seconds = connections, seconds
        self._lengths: dict[tuple[int, str], Length] = {}
        self._series: dict[tuple[int, str], Series] = {}
        self._kilobytes: dict[int, float] = {}
        self._sent: dict[str, int] = {}

    def run(self, rounds: int, step: Callable[[str], None]) -> list[SizeResult]:
        counting = [subject for subject in self._line_up.present.values() if subject.counts]
        before = {subject.name: subject.scored() for subject in counting}
        for turn in range(rounds + 1):
            for size in self._sizes:
                what = f"round {turn} of {rounds}" if turn else "warm-up"
                step(f"{size} Observations, {what}")
                self._round(size, turn)
        for subject in counting:
            scored, sent = subject.scored() - before[subject.name], self._sent[subject.name]
            if scored != sent:
                raise subject.failed(f"was sent {sent} calls and scored {scored}")
        return [
            self._result(size, subject.name)
            for size in self._sizes
            for subject in self._line_up.at(size)
        ]

    def _round(self, size: int, turn: int) -> None:
        present = self._line_up.at(size)
        even = Length(busy=warm_up_calls(size), calm=warm_up_calls(size))
        lengths = {s.name: self._lengths.get((size, s.name), even) for s in present}
        most = max(length.busy for length in lengths.values())
        bodies = self._bodies(size, turn, most + max(length.calm for length in lengths.values()))
        for subject in in_turn(present, turn):
            length = lengths[subject.name]
            busy = drive(subject, bodies[: length.busy], connections=self._connections)
            calm = drive(subject, bodies[most : most + length.calm], connections=1)
            self._sent[subject.name] = (
                self._sent.get(subject.name, 0) + len(busy.latencies) + len(calm.latencies)
            )
            if turn:
                series = self._series.setdefault((size, subject.name), Series())
                series.busy.append(busy)
                series.calm.append(calm)
            else:
                self._lengths[size, subject.name] = self._length(size, busy, calm)

    def _length(self, size: int, busy: Slice, calm: Slice) -> Length:
        return Length(
            busy=calls_of(self._seconds, busy.per_second, size),
            calm=calls_of(self._seconds, calm.per_second, size),
        )

    def _bodies(self, size: int, turn: int, count: int) -> list[bytes]:
        """New patients in every round: a known patient would be a repeat, and cheaper."""
        seed = f"{time.time_ns()}-{turn}"
        made = list(calls.bodies(count, observations=size, seed=seed, now=calls.utc_now()))
        self._kilobytes[size] = statistics.median(map(len, made)) / 1000
        return made

    def _result(self, size: int, name: str) -> SizeResult:
        series = self._series[size, name]
        alone = [latency * 1000 for one in series.calm for latency in one.latencies]
        return SizeResult(
            subject=name,
            observations=size,
            kilobytes=self._kilobytes[size],
            rates=[one.per_second for one in series.busy],
            core=[one.cpu_per_call * 1000 for one in series.busy],
            medians=[statistics.median(one.latencies) * 1000 for one in series.calm],
            calm_core=[one.cpu_per_call * 1000 for one in series.calm],
            calls=sum(len(one.latencies) for one in (*series.busy, *series.calm)),
            p95=percentile(alone, 0.95),
            p99=percentile(alone, 0.99),
        )


def alternate(subjects: Sequence[Subject], turn: int, bodies: Sequence[bytes]) -> dict[str, Slice]:
    """The same calls for each, one client; who goes first alternates by `turn`."""
    return {s.name: drive(s, bodies, connections=1) for s in in_turn(subjects, turn)}
