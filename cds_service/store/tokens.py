"""Tokens that are good for one call, whichever process it reaches."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from cds_service.store.rows import insert
from cds_service.store.schema import used_jti


def use(connection: sa.Connection, token: bytes, *, expires_at: datetime, now: datetime) -> bool:
    """True for the first use of `token` before it expires, whoever else asks at that moment."""
    insertion = insert(connection.dialect.name, used_jti)
    unique = insertion.on_conflict_do_update(
        index_elements=["token"],
        set_={"expires_at": insertion.excluded.expires_at},
        where=used_jti.c.expires_at <= now,
    )
    row = {"token": token, "expires_at": expires_at}
    return len(connection.execute(unique.returning(used_jti.c.token), row).all()) == 1


def forget(connection: sa.Connection, *, now: datetime) -> int:
    """Remove those that have expired; how many they were."""
    return connection.execute(sa.delete(used_jti).where(used_jti.c.expires_at <= now)).rowcount
