"""The log for those who ask for it: NDJSON, one row or one FHIR AuditEvent on each line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from cds_service.audit.audit_event import audit_event
from cds_service.store import AuditEntry, Store, audit_rows
from cds_service.store.schema import utc_text


class Format(StrEnum):
    """`ndjson`: every column as it is stored, so that digests can be checked elsewhere."""

    NDJSON = "ndjson"
    FHIR = "fhir"


_AS: Mapping[Format, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    Format.NDJSON: dict,
    Format.FHIR: audit_event,
}


def export(
    store: Store,
    *,
    start: datetime | None,
    end: datetime | None,
    format: Format,
    now: datetime,
    user: str,
) -> Iterator[bytes]:
    """Lines from `start` on and before `end`, oldest first; memory does not grow with them.

    That they were asked for is on record before the first one is given.
    """
    asked = {"format": format.value, "from": _text(start), "to": _text(end)}
    entry = AuditEntry(
        recorded_at=now,
        outcome="exported",
        status=200,
        action=audit_rows.EXPORT,
        user=user,
        detail=orjson.dumps(asked, option=orjson.OPT_SORT_KEYS).decode(),
    )
    store.append_audit([entry])
    with store.reading() as connection:
        for row in audit_rows.read(connection, audit_rows.between(start, end)):
            yield orjson.dumps(_AS[format](row)) + b"\n"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
