"""`python -m benchmarks.sealing`: what encryption at rest costs, on what a real call stores.

A call of 100 Observations is answered by the whole application; its inputs, its resource and its
message are then sealed and opened over and over, and recorded in stores with a key and without, in
turns, so that a busy neighbour meets both.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import calls
from benchmarks.machine import machine
from benchmarks.stages import call_once
from benchmarks.subjects import ROOT
from cds_service.app import create_app
from cds_service.log import configure_logging
from cds_service.settings import Settings
from cds_service.store import AssessmentRecord, AuditEntry, OutboxMessage, Store, rekey
from cds_service.store.sealing import Place, Sealing

VAR = ROOT / "var"
KEY, OTHER = (bytes(range(n, n + 32)) for n in (0, 100))
PLACE = Place(table="assessment", column="inputs", row=str(uuid.UUID(int=1)))


def a_record(folder: Path) -> AssessmentRecord:
    """What the served model's call leaves."""
    url = f"sqlite:///{folder / 'one.db'}"
    settings = Settings(
        profile="demo",
        database_url=url,
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
    )
    app = create_app(settings)
    for body in calls.bodies(50, observations=100, seed="sealing", now=calls.utc_now()):
        asyncio.run(call_once(app, body))
    store = Store.open(url)
    _, (record,) = store.search(count=1)
    store.close()
    return record


def microseconds(work: Callable[[], Any], times: int) -> float:
    """The median of many."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6


def written(value: Any) -> str:
    """As the database's driver writes JSON."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def recorded(store: Store, record: AssessmentRecord) -> float:
    """Seconds to store one call, durable."""
    id = str(uuid.uuid4())
    one = replace(record, id=id, identifier=id, patient_id=id, hook_instance=id)
    entry = AuditEntry(recorded_at=record.received_at, outcome="assessed", status=200)
    message = OutboxMessage(
        id=id, assessment_id=id, fhir_base="x", client=None, resource=one.resource
    )
    started = time.perf_counter()
    store.record(one, [], entry, message)
    return time.perf_counter() - started


def main(times: Annotated[int, typer.Option(help="How often each is done.")] = 1_000) -> None:
    """Microseconds for each value and each call, rows that are sealed anew in a second, bytes."""
    configure_logging("ERROR")
    VAR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=VAR, prefix="sealing-") as name:
        folder = Path(name)
        facts = machine(folder, [])
        record, sealing = a_record(folder), Sealing([KEY])
        table = Table(title=f"{facts.cpu}, load before {facts.load:.2f}, fsync {facts.fsync_ms} ms")
        for heading in ("", "plain", "sealed", "more"):
            table.add_column(heading, justify="right" if heading else "left")
        _values(table, record, sealing, times)
        _stores(table, folder, record, times)
    Console().print(table)


def _values(table: Table, record: AssessmentRecord, sealing: Sealing, times: int) -> None:
    for name, value in (("inputs", record.inputs), ("resource", record.resource)):
        plain, sealed = written(value), written(sealing.seal(value, PLACE))
        row = len(plain), len(sealed)
        table.add_row(f"{name}, bytes", *map(str, row), f"{row[1] / row[0]:.2f} ×")
        _add(
            table,
            f"{name}, written (µs)",
            microseconds(lambda value=value: written(value), times),
            microseconds(lambda value=value: written(sealing.seal(value, PLACE)), times),
        )
        _add(
            table,
            f"{name}, read (µs)",
            microseconds(lambda plain=plain: json.loads(plain), times),
            microseconds(lambda sealed=sealed: sealing.open(json.loads(sealed), PLACE), times),
        )


def _stores(table: Table, folder: Path, record: AssessmentRecord, times: int) -> None:
    plain = Store.open(f"sqlite:///{folder / 'plain.db'}")
    sealed = Store.open(f"sqlite:///{folder / 'sealed.db'}", Sealing([KEY]))
    pairs = [(recorded(plain, record), recorded(sealed, record)) for _ in range(times)]
    sides = [statistics.median(side) * 1e6 for side in zip(*pairs, strict=True)]
    _add(table, "one call recorded, durable (µs)", *sides)
    sealed.close()
    newer = Store.open(f"sqlite:///{folder / 'sealed.db'}", Sealing([OTHER, KEY]))
    started = time.perf_counter()
    rows = sum(page.sealed for page in rekey.rekey(newer))
    per_second = rows / (time.perf_counter() - started)
    table.add_row("rows sealed anew in a second", "", f"{per_second:.0f}", "")
    starts = microseconds(lambda: rekey.keys_in_use(newer), 100)
    table.add_row(f"which keys are in use, of {rows} rows (µs)", "", f"{starts:.0f}", "")
    plain.close()
    newer.close()


def _add(table: Table, name: str, plain: float, sealed: float) -> None:
    table.add_row(name, f"{plain:.0f}", f"{sealed:.0f}", f"{sealed - plain:+.0f}")


if __name__ == "__main__":
    typer.run(main)
