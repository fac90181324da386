"""120 whole synthetic records as an EHR would send them.

Prefetch is resolved from the templates of discovery. The records end in July 2021, and today their
results are too old for a look-back of two years: as recorded, they measure reading and mapping.
`moved` shifts every date by the same number of days, so that the newest result is from yesterday
and nearly every adult is scored, explained and stored.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import orjson

from cds_service.demo.prefetch import resolve_prefetch

KINDS = frozenset({"Patient", "Observation", "Condition", "MedicationRequest"})
ENDED = date(2021, 7, 15)
_DATE = re.compile(rb'(?<=")\d{4}-\d{2}-\d{2}(?=[T"])')

Resource = dict[str, Any]


def data_folder() -> Path:
    """Where the records are looked for; it need not exist."""
    given = os.environ.get("CDS_DATA_DIR")
    root = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    return root / "synthea_r4"


def read_records(folder: Path) -> list[list[Resource]]:
    """Every record that has a patient, without the kinds of resource that no template names."""
    records = []
    for path in sorted(folder.glob("*.json.gz")):
        entries = orjson.loads(gzip.decompress(path.read_bytes()))["entry"]
        resources = [entry["resource"] for entry in entries]
        if any(found["resourceType"] == "Patient" for found in resources):
            records.append([found for found in resources if found["resourceType"] in KINDS])
    return records


def body(templates: Mapping[str, str], resources: list[Resource]) -> bytes:
    """The call that opens this record's chart."""
    patient = next(found for found in resources if found["resourceType"] == "Patient")
    return orjson.dumps(
        {
            "hook": "patient-view",
            "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
            "context": {"userId": "Practitioner/1", "patientId": patient["id"]},
            "prefetch": resolve_prefetch(templates, resources),
        }
    )


def moved(body: bytes, days: int) -> bytes:
    """`body` with every date and dateTime `days` later."""
    known: dict[bytes, bytes] = {}

    def later(match: re.Match[bytes]) -> bytes:
        text = match.group()
        if text not in known:
            known[text] = str(date.fromisoformat(text.decode()) + timedelta(days=days)).encode()
        return known[text]

    return _DATE.sub(later, body)


def days_until(today: date) -> int:
    """By how many days the records are behind `today`."""
    return (today - ENDED).days
