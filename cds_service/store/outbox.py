"""Messages from one state to the next: claimed by one worker, settled by nobody else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from cds_service.errors import RowUnreadable
from cds_service.store.records import (
    ClaimedMessage,
    Destination,
    MessageDetail,
    MessageState,
    MessageStatus,
    OutboxFigures,
    OutboxMessage,
)
from cds_service.store.rows import is_sqlite, row_of, taken
from cds_service.store.schema import assessment, outbox
from cds_service.store.sealed_columns import opened, opened_record

log = structlog.get_logger(__name__)

# Nothing waits longer than a server may ask for (`RetryPolicy.longest_asked`, a day). What seems
# to was written while a clock was ahead: it is due.
LONGEST_WAIT = timedelta(hours=25)
# The same of a lease, beyond its own length: so far may the clocks of two machines be apart.
CLOCKS_APART = timedelta(minutes=15)
# A message that cannot be opened waits for its key, without being taken again and again.
UNREADABLE_WAIT = timedelta(hours=1)

_STATUS = [outbox.c[field.name] for field in fields(MessageStatus)]


def new_row(message: OutboxMessage, created_at: datetime) -> dict[str, Any]:
    """A message that is ready at once."""
    return row_of(message) | {
        "state": MessageState.READY,
        "attempts": 0,
        "created_at": created_at,
        "available_at": created_at,
    }


def claim(
    connection: sa.Connection,
    *,
    now: datetime,
    lease: timedelta,
    count: int,
    claim_id: str,
    without: Collection[Destination] = (),
) -> list[ClaimedMessage]:
    """Take up to `count` messages that are due, for no one else until the lease ends; none that
    goes to a destination in `without`. What cannot be opened is put off, and says why."""
    claiming = {
        "state": MessageState.CLAIMED,
        "attempts": outbox.c.attempts + 1,
        "claim_id": claim_id,
        "lease_until": now + lease,
    }
    rows: list[sa.Row[Any]] = []
    for due, since in _ways_to_be_due(now, lease, without):
        if room := count - len(rows):
            update = sa.update(outbox).where(outbox.c.id.in_(_oldest(connection, due, since, room)))
            rows += connection.execute(update.values(**claiming).returning(outbox)).all()
    claimed = []
    for row in rows:
        try:
            claimed.append(opened_record(connection, ClaimedMessage, outbox, row))
        except RowUnreadable as fault:
            _put_off(connection, ClaimedMessage(**taken(ClaimedMessage, row)), now, fault)
    return claimed


def _put_off(
    connection: sa.Connection, message: ClaimedMessage, now: datetime, fault: RowUnreadable
) -> None:
    """It is promised, and its key may come back: never dead for that."""
    log.error("row unreadable", reason=fault.reason)
    finish(
        connection,
        message,
        state=MessageState.READY,
        available_at=now + UNREADABLE_WAIT,
        attempts=message.attempts - 1,  # the FHIR server was not asked
        reason=f"It cannot be opened: {fault.reason}",
    )


def is_anything_due(
    connection: sa.Connection,
    *,
    now: datetime,
    lease: timedelta,
    without: Collection[Destination] = (),
) -> bool:
    """True where `claim` would find something."""
    return any(
        connection.execute(sa.select(outbox.c.id).where(due).limit(1)).first()
        for due, _ in _ways_to_be_due(now, lease, without)
    )


def _ways_to_be_due(
    now: datetime, lease: timedelta, without: Collection[Destination]
) -> Iterator[tuple[sa.ColumnElement[bool], sa.Column[datetime]]]:
    """What a worker did not finish in time, what is ready, and what clocks that were ahead have
    made. Each by itself: its query walks the index in order and ends when it has enough, where
    one for all of them would sort everything that waits."""
    here = [sa.not_(_goes_to(destination)) for destination in without]
    ready, available = outbox.c.state == MessageState.READY, outbox.c.available_at
    claimed, until = outbox.c.state == MessageState.CLAIMED, outbox.c.lease_until
    yield sa.and_(claimed, _over(until, now, lease + CLOCKS_APART), *here), until
    yield sa.and_(ready, available <= now, *here), available
    yield sa.and_(ready, available > now + LONGEST_WAIT, *here), available


def _over(moment: sa.Column[datetime], now: datetime, longest: timedelta) -> Any:
    return sa.or_(moment <= now, moment > now + longest)


def _oldest(
    connection: sa.Connection,
    due: sa.ColumnElement[bool],
    since: sa.Column[datetime],
    count: int,
) -> sa.Select[Any]:
    """Ids of the first so many that are due."""
    picked = sa.select(outbox.c.id).where(due).order_by(since, outbox.c.id).limit(count)
    if is_sqlite(connection):
        return picked
    # In a CTE, which PostgreSQL evaluates once; as a plain subquery with LIMIT it may be
    # evaluated again for every row and lock more rows than were asked for.
    locked = picked.with_for_update(skip_locked=True).cte("picked")
    return sa.select(locked.c.id)


def _goes_to(destination: Destination) -> sa.ColumnElement[bool]:
    return sa.and_(
        outbox.c.client.is_not_distinct_from(destination.client),
        outbox.c.fhir_base == destination.fhir_base,
    )


def finish(connection: sa.Connection, message: ClaimedMessage, **values: Any) -> bool:
    """End a claim. False: the lease was lost, and nothing has changed.

    The claim is the fence: a worker that hung past its lease changes nothing any more.
    """
    held = sa.and_(outbox.c.id == message.id, outbox.c.claim_id == message.claim_id)
    ending = sa.update(outbox).where(held).values(claim_id=None, lease_until=None, **values)
    return connection.execute(ending).rowcount == 1


def retry(connection: sa.Connection, ids: Sequence[str], now: datetime) -> list[sa.Row[Any]]:
    """Make due at once what is dead or waits for another try; the messages that it was so with.

    What a worker holds is being tried, and what is delivered needs no other try.
    """
    waiting = sa.and_(outbox.c.state == MessageState.READY, outbox.c.available_at > now)
    return _changed(
        connection,
        ids,
        sa.or_(outbox.c.state == MessageState.DEAD, waiting),
        state=MessageState.READY,
        attempts=0,
        available_at=now,
        settled_at=None,
        discarded_at=None,
        discarded_by=None,
    )


def discard(
    connection: sa.Connection, ids: Sequence[str], now: datetime, by: str
) -> list[sa.Row[Any]]:
    """Let go of what is dead and not discarded yet; the messages that it was so with."""
    dead = sa.and_(outbox.c.state == MessageState.DEAD, outbox.c.discarded_at.is_(None))
    return _changed(connection, ids, dead, discarded_at=now, discarded_by=by)


def _changed(
    connection: sa.Connection,
    ids: Sequence[str],
    fit: sa.ColumnElement[bool],
    **values: Any,
) -> list[sa.Row[Any]]:
    """Rows with `id`, `assessment_id`, `client` and the `patient_id` of the assessment."""
    patient = (
        sa.select(assessment.c.patient_id)
        .where(assessment.c.id == outbox.c.assessment_id)
        .scalar_subquery()
    )
    columns = (outbox.c.id, outbox.c.assessment_id, outbox.c.client, patient.label("patient_id"))
    changed: list[sa.Row[Any]] = []
    # One at a time: any number of ids, in the order in which they were given.
    for id in dict.fromkeys(ids):
        update = sa.update(outbox).where(outbox.c.id == id, fit).values(**values)
        changed += connection.execute(update.returning(*columns)).all()
    return changed


def with_id(connection: sa.Connection, id: str) -> MessageDetail | None:
    """One message, with its resource."""
    row = connection.execute(sa.select(outbox).where(outbox.c.id == id)).one_or_none()
    if row is None:
        return None
    return MessageDetail(status=_status(row), **opened(connection, outbox, row))


def oldest(
    connection: sa.Connection,
    *,
    count: int,
    state: MessageState | None,
    discarded: bool | None,
    client: str | None,
) -> list[MessageStatus]:
    """The oldest messages; None does not restrict."""
    query = sa.select(*_STATUS).order_by(outbox.c.created_at, outbox.c.id).limit(count)
    if state is not None:
        query = query.where(outbox.c.state == state)
    if client is not None:
        query = query.where(outbox.c.client == client)
    if discarded is not None:
        gone = outbox.c.discarded_at
        query = query.where(gone.is_not(None) if discarded else gone.is_(None))
    return [_status(row) for row in connection.execute(query)]


def figures(connection: sa.Connection, now: datetime) -> OutboxFigures:
    """The outbox in numbers; a clock that went back makes nothing younger than now."""
    # Counted in the index: most of an old store is delivered, and none of that is looked at.
    counts = sa.select(outbox.c.state, sa.func.count()).group_by(outbox.c.state)
    depth = dict.fromkeys(MessageState, 0)
    for state, number in connection.execute(counts):
        depth[MessageState(state)] = number
    let_go = sa.and_(outbox.c.state == MessageState.DEAD, outbox.c.discarded_at.is_not(None))
    discarded = connection.execute(sa.select(sa.func.count()).where(let_go)).scalar_one()
    depth[MessageState.DEAD] = max(0, depth[MessageState.DEAD] - discarded)
    waits = outbox.c.state.in_([MessageState.READY, MessageState.CLAIMED])
    first = connection.execute(sa.select(sa.func.min(outbox.c.created_at)).where(waits)).scalar()
    seconds = max(0.0, (now - first).total_seconds()) if first is not None else 0.0
    return OutboxFigures(depth=depth, discarded=discarded, oldest_ready_seconds=seconds)


def _status(row: sa.Row[Any]) -> MessageStatus:
    values = taken(MessageStatus, row)
    return MessageStatus(**values | {"state": MessageState(values["state"])})
