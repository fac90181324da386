"""How many calls a second the whole machine holds: `python -m benchmarks.rate`.

Nothing is pinned here: one or two workers, their store and the load generator share the cores, as
the aim says. A ladder of rates, each held for some seconds, until one is not held twice.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import calls, subjects
from benchmarks.measures import percentile
from benchmarks.offer import CONNECTIONS, Offered, moments, offer
from benchmarks.report import rates
from benchmarks.results import RateResult, RateStep
from benchmarks.subjects import ROOT, Subject
from benchmarks.tables import console as wide_console
from benchmarks.tables import show

LADDER = (100, 200, 300, 400, 500, 750, 1000, 1250, 1500)
# A neighbour on the machine that stops everything for 200 ms is no fault of the service.
TRIES = 2
OBSERVATIONS = 20
SECONDS = 10.0
WORKERS = (1, 2)
WARM_UP_RATE, WARM_UP_SECONDS = 100, 3.0


def measure_rates(
    folder: Path,
    step: Callable[[str], None],
    *,
    workers: Sequence[int] = WORKERS,
    ladder: Sequence[int] = LADDER,
    seconds: float = SECONDS,
    observations: int = OBSERVATIONS,
) -> list[RateResult]:
    """Each number of workers on a store of its own. Raises SubjectFailed where answers of 200 and
    calls that were scored do not match."""
    return [
        _climb(folder, count, step, ladder=ladder, seconds=seconds, observations=observations)
        for count in workers
    ]


def _climb(
    folder: Path,
    workers: int,
    step: Callable[[str], None],
    *,
    ladder: Sequence[int],
    seconds: float,
    observations: int,
) -> RateResult:
    name = f"service, {workers} workers"
    found: list[RateStep] = []
    with subjects.service(folder, None, name=name, workers=workers) as subject:
        _hold(subject, WARM_UP_RATE, WARM_UP_SECONDS, observations)
        for rate in ladder:
            for _ in range(TRIES):
                step(f"{rate} calls a second, {workers} worker{'s' if workers > 1 else ''}")
                found.append(_hold(subject, rate, seconds, observations))
                if found[-1].held:
                    break
            else:
                break
    return RateResult(workers=workers, observations=observations, steps=found)


def _hold(subject: Subject, rate: int, seconds: float, observations: int) -> RateStep:
    chance = random.Random(f"{rate}")  # noqa: S311 (not a secret)
    due = moments(rate, seconds, chance)
    seed = f"{time.time_ns()}-{rate}"
    bodies = list(calls.bodies(len(due), observations=observations, seed=seed, now=calls.utc_now()))
    scored, cpu, own = subject.scored(), subject.cpu_seconds(), time.process_time()
    # Taken in turn: none is idle for so long (uvicorn: five seconds) that it is closed.
    offered = offer(subject, bodies, due, connections=min(CONNECTIONS, rate * 3))
    own, cpu = time.process_time() - own, subject.cpu_seconds() - cpu
    scored = subject.scored() - scored
    # A call whose connection was given up on may have been scored all the same.
    answered = offered.statuses.get(200, 0)
    if not answered <= scored <= answered + offered.unanswered:
        raise subject.failed(f"answered {answered} calls with 200 and scored {scored}")
    return step_of(rate, offered, service_cpu=cpu, generator_cpu=own)


def step_of(rate: int, offered: Offered, *, service_cpu: float, generator_cpu: float) -> RateStep:
    """The figures of one step."""
    latencies = [latency * 1000 for latency in offered.latencies] or [float("inf")]
    return RateStep(
        offered=rate,
        seconds=offered.seconds,
        due=offered.due,
        refused=offered.refused,
        unanswered=offered.unanswered,
        median=percentile(latencies, 0.5),
        p95=percentile(latencies, 0.95),
        p99=percentile(latencies, 0.99),
        most=max(latencies),
        late_p99=percentile([late * 1000 for late in offered.late] or [0.0], 0.99),
        service_cores=service_cpu / offered.seconds,
        generator_cores=generator_cpu / offered.seconds,
    )


def main(
    rate: Annotated[
        list[int], typer.Option(help="Calls a second; may be given several times.", min=1)
    ] = list(LADDER),  # noqa: B006 (typer reads it once)
    workers: Annotated[
        list[int], typer.Option(help="Workers; may be given several times.", min=1)
    ] = list(WORKERS),  # noqa: B006
    seconds: Annotated[float, typer.Option(help="How long each rate is held.")] = SECONDS,
    observations: Annotated[int, typer.Option(help="Observations of a call.", min=1)] = 20,
) -> None:
    """Offer calls at fixed moments, at rising rates, until one is not held."""
    console = wide_console()
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder, console.status("") as status:
        found = measure_rates(
            Path(folder),
            status.update,
            workers=workers,
            ladder=rate,
            seconds=seconds,
            observations=observations,
        )
    show(rates(found), console)


if __name__ == "__main__":
    typer.run(main)
