"""`cds-service outbox`: what waits to be delivered, what cannot be, and the worker as a process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import orjson
import structlog
import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cds_service.app import STOP_SECONDS, assemble_delivery, utc_now, warn_of_variables
from cds_service.audit_cli import opened, operator
from cds_service.delivery.dispatch import Dispatch, dispatch
from cds_service.delivery.worker import Outcome
from cds_service.errors import StoreUnavailable
from cds_service.log import configure_logging
from cds_service.parts import Parts
from cds_service.settings import Settings
from cds_service.store import (
    AuditEntry,
    MessageDetail,
    MessageState,
    MessageStatus,
    OutboxFigures,
    Store,
)

log = structlog.get_logger(__name__)

outbox = typer.Typer(
    help="See, retry, discard and deliver the RiskAssessments that wait for an EHR's FHIR server.",
    no_args_is_help=True,
)
SHOWN = "outbox-show"
# More than anyone reads; and of what is dead, more than a person decides about at once.
MOST = 1_000_000
STYLES = {"ready": "yellow", "claimed": "cyan", "delivered": "green", "dead": "red"}


class Shown(StrEnum):
    """The states by which messages are listed."""

    READY = "ready"
    CLAIMED = "claimed"
    DELIVERED = "delivered"
    DEAD = "dead"
    DISCARDED = "discarded"


# What a person may have to do something about.
UNDONE = (Shown.READY, Shown.CLAIMED, Shown.DEAD)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of messages.", show_default=False)]
AllDead = Annotated[
    bool, typer.Option("--all-dead", help="Every message that is dead and not discarded.")
]
OfClient = Annotated[
    str | None, typer.Option("--client", help="Only those of this client of the clients file.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


@outbox.command("list", epilog="Example: cds-service outbox list --state dead --client Hospital")
def list_messages(
    state: Annotated[
        Shown | None, typer.Option(help="In this state.", show_default="not delivered")
    ] = None,
    client: OfClient = None,
    count: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """List messages, oldest first; `--json` prints one object on a line."""
    with opened() as (_, store):
        states = UNDONE if state is None else (state,)
        found = [each for one in states for each in in_state(store, one, client, count)]
        found.sort(key=lambda message: (message.created_at, message.id))
        figures = store.outbox_figures(now=utc_now())
    if as_json:
        for message in found[:count]:
            typer.echo(orjson.dumps(as_object(message)).decode())
        return
    console = Console()
    if found:
        console.print(_table(found[:count], utc_now()))
    console.print(_summary(figures))


@outbox.command(epilog="Example: cds-service outbox show 7f3c0c1e-6d0b-5b55-9f6c-2d1a8e6b9a10")
def show(
    id: Annotated[str, typer.Argument(help="Id of a message.")],
    resource: Annotated[
        bool, typer.Option("--resource", help="The RiskAssessment that it brings, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one message, with the reason in the server's own words. Exit 1: there is none.

    They may hold patient data: the look is on record.
    """
    with opened() as (_, store):
        detail = store.message(id)
        if detail is None:
            typer.echo(f"There is no message {_printable(id)} in the outbox.", err=True)
            raise typer.Exit(1)
        _on_record(store, detail)
    if as_json:
        brings = {"resource": detail.resource} if resource else {}
        said = as_object(detail.status) | brings
        typer.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
        return
    console = Console()
    console.print(_facts(detail.status, utc_now()))
    if resource:
        console.print_json(data=detail.resource)


