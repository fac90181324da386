"""What an assessment was made from, as JSON: enough to compute it again, and to name it.

`vector_of` is the inverse of `inputs_of`; `replay.py` makes the assessment again from it. Rows of
0.1.0 hold the features alone: see `vector_of`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from fhir_mapping import (
    Absent,
    AbsentReason,
    Bound,
    Effective,
    FeatureVector,
    Finding,
    Present,
    Source,
)
from fhir_mapping.times import read_datetime, read_period
from fhir_mapping.vector import Entry

# Of these inputs, and of the words in which their assessment is told (`replay._as_told`).
FORMAT = 2
_OFFSET = re.compile(r"[+-]\d\d:\d\d(:\d\d(\.\d{6})?)?")

# The titles of a feature's sources, for rows that do not hold them: (feature, how many) -> titles.
TitlesOf = Callable[[str, int], tuple[str, ...]]


class InputsDamaged(ValueError):
    """Stored inputs that `inputs_of` has never written. The message says what is wrong."""


def inputs_of(vector: FeatureVector, *, mitigation: str | None) -> dict[str, Any]:
    """Everything that the assessment of `vector` depends on and its model does not hold.

    `mitigation` is the wording of that day. `as_of` is not among it: it has a column of its own.
    """
    return {
        "format": FORMAT,
        "zone": _zone_text(vector.as_of),
        "features": _entries(vector.entries),
        "settling": _entries(vector.settling),
        "bounds": {name: _bound(bound) for name, bound in vector.bounds.items()},
        "findings": {
            name: {"id": found.id, "title": found.title, "reference": found.reference}
            for name, found in vector.findings.items()
        },
        "age": vector.age,
        "deceased": vector.deceased,
        "titles": dict(vector.titles),
        "mitigation": mitigation,
    }


def identifier_of(
    *, origin: str, patient_id: str, model: str, version: str, vector: FeatureVector
) -> str:
    """The same for the same patient, model version and inputs: a repeated call is no new fact.

    Inputs are values with their sources, so that a new result of the same size is a new
    assessment. `origin` keeps apart patients of two EHRs who happen to share an id.
    """
    # This never changes: stored identifiers are made of it.
    inputs = {
        name: _present(entry, _source)
        for name, entry in vector.entries.items()
        if isinstance(entry, Present)
    }
    facts = [origin, patient_id, model, version, inputs]
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _entries(entries: Mapping[str, Entry]) -> dict[str, Any]:
    return {
        name: _present(entry, _titled) if isinstance(entry, Present) else _absent(entry)
        for name, entry in entries.items()
    }


def _present(entry: Present, told: Callable[[Source], dict[str, Any]]) -> dict[str, Any]:
    return {"value": entry.value, "unit": entry.unit, "sources": list(map(told, entry.sources))}


def _absent(entry: Absent) -> dict[str, Any]:
    if entry.effective is None:
        return {"absent": entry.reason.value}
    return {"absent": entry.reason.value, "effective": entry.effective.text}


def _source(source: Source) -> dict[str, Any]:
    return {
        "reference": source.reference,
        "effective": source.effective.text if source.effective else None,
        "recorded": [source.recorded_value, source.recorded_unit],
    }


def _titled(source: Source) -> dict[str, Any]:
    told = _source(source)
    told["title"] = source.title
    return told


def _bound(bound: Bound) -> dict[str, Any]:
    return {
        "comparator": bound.comparator,
        "value": bound.value,
        "unit": bound.unit,
        "source": _titled(bound.source),
    }


def _zone_text(as_of: datetime) -> str:
    """The name of a zone; of a fixed offset, the offset."""
    zone = as_of.tzinfo
    if isinstance(zone, ZoneInfo) and zone.key:
        return zone.key
    return as_of.isoformat("T", "seconds").removeprefix(f"{as_of:%Y-%m-%dT%H:%M:%S}")


# ------------------------------------------------------------------------------------ the inverse


def is_whole(inputs: Mapping[str, Any]) -> bool:
    """False for rows of 0.1.0, which hold the features alone."""
    return inputs.get("format") == FORMAT


def mitigation_of(inputs: Mapping[str, Any]) -> str | None:
    """The wording of that day, from inputs that are whole; raises InputsDamaged."""
    found = inputs.get("mitigation")
    if not isinstance(found, str | None):
        raise InputsDamaged(f"mitigation {found!r} is no text")
    return found


def vector_of(
    inputs: Mapping[str, Any], *, as_of: datetime, zone: tzinfo, titles: TitlesOf
) -> FeatureVector:
    """The vector that `inputs` were written from; raises InputsDamaged.

    `zone` and `titles` are for rows that do not hold them: features alone, whose results have
    titles from concepts.toml. Such a vector has nothing that settles the question and nothing that
    puts the patient outside it: it was scored.
    """
    try:
        if is_whole(inputs):
            return _whole(inputs, as_of)
        read = _Reader(zone)
        entries = {
            name: read.entry(name, entry, titles(name, len(entry.get("sources", ()))))
            for name, entry in inputs.items()
        }
        return FeatureVector(as_of=as_of.astimezone(zone), entries=entries)
    except InputsDamaged:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as fault:
        raise InputsDamaged(f"they cannot be read ({type(fault).__name__}: {fault})") from fault


def _whole(inputs: Mapping[str, Any], as_of: datetime) -> FeatureVector:
    zone = _zone(inputs["zone"])
    read = _Reader(zone)
    return FeatureVector(
        as_of=as_of.astimezone(zone),
        entries={name: read.entry(name, e) for name, e in inputs["features"].items()},
        settling={name: read.entry(name, e) for name, e in inputs["settling"].items()},
        bounds={name: read.bound(name, b) for name, b in inputs["bounds"].items()},
        findings={name: Finding(**found) for name, found in inputs["findings"].items()},
        age=inputs["age"],
        deceased=inputs["deceased"],
        titles=inputs["titles"],
    )


def _zone(text: str) -> tzinfo:
    if _OFFSET.fullmatch(text):
        zone = datetime.fromisoformat(f"2000-01-01T00:00:00{text}").tzinfo
        assert zone is not None  # noqa: S101 - the text ends with an offset
        return zone
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, OSError) as fault:
        raise InputsDamaged(f"there is no time zone {text!r}") from fault


class _Reader:
    """Bare dates are read in `zone`, as they were on the day."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def entry(self, name: str, stored: Mapping[str, Any], titles: tuple[str, ...] = ()) -> Entry:
        if "absent" in stored:
            reason = AbsentReason(stored["absent"])
            return Absent(name=name, reason=reason, effective=self._when(stored.get("effective")))
        sources = stored["sources"]
        known = titles or tuple(source["title"] for source in sources)
        return Present(
            name=name,
            value=_number(stored["value"]),
            unit=stored["unit"],
            sources=tuple(self._source(s, t) for s, t in zip(sources, known, strict=True)),
        )

    def bound(self, name: str, stored: Mapping[str, Any]) -> Bound:
        return Bound(
            name=name,
            comparator=stored["comparator"],
            value=_number(stored["value"]),
            unit=stored["unit"],
            source=self._source(stored["source"], stored["source"]["title"]),
        )

    def _source(self, stored: Mapping[str, Any], title: str) -> Source:
        value, unit = stored["recorded"]
        return Source(
            reference=stored["reference"],
            effective=self._when(stored["effective"]),
            recorded_value=None if value is None else _number(value),
            recorded_unit=unit,
            title=title,
        )

    def _when(self, text: str | None) -> Effective | None:
        """The bounds follow from the text and the zone; periods are `start/end`."""
        if text is None:
            return None
        start, slash, end = text.partition("/")
        found = (
            read_period({"start": start, "end": end}, self._zone)
            if slash
            else read_datetime(text, self._zone)
        )
        if found is None or found.text != text:
            raise InputsDamaged(f"{text!r} is no FHIR time")
        return found


def _number(found: object) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InputsDamaged(f"{found!r} is no number")
    return found
