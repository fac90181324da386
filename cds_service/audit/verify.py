"""Is the log as it was written? Every row against its digest, and every chain link by link to its
recorded end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa

from cds_service.audit.chain import StoredRow, digest_of, digest_of_all, genesis
from cds_service.store import Store, audit_rows

# Chain -> the number and the digest of its last row.
Ends = dict[str, tuple[int, str]]


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
    ends: Ends = field(default_factory=Ends)
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
            count, ends = _check_chains(rows, about)
        _check_ends(ends, audit_rows.recorded_ends(connection))
        for head in heads:
            _check_head(connection, head, about)
    return Verified(rows=count, chains=len(ends), before_chains=before)


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


def _check_chains(rows: Iterable[StoredRow], about: _About) -> tuple[int, Ends]:
    """How many rows there are, and where each chain ends."""
    count, found = 0, Ends()
    for row in rows:
        chain = str(row["chain"])
        seq, digest = found.get(chain) or about.ends.get(chain, (0, genesis(chain)))
        if row["seq"] != seq + 1:
            raise _broken(row, f"number {seq + 1} of its chain, which comes before it, is missing")
        if row["previous"] != digest:
            raise _broken(row, "it does not follow from the row before it")
        if not _undamaged(row):
            raise _broken(row, "its content is not what was written")
        count, found[chain] = count + 1, (seq + 1, str(row["digest"]))
    return count, found


def _check_ends(found: Ends, recorded: Ends) -> None:
    """Raises AuditBroken where a chain, or the end of one, is gone or is not the one recorded."""
    for chain in sorted(found.keys() | recorded.keys()):
        there, written = found.get(chain), recorded.get(chain)
        if there == written:
            continue
        if written is None:
            raise AuditBroken(f"Where chain {chain} ended is not recorded any more.")
        last, _ = there or (0, "")
        if last < written[0]:
            raise AuditBroken(
                f"The end of a chain is gone: number {written[0]} of chain {chain} was its last, "
                + (f"number {last} is now." if last else "and none is left.")
            )
        raise AuditBroken(f"Chain {chain} does not end in the row that was its last.")


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
