"""What holds for every record: order, strangers and removals cannot change what they must not."""

from __future__ import annotations

import copy
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mapping import FeatureVector, Present, compile_mapping, load_catalog, map_features
from tests.fhir import UCUM

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CATALOG = load_catalog()
FEATURES = [
    {
        "name": id_,
        "concept": id_,
        "unit": concept.unit,
        "look_back_days": 730,
        "categories": {"male": 0, "female": 1} if id_ == "sex" else None,
    }
    for id_, concept in CATALOG.concepts.items()
    if concept.element in (None, "Patient.birthDate", "Patient.gender")
]
WINDOWED = [
    {
        "name": f"glucose_{statistic}",
        "concept": "glucose",
        "unit": unit,
        "look_back_days": 30,
        "statistic": statistic,
    }
    for statistic, unit in [("min", "mg/dL"), ("max", "mg/dL"), ("mean", "mg/dL"), ("count", "1")]
]
MAPPING = compile_mapping(
    CATALOG,
    {
        "features": FEATURES + WINDOWED,
        "domain": {"exclude": ["deceased", "known_diabetes", "pregnancy"]},
        "settled_by": [{"concept": "hba1c", "unit": "%", "look_back_days": 3650, "bands": []}],
    },
)
CODES = ["2345-7", "14749-6", "39156-5", "29463-7", "8302-2", "8480-6", "4548-4", "9999-9", "23457"]
UNITS = ["mg/dL", "mmol/L", "kg/m2", "kg", "g", "cm", "[in_i]", "mm[Hg]", "%", "furlong", ""]


def vector(resources: list[Any]) -> FeatureVector:
    return map_features(MAPPING, resources, as_of=NOW, patient_id="p1")


times = st.one_of(
    st.integers(-1300, 200).map(lambda days: (NOW + timedelta(days=days)).isoformat()),
    st.sampled_from(["2026", "2026-10", "2026-11-22", "2030", "nonsense", ""]),
)
subjects = st.sampled_from(["Patient/p1", "Patient/p1", "Patient/p1", "Patient/p2", "#x"])
codings = st.lists(
    st.fixed_dictionaries(
        {
            "system": st.sampled_from(["http://loinc.org", "http://loinc", "urn:vendor"]),
            "code": st.sampled_from(CODES),
        }
    ),
    max_size=2,
)
quantities = st.builds(
    lambda value, unit, extra: {
        "value": value,
        "unit": unit,
        "system": UCUM,
        "code": unit,
        **extra,
    },
    st.one_of(st.floats(0, 400), st.integers(-5, 3000), st.sampled_from([None, "7", True])),
    st.sampled_from(UNITS),
    st.sampled_from([{}, {}, {}, {"comparator": "<"}]),
)
components = st.lists(
    st.builds(lambda c, q: {"code": {"coding": c}, "valueQuantity": q}, codings, quantities),
    max_size=2,
)


def _observation(id_: int, coding: Any, status: str, subject: str, time: str, **more: Any) -> Any:
    return {
        "resourceType": "Observation",
        "id": str(id_),
        "status": status,
        "code": {"coding": coding},
        "subject": {"reference": subject},
        "effectiveDateTime": time,
        **more,
    }


observations = st.builds(
    lambda *fields: _observation(*fields[:5], valueQuantity=fields[5], component=fields[6]),
    st.integers(0, 30),
    codings,
    st.sampled_from(["final", "final", "corrected", "entered-in-error"]),
    subjects,
    times,
    quantities,
    components,
)
patients = st.builds(
    lambda id_, born, gender: {
        "resourceType": "Patient",
        "id": id_,
        "birthDate": born,
        "gender": gender,
    },
    st.sampled_from(["p1", "p2"]),
    st.sampled_from(["1970-05-01", "1970", "2040-01-01", "x"]),
    st.sampled_from(["male", "female", "other"]),
)
conditions = st.builds(
    lambda code, subject: {
        "resourceType": "Condition",
        "id": f"c{code}",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
        "subject": {"reference": subject},
    },
    st.sampled_from(["44054006", "77386006", "15777000"]),
    subjects,
)
requests = st.builds(
    lambda status, text: {
        "resourceType": "MedicationRequest",
        "status": status,
        "subject": {"reference": "Patient/p1"},
        "medicationCodeableConcept": {"text": text},
        "medicationReference": {"reference": "#m", "display": text},
        "contained": [{"resourceType": "Medication", "id": "m", "code": {"text": text}}],
    },
    st.sampled_from(["active", "entered-in-error"]),
    st.sampled_from(["metformin", "ramipril"]),
)
records = st.lists(st.one_of(observations, observations, patients, conditions), max_size=12)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(records.flatmap(lambda r: st.tuples(st.just(r), st.permutations(r))))
def test_the_order_of_entries_never_matters(both: tuple[list[Any], list[Any]]) -> None:
    one, other = both
    assert vector(one) == vector(other)


@given(records, st.lists(json, max_size=4))
def test_whatever_is_no_resource_of_this_patient_changes_no_value(
    record: list[Any], noise: list[Any]
) -> None:
    strangers = [
        {**r, "subject": {"reference": "Patient/p2"}}
        for r in record
        if r["resourceType"] == "Observation"
    ]
    assert vector(record + strangers + noise).values() == vector(record).values()


@given(records, st.data())
def test_removing_a_resource_never_turns_an_absence_into_a_value(
    record: list[Any], data: st.DataObject
) -> None:
    whole = vector(record).values()
    kept = data.draw(st.lists(st.sampled_from(record), unique_by=id) if record else st.just([]))
    fewer = vector([r for r in record if any(r is k for k in kept)]).values()
    assert set(fewer) <= set(whole)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, Any]] = []
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += places(inner)
    return found


@given(st.lists(observations | conditions | patients | requests, min_size=1, max_size=3), st.data())
@settings(max_examples=400)
def test_any_json_anywhere_in_a_resource_gives_values_or_absences(
    record: list[dict[str, Any]], data: st.DataObject
) -> None:
    # Drawn values may be shared between resources; what is replaced is replaced in a copy.
    record = copy.deepcopy(record)
    for _ in range(2):
        container, key = data.draw(st.sampled_from(places(record)))
        container[key] = data.draw(json)
    assert all(math.isfinite(v) for v in vector(record).values().values())


@given(
    st.sampled_from([c for c in CATALOG.concepts.values() if c.reader]),
    st.floats(0, 1),
    st.data(),
)
def test_units_round_trip(concept: Any, share: float, data: st.DataObject) -> None:
    """A canonical value, written in any unit that converts to it, is read back as itself."""
    low, high = concept.plausible
    canonical = round(low + share * (high - low), concept.decimals)
    unit, conversion = data.draw(st.sampled_from(sorted(concept.reader.conversions.items())))
    written = (canonical - conversion.offset) / conversion.factor
    resource = _observation(
        1,
        [{"system": "http://loinc.org", "code": concept.loinc[0]}],
        "final",
        "Patient/p1",
        "2026-11-01",
        valueQuantity={"value": written, "system": UCUM, "code": unit},
    )
    entry = vector([resource]).entries[concept.id]
    assert isinstance(entry, Present)
    assert entry.value == canonical
