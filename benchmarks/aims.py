"""What was to be reached, what was measured, and whether it was reached: all of it computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.lineup import EAGER, FLOOR, HEALTHCHAIN, SERVICE
from benchmarks.measures import Spread, ratios, spread
from benchmarks.results import MOST_P99_MS, MemoryResult, RateStep, Results

NOT_MEASURED = "not measured in this run"
WANTED_RATE, USUAL_RATE, USUAL_MS = 1000, 100, 500
FLAT_BYTES_A_CALL = 10.0
A_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """`reached` None: not measured, or not in a way that could tell."""

    what: str
    aim: str
    measured: str
    reached: bool | None


def aims(results: Results, memory: MemoryResult | None) -> list[Aim]:
    """In the order of the issue that set them."""
    return [
        _throughput(results, FLOOR, 100, 0.50, "of the floor's"),
        _throughput(results, FLOOR, 1000, 0.60, "of the floor's"),
        _throughput(results, EAGER, 1000, 20, "times eager's"),
        _throughput(results, HEALTHCHAIN, 250, 10, "times HealthChain 0.15's"),
        _added(results, 100, 2.5),
        _growth(results, 500, 5000, 10.5),
        _rate(results),
        _usual(results),
        *_footprint(results),
        _flat(memory),
    ]


def over(results: Results, subject: str, observations: int) -> Spread | None:
    """The service's calls a second over a subject's, round by round."""
    service, other = results.of(SERVICE, observations), results.of(subject, observations)
    return ratios(service.rates, other.rates) if service and other else None


def added(results: Results, subject: str, observations: int) -> Spread | None:
    """Milliseconds that one call takes a subject longer than the floor, round by round."""
    one, floor = results.of(subject, observations), results.of(FLOOR, observations)
    if not one or not floor:
        return None
    return spread([mine - its for mine, its in zip(one.medians, floor.medians, strict=True)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How many times as long one call of the larger size takes: by the clock, and on the core."""

    time: Spread
    core: Spread


def growth(results: Results, subject: str, small: int, large: int) -> Growth | None:
    """One client; None where one of the sizes was not measured."""
    few, many = results.of(subject, small), results.of(subject, large)
    if not few or not many:
        return None
    return Growth(
        time=ratios(many.medians, few.medians), core=ratios(many.calm_core, few.calm_core)
    )


def _throughput(results: Results, other: str, size: int, aim: float, of_what: str) -> Aim:
    found = over(results, other, size)
    missing = results.left_out.get(other)
    decimals = 2 if aim < 1 else 1
    return Aim(
        what=f"throughput, {size:,} Observations",
        aim=f"≥ {aim:.{decimals if aim < 1 else 0}f} {of_what}",
        measured=_median_and_range(found, decimals) if found else _missing(missing),
        reached=found.median >= aim if found else None,
    )


def _added(results: Results, size: int, aim: float) -> Aim:
    found = added(results, SERVICE, size)
    return Aim(
        what=f"median service time, {size} Observations, one client",
        aim=f"< {aim:g} ms over the floor's",
        measured=f"{_median_and_range(found, 2)} ms" if found else NOT_MEASURED,
        reached=found.median < aim if found else None,
    )


def _growth(results: Results, small: int, large: int, aim: float) -> Aim:
    found = growth(results, SERVICE, small, large)
    return Aim(
        what=f"growth from {small} to {large:,} Observations",
        aim=f"≤ {aim:g} times",
        measured=(
            f"{found.time.median:.1f} times the time, {found.core.median:.1f} the time on the core"
            if found
            else NOT_MEASURED
        ),
        reached=found.time.median <= aim if found else None,
    )


def steps_at(results: Results, offered: int) -> Iterator[tuple[int, RateStep]]:
    """(workers, step) of every climb that came to a rate."""
    for climb in results.rates:
        for step in climb.steps:
            if step.offered == offered:
                yield climb.workers, step


def _rate(results: Results) -> Aim:
    held = [
        (step.offered, -step.p99, climb.workers)
        for climb in results.rates
        for step in climb.steps
        if step.held
    ]
    best = max(held, default=None)
    at_rate = [step for _, step in steps_at(results, WANTED_RATE)]
    return Aim(
        what=f"{WANTED_RATE:,} calls/s of 20 Observations offered to the whole machine",
        aim=f"nothing refused, p99 < {MOST_P99_MS:g} ms",
        measured=(
            f"highest rate held {best[0]:,} calls/s, p99 {-best[1]:.0f} ms, {_workers(best[2])}"
            if best
            else ("no rate was held" if results.rates else NOT_MEASURED)
        ),
        reached=any(step.held for step in at_rate) if results.rates else None,
    )


def _usual(results: Results) -> Aim:
    found = list(steps_at(results, USUAL_RATE))
    longest = max((step.most for _, step in found), default=0.0)
    return Aim(
        what=f"the usual hospital test: {USUAL_RATE} calls/s",
        aim=f"each under {USUAL_MS} ms",
        measured=f"longest {longest:.0f} ms" if found else NOT_MEASURED,
        reached=(
            all(not s.refused and not s.unanswered for _, s in found) and longest < USUAL_MS
            if found
            else None
        ),
    )


def _footprint(results: Results) -> Iterator[Aim]:
    found = results.footprint
    yield Aim(
        what="ready after start",
        aim="< 2 s",
        measured=f"{_median_and_range(found.ready, 2)} s" if found else NOT_MEASURED,
        reached=found.ready.median < 2 if found else None,
    )
    yield Aim(
        what="memory of a worker",
        aim="< 200 MB",
        measured=(
            f"{found.after_load:.0f} MB after the load, {found.peak:.0f} MB at its peak"
            if found
            else NOT_MEASURED
        ),
        reached=found.after_load < 200 if found else None,
    )


def _flat(memory: MemoryResult | None) -> Aim:
    whole = memory is not None and memory.calls >= A_MILLION
    return Aim(
        what="a million identical-shape calls",
        aim=f"memory flat: < {FLAT_BYTES_A_CALL:g} bytes a call",
        measured=(
            f"{memory.bytes_a_call:+.1f} bytes a call over {memory.calls:,} calls ({memory.date})"
            if memory
            else NOT_MEASURED
        ),
        reached=abs(memory.bytes_a_call) < FLAT_BYTES_A_CALL if memory and whole else None,
    )


def _median_and_range(found: Spread, decimals: int) -> str:
    median, least, most = (f"{f:.{decimals}f}" for f in (found.median, found.least, found.most))
    return f"{median} ({least}–{most})"


def _missing(why: str | None) -> str:
    return f"left out: {why}" if why else NOT_MEASURED


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"
