"""What calls leave behind: many are stored by as many statements as one, or by a few more.

Look what is there → what is new, its message, cards, audit rows → where the chain ends now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from cds_service.audit.chain import ChainWriter
from cds_service.errors import RowUnreadable
from cds_service.store import audit_rows
from cds_service.store.outbox import new_row
from cds_service.store.records import AssessmentRecord, AuditEntry, IssuedCard, OutboxMessage
from cds_service.store.rows import row_of
from cds_service.store.schema import assessment, card, outbox, storable
from cds_service.store.sealed_columns import SEALED, opened_values, sealed, sealing_of
from cds_service.store.sealing import Sealing
from cds_service.store.statements import Driver, Row, driver_of, read_row, stored_row
from fhir_mapping.risk_assessment import following

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """What one call leaves behind; raises ValueError for a message of another assessment."""

    assessment: AssessmentRecord | None
    cards: Sequence[IssuedCard]
    audit: AuditEntry
    message: OutboxMessage | None

    def __post_init__(self) -> None:
        id = self.assessment.id if self.assessment else None
        if self.message is not None and self.message.assessment_id != id:
            raise ValueError("a message goes out with the assessment it belongs to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """The assessment is stored already, as this row."""

    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientBusy:
    """Another process is writing about the same patient; nothing of the call is stored."""


# What is stored of the assessment of a call; None where it has none.
Stored = AssessmentRecord | Repeated | None
Outcome = Stored | PatientBusy


def store(
    connection: sa.Connection, writer: ChainWriter, calls: Sequence[CallRecord], *, wait: bool
) -> list[Outcome]:
    """Store each of `calls` whole; what became of them, in their order.

    One about a patient about whom another process is writing waits for that, or is left out. On
    SQLite nobody else is writing.
    """
    asked = [_asked(call.assessment) for call in calls]
    outcomes: dict[int, Outcome] = {}
    with driver_of(connection) as driver:
        for wave in _waves(asked):
            there = _there(driver, [asked[place] for place in wave], wait=wait)
            rows = _Rows(sealing_of(connection))
            for place, found in zip(wave, there, strict=True):
                outcomes[place] = rows.add(calls[place], found)
            rows.insert(driver, writer)
    return [outcomes[place] for place in range(len(calls))]


# What is there -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _There:
    """For one call: its assessment, where that is stored already, or the id and the identifier of
    the one that it follows."""

    busy: bool = False
    stored: Row | None = None
    before: tuple[str, str] | None = None


def _asked(record: AssessmentRecord | None) -> dict[str, str]:
    """What the looks ask for; nothing where there is nothing to look for."""
    if record is None:
        return {}
    names = ("id", "identifier", "origin", "patient_id", "model")
    asked = {name: storable(getattr(record, name)) for name in names}
    whose = "\x1f".join((asked["origin"], asked["patient_id"], asked["model"]))
    return {**asked, "whose": whose}


def _waves(asked: Sequence[dict[str, str]]) -> list[list[int]]:
    """Places in `asked`. What follows or repeats another is in a later wave than that."""
    waves: list[list[int]] = []
    free: dict[tuple[str, str], int] = {}
    for place, names in enumerate(asked):
        keys = [(name, names[name]) for name in ("whose", "identifier", "id") if names]
        wave = max((free.get(key, 0) for key in keys), default=0)
        free.update(dict.fromkeys(keys, wave + 1))
        if wave == len(waves):
            waves.append([])
        waves[wave].append(place)
    return waves


def _there(driver: Driver, asked: Sequence[dict[str, str]], *, wait: bool) -> Iterator[_There]:
    looks = [names for names in asked if names]
    # One call about a patient after the other, so that no two follow the same. Nobody waits who
    # holds another patient, so that no two processes can wait for each other.
    lock = _WAIT if wait else _TRY
    looking = [_STORED, _NEWEST_UNFOLLOWED]
    if not driver.sqlite:
        looking.insert(0, lock)
    answers = zip(*driver.fetch_with_each(looking, looks), strict=True)
    for names in asked:
        yield _found(*next(answers)) if names else _There()


def _found(*answers: list[tuple[Any, ...]]) -> _There:
    *locked, stored, before = answers
    return _There(
        busy=locked == [[(False,)]],
        stored=dict(zip(_COLUMNS, stored[0], strict=True)) if stored else None,
        before=before[0] if before else None,
    )


# JSON as text: on PostgreSQL the driver would read it.
_STORED = sa.select(
    *(sa.cast(c, sa.Text).label(c.name) if isinstance(c.type, sa.JSON) else c for c in assessment.c)
).where(assessment.c.identifier == sa.bindparam("identifier"))
_COLUMNS = tuple(assessment.c.keys())

_later = assessment.alias("later")
# Not the newest alone: where a clock went back, that one is followed already.
_NEWEST_UNFOLLOWED = (
    sa.select(assessment.c.id, assessment.c.identifier)
    .where(
        assessment.c.patient_id == sa.bindparam("patient_id"),
        assessment.c.origin == sa.bindparam("origin"),
        assessment.c.model == sa.bindparam("model"),
        sa.not_(sa.exists().where(_later.c.follows == assessment.c.id)),
    )
    .order_by(assessment.c.received_at.desc(), assessment.c.id.desc())
    .limit(1)
)

_PATIENT = sa.func.hashtextextended(sa.bindparam("whose"), 0)
_WAIT = sa.select(sa.func.pg_advisory_xact_lock(_PATIENT))
_TRY = sa.select(sa.func.pg_try_advisory_xact_lock(_PATIENT))


# What is new ---------------------------------------------------------------------------------


class _Rows:
    """The rows of calls in their stored form, until they are inserted all at once."""

    def __init__(self, sealing: Sealing) -> None:
        self._sealing = sealing
        # In this order: a row refers to one of a table before its own.
        self._rows: dict[sa.Table, list[Row]] = {assessment: [], outbox: [], card: []}
        self._audit: list[AuditEntry] = []

    def add(self, call: CallRecord, there: _There) -> Outcome:
        """What becomes of `call`."""
        if there.busy:
            return PatientBusy()
        recorded_at = call.audit.recorded_at
        outcome: Outcome = None
        about: dict[str, Any] = {}
        if there.stored is not None:
            outcome, about = Repeated(row=there.stored), {"assessment_id": there.stored["id"]}
        elif call.assessment is not None:
            outcome = self._add_new(call.assessment, call.message, there.before, recorded_at)
        for issued in call.cards:
            row = {**row_of(issued), "issued_at": recorded_at}
            self._add(card, row | about if issued.assessment_id is not None else row)
        self._audit.append(call.audit)
        return outcome

    def _add_new(
        self,
        record: AssessmentRecord,
        message: OutboxMessage | None,
        before: tuple[str, str] | None,
        recorded_at: datetime,
    ) -> AssessmentRecord:
        if before is not None:
            id, identifier = before
            resource = following(record.resource, identifier)
            record = replace(record, follows=id, resource=resource)
            if message is not None:
                message = replace(message, resource=following(message.resource, identifier))
        self._add(assessment, sealed(self._sealing, assessment, row_of(record)))
        if message is not None:
            self._add(outbox, sealed(self._sealing, outbox, new_row(message, recorded_at)))
        return record

    def _add(self, table: sa.Table, row: Row) -> None:
        self._rows[table].append(stored_row(table, row))

    def insert(self, driver: Driver, writer: ChainWriter) -> None:
        with driver.in_one_go():
            for table, rows in self._rows.items():
                driver.insert_all(table, rows)
            audit_rows.append_all(driver, self._audit, writer)


def opened(sealing: Sealing, repeated: Repeated, asked: AssessmentRecord) -> AssessmentRecord:
    """The assessment that `asked` repeats, as it was stored."""
    row = read_row(assessment, repeated.row)
    values = {field.name: row[field.name] for field in fields(AssessmentRecord)}
    try:
        return AssessmentRecord(**values | opened_values(sealing, assessment, row))
    except RowUnreadable as fault:
        # The clinician need not do without: the same identifier is the same inputs and model. The
        # row stays as it is, and is nobody's to write over.
        log.error("row unreadable", reason=fault.reason)
        now = {name: getattr(asked, name) for name in SEALED[assessment]}
        return AssessmentRecord(**values | now)
