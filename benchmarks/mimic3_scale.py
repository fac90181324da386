"""How the reader of MIMIC-III bears the full release: the demo many times over.

`python -m benchmarks.mimic3_scale` writes the demo's tables 20 and 100 times over, each copy with
patients and admissions of its own, and reads them in a process of its own. The floor is what
nothing that reads such a file can do without: unpacking CHARTEVENTS.csv.gz, with the same zlib.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.subjects import ROOT

TABLES = ("ADMISSIONS", "PATIENTS", "DIAGNOSES_ICD", "LABEVENTS", "CHARTEVENTS")
TIMES = (20, 100)
_MEGABYTE = 1_000_000
_GZIP = 31  # zlib's window bits for a gzip header and trailer
_PACKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One read: seconds, and the process's peak memory before and after it, in megabytes."""

    admissions: int
    seconds: float
    chartevents_seconds: float
    memory_before: float
    memory_peak: float


class Stopwatch:
    """A Reporter that remembers between which moments CHARTEVENTS was read."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def step(self, title: str) -> None:
        del title

    def detail(self, text: str) -> None:
        if text.startswith("CHARTEVENTS"):
            self.seen.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return self.seen[-1] - self.seen[0] if self.seen else 0.0


def with_suffix_marks(text: bytes) -> tuple[bytes, bytes]:
    """The header, and the rows with a mark behind each patient's and admission's number."""
    header, _, rows = text.partition(b"\n")
    columns = [name.strip(b'"\r').lower() for name in header.split(b",")]
    marked = [i for i, name in enumerate(columns) if name in (b"subject_id", b"hadm_id")]
    fields = rb",".join(rb"(\d*)" if i in marked else rb"([^,\n]*)" for i in range(max(marked) + 1))
    with_marks = b",".join(
        rb"\%d@@" % (i + 1) if i in marked else rb"\%d" % (i + 1) for i in range(max(marked) + 1)
    )
    rows = re.sub(rb"^" + fields, with_marks, rows, flags=re.M)
    # Results from outside the hospital belong to no admission, and go on doing so.
    return header + b"\n", rows.replace(b",@@", b",")


def write_times(demo: Path, folder: Path, times: int) -> int:
    """Writes the tables, each copy a gzip member of its own; returns the rows of CHARTEVENTS."""
    rows = 0
    for table in TABLES:
        header, template = with_suffix_marks(
            gzip.decompress((demo / f"{table}.csv.gz").read_bytes())
        )
        with (folder / f"{table}.csv.gz").open("wb") as file:
            file.write(_packed(header))
            for member in _members(template, times):
                file.write(member)
        rows = template.count(b"\n") * times
    return rows


def _members(template: bytes, times: int) -> Iterator[bytes]:
    """zlib lets other threads run; a few members at a time, so that memory stays small."""
    with ThreadPoolExecutor(_PACKERS) as packers:
        for first in range(0, times, _PACKERS):
            copies = range(first, min(first + _PACKERS, times))
            yield from packers.map(
                lambda copy: _packed(template.replace(b"@@", b"%03d" % copy)), copies
            )


def _packed(text: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=_GZIP)
    return packer.compress(text) + packer.flush()


def floor_seconds(file: Path) -> float:
    """Unpacking alone, thrown away."""
    begun = time.perf_counter()
    with gzip.open(file) as unpacked:
        while unpacked.read(4 * _MEGABYTE):
            pass
    return time.perf_counter() - begun


def read_here(folder: Path) -> Reading:
    from model_training.recipe import DIABETES_INPATIENT, load_recipe
    from model_training.sources.mimic3 import read_mimic3

    recipe, watch = load_recipe(DIABETES_INPATIENT), Stopwatch()
    before = _peak_megabytes()
    begun = time.perf_counter()
    dataset = read_mimic3(folder, recipe, watch)
    return Reading(
        admissions=sum(len(part.people) for part in dataset.parts.values()),
        seconds=time.perf_counter() - begun,
        chartevents_seconds=watch.seconds,
        memory_before=before,
        memory_peak=_peak_megabytes(),
    )


def _peak_megabytes() -> float:
    # Linux gives kilobytes, macOS bytes: getrusage(2).
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MEGABYTE


def elsewhere(*arguments: str) -> str:
    """What a process of its own prints. Writing has one too: Linux counts the memory of the parent,
    when it forked, into a child's peak."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.mimic3_scale", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    return run.stdout


def measure(demo: Path, times: int) -> None:
    work = ROOT / "var"
    work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="mimic3-") as name:
        folder = Path(name)
        rows = int(elsewhere("--demo", str(demo), "--times", str(times), "--write", name))
        file = folder / "CHARTEVENTS.csv.gz"
        unpacking = floor_seconds(file)
        reading = Reading(**json.loads(elsewhere("--read", name)))
        print(
            f"demo × {times}: {rows / 1e6:.1f} million rows of CHARTEVENTS "
            f"({file.stat().st_size / _MEGABYTE:,.0f} MB packed), "
            f"{reading.admissions:,} admissions\n"
            f"  whole read        {reading.seconds:6.1f} s, {rows / reading.seconds:,.0f} rows/s\n"
            f"  CHARTEVENTS alone {reading.chartevents_seconds:6.1f} s, to half a second\n"
            f"  unpacking alone   {unpacking:6.1f} s; the whole read takes "
            f"{reading.seconds / unpacking:.1f} times that\n"
            f"  peak memory       {reading.memory_peak:6.0f} MB, "
            f"{reading.memory_before:.0f} MB of it before reading",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--demo", type=Path, default=_demo(), help="the folder of MIMIC-III's demo")
    parser.add_argument("--times", type=int, nargs="+", default=list(TIMES))
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        print(json.dumps(asdict(read_here(asked.read))))
        return
    if asked.write:
        print(write_times(asked.demo, asked.write, asked.times[0]))
        return
    print(_where(), flush=True)
    for times in asked.times:
        measure(asked.demo, times)


def _where() -> str:
    found = machine(ROOT / "var", [])
    return (
        f"{found.cpu}, {found.cores} cores, {found.memory_gb:.0f} GB, {found.system}, Python "
        f"{found.python}, DuckDB {version('duckdb')}, load {found.load:.1f} before the run"
    )


def _demo() -> Path:
    given = os.environ.get("CDS_DATA_DIR")
    return (Path(given) if given else ROOT.parent / "shared" / "data") / "mimic3_demo"


if __name__ == "__main__":
    main()
