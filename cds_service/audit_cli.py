"""`cds-service audit`: read, prove and prune the log of who was told what about whom."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from cds_service.app import open_store, utc_now
from cds_service.audit import export as exporting
from cds_service.audit import prune as pruning
from cds_service.audit import verify as verifying
from cds_service.errors import RowUnreadable, StoreUnavailable
from cds_service.settings import Settings
from cds_service.store import Store

audit = typer.Typer(
    help="Verify, export and prune the audit log of the store (CDS_DATABASE_URL).",
    no_args_is_help=True,
)
DAY = ["%Y-%m-%d"]


@audit.command(epilog="Example: cds-service audit verify --since-head heads-2026-01.ndjson")
def verify(
    since_head: Annotated[
        Path | None, typer.Option(help="What `audit head` printed earlier.", exists=True)
    ] = None,
) -> None:
    """Check every row and every chain; exit 1 and name the first row that is wrong."""
    try:
        given = since_head.read_text(encoding="utf-8").splitlines() if since_head else []
        heads = verifying.read_heads(given)
    except ValueError as fault:
        raise typer.BadParameter(f"{since_head}: {fault}") from fault
    with opened() as (_, store):
        try:
            found = verifying.verify(store, heads)
        except verifying.AuditBroken as fault:
            typer.echo(str(fault), err=True)
            raise typer.Exit(1) from fault
    typer.echo(f"In order: {found.rows} rows in {found.chains} chains.")
    if found.before_chains:
        typer.echo(
            f"{found.before_chains} rows are from before the chains: as they were when they were "
            "sealed; what was done to them earlier cannot be told."
        )
    if not since_head:
        typer.echo("A history that was written anew as a whole shows only against `--since-head`.")


@audit.command(epilog="Example: cds-service audit head > heads-2026-01.ndjson")
def head() -> None:
    """Print the end of every chain. Keep it where the owner of the database cannot write."""
    with opened() as (_, store):
        for one in verifying.heads(store):
            typer.echo(orjson.dumps(asdict(one)).decode())


@audit.command(
    epilog="Example: cds-service audit export --from 2026-01-01 --to 2026-02-01 --format fhir"
)
def export(
    start: Annotated[
        datetime | None, typer.Option("--from", help="First day, UTC.", formats=DAY)
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", help="Day after the last one, UTC.", formats=DAY)
    ] = None,
    format: Annotated[
        exporting.Format, typer.Option(help="Rows as they are stored, or FHIR R4 AuditEvents.")
    ] = exporting.Format.NDJSON,
) -> None:
    """Print rows, oldest first, one JSON object on a line. The export is on record itself."""
    with opened() as (_, store):
        lines = exporting.export(
            store, start=_utc(start), end=_utc(end), format=format, now=utc_now(), user=operator()
        )
        for line in lines:
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


@audit.command(epilog="Example: cds-service audit prune --before 2019-01-01")
def prune(
    before: Annotated[datetime, typer.Option(help="First day to keep, UTC.", formats=DAY)],
) -> None:
    """Remove rows that need not be kept any more (CDS_AUDIT_RETENTION_YEARS, at least 7).

    `verify` passes afterwards, and a row says what was removed. Writing waits meanwhile.
    """
    with opened() as (settings, store):
        try:
            done = pruning.prune(
                store,
                before=before.replace(tzinfo=UTC),
                now=utc_now(),
                years=settings.audit_retention_years,
                user=operator(),
            )
        except pruning.TooYoung as fault:
            typer.echo(str(fault), err=True)
            raise typer.Exit(1) from fault
    typer.echo(f"Removed: {done.rows + done.before_chains} rows from before {before:%Y-%m-%d}.")


def operator() -> str:
    """Who runs the program, as this machine knows them."""
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user id without a name
        return f"operator:{os.getuid()}"


@contextmanager
def opened() -> Iterator[tuple[Settings, Store]]:
    """The store of the settings; a fault of the database is one line and exit 2."""
    settings = Settings.from_environment(os.environ)
    store = open_store(settings)
    try:
        yield settings, store
    except StoreUnavailable as fault:
        typer.echo(fault.reason if isinstance(fault, RowUnreadable) else fault.message, err=True)
        raise typer.Exit(2) from fault
    finally:
        store.close()


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=UTC)
