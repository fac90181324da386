"""Which resources of a record are read at all, and which only for the marks of their version."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_mapping import CompiledMapping, compile_mapping, load_catalog, map_features, reads
from fhir_mapping.relevance import READ_WHOLE
from fhir_mapping.version_marks import VersionMarks
from fhir_mapping.versions import DIFFERENCES, FhirVersion, Retyped, as_r4
from tests.fhir import condition, medication, observation, patient
from tests.unit.test_mapping import NOW

MAPPING = compile_mapping(
    load_catalog(),
    {
        "features": [
            {"name": id_, "concept": id_, "unit": unit, "look_back_days": 730}
            for id_, unit in (("glucose", "mg/dL"), ("body_mass_index", "kg/m2"))
        ],
        "settled_by": [{"concept": "hba1c", "unit": "%", "look_back_days": 3650}],
    },
)
NOTHING = compile_mapping(load_catalog(), {"features": []})
SODIUM = observation("2951-2", 140, "mmol/L")


def coded(*codings: Any) -> dict[str, Any]:
    return {**SODIUM, "code": {"coding": list(codings)}}


GLUCOSE = {"system": "http://loinc.org", "code": "2345-7"}


@pytest.mark.parametrize(
    "resource",
    [
        patient(),
        patient(id="p2"),
        condition("http://snomed.info/sct", "38341003"),
        medication({"text": "lisinopril"}),
        {"resourceType": "MedicationStatement"},
        observation("2345-7", 99, "mg/dL"),
        observation("23457", 99, "mg/dL"),
        observation("8302-2", 170, "cm"),
        observation("4548-4", 6, "%"),
        observation("2345-7", 99, "mg/dL", status="entered-in-error"),
        observation("2345-7", 99, "mg/dL", subject={"reference": "Patient/p2"}),
        coded({"system": " urn:oid:2.16.840.1.113883.6.1 ", "code": " 2345-7\n"}),
        coded(None, 7, {}, {"code": "2345-7"}, GLUCOSE),
        # A conflict makes two values absent, with that as their reason.
        coded(GLUCOSE, {"system": "http://loinc.org", "code": "4548-4"}),
        {**SODIUM, "code": [], "component": [None, {"code": {"coding": [GLUCOSE]}}]},
    ],
)
def test_what_can_change_a_vector_is_read(resource: dict[str, Any]) -> None:
    assert reads(MAPPING, resource)


@pytest.mark.parametrize(
    "resource",
    [
        None,
        7,
        "Observation",
        [],
        {},
        {"resourceType": ["Patient"]},
        {"resourceType": "patient"},
        {"resourceType": "Medication"},
        {"resourceType": "ServiceRequest"},
        {"resourceType": "Bundle", "entry": [{"resource": patient()}]},
        SODIUM,
        {"resourceType": "Observation"},
        {**SODIUM, "contained": [observation("2345-7", 99, "mg/dL")]},
        {**SODIUM, "code": "2345-7"},
        {**SODIUM, "code": {"coding": GLUCOSE}},
        {**SODIUM, "component": {"code": {"coding": [GLUCOSE]}}},
        coded({"system": "http://loinc.org"}),
        coded({"system": "http://loinc.org", "code": 7}),
        coded({"system": ["http://loinc.org"], "code": "2345-7"}),
        coded({"system": "urn:vendor", "code": "2345-7"}),
        coded({"system": "http://loinc.org", "code": "2345"}),
        coded("2345-7"),
    ],
)
def test_what_cannot_is_not(resource: Any) -> None:
    assert not reads(MAPPING, resource)


@pytest.mark.parametrize("mapping", [MAPPING, NOTHING])
def test_a_stranger_s_condition_is_read_as_it_is_counted(mapping: CompiledMapping) -> None:
    strange = condition("http://snomed.info/sct", "1", subject={"reference": "Patient/p2"})
    assert reads(mapping, strange)
    assert map_features(mapping, [strange], as_of=NOW, patient_id="p1").of_others == 1


def test_no_version_of_fhir_has_a_type_that_is_read_under_another_name() -> None:
    """So `reads` may look at a resource before `as_r4` has."""
    for kinds in DIFFERENCES.values():
        for kind, differences in kinds.items():
            for difference in differences:
                if isinstance(difference, Retyped):
                    names = {kind, difference.r4, difference.other}
                    assert names.isdisjoint(READ_WHOLE | {"Observation"})


def test_no_version_of_fhir_has_other_codes_in_an_observation() -> None:
    sent = {
        "resourceType": "Observation",
        "code": {"coding": [GLUCOSE]},
        "component": [{"code": {}}],
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/observation-focal-subject"}],
        "contained": [SODIUM],
    }
    read = as_r4(sent)
    assert read["focus"], "it has been read"
    assert read["code"] is sent["code"]
    assert read["component"] is sent["component"]


def test_a_mark_counts_on_a_resource_that_is_not_read() -> None:
    """Who drops such a resource has to look at its marks first."""
    stu3 = {**SODIUM, "context": {"reference": "Encounter/1"}}
    assert not reads(MAPPING, stu3)
    marks = VersionMarks()
    marks.look_at(stu3)
    assert marks.version is FhirVersion.STU3
