"""Does a worker's memory stay flat? `python -m benchmarks.memory --calls 1000000`

Calls of one shape about different patients, to one worker on one core, while its resident memory is
sampled: the slope over calls, by least squares, after a warm-up. A million calls take three
quarters of an hour at 400 calls a second, and leave a store file of ten gigabytes: the disk is
looked at first, after a first thousand calls have shown how much one needs.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import calls, subjects, tables
from benchmarks.load import drive
from benchmarks.machine import cores, machine, on_core
from benchmarks.report import of_machine
from benchmarks.results import MemoryResult, MemorySample
from benchmarks.subjects import ROOT, Subject, SubjectFailed
from benchmarks.tables import Grid, markdown, publish, show

OUT = ROOT / "var" / "benchmarks" / "memory.json"
OBSERVATIONS = 20
CONNECTIONS = 8
BATCH = 1000
# Of all calls: what comes before is caches, pools and arenas being filled.
WARM_UP_SHARE = 0.1
# Charts that are told apart by their patient; made new, every call would cost the generator more.
CHARTS = 200
SPARE = 1.25
SHOWN = 20


class NotEnoughDisk(RuntimeError):
    """The store would fill the disk; the message says how much it needs."""


def patients(charts: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Charts without end, each call about a patient, and with an instance, of its own."""
    ids = [
        (chart, read["context"]["patientId"].encode(), read["hookInstance"].encode())
        for chart in charts
        for read in (orjson.loads(chart),)
    ]
    for chart, patient, instance in cycle(ids):
        yield chart.replace(patient, _id(chance)).replace(instance, _id(chance))


def _id(chance: random.Random) -> bytes:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4)).encode()


def slope(samples: list[MemorySample]) -> float:
    """Bytes of resident memory for each call, by least squares; 0 for fewer than two samples."""
    if len(samples) < 2:
        return 0.0
    middle = sum(sample.calls for sample in samples) / len(samples)
    mean = sum(sample.resident for sample in samples) / len(samples)
    spread = sum((sample.calls - middle) ** 2 for sample in samples)
    along = sum((sample.calls - middle) * (sample.resident - mean) for sample in samples)
    return along / spread * 1e6


def check_disk(needed: float, free: float) -> None:
    """Megabytes; raises NotEnoughDisk."""
    if needed > free:
        raise NotEnoughDisk(
            f"the store needs {needed / 1000:.1f} GB for so many calls, {free / 1000:.1f} GB are "
            "free: ask for fewer with --calls"
        )


def measure(
    subject: Subject, count: int, store: Callable[[], float], tell: Callable[[int, float], None]
) -> list[MemorySample]:
    """A sample after every batch; `store` gives the megabytes of the store's files."""
    chance = random.Random(time.time_ns())  # noqa: S311 (not a secret)
    charts = list(
        calls.bodies(
            CHARTS, observations=OBSERVATIONS, seed=f"{time.time_ns()}", now=calls.utc_now()
        )
    )
    made, samples, done = patients(charts, chance), [], 0
    scored, started, empty = subject.scored(), time.perf_counter(), store()
    while done < count:
        batch = [next(made) for _ in range(min(BATCH, count - done))]
        drive(subject, batch, connections=CONNECTIONS)
        done += len(batch)
        sample = MemorySample(
            calls=done,
            seconds=time.perf_counter() - started,
            resident=subject.memory().resident,
            store=store(),
        )
        samples.append(sample)
        if done == len(batch):
            needed = (sample.store - empty) / done * (count - done) * SPARE
            check_disk(needed, shutil.disk_usage(subject.log.parent).free / 1e6)
        tell(done, sample.resident)
    if (counted := subject.scored() - scored) != count:
        raise subject.failed(f"was sent {count} calls and scored {counted}")
    return samples


def grid(found: MemoryResult) -> Grid:
    """Some of the samples, evenly over the run."""
    every = max(1, len(found.samples) // SHOWN)
    shown = [*found.samples[:1], *found.samples[every - 1 :: every]]
    return Grid(
        title=f"{found.calls:,} calls of {found.observations} Observations, one worker",
        columns=("calls", "minutes", "resident, MB", "store, MB"),
        rows=[
            (f"{one.calls:,}", f"{one.seconds / 60:.1f}", f"{one.resident:.1f}", f"{one.store:.0f}")
            for one in sorted({one.calls: one for one in shown}.values(), key=lambda one: one.calls)
        ],
    )


def told(found: MemoryResult) -> str:
    """The slope in one sentence."""
    return (
        f"After {found.warm_up:,} calls of warm-up, resident memory grew by "
        f"{found.bytes_a_call:+.1f} bytes a call, {found.growth_mb:+.1f} MB over the other "
        f"{found.calls - found.warm_up:,} calls (least squares); its peak was {found.peak:.0f} MB."
    )


def read(path: Path) -> MemoryResult | None:
    """The last long run, None where there was none."""
    if not path.exists():
        return None
    raw = orjson.loads(path.read_bytes())
    raw["samples"] = [MemorySample(**sample) for sample in raw["samples"]]
    return MemoryResult(**raw)


def main(
    count: Annotated[int, typer.Option("--calls", help="How many calls.", min=1)] = 1_000_000,
    out: Annotated[Path, typer.Option(help="Where the result goes, as JSON.")] = OUT,
    publish_in: Annotated[
        list[Path] | None,
        typer.Option("--publish", help="Document to write the table into, at its `bench:` marks."),
    ] = None,
) -> None:
    """Post so many calls to one worker, and tell whether its memory grows."""
    out.parent.mkdir(parents=True, exist_ok=True)
    console, place = tables.console(), cores()
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as name, on_core(place.generator):
        folder = Path(name)
        facts = machine(folder, ["--calls", str(count)], program="python -m benchmarks.memory")
        started = time.perf_counter()

        def store() -> float:
            return sum(path.stat().st_size for path in folder.glob("service.db*")) / 1e6

        with subjects.service(folder, place.subject) as subject, _progress(console) as progress:
            task = progress.add_task("", total=count)

            def tell(done: int, resident: float) -> None:
                progress.update(task, completed=done, description=f"{resident:.0f} MB resident")

            try:
                samples = measure(subject, count, store, tell)
            except (NotEnoughDisk, SubjectFailed) as fault:
                console.print(f"Nothing was measured: {fault}", style="red", markup=False)
                raise typer.Exit(1) from fault
            peak = subject.memory().peak
    warm_up = int(count * WARM_UP_SHARE)
    found = MemoryResult(
        date=facts.date,
        command=facts.command,
        calls=count,
        warm_up=warm_up,
        observations=OBSERVATIONS,
        seconds=time.perf_counter() - started,
        bytes_a_call=slope([sample for sample in samples if sample.calls > warm_up]),
        peak=peak,
        samples=samples,
    )
    out.write_bytes(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2))
    show(grid(found), console)
    console.print(told(found), soft_wrap=True)
    for path in publish_in or ():
        block = "\n\n".join([markdown(grid(found)), told(found), f"{of_machine(facts)}."])
        publish(path, {"memory": block})


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(), TextColumn("{task.percentage:.1f} %"), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.description}"), console=console, transient=True,
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
