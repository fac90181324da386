"""`python -m benchmarks.store`: what a durable commit costs, and what committing together saves.

Tasks of one event loop record calls, each with an assessment, a card, an audit row and a message,
and wait until they are durable, as the service's do. Every way takes its turn in every round, so
that a busy neighbour meets them all; figures are medians over the rounds, ratios are of the same
round.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.connection import run
from benchmarks.machine import machine
from benchmarks.measures import Spread, ratios, spread
from benchmarks.report import publish
from cds_service.store import (
    AssessmentRecord,
    AuditEntry,
    IssuedCard,
    OutboxMessage,
    Store,
    group_commit,
)
from tests.fakes.databases import postgresql_binaries, postgresql_cluster

ROOT = Path(__file__).parents[1]
VAR = ROOT / "var"
OUT = VAR / "benchmarks" / "store.json"
TASKS = (1, 8, 32)
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOGETHER = group_commit.MOST_TOGETHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to store; `together` is how many calls one commit may hold, None where it is not
    ours to say."""

    name: str
    store: Store
    together: int | None = None


def a_call(number: int) -> tuple[AssessmentRecord, IssuedCard, AuditEntry, OutboxMessage]:
    """About as many bytes as a call of the served model: 4 kB of inputs, 9 kB of resource."""
    id = str(uuid.uuid4())
    inputs = {
        f"feature_{n}": {
            "value": 0.1 * n + number,
            "unit": "mmol/L",
            "sources": [
                {
                    "reference": f"Observation/{id}-{n}",
                    "effective": NOW.isoformat(),
                    "recorded": [0.1 * n, "mg/dL"],
                }
            ],
        }
        for n in range(20)
    }
    resource = {
        "resourceType": "RiskAssessment",
        "id": id,
        "identifier": [{"system": "urn:cds-service:risk-assessment", "value": id}],
        "prediction": [{"extension": list(inputs.values()), "rationale": "x" * 4_000}],
    }
    assessment = AssessmentRecord(
        id=id,
        identifier=id,
        origin="https://ehr.example.org/fhir",
        patient_id=f"p{number % 500}",
        encounter_id=None,
        service_id="diabetes-risk",
        model="diabetes-undiagnosed",
        model_version="2.0.0",
        as_of=NOW,
        received_at=NOW,
        hook_instance=id,
        probability=0.1,
        level="moderate",
        inputs=inputs,
        resource=resource,
    )
    card = IssuedCard(
        uuid=str(uuid.uuid4()),
        kind="risk",
        indicator="info",
        assessment_id=id,
        hook_instance=id,
        service_id="diabetes-risk",
    )
    message = OutboxMessage(
        id=str(uuid.uuid4()),
        assessment_id=id,
        fhir_base="https://ehr.example.org/fhir",
        client="General Hospital",
        resource=resource,
    )
    return assessment, card, AuditEntry(recorded_at=NOW, outcome="scored", status=200), message


@contextmanager
def ways(folder: Path) -> Iterator[list[Way]]:
    """Every store that this machine can have, on the disk of `folder`."""
    with ExitStack() as stack:

        def opened(url: str) -> Store:
            store = Store.open(url)
            stack.callback(store.close)
            return store

        unsynced = opened(f"sqlite:///{folder}/unsynced.db")
        sa.event.listen(unsynced._engine, "connect", _never_sync)
        unsynced._engine.dispose()
        found = [
            Way(name="SQLite, one by one", store=opened(f"sqlite:///{folder}/one.db"), together=1),
            Way(
                name="SQLite, together",
                store=opened(f"sqlite:///{folder}/together.db"),
                together=TOGETHER,
            ),
            Way(name="SQLite, one by one, not durable", store=unsynced, together=1),
        ]
        if postgresql_binaries() is not None:
            cluster = stack.enter_context(postgresql_cluster(folder=folder, fsync=True))
            found.append(Way(name="PostgreSQL", store=opened(cluster)))
        yield found


