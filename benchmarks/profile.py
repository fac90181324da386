"""`make profile`: where one worker's time goes under load, as a flame graph and by module.

py-spy looks at the running worker from outside, some hundred times a second: nothing in the service
is changed or named, so a profile outlives every refactoring. It needs the right to look into
another process of the same user (Linux: root, or `sysctl kernel.yama.ptrace_scope=0`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import calls, subjects, tables
from benchmarks.load import drive
from benchmarks.machine import cores, machine, on_core
from benchmarks.report import of_machine
from benchmarks.subjects import ROOT, Subject, SubjectFailed
from benchmarks.tables import Grid, markdown, publish, show

OUT = ROOT / "var" / "benchmarks" / "profile.svg"
CONNECTIONS = 8
BATCH = 100
PER_SECOND = 250
OURS = ("cds_service", "fhir_mapping", "risk_model")
# Everything runs inside it: what it calls directly is the server's.
ENTRY_POINT = "cds_service.cli"
ROWS = 25
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")
_COMMAND = re.compile(r">[^<>]*py-spy record[^<>]*<")
MISSING = "py-spy is not installed: pip install py-spy (it is among the `dev` extras)"


class CannotLook(RuntimeError):
    """py-spy may not look into the worker, or is not installed; the message says which."""


def module_of(stack: str) -> str:
    """Of one collapsed stack (`outer;inner`): our innermost module, and what it calls there.

    Time in a library is its caller's; a stack without a module of ours is named by its library.
    """
    files = [match["file"] for frame in stack.split(";") if (match := _FRAME.match(frame))]
    named = [_module(file) for file in files]
    ours = [name for name in named if name.split(".")[0] in OURS and name != ENTRY_POINT]
    return ours[-1] if ours else (named[-1].split(".")[0] if named else "not Python")


def _module(file: str) -> str:
    for package in OURS:
        if f"{package}/" in file:
            return f"{package}/{file.split(f'{package}/')[-1]}".removesuffix(".py").replace(
                "/", "."
            )
    library = file.split("site-packages/")[-1]
    return library.removesuffix(".py").replace("/", ".")


def shares(collapsed: Iterable[str]) -> dict[str, float]:
    """Module -> share of the samples, largest first; lines are `outer;inner count`."""
    counted: Counter[str] = Counter()
    for line in collapsed:
        stack, _, count = line.rpartition(" ")
        counted[module_of(stack)] += int(count)
    total = sum(counted.values())
    return {name: count / total for name, count in counted.most_common()}


def titled(svg: str, title: str) -> str:
    """A picture that says what it shows, and not where on this machine things are installed."""
    svg = _COMMAND.sub(f">{title}<", svg)
    for place in (ROOT, *map(Path, {*sysconfig.get_paths().values()})):
        svg = svg.replace(f"{place}/", "")
    return svg


def look(subject: Subject, into: Path, seconds: int, form: str) -> None:
    """One recording by py-spy; raises CannotLook."""
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or shutil.which("py-spy")
    if program is None:
        raise CannotLook(MISSING)
    done = subprocess.run(
        [
            *(program, "record", "--pid", str(subject.process.pid), "--output", str(into)),
            *("--duration", str(seconds), "--rate", str(PER_SECOND), "--format", form),
            # Stopped for each look, every waiting thread would wake up and count as at work.
            *("--function", "--nonblocking"),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode or not into.exists():
        raise CannotLook(f"py-spy: {(done.stderr or done.stdout).strip()[-400:]}")


@contextmanager
def loaded(subject: Subject, observations: int) -> Iterator[None]:
    """The worker is kept busy meanwhile, with new patients all the time."""
    stop = threading.Event()
    faults: list[SubjectFailed] = []

    def keep_busy() -> None:
        try:
            while not stop.is_set():
                made = calls.bodies(
                    BATCH, observations=observations, seed=f"{time.time_ns()}", now=calls.utc_now()
                )
                drive(subject, list(made), connections=CONNECTIONS)
        except SubjectFailed as fault:
            faults.append(fault)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if faults:
        raise faults[0]


def grid(found: dict[str, float]) -> Grid:
    """The modules in which most of the time goes."""
    return Grid(
        title="A worker's time under load, by module (time in a library is its caller's)",
        columns=("module", "share, %"),
        rows=[(name, f"{share * 100:.1f}") for name, share in [*found.items()][:ROWS]],
    )


def main(
    observations: Annotated[int, typer.Option(help="Observations of a call.", min=1)] = 100,
    seconds: Annotated[int, typer.Option(help="How long to look, for each of both.")] = 10,
    out: Annotated[Path, typer.Option(help="Where the flame graph goes.")] = OUT,
    publish_in: Annotated[
        list[Path] | None,
        typer.Option("--publish", help="Document to write the table into, at its `bench:` marks."),
    ] = None,
) -> None:
    """Record one worker under load: a flame graph, and shares by module."""
    out.parent.mkdir(parents=True, exist_ok=True)
    console, place = tables.console(), cores()
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as name, on_core(place.generator):
        folder = Path(name)
        options = ["--observations", str(observations), "--seconds", str(seconds)]
        facts = machine(folder, options, program="python -m benchmarks.profile")
        picture, stacks = folder / "profile.svg", folder / "stacks.txt"
        try:
            with (
                console.status("a worker under load"),
                subjects.service(folder, place.subject) as subject,
                loaded(subject, observations),
            ):
                time.sleep(1.0)
                look(subject, picture, seconds, "flamegraph")
                look(subject, stacks, seconds, "raw")
        except (CannotLook, SubjectFailed) as fault:
            console.print(f"Nothing was recorded: {fault}", style="red", markup=False)
            raise typer.Exit(1) from fault
        found = grid(shares(stacks.read_text(encoding="utf-8").splitlines()))
        title = f"One worker under load, {observations} Observations a call, {facts.date}"
        out.write_text(titled(picture.read_text(encoding="utf-8"), title), encoding="utf-8")
    show(found, console)
    console.print(f"The flame graph: {out}", soft_wrap=True)
    for path in publish_in or ():
        publish(path, {"profile": f"{markdown(found)}\n\n{of_machine(facts)}."})


if __name__ == "__main__":
    typer.run(main)
