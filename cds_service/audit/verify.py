"""Is the log as it was written? Every row against its digest, and every chain link by link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa

from cds_service.audit.chain import StoredRow, digest_of, digest_of_all, genesis
from cds_service.store import Store, audit_rows


class AuditBroken(Exception):
    """The first row that is not as it was written, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found in order. `before_chains`: rows of a version that had no chains."""

    rows: int
    chains: int
    before_chains: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a chain at some moment, to be kept where the database's owner cannot write."""

    chain: str
    seq: int
    digest: str
    recorded_at: str


@dataclass(slots=True, kw_only=True)
class _About:
    """What the log says of itself: a seal on what was before it, and where prunes ended.

    These rows are links like all others, so that a false one is found where it stands.
    """

    seal: Mapping[str, Any] | None = None
    ends: dict[str, tuple[int, str]] = field(default_factory=dict)
    pruned_before: str = ""
    pruned_unchained: bool = False


def verify(store: Store, heads: Iterable[Head] = ()) -> Verified:
    """Raises AuditBroken for the first row that is wrong, or for a head that is not there."""
    with store.reading() as connection:
        with closing(audit_rows.read(connection, _about_the_log())) as rows:
            about = _about(rows)
        with closing(audit_rows.read(connection, audit_rows.outside_chains())) as rows:
            before = _check_before_chains(rows, about)
        with closing(audit_rows.read(connection, audit_rows.in_chains())) as rows:
            count, chains = _check_chains(rows, about)
        for head in heads:
            _check_head(connection, head, about)
    return Verified(rows=count, chains=chains, before_chains=before)


def heads(store: Store) -> Iterator[Head]:
    """The end of every chain."""
    with store.reading() as connection:
        for row in audit_rows.read(connection, audit_rows.heads()):
            yield _head(row)


def read_heads(lines: Iterable[str]) -> list[Head]:
    """What `audit head` printed; raises ValueError."""
    try:
        return [Head(**orjson.loads(line)) for line in lines if line.strip()]
    except (TypeError, orjson.JSONDecodeError) as fault:
        raise ValueError("not what `cds-service audit head` prints") from fault


def _head(row: StoredRow) -> Head:
    return Head(
        chain=str(row["chain"]),
        seq=int(row["seq"] or 0),
        digest=str(row["digest"]),
        recorded_at=str(row["recorded_at"]),
    )


def _about_the_log() -> sa.Select[Any]:
    return audit_rows.of_actions(audit_rows.SEAL, audit_rows.PRUNE)


def _about(rows: Iterable[StoredRow]) -> _About:
    about = _About()
    for row in rows:
        detail = _detail(row)
        if row["action"] == audit_rows.SEAL:
            about.seal = detail
            continue
        about.pruned_before = max(about.pruned_before, str(detail["before"]))
        about.pruned_unchained = about.pruned_unchained or bool(detail["before_chains"])
        for end in detail["chains"]:
            about.ends[end["chain"]] = (end["seq"], end["digest"])
    return about


def _detail(row: StoredRow) -> dict[str, Any]:
    if not _undamaged(row):
        raise _broken(row, "its content is not what was written")
    found: dict[str, Any] = orjson.loads(str(row["detail"]))
    return found


def _check_before_chains(found: Iterable[StoredRow], about: _About) -> int:
    if about.seal is None or about.pruned_unchained:
        for row in found:
            raise _broken(row, "it is outside every chain")
        return 0
    count, digest = digest_of_all(found)
    if (count, digest) != (about.seal["rows"], about.seal["digest"]):
        raise AuditBroken(
            f"The {about.seal['rows']} rows from before the chains are not what was sealed: there "
            f"are {count}, or their content is another."
        )
    return count


def _check_chains(rows: Iterable[StoredRow], about: _About) -> tuple[int, int]:
    count, chains = 0, 0
    chain, seq, digest = "", 0, ""
    for row in rows:
        if row["chain"] != chain:
            chains, chain = chains + 1, str(row["chain"])
            seq, digest = about.ends.get(chain, (0, genesis(chain)))
        if row["seq"] != seq + 1:
            raise _broken(row, f"number {seq + 1} of its chain, which comes before it, is missing")
        if row["previous"] != digest:
            raise _broken(row, "it does not follow from the row before it")
        if not _undamaged(row):
            raise _broken(row, "its content is not what was written")
        count, seq, digest = count + 1, seq + 1, str(row["digest"])
    return count, chains


def _undamaged(row: StoredRow) -> bool:
    try:
        return row["digest"] == digest_of(row)
    except TypeError:  # SQLite keeps bytes where it is told to, whatever the column's type
        return False


def _check_head(connection: sa.Connection, head: Head, about: _About) -> None:
    place = f"number {head.seq} of chain {head.chain}"
    query = audit_rows.row_of_chain(head.chain, head.seq)
    with closing(audit_rows.read(connection, query)) as rows:
        row = next(rows, None)
    if row is None and head.recorded_at < about.pruned_before:
        return
    if row is None:
        raise AuditBroken(f"The end of a chain is gone: {place}, of {head.recorded_at}.")
    if row["digest"] != head.digest:
        raise _broken(row, f"another row was there when its head was taken ({place})")


def _broken(row: StoredRow, why: str) -> AuditBroken:
    where = f"number {row['seq']} of chain {row['chain']}" if row["chain"] else "in no chain"
    return AuditBroken(f"Row {row['id']} ({where}, of {row['recorded_at']}): {why}.")
