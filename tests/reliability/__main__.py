"""`python -m tests.reliability`: the whole of it, and the page that says what it found."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.machine import machine
from benchmarks.report import publish
from tests.fakes.databases import a_database, postgresql_binaries, postgresql_cluster
from tests.process import ROOT
from tests.reliability.page import tables
from tests.reliability.processes import ARRANGEMENTS, FAKETIME, Arrangement
from tests.reliability.run import Plan, Result, run
from tests.reliability.servers import away_and_back
from tests.servers import HapiServer, MedplumServer, built

VAR = ROOT / "var"
OUT = VAR / "reliability.json"


class StoreKind(StrEnum):
    """Where the service keeps what it promised."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class ServerKind(StrEnum):
    """Where the RiskAssessments go."""

    COUNTING = "counting"
    HAPI = "hapi"
    MEDPLUM = "medplum"


MISSING: dict[str, Callable[[], str | None]] = {
    StoreKind.POSTGRESQL: lambda: None if postgresql_binaries() else "PostgreSQL is not installed",
    ServerKind.HAPI: built.java_missing,
    ServerKind.MEDPLUM: built.node_missing,
}
EVERY_STORE = list(StoreKind)
EVERY_SERVER = list(ServerKind)


def main(
    kills: Annotated[int, typer.Option(help="For each store; a tenth for each real server.")] = 200,
    store: Annotated[list[StoreKind], typer.Option(help="Where to store.")] = EVERY_STORE,
    server: Annotated[list[ServerKind], typer.Option(help="Where to deliver.")] = EVERY_SERVER,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 1,
    outage: Annotated[float, typer.Option(help="Seconds of the longest one.")] = 150.0,
    document: Annotated[
        list[Path] | None, typer.Option("--publish", help="A page to write the tables into.")
    ] = None,
) -> None:
    """Kill, restart and count; exit 1 when anything was lost or doubled.

    Example: python -m tests.reliability --kills 200 --publish docs/reliability.md
    """
    console = Console()
    left_out = [f"{each.value}: {why}" for each in [*store, *server] if (why := _missing(each))]
    stores = [each for each in store if not _missing(each)]
    servers = [each for each in server if not _missing(each)]
    VAR.mkdir(exist_ok=True)
    facts = machine(VAR, [])
    results: list[Result] = []
    # Not in /tmp, which may be in memory; readable by PostgreSQL, which does not run as root.
    with tempfile.TemporaryDirectory(dir=VAR, prefix="reliability-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if ServerKind.COUNTING in servers:
            plans = [_plan(each, kills, seed, outage) for each in stores]
            with ThreadPoolExecutor(len(plans)) as side_by_side:
                results += side_by_side.map(lambda plan: _counted(plan, folder, console), plans)
        for kind in servers:
            if kind is not ServerKind.COUNTING:
                results.append(_real(kind, stores[0], kills // 10, seed, folder, console))
    for result in results:
        console.print(f"{result.name}: {result.faults or 'nothing lost, nothing twice'}")
    command = "python -m tests.reliability " + " ".join(sys.argv[1:])
    found = tables(results, facts, command.strip())
    if left_out:
        found += "\n\nLeft out: " + "; ".join(left_out) + "."
    console.print(Markdown(found))
    OUT.write_bytes(orjson.dumps([asdict(each) for each in results], option=orjson.OPT_INDENT_2))
    for page in document or []:
        publish(page, {"reliability": found})
    if any(result.faults for result in results):
        raise typer.Exit(1)


def _missing(kind: StrEnum) -> str | None:
    return MISSING.get(kind, lambda: None)()


def _plan(store: StoreKind, kills: int, seed: int, outage: float) -> Plan:
    return Plan(
        name=store.value,
        store=store.value,
        seed=f"{store.value}-{seed}",
        kills=kills,
        arrangements=tuple(
            each for each in ARRANGEMENTS if not each.clock_jumps or FAKETIME.exists()
        ),
        outages=(outage, 0.0, outage / 5),
        pause=0.05,
    )


def _counted(plan: Plan, folder: Path, console: Console) -> Result:
    with _database(StoreKind(plan.store), folder / plan.name) as url:
        return run(plan, folder / plan.name, url, say=console.log)


def _real(
    kind: ServerKind, store: StoreKind, kills: int, seed: int, folder: Path, console: Console
) -> Result:
    name = f"{store.value}, {kind.value}"
    plan = Plan(
        name=name,
        store=store.value,
        seed=f"{kind.value}-{seed}",
        kills=kills,
        arrangements=(
            Arrangement(name="serve"),
            Arrangement(name="serve, two outbox deliver", workers=2),
        ),
        outages=(20.0,),
    )
    place = folder / kind.value
    # What a patient's record holds is the EHR's business, and made up here: it is taken unseen.
    server = (
        HapiServer(place / "server", references_resolve=False)
        if kind is ServerKind.HAPI
        else MedplumServer(place / "server")
    )
    with server, _database(store, place) as url:
        return run(plan, place, url, away_and_back(server), say=console.log)


@contextmanager
def _database(store: StoreKind, folder: Path) -> Iterator[str]:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    if store is StoreKind.SQLITE:
        yield f"sqlite:///{folder}/cds.db"
        return
    with postgresql_cluster(folder=folder, fsync=True) as cluster:
        yield a_database(cluster)


if __name__ == "__main__":
    typer.run(main)
