"""Lines sorted by patient on disk, so that a record is held in memory only while it is read.

An export may be far larger than memory, and has one file per type: a patient's resources lie all
over it. What matters of it goes to one temporary file in as many parts as keep a part small.
"""

from __future__ import annotations

import tempfile
import zlib
from array import array
from collections.abc import Iterator
from types import TracebackType
from typing import IO

_PART_BYTES = 48 * 2**20
_MOST_PARTS = 1024
_PENDING_BYTES = 48 * 2**20

# One line of a patient's record: what kind of line it is, and the line.
Entry = tuple[bytes, bytes]


class Spool:
    """Write with `add`, then read once with `records`.

    The file has no name while it is open: nobody else can open it, and however the process ends,
    killed too, nothing of it is left. It lies in the folder that TMPDIR names.
    """

    def __init__(self, export_bytes: int) -> None:
        self.parts = min(_MOST_PARTS, max(1, export_bytes // _PART_BYTES))
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in __exit__
        self._blocks = [array("Q") for _ in range(self.parts)]
        self._pending: list[list[bytes]] = [[] for _ in range(self.parts)]
        self._pending_bytes = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, patient_id: str, kind: bytes, line: bytes) -> None:
        """`patient_id` has FHIR's form of an id, `kind` is one letter, `line` has no line end."""
        key = patient_id.encode("ascii")
        entry = b"\t".join((key, kind, line))
        self._pending[zlib.crc32(key) % self.parts].append(entry)
        self._pending_bytes += len(entry)
        if self._pending_bytes > _PENDING_BYTES:
            self._flush()

    def records(self) -> Iterator[list[tuple[str, list[Entry]]]]:
        """Part by part, the patients of the part in the order of their ids, with their lines in
        the order in which they were added."""
        self._flush()
        for part in range(self.parts):
            patients: dict[bytes, list[Entry]] = {}
            for entry in self._lines(part):
                key, kind, line = entry.split(b"\t", 2)
                patients.setdefault(key, []).append((kind, line))
            yield [(key.decode("ascii"), patients[key]) for key in sorted(patients)]

    def _flush(self) -> None:
        for part, entries in enumerate(self._pending):
            if entries:
                block = b"\n".join(entries)
                self._blocks[part].extend((self._file.seek(0, 2), len(block)))
                self._file.write(block)
                entries.clear()
        self._pending_bytes = 0

    def _lines(self, part: int) -> Iterator[bytes]:
        places = self._blocks[part]
        for start, length in zip(places[::2], places[1::2], strict=True):
            self._file.seek(start)
            yield from self._file.read(length).split(b"\n")
