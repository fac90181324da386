"""Removal of rows that nobody has to keep any more: beginnings of chains only, and on record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import orjson
import sqlalchemy as sa

from cds_service.audit.chain import genesis, new_writer
from cds_service.store import AuditEntry, Store, audit_rows
from cds_service.store.schema import utc_text


class TooYoung(Exception):
    """Rows of that age have to be kept. The message says until when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows were removed; `before_chains` of them by a version that had no chains."""

    rows: int
    before_chains: int


def youngest_prunable(now: datetime, years: int) -> datetime:
    """Rows from before this moment may be removed."""
    try:
        return now.replace(year=now.year - years)
    except ValueError:  # the 29th of February
        return now.replace(year=now.year - years, day=28)


def prune(store: Store, *, before: datetime, now: datetime, years: int, user: str) -> Pruned:
    """Remove what is older than `before`, with a row that says so and where each chain goes on.

    A chain keeps everything from its first row on that is not older. Raises TooYoung.
    """
    limit = youngest_prunable(now, years)
    if before > limit:
        raise TooYoung(f"Rows are kept for {years} years: nothing after {limit:%Y-%m-%d} can go.")
    with store.auditing() as (connection, _):
        ends = _ends(connection, before)
        unchained = audit_rows.remove_outside_chains(connection, before)
        removed = audit_rows.remove_prefixes(connection, before)
        detail = {
            "before": utc_text(before),
            "before_chains": unchained,
            "chains": ends,
            "rows": removed + unchained,
        }
        entry = AuditEntry(
            recorded_at=now,
            outcome="pruned",
            status=200,
            action=audit_rows.PRUNE,
            user=user,
            detail=orjson.dumps(detail, option=orjson.OPT_SORT_KEYS).decode(),
        )
        # A chain of its own: this process's other one may have just gone as a whole.
        audit_rows.append(connection, entry, new_writer())
    return Pruned(rows=removed, before_chains=unchained)


def _ends(connection: sa.Connection, before: datetime) -> list[dict[str, object]]:
    """The last row that is gone, of every chain that goes on without its beginning.

    Those of earlier prunes are among them, so that the newest prune row says all there is to know.
    """
    kept = audit_rows.read(connection, audit_rows.first_kept(before))
    return [
        {"chain": row["chain"], "seq": int(row["seq"] or 0) - 1, "digest": row["previous"]}
        for row in kept
        if row["previous"] != genesis(str(row["chain"]))
    ]
