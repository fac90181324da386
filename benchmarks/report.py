"""What was measured, for people: tables on a terminal, and the same tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import Machine
from benchmarks.measures import Spread
from benchmarks.stages import REST, STAGES, TOTAL, WITHIN


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeResult:
    """Floor and service at one size of record. Milliseconds unless a name says otherwise."""

    observations: int
    kilobytes: float
    floor_per_second: Spread
    service_per_second: Spread
    throughput_ratio: Spread
    floor_cpu: float
    service_cpu: float
    cpu_ratio: Spread
    floor_median: float
    service_median: float
    added: float
    service_p95: float
    service_p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheaResult:
    """The records, one client, one call after the other; milliseconds, totals in seconds."""

    title: str
    records: int
    kilobytes_median: float
    kilobytes_most: float
    service_total: float
    floor_total: float
    ratio: Spread
    service_median: float
    service_p95: float
    service_most: float
    outcomes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Seconds until ready; memory of the worker in MB, resident and at its peak."""

    ready: Spread
    after_start: float
    after_load: float
    peak: float
    floor_peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything of one run; `synthea` is empty where the data set was not found."""

    machine: Machine
    rounds: int
    connections: int
    sizes: list[SizeResult]
    synthea: list[SyntheaResult]
    footprint: Footprint
    stages: dict[int, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table, before it is known whether a terminal or a document will show it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def show(results: Results, console: Console) -> None:
    """All tables, with the machine on top."""
    console.print(setting(results), soft_wrap=True)
    for grid in grids(results):
        table = Table(title=grid.title, title_justify="left", title_style="bold")
        for place, column in enumerate(grid.columns):
            table.add_column(column, justify="right" if place else "left")
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)


def setting(results: Results) -> str:
    """One paragraph: machine, date, command, and how busy the machine was before."""
    machine = results.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:g} GB, {machine.system}; "
        f"Python {machine.python}; {packages}; a durable 4 kB write takes "
        f"{machine.fsync_ms:g} ms; load average {machine.load:.1f} before the run. "
        f"{machine.date}, `{machine.command}`, median of {results.rounds} alternating rounds."
    )


def grids(results: Results) -> list[Grid]:
    """Every table of the report."""
    found = [throughput(results), latency(results)]
    if results.synthea:
        found.append(synthea(results))
    return [*found, footprint(results), stages(results)]


def throughput(results: Results) -> Grid:
    """Calls a second with several connections, and time on the core for each call."""
    return Grid(
        title=f"Throughput, {results.connections} connections",
        columns=(
            "Observations", "body, kB", "floor, calls/s", "service, calls/s",
            "service / floor", "least–most", "core time floor, ms", "core time service, ms",
            "core time ratio",
        ),
        rows=[
            (
                f"{size.observations}",
                f"{size.kilobytes:.0f}",
                f"{size.floor_per_second.median:.0f}",
                f"{size.service_per_second.median:.0f}",
                f"{size.throughput_ratio.median:.3f}",
                f"{size.throughput_ratio.least:.3f}–{size.throughput_ratio.most:.3f}",
                f"{size.floor_cpu:.2f}",
                f"{size.service_cpu:.2f}",
                f"{size.cpu_ratio.median:.1f}",
            )
            for size in results.sizes
        ],
    )  # fmt: skip


def latency(results: Results) -> Grid:
    """One client, one call at a time."""
    return Grid(
        title="Latency, one client",
        columns=(
            "Observations", "floor median, ms", "service median, ms", "added, ms", "p95, ms",
            "p99, ms",
        ),
        rows=[
            (
                f"{size.observations}",
                f"{size.floor_median:.2f}",
                f"{size.service_median:.2f}",
                f"{size.added:.2f}",
                f"{size.service_p95:.2f}",
                f"{size.service_p99:.2f}",
            )
            for size in results.sizes
        ],
    )  # fmt: skip


def synthea(results: Results) -> Grid:
    """The whole records."""
    return Grid(
        title="Synthea records, one client, one call each",
        columns=(
            "dates", "records", "scored", "body median, kB", "most, kB", "service, all, s",
            "floor, all, s", "floor / service", "median, ms", "p95, ms", "max, ms",
        ),
        rows=[
            (
                one.title,
                f"{one.records}",
                f"{one.outcomes.get('scored', 0)}",
                f"{one.kilobytes_median:.0f}",
                f"{one.kilobytes_most:.0f}",
                f"{one.service_total:.2f}",
                f"{one.floor_total:.2f}",
                f"{one.ratio.median:.3f}",
                f"{one.service_median:.1f}",
                f"{one.service_p95:.1f}",
                f"{one.service_most:.1f}",
            )
            for one in results.synthea
        ],
    )  # fmt: skip


def footprint(results: Results) -> Grid:
    """Start and memory."""
    found = results.footprint
    return Grid(
        title="Start and memory, one worker",
        columns=("what", "figure"),
        rows=[
            ("ready after start, median of starts, s", f"{found.ready.median:.2f}"),
            ("ready after start, slowest, s", f"{found.ready.most:.2f}"),
            ("resident after start, MB", f"{found.after_start:.0f}"),
            ("resident after the load, MB", f"{found.after_load:.0f}"),
            ("peak, MB", f"{found.peak:.0f}"),
            ("peak of the floor, MB", f"{found.floor_peak:.0f}"),
        ],
    )


def stages(results: Results) -> Grid:
    """Where the time goes, for each size that was looked into."""
    titles = [title for title, _, _ in STAGES]
    titles[1:1] = [title for title, _, _ in WITHIN]
    return Grid(
        title="Where the time of one call goes, in process, ms (median of each stage)",
        columns=("stage", *(f"{size} Observations" for size in results.stages)),
        rows=[
            (title, *(f"{taken[title]:.2f}" for taken in results.stages.values()))
            for title in (*titles, REST, TOTAL)
        ],
    )


def summary(results: Results) -> Grid:
    """The table of the README."""
    found = results.footprint
    rows = [
        (
            f"throughput against the floor, {size.observations} Observations",
            f"{size.throughput_ratio.median:.2f}",
            f"{size.service_per_second.median:.0f} of {size.floor_per_second.median:.0f} calls/s",
        )
        for size in results.sizes
    ]
    rows += [
        (
            f"one call, {size.observations} Observations",
            f"{size.service_median:.1f} ms",
            f"{size.added:.1f} ms over the floor; p99 {size.service_p99:.1f} ms",
        )
        for size in results.sizes
    ]
    rows += [
        (
            f"{one.records} Synthea records, {one.title}",
            f"{one.service_total:.1f} s",
            f"median {one.service_median:.1f} ms, longest {one.service_most:.0f} ms; "
            f"{one.outcomes.get('scored', 0)} scored",
        )
        for one in results.synthea
    ]
    rows += [
        ("ready after start", f"{found.ready.median:.1f} s", f"slowest {found.ready.most:.1f} s"),
        (
            "memory of the worker",
            f"{found.after_load:.0f} MB",
            f"{found.after_start:.0f} MB after start, {found.peak:.0f} MB at its peak",
        ),
    ]
    return Grid(title="Summary", columns=("what", "figure", "and"), rows=rows)


def markdown(grid: Grid) -> str:
    """A Markdown table; figures to the right."""
    rule = ["---", *["---:"] * (len(grid.columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (grid.columns, rule, *grid.rows))


def blocks(results: Results) -> dict[str, str]:
    """Markdown by the name under which a document asks for it: see `publish`."""
    report = "\n\n".join(f"**{grid.title}**\n\n{markdown(grid)}" for grid in grids(results))
    return {
        "setting": setting(results),
        "summary": f"{markdown(summary(results))}\n\n{setting(results)}",
        "report": report,
    }


def publish(path: Path, found: dict[str, str]) -> None:
    """Replace what stands between `<!-- bench:name -->` and `<!-- /bench:name -->` in a document.

    So no figure is typed by hand. Raises ValueError where the document asks for nothing.
    """
    text = path.read_text(encoding="utf-8")
    asked = [name for name in found if f"<!-- bench:{name} -->" in text]
    if not asked:
        raise ValueError(f"{path} has no place for figures, such as <!-- bench:summary -->")
    path.write_text(_filled(text, ((name, found[name]) for name in asked)), encoding="utf-8")


def _filled(text: str, found: Iterable[tuple[str, str]]) -> str:
    for name, block in found:
        before, mark, rest = text.partition(f"<!-- bench:{name} -->\n")
        _, end, after = rest.partition(f"<!-- /bench:{name} -->")
        if not end:
            raise ValueError(f"<!-- bench:{name} --> has no end")
        text = f"{before}{mark}{block}\n{end}{after}"
    return text
