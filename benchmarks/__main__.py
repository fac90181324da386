"""`make bench`: everything, in one run of about two minutes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import calls, report, subjects, synthea
from benchmarks.load import Slice, drive
from benchmarks.machine import Cores, cores, machine, on_core, running_python
from benchmarks.measures import Spread, percentile, ratios, spread
from benchmarks.report import Footprint, Results, SizeResult, SyntheaResult
from benchmarks.subjects import ROOT, Memory, Subject, SubjectFailed

VAR = ROOT / "var"
# The store must lie on a disk: where /tmp is in memory a durable commit would cost nothing.
OUT = VAR / "benchmarks" / "results.json"
STARTS = 5
SYNTHEA_ROUNDS = 3
STAGE_CALLS = {20: 200, 100: 200, 1000: 40}
# About so many Observations go to each subject in one slice, in at least so many calls.
OBSERVATIONS_A_SLICE = 15_000
LEAST_CALLS, MOST_CALLS = 30, 250
LEFT_OUT = "Left out: the Synthea records ({folder} not found; set CDS_DATA_DIR)."

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure and how often."""

    sizes: list[int]
    rounds: int
    connections: int
    records: list[list[synthea.Resource]]

    @property
    def steps(self) -> int:
        """For the progress bar."""
        slices = len(self.sizes) * (self.rounds + 1)
        records = 2 * SYNTHEA_ROUNDS if self.records else 0
        return STARTS + slices + records + len(STAGE_CALLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Both subjects, running side by side on one core; only one of them is driven at a time."""

    floor: Subject
    service: Subject

    def alternate(
        self, turn: int, bodies: Sequence[bytes], *, connections: int
    ) -> tuple[Slice, Slice]:
        """(floor, service), both with the same calls; who goes first alternates by `turn`."""
        order = (self.floor, self.service) if turn % 2 else (self.service, self.floor)
        taken = {s.name: drive(s, bodies, connections=connections) for s in order}
        return taken[self.floor.name], taken[self.service.name]


@dataclass(slots=True, kw_only=True)
class Rounds:
    """The slices of one size or one set of records, round by round."""

    floor: list[Slice] = field(default_factory=list)
    service: list[Slice] = field(default_factory=list)

    def add(self, slices: tuple[Slice, Slice]) -> None:
        """One round."""
        self.floor.append(slices[0])
        self.service.append(slices[1])


def bench(
    size: Annotated[
        list[int], typer.Option(help="Observations of a call; may be given several times.", min=1)
    ] = [20, 100, 1000],  # noqa: B006 (typer reads it once)
    rounds: Annotated[int, typer.Option(help="Alternating rounds for each size.", min=1)] = 5,
    connections: Annotated[int, typer.Option(help="Connections for throughput.", min=1)] = 8,
    out: Annotated[Path, typer.Option(help="Where the results go, as JSON.")] = OUT,
    publish: Annotated[
        list[Path] | None,
        typer.Option(help="Document to write tables into, between its `bench:` marks."),
    ] = None,
) -> None:
    """Measure the service against the floor on this machine."""
    console = Console()
    folder = synthea.data_folder()
    with console.status("reading records"):
        records = synthea.read_records(folder) if folder.is_dir() else []
    plan = Plan(sizes=size, rounds=rounds, connections=connections, records=records)
    try:
        results = run(plan, console)
    except SubjectFailed as fault:
        console.print(f"Nothing was measured: {fault}", style="red", markup=False)
        raise typer.Exit(1) from fault
    report.show(results, console)
    if not records:
        console.print(LEFT_OUT.format(folder=folder), style="yellow")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(
        orjson.dumps(asdict(results), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    )
    for document in publish or []:
        report.publish(document, report.blocks(results))


def run(plan: Plan, console: Console) -> Results:
    """All measurements, one after the other; nothing else of ours runs meanwhile."""
    VAR.mkdir(exist_ok=True)
    place = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=VAR)))
        facts = machine(folder, sys.argv[1:])
        progress = stack.enter_context(_progress(console))
        task = progress.add_task("", total=plan.steps)

        def step(what: str) -> None:
            progress.update(task, advance=1, description=what)

        stack.enter_context(on_core(place.generator))
        ready = [_start(folder / f"start-{n}", place, step) for n in range(STARTS)]
        stages = {size: _stages(size, folder, place, step) for size in STAGE_CALLS}
        both = Bench(
            floor=stack.enter_context(subjects.floor(folder, place.subject)),
            service=stack.enter_context(subjects.service(folder, place.subject)),
        )
        after_start = both.service.memory()
        sizes = measure_sizes(both, plan, step)
        whole = measure_records(both, plan.records, step) if plan.records else []
        return Results(
            machine=facts,
            rounds=plan.rounds,
            connections=plan.connections,
            sizes=sizes,
            synthea=whole,
            footprint=_footprint(both, ready, after_start),
            stages=stages,
        )


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.description}"), console=console, transient=True, refresh_per_second=2,
    )  # fmt: skip


def _start(folder: Path, place: Cores, step: Step) -> float:
    """Seconds until a service with a new store is ready."""
    step("start")
    folder.mkdir()
    with subjects.service(folder, place.subject) as started:
        return started.ready_seconds


def _stages(size: int, folder: Path, place: Cores, step: Step) -> dict[str, float]:
    """Where the time goes, in a process of its own on the subjects' core."""
    step(f"stages, {size} Observations")
    arguments = [running_python(), "-m", "benchmarks.stages", "--observations", str(size)]
    arguments += ["--calls", str(STAGE_CALLS[size]), "--folder", str(folder)]
    with on_core(place.subject), (folder / "stages.log").open("wb") as log:
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
    printed, _ = process.communicate()
    if process.returncode:
        raise SubjectFailed((folder / "stages.log").read_text()[-2000:])
    found: dict[str, float] = orjson.loads(printed)
    return found


# ------------------------------------------------------------------------------ made-up records


def measure_sizes(both: Bench, plan: Plan, step: Step) -> list[SizeResult]:
    """Every size in every round, so that a busy minute falls on all of them."""
    busy = {size: Rounds() for size in plan.sizes}
    calm = {size: Rounds() for size in plan.sizes}
    scored_before = both.service.outcomes().get("scored", 0)
    sent = 0
    for turn in range(plan.rounds + 1):
        for size in plan.sizes:
            step(f"{size} Observations, round {turn}" if turn else f"{size} Observations, warm-up")
            count = calls_a_slice(size)
            made = _bodies(size, turn, 2 * count)
            loaded = both.alternate(turn, made[:count], connections=plan.connections)
            alone = both.alternate(turn, made[count:], connections=1)
            sent += 2 * count
            if turn:
                busy[size].add(loaded)
                calm[size].add(alone)
    scored = both.service.outcomes().get("scored", 0) - scored_before
    if scored != sent:
        raise SubjectFailed(f"{sent} calls were sent, {scored} were scored")
    return [_size_result(size, busy[size], calm[size]) for size in plan.sizes]


def calls_a_slice(observations: int) -> int:
    """Enough for a median, and not so many that a slice of large records takes long."""
    return max(LEAST_CALLS, min(MOST_CALLS, OBSERVATIONS_A_SLICE // observations))


def _bodies(size: int, turn: int, count: int) -> list[bytes]:
    """New patients in every round: a known patient would be a repeat, and cheaper."""
    seed = f"{time.time_ns()}-{turn}"
    return list(calls.bodies(count, observations=size, seed=seed, now=calls.utc_now()))


def _size_result(size: int, busy: Rounds, calm: Rounds) -> SizeResult:
    floor, service = busy.floor, busy.service
    alone = [latency for one in calm.service for latency in one.latencies]
    floor_median = statistics.median(statistics.median(one.latencies) for one in calm.floor)
    service_median = statistics.median(statistics.median(one.latencies) for one in calm.service)
    return SizeResult(
        observations=size,
        kilobytes=len(_bodies(size, 0, 1)[0]) / 1000,
        floor_per_second=spread([one.per_second for one in floor]),
        service_per_second=spread([one.per_second for one in service]),
        throughput_ratio=_over(service, floor, lambda one: one.per_second),
        floor_cpu=statistics.median(one.cpu_per_call for one in floor) * 1000,
        service_cpu=statistics.median(one.cpu_per_call for one in service) * 1000,
        cpu_ratio=_over(service, floor, lambda one: one.cpu_per_call),
        floor_median=floor_median * 1000,
        service_median=service_median * 1000,
        added=(service_median - floor_median) * 1000,
        service_p95=percentile(alone, 0.95) * 1000,
        service_p99=percentile(alone, 0.99) * 1000,
    )


def _over(one: list[Slice], other: list[Slice], figure: Callable[[Slice], float]) -> Spread:
    return ratios([figure(taken) for taken in one], [figure(taken) for taken in other])


# ------------------------------------------------------------------------------ Synthea's records


def measure_records(
    both: Bench, records: list[list[synthea.Resource]], step: Step
) -> list[SyntheaResult]:
    """As recorded, and moved to the present."""
    services = orjson.loads(subjects.get(both.service.port, "/cds-services")[1])["services"]
    recorded = [synthea.body(services[0]["prefetch"], resources) for resources in records]
    behind = synthea.days_until(calls.utc_now().date())

    def newest_before(days: int) -> list[bytes]:
        return [synthea.moved(body, behind - days) for body in recorded]

    return [
        _records("as recorded", both, lambda _turn: recorded, step),
        # Another day in each round: the same results once more would be a repeat, not a new call.
        _records("moved to today", both, lambda turn: newest_before(turn + 1), step),
    ]


def _records(
    title: str, both: Bench, bodies_of: Callable[[int], list[bytes]], step: Step
) -> SyntheaResult:
    rounds = Rounds()
    before = both.service.outcomes()
    for turn in range(SYNTHEA_ROUNDS):
        step(f"Synthea records {title}, round {turn + 1}")
        bodies = bodies_of(turn)
        rounds.add(both.alternate(turn, bodies, connections=1))
    outcomes = {
        name: (count - before.get(name, 0)) // SYNTHEA_ROUNDS
        for name, count in both.service.outcomes().items()
    }
    # Per record the median of its rounds: one record is slow because it is long, not by chance.
    per_record = [
        statistics.median(taken) * 1000
        for taken in zip(*(one.latencies for one in rounds.service), strict=True)
    ]
    return SyntheaResult(
        title=title,
        records=len(bodies),
        kilobytes_median=statistics.median(map(len, bodies)) / 1000,
        kilobytes_most=max(map(len, bodies)) / 1000,
        service_total=statistics.median(one.seconds for one in rounds.service),
        floor_total=statistics.median(one.seconds for one in rounds.floor),
        ratio=_over(rounds.floor, rounds.service, lambda one: one.seconds),
        service_median=statistics.median(per_record),
        service_p95=percentile(per_record, 0.95),
        service_most=max(per_record),
        outcomes=outcomes,
    )


def _footprint(both: Bench, ready: list[float], after_start: Memory) -> Footprint:
    after_load = both.service.memory()
    return Footprint(
        ready=spread(ready),
        after_start=after_start.resident,
        after_load=after_load.resident,
        peak=after_load.peak,
        floor_peak=both.floor.memory().peak,
    )


if __name__ == "__main__":
    typer.run(bench)
