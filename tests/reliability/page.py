"""What a run found, for people: tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from benchmarks.machine import Machine
from benchmarks.report import Grid, markdown
from tests.reliability.run import Result

COUNTS = {
    "lost": "answered 200, not on the FHIR server",
    "doubled": "on the FHIR server more than once",
    "not_delivered": "stored, not on the FHIR server",
    "not_stored": "on the FHIR server, not stored",
    "dead": "given up",
    "not_audited": "answered 200, not in the audit log",
    "chains_that_fork": "patients whose assessments are not one chain",
    "twice_within_a_lease": "sent by two workers within one lease",
}


def tables(results: Sequence[Result], machine: Machine, command: str) -> str:
    """All of the results and where they are from."""
    return "\n\n".join(
        [
            _setting(machine, command),
            f"**What was done**\n\n{markdown(_done(results))}",
            f"**What came of it**\n\n{markdown(_came(results))}",
            f"**The FHIR server's faults**, in creates that met them\n\n{markdown(_met(results))}",
        ]
    )


def _setting(machine: Machine, command: str) -> str:
    packages = ("cds-service", "fastapi", "uvicorn", "sqlalchemy", "httpx", "psycopg")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{machine.date}, `{command}`. {machine.cores} cores, {machine.memory_gb} GB; "
        f"load average {machine.load:.1f} before the run. "
        f"Python {machine.python}; {versions}."
    )


def _done(results: Sequence[Result]) -> Grid:
    rows = [
        _row("seed", [each.seed for each in results]),
        _row("arrangements", [_list(each.arrangements) for each in results]),
        _row("`kill -9`", [str(sum(each.kills.values())) for each in results]),
    ]
    kinds = sorted({kind for each in results for kind in each.kills})
    rows += [
        _row(f"of a {kind}", [str(each.kills.get(kind, 0)) for each in results]) for kind in kinds
    ]
    rows += [
        _row("calls", [str(sum(each.calls.values())) for each in results]),
        _row("answered 200", [str(each.answered) for each in results]),
        _row("answered 503", [str(each.calls.get("503", 0)) for each in results]),
        _row("no answer", [str(each.calls.get("no answer", 0)) for each in results]),
        _row("longest outage, s", [f"{each.longest_outage:.0f}" for each in results]),
        _row("time, s", [f"{each.seconds:.0f}" for each in results]),
    ]
    return _grid(results, rows)


def _came(results: Sequence[Result]) -> Grid:
    rows = [
        _row("assessments stored", [str(each.stored) for each in results]),
        _row("on the FHIR server", [str(each.on_server) for each in results]),
        _row("create requests", [str(each.creates or "–") for each in results]),
    ]
    for name, title in COUNTS.items():
        rows.append(_row(title, [f"**{getattr(each.account, name)}**" for each in results]))
    rows += [
        _row("other answers than 200 and 503", [f"**{len(each.unexpected)}**" for each in results]),
        _row("audit log", [each.audit or "**not in order**" for each in results]),
    ]
    return _grid(results, rows)


def _met(results: Sequence[Result]) -> Grid:
    kinds = sorted({kind for each in results for kind in each.weather})
    rows = [_row(kind, [str(each.weather.get(kind, 0)) for each in results]) for kind in kinds]
    return _grid(results, rows)


def _grid(results: Sequence[Result], rows: list[tuple[str, ...]]) -> Grid:
    return Grid(title="", columns=("", *(each.name for each in results)), rows=rows)


def _row(title: str, cells: Sequence[str]) -> tuple[str, ...]:
    return (title, *cells)


def _list(names: Sequence[str]) -> str:
    return "; ".join(f"`{name}`" if "," not in name else name for name in names)
