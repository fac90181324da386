"""What nobody reads can be left out unread: no record's vector changes, malformed ones included."""

from __future__ import annotations

import copy
import functools
import json as text
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mapping import map_features, reads
from fhir_mapping.version_marks import FORMS, MARKS, VersionMarks, version_of
from fhir_mapping.versions import FhirVersion
from tests.property.test_mapping_properties import (
    MAPPING,
    NOW,
    conditions,
    json,
    observations,
    patients,
    places,
    requests,
)

resources = st.one_of(observations, observations, conditions, patients, requests, json)
# Observations of nothing that is wanted, beside those that the strategies above make.
others = observations.map(lambda o: {**o, "code": {"coding": [{"code": "1"}]}, "component": []})
records = st.lists(st.one_of(resources, others), max_size=8)


@st.composite
def damaged(draw: st.DrawFn) -> list[Any]:
    """A record with any JSON in up to four places."""
    record = copy.deepcopy(draw(records))
    for _ in range(draw(st.integers(0, 4))):
        found = places(record)
        if found:
            container, key = draw(st.sampled_from(found))
            container[key] = draw(json)
    return record


def outcome(record: list[Any]) -> tuple[Any, int]:
    vector = map_features(MAPPING, record, as_of=NOW, patient_id="p1")
    return vector, vector.of_others


@given(damaged())
@settings(max_examples=400)
def test_leaving_out_what_is_not_read_never_changes_a_vector(record: list[Any]) -> None:
    assert outcome([one for one in record if reads(MAPPING, one)]) == outcome(record)


@given(damaged(), json)
@settings(max_examples=200)
def test_what_is_not_read_can_be_anything_else(record: list[Any], noise: Any) -> None:
    """Not even its other elements are looked at."""
    swapped = [
        one
        if reads(MAPPING, one) or not isinstance(one, dict)
        else {**one, "status": noise, "subject": noise, "valueQuantity": noise, "extension": noise}
        for one in record
    ]
    assert outcome(swapped) == outcome(record)


# ------------------------------------------------------------------------------ marks of versions


def allowed_by_all(record: list[Any]) -> FhirVersion:
    """The rule itself, without a shortcut."""
    marks = [frozenset(FhirVersion)]
    for one in record:
        kind = one.get("resourceType") if isinstance(one, dict) else None
        if not isinstance(kind, str):
            continue
        marks += [versions for name, versions in MARKS.get(kind, {}).items() if name in one]
        for name, forms in FORMS.get(kind, {}).items():
            marks += [forms[type(one.get(name))]] if type(one.get(name)) in forms else []
    common = functools.reduce(frozenset.__and__, marks)
    return next(iter(common)) if len(common) == 1 else FhirVersion.R4


names = sorted({name for kind in MARKS for name in (*MARKS[kind], *FORMS.get(kind, {}))})
marked = st.builds(
    lambda kind, elements: {"resourceType": kind, **elements},
    st.sampled_from([*MARKS, "Bundle"]),
    st.dictionaries(st.sampled_from(names), st.sampled_from([[], {}, "x", None]), max_size=2),
)


@given(st.lists(marked | json, max_size=6))
@settings(max_examples=400)
def test_marks_looked_at_one_by_one_say_what_all_of_them_say(record: list[Any]) -> None:
    marks = VersionMarks()
    for one in record:
        before = text.dumps(one, sort_keys=True)
        marks.look_at(one)
        assert text.dumps(one, sort_keys=True) == before
    assert marks.version is version_of(record) is allowed_by_all(record)
