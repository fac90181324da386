"""`cds-service store`: what is sealed in the store, with which key, and sealing it anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from cds_service.app import utc_now
from cds_service.audit_cli import opened, operator
from cds_service.store import AuditEntry, Store
from cds_service.store import rekey as rekeying

store = typer.Typer(
    help="Encryption at rest of the store (CDS_DATABASE_URL, CDS_STORE_KEYS).",
    no_args_is_help=True,
)
ACTION = "store-rekey"
# Rows that a worker held in one round are free in another.
MOST_ROUNDS = 5
SHOWN_FAULTS = 10


@store.command(epilog="Example: cds-service store check --open")
def check(
    open_all: Annotated[
        bool, typer.Option("--open", help="Open every row, too; it takes a while.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Say how many rows are plain, and how many are sealed with which key.

    Exit 1: some are not as new rows would be, or with --open, one cannot be opened.
    """
    with opened() as (_, held):
        tally = rekeying.tally(held)
        left = rekeying.left_to_do(held)
        faults = list(_opening(held, tally)) if open_all else []
        if as_json:
            typer.echo(orjson.dumps(_as_object(held, tally, left, faults)).decode())
        else:
            console = Console()
            console.print(_table(held, tally))
            console.print(_sentence(held, left))
        _tell(faults)
    if left or faults:
        raise typer.Exit(1)


@store.command(epilog="Example: CDS_STORE_KEYS_FILE=/etc/cds/store-keys cds-service store rekey")
def rekey() -> None:
    """Seal with the first key of CDS_STORE_KEYS every row that is plain or has another key.

    Beside a running service; it may be stopped at any moment and begun again. On record.
    Exit 1: rows are left, because they cannot be opened or a process still writes otherwise.
    """
    with opened() as (_, held):
        if held.sealing.sealed_by is None:
            typer.echo("CDS_STORE_KEYS holds no key to seal with.", err=True)
            raise typer.Exit(2)
        total = rekeying.left_to_do(held)
        if total:
            _on_record(held, total)
        done, faults = _rounds(held, total)
        left = rekeying.left_to_do(held)
    typer.echo(f"Sealed anew with {held.sealing.sealed_by}: {done} rows.")
    _tell(faults)
    if left:
        more = left - len(faults)
        if more > 0:
            typer.echo(
                f"{more} rows are left, new ones or held by others. Does every process have this "
                "key as its first?",
                err=True,
            )
        raise typer.Exit(1)


def _rounds(held: Store, total: int) -> tuple[int, list[str]]:
    done, faults = 0, list[str]()
    with _bar() as bar:
        task = bar.add_task("Sealing", total=total)
        for _ in range(MOST_ROUNDS):
            before, faults = done, []
            for page in rekeying.rekey(held):
                done += page.sealed
                faults += page.unreadable
                bar.update(task, completed=done)
            if done == before:
                break
    return done, faults


def _opening(held: Store, tally: Mapping[str, Counter[str | None]]) -> Iterator[str]:
    with _bar() as bar:
        task = bar.add_task("Opening", total=sum(counts.total() for counts in tally.values()))
        for page in rekeying.unreadable(held):
            yield from page.unreadable
            bar.advance(task, page.sealed + len(page.unreadable))


def _bar() -> Progress:
    """On stderr: lines that a program reads go to stdout."""
    return Progress(console=Console(stderr=True), transient=True, redirect_stdout=False)


def _on_record(held: Store, rows: int) -> None:
    detail = orjson.dumps({"key": held.sealing.sealed_by, "rows": rows}).decode()
    entry = AuditEntry(
        recorded_at=utc_now(),
        outcome="rekeyed",
        status=200,
        action=ACTION,
        user=operator(),
        detail=detail,
    )
    held.append_audit([entry])


def _tell(faults: Iterable[str]) -> None:
    """The first of them; a key that is missing makes as many as it has rows."""
    told = list(faults)
    for reason in told[:SHOWN_FAULTS]:
        typer.echo(f"Cannot be opened: {reason}.", err=True)
    if len(told) > SHOWN_FAULTS:
        typer.echo(f"... and {len(told) - SHOWN_FAULTS} more.", err=True)


def _as_object(
    held: Store, tally: Mapping[str, Counter[str | None]], left: int, faults: list[str]
) -> dict[str, Any]:
    rows = {
        table: {key or "plain": number for key, number in counts.items()}
        for table, counts in tally.items()
    }
    return {
        "seals_with": held.sealing.sealed_by,
        "opens": sorted(held.sealing.fingerprints),
        "rows": rows,
        "left": left,
        "unreadable": faults,
    }


def _table(held: Store, tally: Mapping[str, Counter[str | None]]) -> Table:
    table = Table("Rows of", "Sealed with", "Number", "Here", box=None, header_style="bold")
    for name, counts in tally.items():
        for key, number in sorted(counts.items(), key=lambda item: item[0] or ""):
            table.add_row(name, key or "nothing: plain", str(number), _here(held, key))
    return table


def _here(held: Store, key: str | None) -> Text:
    if key == held.sealing.sealed_by:
        return Text("as new rows are", style="green")
    if key is None or key in held.sealing.fingerprints:
        return Text("can be read", style="yellow")
    return Text("key is not given", style="red")


def _sentence(held: Store, left: int) -> str:
    seals = held.sealing.sealed_by
    new = f"New rows are sealed with {seals}." if seals else "New rows are stored plainly."
    if left and seals:
        return f"{new} {left} rows are not: `cds-service store rekey` seals them anew."
    return f"{new} {left} rows are not." if left else new
