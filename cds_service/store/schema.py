"""Tables, the same on SQLite and PostgreSQL.

Times are text, `2026-01-31T12:00:00.000000Z`: always UTC, always microseconds, so that text order
is time order, both databases hold the same characters, and no session time zone can shift them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

# PostgreSQL text cannot hold U+0000, and neither database can hold half a surrogate pair; both
# arrive in hostile JSON. An audit row must not be lost to them.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Words(sa.TypeDecorator[str]):
    """Text that came from outside: what the database cannot hold becomes U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """`text` as it is stored."""
    if text.isascii() and "\x00" not in text:  # nearly all of it
        return text
    return _UNSTORABLE.sub("\ufffd", text)


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware datetime as UTC text with microseconds. A naive one is refused."""

    impl = sa.String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        return None if value is None else utc_text(value)

    def process_result_value(self, value: str | None, dialect: Any) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


@lru_cache(maxsize=256)  # a call has a few moments, each in several rows
def utc_text(moment: datetime) -> str:
    """`moment` as it is stored; raises ValueError when it has no time zone."""
    if moment.tzinfo is None:
        raise ValueError("a stored time needs a time zone")
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:26]}Z"


def _json() -> sa.JSON:
    return sa.JSON(none_as_null=True)


def _sealed_by(table: str) -> tuple[sa.Column[str], sa.Index]:
    """Since 0.2.0: the fingerprint of the key that a row is sealed with; null where it is plain.

    Its values name their key themselves; this is what finds them. Nothing is indexed where nothing
    is sealed.
    """
    column = sa.Column("sealed_by", Words)
    there = column.is_not(None)
    name = f"{table}_sealed_by"
    return column, sa.Index(name, column, sqlite_where=there, postgresql_where=there)


assessment = sa.Table(
    "assessment",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("identifier", Words, nullable=False, unique=True),
    sa.Column("origin", Words, nullable=False),
    sa.Column("patient_id", Words, nullable=False),
    sa.Column("encounter_id", Words),
    sa.Column("service_id", Words, nullable=False),
    sa.Column("model", Words, nullable=False),
    sa.Column("model_version", Words, nullable=False),
    sa.Column("as_of", UtcTime, nullable=False),
    sa.Column("received_at", UtcTime, nullable=False),
    sa.Column("hook_instance", Words, nullable=False),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("level", Words, nullable=False),
    sa.Column("inputs", _json(), nullable=False),
    sa.Column("resource", _json(), nullable=False),
    # Since 0.2.0: the id of the one before, of the same origin, patient and model. No foreign key:
    # the one before may have to be erased first. Unique: each is followed by one at most.
    sa.Column("follows", Words),
    *_sealed_by("assessment"),
    sa.Index("assessment_after", "follows", unique=True),
    sa.Index("assessment_of_patient", "patient_id", "received_at", "id"),
    sa.Index("assessment_newest", "received_at", "id"),
    sa.Index("assessment_of_call", "hook_instance"),
)

card = sa.Table(
    "card",
    metadata,
    sa.Column("uuid", Words, primary_key=True),
    sa.Column("kind", Words, nullable=False),
    sa.Column("indicator", Words, nullable=False),
    sa.Column("assessment_id", sa.ForeignKey("assessment.id"), index=True),
    sa.Column("hook_instance", Words, nullable=False),
    sa.Column("service_id", Words, nullable=False),
    sa.Column("issued_at", UtcTime, nullable=False),
    sa.Index("card_of_call", "hook_instance"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("recorded_at", UtcTime, nullable=False, index=True),
    sa.Column("outcome", Words, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("client", Words),
    sa.Column("tenant", Words),
    sa.Column("user", Words),
    sa.Column("address", Words),
    sa.Column("patient_id", Words, index=True),
    sa.Column("hook_instance", Words),
    sa.Column("service_id", Words),
    sa.Column("model", Words),
    sa.Column("model_version", Words),
    # Since 0.2.0. A column that is added is nullable: rows from before it stay as they are.
    sa.Column("action", Words),
    sa.Column("resource_id", Words),
    sa.Column("suspicious", Words),
    sa.Column("calls", sa.Integer),
    sa.Column("detail", Words),
    # The chain (`cds_service.audit.chain`). That no chain can fork is the database's word too.
    sa.Column("chain", Words),
    sa.Column("seq", sa.BigInteger),
    sa.Column("previous", Words),
    sa.Column("digest", Words),
    sa.Index("audit_in_chains", "chain", "seq", unique=True),
    sa.Index("audit_of_action", "action"),
    sqlite_autoincrement=True,  # a removed last row must not give its number to another
)

# Where each chain ends, committed with its last row: what is cut off there leaves no gap.
audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("chain", Words, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("digest", Words, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", Words, primary_key=True),
    sa.Column("assessment_id", sa.ForeignKey("assessment.id"), nullable=False, unique=True),
    sa.Column("fhir_base", Words, nullable=False),
    sa.Column("client", Words),
    sa.Column("resource", _json(), nullable=False),
    sa.Column(
        "state",
        sa.Text,
        sa.CheckConstraint("state IN ('ready', 'claimed', 'delivered', 'dead')"),
        nullable=False,
    ),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("available_at", UtcTime, nullable=False),
    sa.Column("claim_id", Words),
    sa.Column("lease_until", UtcTime),
    sa.Column("settled_at", UtcTime),
    sa.Column("reason", Words),
    sa.Column("location", Words),
    sa.Column("version", Words),
    # Since 0.2.0: a dead message that a person has looked at and let go.
    sa.Column("discarded_at", UtcTime),
    sa.Column("discarded_by", Words),
    *_sealed_by("outbox"),
    sa.Index("outbox_due", "state", "available_at"),
)

# What came of `write_back = "inline"`: `reason` is null where the FHIR server took it.
inline_write_back = sa.Table(
    "inline_write_back",
    metadata,
    sa.Column("assessment_id", sa.ForeignKey("assessment.id"), primary_key=True),
    sa.Column("fhir_base", Words, nullable=False),
    sa.Column("attempted_at", UtcTime, nullable=False),
    sa.Column("location", Words),
    sa.Column("version", Words),
    sa.Column("reason", Words),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    # No foreign key: feedback may name a card that this store does not hold (any more).
    sa.Column("card", Words, nullable=False),
    sa.Column("outcome", Words, nullable=False),
    sa.Column("outcome_timestamp", UtcTime, nullable=False),
    sa.Column("service_id", Words, nullable=False),
    sa.Column("received_at", UtcTime, nullable=False),
    sa.Column("client", Words),
    sa.Column("accepted_suggestions", _json(), nullable=False),
    sa.Column("override_reason", _json()),
    sa.Column("user_comment", Words),
    sa.UniqueConstraint("card", "outcome", "outcome_timestamp"),
)


# A JWT is good for one call, whichever process it reaches. `token` is a digest of issuer and jti.
used_jti = sa.Table(
    "used_jti",
    metadata,
    sa.Column("token", sa.LargeBinary(16), primary_key=True),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
)


# Append-only is kept by the database itself, not by the absence of an UPDATE in this package.
def _on_creation(dialect: str, *statements: str) -> None:
    for statement in statements:
        ddl: sa.DDL = sa.DDL(statement)  # type: ignore[no-untyped-call]
        sa.event.listen(audit, "after_create", ddl.execute_if(dialect=dialect))


# By name, because `cds-service audit prune` takes them away for the length of its transaction.
REFUSALS_OF_SQLITE = {
    f"audit_refuses_{verb.lower()}": f"CREATE TRIGGER audit_refuses_{verb.lower()} "
    f"BEFORE {verb} ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
    for verb in ("UPDATE", "DELETE")
}
REFUSAL_OF_POSTGRESQL = "audit_refuses_changes"

_on_creation("sqlite", *REFUSALS_OF_SQLITE.values())
_on_creation(
    "postgresql",
    "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$",
    f"CREATE TRIGGER {REFUSAL_OF_POSTGRESQL} BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
)
