"""The aims of the benchmarks: computed from what was measured, and honest about what was not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import report
from benchmarks.aims import Aim, aims, growth
from benchmarks.lineup import EAGER, FLOOR, HEALTHCHAIN, SERVICE
from benchmarks.machine import Machine
from benchmarks.measures import spread
from benchmarks.results import (
    Footprint,
    MemoryResult,
    MemorySample,
    RateResult,
    RateStep,
    Results,
    SizeResult,
)

MACHINE = Machine(
    cpu="a processor", cores=2, memory_gb=8.0, system="Linux", python="3.11", packages={},
    date="2026-11-20 12:00 UTC", command="make bench", load=0.1, fsync_ms=0.2,
)  # fmt: skip


def a_size(subject: str, observations: int, **changed: Any) -> SizeResult:
    values: dict[str, Any] = {
        "kilobytes": 80.0,
        "rates": [100.0, 100.0],
        "core": [1.0, 1.0],
        "medians": [2.0, 2.0],
        "calm_core": [1.0, 1.0],
        "calls": 100,
        "p95": 3.0,
        "p99": 4.0,
    }
    return SizeResult(subject=subject, observations=observations, **values | changed)


def a_step(offered: int, **changed: Any) -> RateStep:
    values: dict[str, Any] = {
        "seconds": 10.0, "due": offered * 10, "refused": 0, "unanswered": 0, "median": 3.0,
        "p95": 20.0, "p99": 60.0, "most": 120.0, "late_p99": 1.0, "service_cores": 0.9,
        "generator_cores": 0.3,
    }  # fmt: skip
    return RateStep(offered=offered, **values | changed)


def all_reached() -> Results:
    sizes = [
        a_size(FLOOR, 100, medians=[1.0, 1.0]),
        a_size(SERVICE, 100, rates=[50.0, 50.0], medians=[3.4, 3.4]),
        a_size(FLOOR, 1000),
        a_size(SERVICE, 1000, rates=[60.0, 61.0]),
        a_size(EAGER, 1000, rates=[3.0, 3.0]),
        a_size(SERVICE, 250, rates=[400.0, 400.0]),
        a_size(HEALTHCHAIN, 250, rates=[40.0, 40.0]),
        a_size(SERVICE, 500, medians=[2.0, 2.0], calm_core=[1.5, 1.5]),
        a_size(SERVICE, 5000, medians=[20.0, 22.0], calm_core=[15.0, 15.0]),
    ]
    return Results(
        machine=MACHINE,
        rounds=2,
        connections=8,
        sizes=sizes,
        agreement=1e-7,
        footprint=Footprint(
            ready=spread([1.5, 1.6]),
            after_start=120.0,
            after_load=150.0,
            peak=190.0,
            peaks={SERVICE: 190.0},
        ),
        rates=[RateResult(workers=2, observations=20, steps=[a_step(100), a_step(1000)])],
    )


def a_long_run(**changed: Any) -> MemoryResult:
    values: dict[str, Any] = {
        "date": "2026-11-20", "command": "c", "calls": 1_000_000, "warm_up": 100_000,
        "observations": 20, "seconds": 900.0, "bytes_a_call": 0.5, "peak": 150.0,
        "samples": [MemorySample(calls=1000, seconds=1.0, resident=150.0, store=10.0)],
    }  # fmt: skip
    return MemoryResult(**values | changed)


def the(found: list[Aim], what: str) -> Aim:
    return next(aim for aim in found if what in aim.what)


def test_every_aim_of_the_issue_is_in_the_table_and_can_be_reached() -> None:
    found = aims(all_reached(), a_long_run())
    assert len(found) == 11
    assert [aim.what for aim in found if not aim.reached] == []


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    found = aims(Results(machine=MACHINE, rounds=1, connections=8), None)
    assert {aim.reached for aim in found} == {None}
    assert {aim.measured for aim in found} == {"not measured in this run"}


def test_a_subject_that_was_left_out_is_named_with_its_reason() -> None:
    results = Results(
        machine=MACHINE, rounds=1, connections=8, left_out={HEALTHCHAIN: "no network"}
    )
    assert the(aims(results, None), "250 Observations").measured == "left out: no network"
    assert any("no network" in line for line in report.left_out(results))


@pytest.mark.parametrize(
    ("size", "changed", "what"),
    [
        ((SERVICE, 100), {"rates": [49.0, 49.0]}, "throughput, 100"),
        ((SERVICE, 1000), {"rates": [59.0, 59.0]}, "throughput, 1,000"),
        ((HEALTHCHAIN, 250), {"rates": [41.0, 41.0]}, "throughput, 250"),
        ((SERVICE, 100), {"medians": [3.5, 3.6]}, "median service time"),
        ((SERVICE, 5000), {"medians": [21.1, 21.1]}, "growth"),
    ],
)
def test_an_aim_that_was_missed_says_so(
    size: tuple[str, int], changed: dict[str, Any], what: str
) -> None:
    results = all_reached()
    results.sizes = [
        replace(one, **changed) if (one.subject, one.observations) == size else one
        for one in results.sizes
    ]
    assert the(aims(results, None), what).reached is False


@pytest.mark.parametrize(
    "changed", [{"refused": 1}, {"unanswered": 1}, {"p99": 100.0}, {"p99": 250.0}]
)
def test_a_rate_that_was_not_held_gives_the_highest_that_was(changed: dict[str, Any]) -> None:
    results = all_reached()
    steps = [a_step(100), a_step(750), a_step(1000, **changed)]
    results.rates = [RateResult(workers=1, observations=20, steps=steps)]
    aim = the(aims(results, None), "1,000 calls/s")
    assert aim.reached is False
    assert aim.measured.startswith("highest rate held 750 calls/s")


def test_the_usual_hospital_test_is_about_the_longest_call() -> None:
    results = all_reached()
    results.rates = [RateResult(workers=1, observations=20, steps=[a_step(100, most=500.0)])]
    assert the(aims(results, None), "usual").reached is False


def test_memory_is_flat_over_a_million_calls_or_not_known() -> None:
    results = all_reached()
    assert the(aims(results, a_long_run(bytes_a_call=12.0)), "million").reached is False
    assert the(aims(results, a_long_run(calls=5000)), "million").reached is None


def test_growth_is_a_ratio_of_rounds() -> None:
    found = growth(all_reached(), SERVICE, 500, 5000)
    assert found is not None
    assert (found.time.least, found.time.most, found.core.median) == (10.0, 11.0, 10.0)


def test_documents_get_the_aims_every_subject_and_the_setting() -> None:
    blocks = report.blocks(all_reached(), a_long_run())
    assert "| throughput, 100 Observations | ≥ 0.50 of the floor's | 0.50" in blocks["summary"]
    assert "| HealthChain 0.15 | – | 40 |" not in blocks["summary"]  # without a floor, no share
    assert "a processor, 2 cores" in blocks["summary"]
    assert "alternating rounds" in blocks["summary"]
    assert "Growth from 500 to 5,000" in blocks["report"]
    assert "Calls offered at fixed moments" in blocks["report"]
    rows = [line for line in blocks["summary"].splitlines() if line.startswith("|")]
    assert len(rows) > 10
