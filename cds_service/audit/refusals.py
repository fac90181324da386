"""Refused calls of callers that proved nothing: counted by address and minute, not row by row.

Anyone who reaches the port can be refused as often as the network carries. Each such row would be
a durable write, so the first of a kind in a minute is a row of its own, and those after it are one
row with their number.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import datetime

from cds_service.store.records import AuditEntry

# In one minute of one process. What comes after counts under MANY, whatever its address: at most
# twice this many rows and a few, however many addresses an attacker has.
MOST_KINDS = 200
MANY = "(many addresses)"

Kind = tuple[str | None, str | None, int, str | None]


@dataclass(slots=True)
class Refusals:
    """Thread-safe. Whoever takes rows out of it writes them, or says that they are lost."""

    _minute: datetime | None = None
    _latest: dict[Kind, AuditEntry] = field(default_factory=dict)
    _calls: dict[Kind, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, entry: AuditEntry) -> list[AuditEntry]:
        """Count `entry`; what is to be written now: what a minute left, and the first of a kind."""
        with self._lock:
            due = self._ended(entry.recorded_at)
            kind = _kind(entry)
            if kind not in self._calls and len(self._calls) >= MOST_KINDS:
                entry = replace(entry, address=MANY, suspicious=None)
                kind = _kind(entry)
            first = kind not in self._calls
            self._calls[kind] = 0 if first else self._calls[kind] + 1
            self._latest[kind] = entry
            return [*due, replace(entry, calls=1)] if first else due

    def ended(self, now: datetime) -> list[AuditEntry]:
        """What the minutes before that of `now` left."""
        with self._lock:
            return self._ended(now)

    def rest(self) -> list[AuditEntry]:
        """Everything that is left; for the end of the process."""
        with self._lock:
            return self._drained()

    def _ended(self, now: datetime) -> list[AuditEntry]:
        minute = now.replace(second=0, microsecond=0)
        due = self._drained() if self._minute is not None and minute > self._minute else []
        # A clock set back counts on in the minute that was begun.
        self._minute = minute if self._minute is None else max(minute, self._minute)
        return due

    def _drained(self) -> list[AuditEntry]:
        due = [replace(self._latest[kind], calls=n) for kind, n in self._calls.items() if n]
        self._latest.clear()
        self._calls.clear()
        return due


def _kind(entry: AuditEntry) -> Kind:
    return entry.address, entry.action, entry.status, entry.suspicious
