"""What is stored of a call is enough to compute it again: nothing of a vector is lost."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.inputs import InputsDamaged, identifier_of, inputs_of, mitigation_of, vector_of
from fhir_mapping import (
    Absent,
    AbsentReason,
    Bound,
    FeatureVector,
    Finding,
    Present,
    Source,
    map_features,
)
from fhir_mapping.times import read_datetime, read_period
from tests.property.test_mapping_properties import MAPPING, NOW, records

ZONES: list[tzinfo] = [
    UTC,
    ZoneInfo("UTC"),
    ZoneInfo("Europe/Vienna"),
    ZoneInfo("America/St_Johns"),
    timezone(timedelta(hours=-9, minutes=-30)),
    timezone(timedelta(hours=5, seconds=7)),
]
words = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
# The present on a clock: never in the hour that is left out when summer time begins.
moments = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001
    datetime(2090, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from(ZONES),
    allow_imaginary=False,
)


@st.composite
def effectives(draw: st.DrawFn, zone: tzinfo) -> Any:
    dates = moments.map(lambda moment: moment.date().isoformat())
    texts = st.one_of(
        dates,
        dates.map(lambda text: text[:7]),
        dates.map(lambda text: text[:4]),
        moments.map(lambda moment: moment.astimezone(UTC).isoformat()),
    )
    if draw(st.booleans()):
        return read_datetime(draw(texts), zone)
    start, end = draw(texts), draw(texts)
    return read_period({"start": start, "end": end}, zone) or read_datetime(start, zone)


@st.composite
def sources(draw: st.DrawFn, zone: tzinfo) -> Source:
    return Source(
        reference=draw(st.none() | words),
        effective=draw(st.none() | effectives(zone)),
        recorded_value=draw(st.none() | numbers),
        recorded_unit=draw(st.none() | words),
        title=draw(words),
    )


@st.composite
def entries(draw: st.DrawFn, zone: tzinfo) -> dict[str, Present | Absent]:
    found: dict[str, Present | Absent] = {}
    for name in draw(st.lists(words, unique=True, max_size=3)):
        if draw(st.booleans()):
            effective = draw(st.none() | effectives(zone))
            reason = draw(st.sampled_from(AbsentReason))
            found[name] = Absent(name=name, reason=reason, effective=effective)
        else:
            made_of = tuple(draw(st.lists(sources(zone), max_size=2)))
            value, unit = draw(numbers), draw(words)
            found[name] = Present(name=name, value=value, unit=unit, sources=made_of)
    return found


@st.composite
def vectors(draw: st.DrawFn) -> FeatureVector:
    as_of = draw(moments)
    zone = as_of.tzinfo
    assert zone is not None
    bounds = {
        name: Bound(
            name=name,
            comparator=draw(words),
            value=draw(numbers),
            unit=draw(words),
            source=draw(sources(zone)),
        )
        for name in draw(st.lists(words, unique=True, max_size=2))
    }
    findings = {
        id_: Finding(id=id_, title=draw(words), reference=draw(st.none() | words))
        for id_ in draw(st.lists(words, unique=True, max_size=2))
    }
    return FeatureVector(
        as_of=as_of,
        entries=draw(entries(zone)),
        settling=draw(entries(zone)),
        bounds=bounds,
        findings=findings,
        age=draw(st.none() | st.integers(0, 130)),
        deceased=draw(st.booleans()),
        titles=draw(st.dictionaries(words, words, max_size=2)),
    )


def never(name: str, count: int) -> tuple[str, ...]:
    raise AssertionError("a row that holds its titles is not asked for them")


def stored_and_read(vector: FeatureVector) -> FeatureVector:
    """Through JSON and a column for the moment, as in a database."""
    inputs = json.loads(json.dumps(inputs_of(vector, mitigation=None), allow_nan=False))
    return vector_of(inputs, as_of=vector.as_of.astimezone(UTC), zone=UTC, titles=never)


@given(vectors())
def test_every_vector_comes_back_from_its_stored_inputs(vector: FeatureVector) -> None:
    back = stored_and_read(vector)
    assert back == vector
    # Equality is of moments and of numbers; what is stored is also the wall clock and the bits.
    assert back.as_of.isoformat() == vector.as_of.isoformat()
    assert list(back.entries) == list(vector.entries)
    for name, value in vector.values().items():
        assert math.copysign(1, back.values()[name]) == math.copysign(1, value)
        assert back.values()[name].hex() == value.hex()


@given(records)
def test_what_is_mapped_from_any_record_comes_back(record: list[Any]) -> None:
    for zone in (UTC, ZoneInfo("America/St_Johns")):
        vector = map_features(MAPPING, record, as_of=NOW.astimezone(zone), patient_id="p1")
        assert stored_and_read(vector) == vector


@given(st.none() | words)
def test_the_wording_of_the_day_comes_back(mitigation: str | None) -> None:
    vector = FeatureVector(as_of=NOW, entries={})
    assert mitigation_of(inputs_of(vector, mitigation=mitigation)) == mitigation


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@given(json_values, st.sampled_from(["zone", "features", "settling", "bounds", "findings"]))
def test_damaged_inputs_are_refused_and_nothing_else_is_raised(found: Any, member: str) -> None:
    whole = inputs_of(FeatureVector(as_of=NOW, entries={}), mitigation=None)
    for inputs in ({"x": found}, whole | {member: found}, whole | {member: {"x": found}}):
        with suppress(InputsDamaged):
            vector_of(inputs, as_of=NOW, zone=UTC, titles=lambda name, count: ("t",) * count)


@pytest.mark.parametrize("zone", ["", "../etc/passwd", "Europe/Atlantis", "Europe"])
def test_a_zone_that_is_none_is_damage(zone: str) -> None:
    whole = inputs_of(FeatureVector(as_of=NOW, entries={}), mitigation=None) | {"zone": zone}
    with pytest.raises(InputsDamaged):
        vector_of(whole, as_of=NOW, zone=UTC, titles=never)


def test_the_identifier_of_an_assessment_never_changes() -> None:
    """Else a repeated call would be a new fact after an upgrade, on the FHIR server too."""
    source = Source(
        reference="Observation/1",
        effective=read_datetime("2026-11-01T08:00:00+01:00", UTC),
        recorded_value=7.8,
        recorded_unit="mmol/L",
        title="Glucose",
    )
    entries = {
        "glucose": Present(name="glucose", value=141.0, unit="mg/dL", sources=(source,)),
        "bmi": Absent(name="bmi", reason=AbsentReason.NOT_RECORDED),
    }
    vector = FeatureVector(as_of=datetime(2026, 11, 20, 12, tzinfo=UTC), entries=entries)
    named = identifier_of(origin="Zoë", patient_id="p1", model="m", version="1", vector=vector)
    assert named == "29949c4d8fc01e66cf8a7c5b2146aa3bafd53cb034d44c72419edb91d2dd1757"
