"""What was measured, for people: the tables, and under which name a document asks for which."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from benchmarks.aims import Aim, added, aims, growth
from benchmarks.lineup import FLOOR, NAMES, SERVICE
from benchmarks.machine import Machine
from benchmarks.measures import Spread, ratios, spread
from benchmarks.results import MemoryResult, RateResult, Results, SizeResult
from benchmarks.stages import REST, STAGES, TOTAL
from benchmarks.tables import Grid, markdown, publish, show, titled

__all__ = ["Grid", "blocks", "grids", "markdown", "publish", "rates", "setting", "show_all"]

REACHED = {True: "yes", False: "no", None: "–"}
GROWN = (500, 5000)


def show_all(results: Results, memory: MemoryResult | None, console: Console) -> None:
    """All tables, with the machine on top and the aims at the end, where they are seen."""
    console.print(setting(results), soft_wrap=True)
    for grid in (*grids(results), aims_grid(aims(results, memory))):
        show(grid, console)
    for line in left_out(results):
        console.print(line, style="yellow", soft_wrap=True)


def of_machine(machine: Machine) -> str:
    """The machine, and how busy it was."""
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:g} GB, {machine.system}; "
        f"Python {machine.python}; {packages}; a durable 4 kB write takes "
        f"{machine.fsync_ms:g} ms; load average {machine.load:.1f} before the run. "
        f"{machine.date}, `{machine.command}`"
    )


def setting(results: Results) -> str:
    """One paragraph: machine, date, command, how busy the machine was, how often it was done."""
    return f"{of_machine(results.machine)}, median of {results.rounds} alternating rounds."


def left_out(results: Results) -> list[str]:
    """What is not in the tables, and why; what the subjects agree about."""
    lines = [f"Left out: {name} ({why})." for name, why in results.left_out.items()]
    if results.agreement is not None:
        lines.append(
            "Before the run the subjects gave the same patients the same probability; the largest "
            f"difference was {results.agreement:.1g}."
        )
    return lines


def grids(results: Results) -> list[Grid]:
    """Every table of the report, but those of what was not measured."""
    found = []
    if results.sizes:
        found += [throughput(results), latency(results)]
    if any(growth(results, name, *GROWN) for name in NAMES):
        found.append(growths(results))
    if results.rates:
        found.append(rates(results.rates))
    if results.synthea:
        found.append(synthea(results))
    if results.footprint:
        found.append(footprint(results))
    if results.stages:
        found.append(stages(results))
    return found


def aims_grid(found: Sequence[Aim]) -> Grid:
    """What, aim, measured, reached."""
    return Grid(
        title="Aims",
        columns=("what", "aim", "measured", "reached"),
        rows=[(one.what, one.aim, one.measured, REACHED[one.reached]) for one in found],
    )


def throughput(results: Results) -> Grid:
    """Calls a second with several connections, and time on the core for each call."""
    return Grid(
        title=f"Throughput, {results.connections} connections",
        columns=(
            "Observations", "body, kB", "subject", "calls/s", "of the floor's", "least–most",
            "core time, ms", "of the floor's",
        ),
        rows=[_throughput_row(results, size) for size in results.sizes],
    )  # fmt: skip


def _throughput_row(results: Results, size: SizeResult) -> tuple[str, ...]:
    floor = results.of(FLOOR, size.observations)
    share = ratios(size.rates, floor.rates) if floor else None
    core = ratios(size.core, floor.core) if floor else None
    return (
        f"{size.observations}",
        f"{size.kilobytes:.0f}",
        size.subject,
        f"{spread(size.rates).median:.0f}",
        f"{share.median:.3f}" if share else "–",
        f"{share.least:.3f}–{share.most:.3f}" if share else "–",
        f"{spread(size.core).median:.2f}",
        f"{core.median:.1f}" if core else "–",
    )


def latency(results: Results) -> Grid:
    """One client, one call at a time."""
    return Grid(
        title="Latency, one client",
        columns=(
            "Observations", "subject", "median, ms", "over the floor, ms", "p95, ms", "p99, ms",
            "core time, ms",
        ),
        rows=[
            (
                f"{size.observations}",
                size.subject,
                f"{spread(size.medians).median:.2f}",
                _median(added(results, size.subject, size.observations), 2),
                f"{size.p95:.2f}",
                f"{size.p99:.2f}",
                f"{spread(size.calm_core).median:.2f}",
            )
            for size in results.sizes
        ],
    )  # fmt: skip


def growths(results: Results) -> Grid:
    """Ten times the Observations, how many times the work."""
    small, large = GROWN
    found = [(name, growth(results, name, small, large)) for name in NAMES]
    return Grid(
        title=f"Growth from {small} to {large:,} Observations, one client",
        columns=("subject", "median time, times", "least–most", "core time, times"),
        rows=[
            (name, _median(grown.time, 2), _range(grown.time, 2), _median(grown.core, 2))
            for name, grown in found
            if grown
        ],
    )


def rates(found: Sequence[RateResult]) -> Grid:
    """Every step of every climb."""
    return Grid(
        title="Calls offered at fixed moments to the whole machine, nothing pinned",
        columns=(
            "workers", "offered, calls/s", "calls", "refused", "unanswered", "median, ms",
            "p95, ms", "p99, ms", "longest, ms", "generator late, p99, ms", "cores, service",
            "cores, generator", "held",
        ),
        rows=[
            (
                f"{climb.workers}",
                f"{step.offered}",
                f"{step.due}",
                f"{step.refused}",
                f"{step.unanswered}",
                f"{step.median:.1f}",
                f"{step.p95:.1f}",
                f"{step.p99:.1f}",
                f"{step.most:.1f}",
                f"{step.late_p99:.1f}",
                f"{step.service_cores:.2f}",
                f"{step.generator_cores:.2f}",
                REACHED[step.held],
            )
            for climb in found
            for step in climb.steps
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
    assert found is not None  # noqa: S101 - the caller looked
    return Grid(
        title="Start and memory, one worker",
        columns=("what", "figure"),
        rows=[
            ("ready after start, median of starts, s", f"{found.ready.median:.2f}"),
            ("ready after start, slowest, s", f"{found.ready.most:.2f}"),
            ("resident after start, MB", f"{found.after_start:.0f}"),
            ("resident after the load, MB", f"{found.after_load:.0f}"),
            *((f"peak of {name}, MB", f"{peak:.0f}") for name, peak in found.peaks.items()),
        ],
    )


def stages(results: Results) -> Grid:
    """Where the time goes, for each size that was looked into."""
    titles = [title for title, _, _ in STAGES]
    return Grid(
        title="Where the time of one call goes, in process, ms (median of each stage)",
        columns=("stage", *(f"{size} Observations" for size in results.stages)),
        rows=[
            (title, *(f"{taken[title]:.2f}" for taken in results.stages.values()))
            for title in (*titles, REST, TOTAL)
        ],
    )


def compared(results: Results) -> Grid:
    """Every subject at every size at which subjects are compared: calls/s, share of the floor's."""
    others = [size.observations for size in results.sizes if size.subject not in (FLOOR, SERVICE)]
    columns = sorted(set(others)) or sorted({size.observations for size in results.sizes})
    there = [name for name in NAMES if any(size.subject == name for size in results.sizes)]
    return Grid(
        title="Calls a second, and their share of the floor's",
        columns=("subject", *(f"{size:,} Observations" for size in columns)),
        rows=[(name, *(_share(results, name, size) for size in columns)) for name in there],
    )


def _share(results: Results, name: str, observations: int) -> str:
    one, floor = results.of(name, observations), results.of(FLOOR, observations)
    if not one or not floor:
        return "–"
    rate = f"{spread(one.rates).median:,.0f}"
    return rate if name == FLOOR else f"{rate} ({ratios(one.rates, floor.rates).median:.3f})"


def blocks(results: Results, memory: MemoryResult | None) -> dict[str, str]:
    """Markdown by the name under which a document asks for it: see `publish`."""
    report = [titled(grid) for grid in grids(results)]
    summary = [markdown(aims_grid(aims(results, memory))), markdown(compared(results))]
    return {
        "setting": setting(results),
        "summary": "\n\n".join([*summary, *left_out(results), setting(results)]),
        "report": "\n\n".join(report),
    }


def _median(found: Spread | None, decimals: int) -> str:
    return f"{found.median:.{decimals}f}" if found else "–"


def _range(found: Spread, decimals: int) -> str:
    return f"{found.least:.{decimals}f}–{found.most:.{decimals}f}"
