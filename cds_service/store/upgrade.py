"""Stores that an earlier version made are brought up to date when they are opened.

Only what is nullable is ever added, so that rows stay as they are, byte for byte.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
import structlog

from cds_service.store import audit_rows
from cds_service.store.schema import audit, audit_head, metadata

log = structlog.get_logger(__name__)

# Oldest first; each is a file in `migrations/versions`.
REVISIONS = ("0001_first", "0002_audit_chain", "0003_delivery", "0004_sealing")
NEWEST = REVISIONS[-1]

# As Alembic has it: https://alembic.sqlalchemy.org/en/latest/api/runtime.html
_version = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class StoreTooNew(ValueError):
    """A newer version of this program made the store. The message says which is needed."""


def is_up_to_date(connection: sa.Connection) -> bool:
    """Whether nothing is to be done; raises StoreTooNew. It costs two queries and no import."""
    return _recorded(connection) == NEWEST


def bring_up_to_date(connection: sa.Connection) -> None:
    """Every table, column and index of `schema.py`; raises StoreTooNew.

    In a transaction that no other process of any version is in at the same time.
    """
    revision = _recorded(connection)
    if revision == NEWEST:
        return  # by another process, since it was asked for
    if revision is None:
        revision = _recognised(connection)
        _stamp(connection, revision or NEWEST)
    if revision is None:
        metadata.create_all(connection)
        return
    unchained = not _has_chains(connection)
    _run_migrations(connection)
    if revision == REVISIONS[0]:
        _begin_chains(connection, unchained=unchained)
    log.info("store brought up to date", before=revision, now=NEWEST)


def _recorded(connection: sa.Connection) -> str | None:
    """The revision that the store says it has; None for new stores and those of 0.1.0."""
    if not sa.inspect(connection).has_table(_version.name):
        return None
    revisions = connection.execute(sa.select(_version)).scalars().all()
    for revision in revisions:
        if revision not in REVISIONS:
            raise StoreTooNew(
                f"The store was made by a newer version of cds-service (its schema is {revision}, "
                f"this version knows up to {NEWEST}). Nothing was changed. Start the newer version."
            )
    return max(revisions, default=None)


def _recognised(connection: sa.Connection) -> str | None:
    """The revision of a store that does not say it, by its tables; None: there are none."""
    there = sa.inspect(connection)
    if not there.has_table(audit.name):
        return None
    return REVISIONS[1] if there.has_table(audit_head.name) else REVISIONS[0]


def _has_chains(connection: sa.Connection) -> bool:
    columns = sa.inspect(connection).get_columns(audit.name)
    return audit.c.chain.name in {column["name"] for column in columns}


def _stamp(connection: sa.Connection, revision: str) -> None:
    _version.create(connection, checkfirst=True)
    connection.execute(sa.insert(_version).values(version_num=revision))


def _run_migrations(connection: sa.Connection) -> None:
    # Only here: it takes a quarter of a second, and nearly every start has nothing to do.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, NEWEST)


def _begin_chains(connection: sa.Connection, *, unchained: bool) -> None:
    """What was written before there were chains is sealed; chains of a build that did not record
    their ends have them recorded."""
    audit_rows.record_ends(connection)
    if unchained:
        audit_rows.seal(connection, datetime.now(UTC))