@outbox.command(epilog="Example: cds-service outbox retry --all-dead --client Hospital --yes")
def retry(
    ids: Ids = None,
    all_dead: AllDead = False,
    client: OfClient = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make dead or waiting messages due at once, as if never tried, once the cause is mended.

    Exit 1: not all of them could be. Each is on record.
    """
    with opened() as (_, store):
        wanted = _wanted(store, ids, all_dead=all_dead, client=client)
        _confirm("Deliver", wanted, yes=yes)
        done = store.retry_messages(wanted, now=utc_now(), by=operator())
        _report("retried", wanted, done, store, as_json=as_json)


@outbox.command(
    epilog="Example: cds-service outbox discard 7f3c0c1e-6d0b-5b55-9f6c-2d1a8e6b9a10 --yes"
)
def discard(
    ids: Ids = None,
    all_dead: AllDead = False,
    client: OfClient = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Let go of dead messages: their EHR will never have them. They stay here, marked.

    Exit 1: not all of them could be. Each is on record, and `retry` takes it back.
    """
    with opened() as (_, store):
        wanted = _wanted(store, ids, all_dead=all_dead, client=client)
        _confirm("Discard", wanted, yes=yes)
        done = store.discard_messages(wanted, now=utc_now(), by=operator())
        _report("discarded", wanted, done, store, as_json=as_json)


@outbox.command(epilog="Example: CDS_DELIVERY=apart cds-service outbox deliver")
def deliver(
    once: Annotated[
        bool, typer.Option("--once", help="Deliver what is due, print what came of it, and end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the delivery worker as a process of its own, until SIGTERM; logs go to stderr.

    Any number may run, beside `serve`'s own or, with CDS_DELIVERY=apart, in its place.
    What is in flight at SIGTERM is finished.
    With --once, exit 1: something that was due was not delivered.
    """
    settings = Settings.from_environment(os.environ)
    configure_logging(settings.log_level)
    warn_of_variables()
    try:
        outcomes = asyncio.run(_deliver(assemble_delivery(settings, utc_now), once=once))
    except StoreUnavailable as fault:
        typer.echo(fault.message, err=True)
        raise typer.Exit(2) from fault
    if not once:
        return
    said = {outcome.value: outcomes[outcome] for outcome in Outcome}
    if as_json:
        typer.echo(orjson.dumps(said).decode())
    else:
        typer.echo(", ".join(f"{number} {outcome}" for outcome, number in said.items()))
    if outcomes.total() > outcomes[Outcome.CREATED] + outcomes[Outcome.EXISTING]:
        raise typer.Exit(1)


async def _deliver(parts: Parts, *, once: bool) -> Counter[Outcome]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with dispatch(parts) as worker:
            log.info("delivering", once=once)
            await _until_stopped(worker, stop, once=once)
            log.info("stopped delivering")
            return worker.outcomes
    finally:
        await parts.fhir.close()
        await parts.clients.close()
        await asyncio.to_thread(parts.store.close)


async def _until_stopped(worker: Dispatch, stop: asyncio.Event, *, once: bool) -> None:
    running = asyncio.create_task(worker.once(stop) if once else worker.until(stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    # What is cut off here is due again when its lease ends.
    _, unfinished = await asyncio.wait({running}, timeout=STOP_SECONDS)
    for task in unfinished:
        task.cancel()
    if not unfinished:
        await running


def in_state(store: Store, state: Shown, client: str | None, count: int) -> list[MessageStatus]:
    """The oldest messages in one state; what is discarded is dead, and listed by itself."""
    discarded = state is Shown.DISCARDED
    return store.messages(
        count=count,
        state=MessageState.DEAD if discarded else MessageState(state.value),
        discarded=discarded,
        client=client,
    )


def _wanted(
    store: Store, ids: Sequence[str] | None, *, all_dead: bool, client: str | None
) -> list[str]:
    if bool(ids) == all_dead:
        raise typer.BadParameter("give ids, or --all-dead")
    if client is not None and not all_dead:
        raise typer.BadParameter("--client goes with --all-dead")
    if ids:
        return list(dict.fromkeys(ids))
    return [message.id for message in in_state(store, Shown.DEAD, client, MOST)]


def _confirm(what: str, wanted: Sequence[str], *, yes: bool) -> None:
    if wanted and not yes:
        number = "this message" if len(wanted) == 1 else f"these {len(wanted)} messages"
        typer.confirm(f"{what} {number}?", abort=True, err=True)


def _report(verb: str, wanted: Sequence[str], done: int, store: Store, *, as_json: bool) -> None:
    """How many it was so with; where it was not so with all, what became of each."""
    if as_json:
        typer.echo(orjson.dumps({verb: done, "asked": len(wanted)}).decode())
    else:
        typer.echo(f"{verb.capitalize()}: {done} of {len(wanted)}.")
    if done == len(wanted):
        return
    for id in wanted:
        detail = store.message(id)
        if detail is None:
            typer.echo(f"{_printable(id)}: there is no such message.", err=True)
        else:
            typer.echo(f"{id}: is {state_of(detail.status)}.", err=True)
    raise typer.Exit(1)


def _on_record(store: Store, detail: MessageDetail) -> None:
    assessment = store.risk_assessment(detail.status.assessment_id)
    entry = AuditEntry(
        recorded_at=utc_now(),
        outcome="shown",
        status=200,
        action=SHOWN,
        user=operator(),
        patient_id=assessment.patient_id if assessment else None,
        resource_id=detail.status.assessment_id,
        detail=orjson.dumps({"message": detail.status.id}).decode(),
    )
    store.append_audit([entry])


def state_of(message: MessageStatus) -> str:
    """Its state, `discarded` being one for a person."""
    return Shown.DISCARDED.value if message.discarded_at else message.state.value


def as_object(message: MessageStatus) -> dict[str, Any]:
    """For a program: every field, times in UTC."""
    return asdict(message) | {"state": state_of(message)}


# For a person at a terminal --------------------------------------------------------------------


def _table(messages: Sequence[MessageStatus], now: datetime) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("Id", no_wrap=True)
    for name in ("State", "Client", "Server", "Tries", "Age", "Reason"):
        table.add_column(name, overflow="fold")
    for message in messages:
        state = state_of(message)
        table.add_row(
            message.id,
            Text(state, style=STYLES.get(state, "dim")),
            Text(_printable(message.client or "–")),
            Text(_printable(message.fhir_base)),
            str(message.attempts),
            _span(now - message.created_at),
            Text(_printable((message.reason or "").partition("\n")[0])),
        )
    return table


def _summary(figures: OutboxFigures) -> Text:
    counted = [f"{number} {state.value}" for state, number in figures.depth.items()]
    said = Text(", ".join([*counted, f"{figures.discarded} discarded"]) + ".", style="dim")
    if figures.oldest_ready_seconds:
        waiting = _span(timedelta(seconds=figures.oldest_ready_seconds))
        said.append(f" The oldest that waits has done so for {waiting}.")
    return said


def _facts(message: MessageStatus, now: datetime) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _named(message, now):
        table.add_row(name, value)
    return table


def _named(message: MessageStatus, now: datetime) -> Iterator[tuple[str, RenderableType]]:
    state = state_of(message)
    yield "Message", message.id
    yield "State", Text(state, style=STYLES.get(state, "dim"))
    yield "RiskAssessment", message.assessment_id
    yield "Client", Text(_printable(message.client or "–"))
    yield "Server", Text(_printable(message.fhir_base))
    yield "Tries", str(message.attempts)
    yield "Committed", f"{_moment(message.created_at)} ({_span(now - message.created_at)} ago)"
    if message.state is MessageState.READY:
        yield "Due", _moment(message.available_at)
    if message.lease_until:
        yield "Leased until", _moment(message.lease_until)
    if message.settled_at:
        yield "Ended", _moment(message.settled_at)
    if message.discarded_at:
        by = _printable(message.discarded_by or "")
        yield "Discarded", Text(f"{_moment(message.discarded_at)} by {by}")
    if message.location:
        yield "Location", Text(_printable(message.location))
    if message.version:
        yield "Version", Text(_printable(message.version))
    if message.reason:
        lines = (_printable(line) for line in message.reason.splitlines())
        yield "Reason", Text("\n".join(lines))


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _span(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _printable(text: str) -> str:
    """What comes from servers must not steer a terminal."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
