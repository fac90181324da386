"""`make bench`: everything, in one run of about ten minutes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import memory, report, subjects, synthea, tables
from benchmarks.lineup import NAMES, lined_up
from benchmarks.machine import Cores, cores, machine, on_core, running_python
from benchmarks.measures import spread
from benchmarks.rate import LADDER, measure_rates
from benchmarks.rate import WORKERS as RATE_WORKERS
from benchmarks.records import ROUNDS as RECORD_ROUNDS
from benchmarks.records import measure_records
from benchmarks.results import Footprint, Results
from benchmarks.rounds import Measurement
from benchmarks.subjects import ROOT, SubjectFailed

VAR = ROOT / "var"
# The store must lie on a disk: where /tmp is in memory a durable commit would cost nothing.
OUT = VAR / "benchmarks" / "results.json"
SIZES = [20, 100, 250, 500, 1000, 5000]
STARTS = 5
STAGE_CALLS = {20: 200, 100: 200, 1000: 40}
LEFT_OUT = "Left out: the Synthea records ({folder} not found; set CDS_DATA_DIR)."

Step = Callable[[str], None]


class StagesFailed(RuntimeError):
    """The stages are out of date: everything else can still be measured."""


class Part(StrEnum):
    """What can be measured by itself."""

    STAGES = "stages"
    START = "start"
    SIZES = "sizes"
    RECORDS = "records"
    RATE = "rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure and how often."""

    parts: frozenset[Part]
    sizes: list[int]
    wanted: list[str]
    rounds: int
    connections: int
    seconds: float
    rate_seconds: float
    starts: int
    records: list[list[synthea.Resource]]

    @property
    def steps(self) -> int:
        """At most, for the progress bar: a climb ends at the first rate that is not held."""
        of_part = {
            Part.STAGES: len(STAGE_CALLS),
            Part.START: self.starts,
            Part.SIZES: len(self.sizes) * (self.rounds + 1),
            Part.RECORDS: 2 * RECORD_ROUNDS if self.records else 0,
            Part.RATE: len(RATE_WORKERS) * len(LADDER),
        }
        return len(self.wanted) + sum(of_part[part] for part in self.parts)


def bench(
    only: Annotated[
        list[Part] | None, typer.Option(help="Measure this alone; may be given several times.")
    ] = None,
    size: Annotated[
        list[int], typer.Option(help="Observations of a call; may be given several times.", min=1)
    ] = SIZES,
    subject: Annotated[
        list[str] | None,
        typer.Option(help=f"Beside the floor and the service: {', '.join(NAMES[2:])}; or none."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Alternating rounds for each size.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="About how long each slice takes.")] = 1.0,
    rate_seconds: Annotated[float, typer.Option(help="How long each rate is held.")] = 10.0,
    connections: Annotated[int, typer.Option(help="Connections for throughput.", min=1)] = 8,
    quick: Annotated[
        bool, typer.Option("--quick", help="A look, in two minutes: short slices, two rounds.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the results go, as JSON.")] = OUT,
    publish: Annotated[
        list[Path] | None,
        typer.Option(help="Document to write tables into, between its `bench:` marks."),
    ] = None,
) -> None:
    """Measure the service against the floor, and others, on this machine."""
    console = tables.console()
    folder = synthea.data_folder()
    with console.status("reading records"):
        records = synthea.read_records(folder) if folder.is_dir() else []
    plan = Plan(
        parts=frozenset(only or Part),
        sizes=sorted(set(size)),
        wanted=[*NAMES[:2], *(subject if subject is not None else NAMES[2:])],
        rounds=2 if quick else rounds,
        connections=connections,
        seconds=0.2 if quick else seconds,
        rate_seconds=3.0 if quick else rate_seconds,
        starts=(2 if quick else STARTS) if Part.START in (only or Part) else 0,
        records=records,
    )
    try:
        results = run(plan, console)
    except SubjectFailed as fault:
        console.print(f"Nothing was measured: {fault}", style="red", markup=False)
        raise typer.Exit(1) from fault
    long_run = memory.read(memory.OUT)
    report.show_all(results, long_run, console)
    if not records and Part.RECORDS in plan.parts:
        console.print(LEFT_OUT.format(folder=folder), style="yellow")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(
        orjson.dumps(asdict(results), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    )
    for document in publish or []:
        report.publish(document, report.blocks(results, long_run))


def run(plan: Plan, console: Console) -> Results:
    """All measurements, one after the other; nothing else of ours runs meanwhile."""
    VAR.mkdir(exist_ok=True)
    place = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=VAR)))
        folder.chmod(0o755)  # PostgreSQL does not run as root
        facts = machine(folder, sys.argv[1:])
        progress = stack.enter_context(_progress(console))
        task = progress.add_task("", total=plan.steps)

        def step(what: str) -> None:
            progress.update(task, advance=1, description=what)

        results = Results(machine=facts, rounds=plan.rounds, connections=plan.connections)
        with on_core(place.generator):
            if Part.STAGES in plan.parts:
                try:
                    results.stages = {n: _stages(n, folder, place, step) for n in STAGE_CALLS}
                except StagesFailed as fault:
                    results.left_out["where the time goes"] = str(fault)
            ready = [_start(folder / f"start-{n}", place, step) for n in range(plan.starts)]
            if plan.parts & {Part.SIZES, Part.RECORDS}:
                _side_by_side(results, plan, folder, place, ready, step)
        # The machine as it is: neither the workers nor the generator are pinned.
        if Part.RATE in plan.parts:
            results.rates = measure_rates(folder, step, seconds=plan.rate_seconds)
        return results


def _side_by_side(
    results: Results, plan: Plan, folder: Path, place: Cores, ready: list[float], step: Step
) -> None:
    """What is measured with every subject on one core."""
    with lined_up(folder, place, plan.sizes, plan.wanted, step) as line_up:
        results.left_out |= line_up.left_out
        results.agreement = line_up.agreement
        after_start = line_up.service.memory()
        if Part.SIZES in plan.parts:
            measurement = Measurement(
                line_up, plan.sizes, connections=plan.connections, seconds=plan.seconds
            )
            results.sizes = measurement.run(plan.rounds, step)
        if Part.RECORDS in plan.parts and plan.records:
            results.synthea = measure_records(line_up, plan.records, step)
        after_load = line_up.service.memory()
        results.footprint = Footprint(
            ready=spread(ready or [line_up.service.ready_seconds]),
            after_start=after_start.resident,
            after_load=after_load.resident,
            peak=after_load.peak,
            peaks={name: one.memory().peak for name, one in line_up.present.items()},
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
        raise StagesFailed((folder / "stages.log").read_text().strip().splitlines()[-1])
    found: dict[str, float] = orjson.loads(printed)
    return found


if __name__ == "__main__":
    typer.run(bench)