def _never_sync(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def per_second(way: Way, tasks: int, seconds: float) -> float:
    """Calls recorded in a second by so many tasks, each of which waits for its last one."""
    group_commit.MOST_TOGETHER = way.together or TOGETHER
    numbers = itertools.count()
    made = [a_call(next(numbers)) for _ in range(200)]
    end = time.perf_counter() + seconds

    async def work() -> int:
        done = 0
        while time.perf_counter() < end:
            assessment, card, entry, message = made.pop() if made else a_call(next(numbers))
            await way.store.recorded(assessment, [card], entry, message)
            done += 1
        return done

    async def all_of_them() -> int:
        return sum(await asyncio.gather(*(work() for _ in range(tasks))))

    started = time.perf_counter()
    done = run(all_of_them())
    return done / (time.perf_counter() - started)


def measured(
    found: list[Way], rounds: int, seconds: float, step: Callable[[str], None]
) -> dict[tuple[str, int], list[float]]:
    """(way, tasks) -> calls in a second, round by round; the first round warms up."""
    figures: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds + 1):
        for tasks, way in itertools.product(TASKS, found):
            step(f"round {number} of {rounds}, {way.name}, {tasks} at once")
            rate = per_second(way, tasks, seconds)
            if number:
                figures.setdefault((way.name, tasks), []).append(rate)
    return figures


def main(
    rounds: Annotated[int, typer.Option(help="How often each way is measured.")] = 5,
    seconds: Annotated[float, typer.Option(help="How long, each time.")] = 2.0,
    publish_in: Annotated[
        list[Path] | None,
        typer.Option("--publish", help="Document to write the table into, at its `bench:` marks."),
    ] = None,
) -> None:
    """Calls recorded per second, durable, 1, 8 and 32 at once."""
    OUT.parent.mkdir(parents=True, exist_ok=True)
    # Not in /tmp, which may be in memory: a durable commit would cost nothing there.
    with tempfile.TemporaryDirectory(dir=VAR, prefix="store-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL does not run as root
        facts = machine(folder, [])
        with ways(folder) as found, Console(stderr=True).status("") as status:
            figures = measured(found, rounds, seconds, status.update)
    floor = "SQLite, one by one"
    headings = ("store", "calls at once", "calls/s", "least–most", f"× {floor}")
    rows = [_row(way, tasks, figures, floor) for way, tasks in figures]
    asked = f"`python -m benchmarks.store --rounds {rounds} --seconds {seconds:g}`"
    setting = (
        f"{facts.cpu}, {facts.cores} cores; a durable 4 kB write takes {facts.fsync_ms} ms; load "
        f"average {facts.load:.1f} before the run. {facts.date}, {asked}, medians."
    )
    table = Table(title=setting)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "store" else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    for path in publish_in or ():
        publish(path, {"store": f"{setting}\n\n{_markdown(headings, rows)}"})
    raw = [
        {"store": way, "calls_at_once": tasks, "calls_per_second": rates}
        for (way, tasks), rates in figures.items()
    ]
    said = {"date": facts.date, "fsync_ms": facts.fsync_ms, "cpu": facts.cpu, "rows": raw}
    OUT.write_bytes(orjson.dumps(said, option=orjson.OPT_INDENT_2))


def _row(
    way: str, tasks: int, figures: dict[tuple[str, int], list[float]], floor: str
) -> tuple[str, ...]:
    rates = figures[way, tasks]
    rate, ratio = spread(rates), ratios(rates, figures[floor, tasks])
    return way, str(tasks), f"{rate.median:.0f}", _range(rate), f"{ratio.median:.2f}"


def _markdown(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headings, ("---", *["---:"] * (len(headings) - 1)), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _range(rate: Spread) -> str:
    return f"{rate.least:.0f}–{rate.most:.0f}"


if __name__ == "__main__":
    typer.run(main)
