"""Faults of the database, as against faults of a statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import exc

from cds_service.errors import StoreUnavailable

log = structlog.get_logger(__name__)

# The database or the way to it: disk full, file read-only or damaged, locked for too long, server
# gone or in recovery, no connection free.
_FAULTS = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)

# What is too much for PostgreSQL by its own size (a text that is too long for an index), though
# psycopg calls it operational. https://www.postgresql.org/docs/current/errcodes-appendix.html
_LIMITS = frozenset({"54000", "54001", "54011", "54023"})


def is_of_the_database(fault: BaseException) -> bool:
    """False for what one statement did wrong: integrity, data and the like are ours to mend."""
    if getattr(getattr(fault, "orig", None), "sqlstate", None) in _LIMITS:
        return False
    # The bare class is SQLite's "malformed" and "not a database".
    return isinstance(fault, _FAULTS) or type(fault) is exc.DatabaseError


@contextmanager
def faults_named() -> Iterator[None]:
    """A fault of the database leaves as StoreUnavailable; its reason goes to the log alone."""
    try:
        yield
    except exc.SQLAlchemyError as fault:
        if not is_of_the_database(fault):
            raise
        log.error("store unavailable", reason=_reason(fault))
        raise StoreUnavailable from fault


def _reason(fault: exc.SQLAlchemyError) -> str:
    original = getattr(fault, "orig", None) or fault
    return f"{type(original).__name__}: {str(original).splitlines()[0] if str(original) else ''}"
