"""The Synthea records, each posted as an EHR would send it: as recorded, and moved to today."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import orjson

from benchmarks import calls, synthea
from benchmarks.lineup import LineUp
from benchmarks.load import Slice
from benchmarks.measures import percentile, ratios
from benchmarks.results import SyntheaResult
from benchmarks.rounds import alternate
from benchmarks.subjects import get

ROUNDS = 3


def measure_records(
    line_up: LineUp, records: list[list[synthea.Resource]], step: Callable[[str], None]
) -> list[SyntheaResult]:
    """Service and floor, one client."""
    services = orjson.loads(get(line_up.service.port, "/cds-services")[1])["services"]
    recorded = [synthea.body(services[0]["prefetch"], resources) for resources in records]
    behind = synthea.days_until(calls.utc_now().date())

    def newest_before(days: int) -> list[bytes]:
        return [synthea.moved(body, behind - days) for body in recorded]

    return [
        _measured("as recorded", line_up, lambda _turn: recorded, step),
        # Another day in each round: the same results once more would be a repeat, not a new call.
        _measured("moved to today", line_up, lambda turn: newest_before(turn + 1), step),
    ]


def _measured(
    title: str,
    line_up: LineUp,
    bodies_of: Callable[[int], list[bytes]],
    step: Callable[[str], None],
) -> SyntheaResult:
    floor: list[Slice] = []
    service: list[Slice] = []
    before = line_up.service.outcomes()
    for turn in range(ROUNDS):
        step(f"Synthea records {title}, round {turn + 1}")
        bodies = bodies_of(turn)
        taken = alternate([line_up.floor, line_up.service], turn, bodies)
        floor.append(taken[line_up.floor.name])
        service.append(taken[line_up.service.name])
    outcomes = {
        name: (count - before.get(name, 0)) // ROUNDS
        for name, count in line_up.service.outcomes().items()
    }
    # Per record the median of its rounds: one record is slow because it is long, not by chance.
    per_record = [
        statistics.median(times) * 1000
        for times in zip(*(one.latencies for one in service), strict=True)
    ]
    return SyntheaResult(
        title=title,
        records=len(bodies),
        kilobytes_median=statistics.median(map(len, bodies)) / 1000,
        kilobytes_most=max(map(len, bodies)) / 1000,
        service_total=statistics.median(one.seconds for one in service),
        floor_total=statistics.median(one.seconds for one in floor),
        ratio=ratios([one.seconds for one in floor], [one.seconds for one in service]),
        service_median=statistics.median(per_record),
        service_p95=percentile(per_record, 0.95),
        service_most=max(per_record),
        outcomes=outcomes,
    )
