"""The chain of audit rows: each holds the digest of the one before it, and its own.

A chain has one writer at a time, so that it cannot fork; writers side by side have a chain each.
What is digested is the row as both databases hold it: text, whole numbers, times as UTC text.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

StoredValue = str | int | None
StoredRow = Mapping[str, StoredValue]

# The number of a row is the database's to give, and the digest cannot hold itself.
_NOT_DIGESTED = frozenset({"id", "digest"})


def canonical(row: StoredRow) -> bytes:
    """The bytes that stand for `row`: JSON in UTF-8, names sorted, what is null left out.

    Left out, so that a column which a later version adds changes no older row's bytes. Raises
    TypeError for a value that no audit row holds.
    """
    said = {
        name: value
        for name, value in row.items()
        if value is not None and name not in _NOT_DIGESTED
    }
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)


def digest_of(row: StoredRow) -> str:
    """SHA-256 of the canonical bytes, in hexadecimal."""
    return hashlib.sha256(canonical(row)).hexdigest()


def genesis(chain: str) -> str:
    """What the first row of `chain` refers to: no row, and no other chain's beginning."""
    return hashlib.sha256(f"cds-service audit chain {chain}".encode()).hexdigest()


def digest_of_all(rows: Iterable[StoredRow]) -> tuple[int, str]:
    """How many rows, and one digest over all of them in their order."""
    count, whole = 0, hashlib.sha256()
    for row in rows:
        count += 1
        whole.update(canonical(row) + b"\n")
    return count, whole.hexdigest()


@dataclass(slots=True, kw_only=True)
class ChainWriter:
    """The end of one chain, in the hands of one transaction at a time."""

    chain: str
    seq: int = 0
    digest: str = ""

    def link(self, row: StoredRow) -> dict[str, StoredValue]:
        """`row` as the next of this chain."""
        previous = self.digest or genesis(self.chain)
        linked = {**row, "chain": self.chain, "seq": self.seq + 1, "previous": previous}
        self.seq, self.digest = self.seq + 1, digest_of(linked)
        return linked | {"digest": self.digest}


def new_writer() -> ChainWriter:
    """The writer of a chain that nobody else has."""
    return ChainWriter(chain=uuid.uuid4().hex)


class ChainWriters:
    """The writers of one process: as many as there are transactions side by side."""

    def __init__(self) -> None:
        self._free: list[ChainWriter] = []
        self._lock = threading.Lock()

    @contextmanager
    def writer(self) -> Iterator[ChainWriter]:
        """A writer for one transaction, which must be committed when the block ends.

        After a fault nobody knows whether the row is there (a commit may be done and its answer
        lost), so this chain ends where it is and the next transaction begins another.
        """
        with self._lock:
            # The last one back first: what rarely happens side by side makes few chains.
            writer = self._free.pop() if self._free else new_writer()
        end = writer.seq
        try:
            yield writer
        except BaseException:
            if writer.seq == end:  # no row of it was linked: its end is known
                self._give_back(writer)
            raise
        self._give_back(writer)

    def _give_back(self, writer: ChainWriter) -> None:
        with self._lock:
            self._free.append(writer)
