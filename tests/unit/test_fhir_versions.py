"""One person in STU3, R4, R4B and R5: read alike, and written as each server's version has it."""

from __future__ import annotations

import copy
import importlib
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_service.clients import Client, Clients
from cds_service.delivery.send import if_none_exist
from cds_service.parts import Parts
from fhir_mapping import FeatureVector, compile_mapping, load_catalog, map_features
from fhir_mapping.risk_assessment import (
    About,
    ModelIdentity,
    Prediction,
    compose_risk_assessment,
    following,
)
from fhir_mapping.version_marks import FORMS, MARKS, version_of
from fhir_mapping.versions import DIFFERENCES, FhirVersion, as_r4, rendered
from risk_model import RiskEstimate, score
from tests.fhir import observation, patient, searchset
from tests.manifests import raw_manifest
from tests.service import Service, patient_view

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "tests" / "payloads" / "versions"
MAPPING = compile_mapping(load_catalog(), raw_manifest())
BASE = "https://ehr.example.org/fhir"
# fhir.resources has no R4 of its own any more; R4B has the same elements for everything here.
MODELS = {"STU3": "STU3.", "R4": "R4B.", "R4B": "R4B.", "R5": ""}
VERSIONS = pytest.mark.parametrize("version", list(FhirVersion))
Resource = dict[str, Any]


def validate(resource: Mapping[str, Any], version: FhirVersion) -> None:
    """Every element exists in this version, in this form; contained resources too."""
    model(resource["resourceType"], version).model_validate(resource)


def model(kind: str, version: FhirVersion) -> Any:
    module = importlib.import_module(f"fhir.resources.{MODELS[version]}{kind.lower()}")
    return getattr(module, kind)


def payload(version: FhirVersion, name: str) -> dict[str, Any]:
    text = (PAYLOADS / f"{version.lower()}-{name}.json").read_text(encoding="utf-8")
    return typing.cast("dict[str, Any]", json.loads(text))


def resources(chart: Mapping[str, Any]) -> list[Resource]:
    bundles = (value for key, value in chart.items() if key != "patient")
    entries = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    return [chart["patient"], *entries]


def chart_of(version: FhirVersion) -> list[Resource]:
    return resources(payload(version, "chart"))


def mapped(found: list[Any], mapping: Any = MAPPING) -> FeatureVector:
    return map_features(mapping, found, as_of=NOW, patient_id="p1", fhir_base=BASE)


# ---------------------------------------------------------------------------------------- payloads


@VERSIONS
def test_the_payloads_are_valid_in_their_version(version: FhirVersion) -> None:
    for sent in payload(version, "chart").values():
        validate(sent, version)
    for cases in payload(version, "diabetes").values():
        for sent in cases.values():
            validate(sent, version)


@VERSIONS
def test_it_follows_another_alike_before_and_after_it_is_written(version: FhirVersion) -> None:
    then = following(rendered(FULL, version), "before")
    assert then == rendered(following(FULL, "before"), version)
    assert as_r4(then)["parent"]["identifier"]["value"] == "before"
    assert "parent" not in FULL


@pytest.mark.parametrize("version", [FhirVersion.STU3, FhirVersion.R5])
def test_the_payloads_of_other_versions_are_no_r4(version: FhirVersion) -> None:
    sent = payload(version, "chart")
    for key in ("observations", "conditions", "medications"):
        with pytest.raises(ValueError, match="validation error"):
            validate(sent[key], FhirVersion.R4)


# ----------------------------------------------------------------------------------------- reading


@VERSIONS
def test_one_person_gives_one_feature_vector_in_every_version(version: FhirVersion) -> None:
    vector = mapped(chart_of(version))
    assert vector == mapped(chart_of(FhirVersion.R4))
    assert vector.values() == {
        "age": 58,
        "sex": 1,
        "body_mass_index": 34.3,
        "glucose": 141,
        "hdl_cholesterol": 38,
    }
    assert vector.findings == {}


@VERSIONS
def test_one_person_has_one_probability_in_every_version(
    version: FhirVersion, app_client: Service
) -> None:
    asked = [payload(v, "chart") for v in (FhirVersion.R4, version)]
    for prefetch in asked:
        assert app_client.call(patient_view(prefetch=prefetch)).status_code == 200
    assert app_client.stored() == 1, "the same inputs are the same assessment"


@VERSIONS
def test_the_served_model_scores_every_version_alike(version: FhirVersion, parts: Parts) -> None:
    loaded = parts.model_of(parts.services["diabetes-risk"])
    estimates = [
        score(loaded.model, mapped(chart_of(v), loaded.mapping).values())
        for v in (version, FhirVersion.R4)
    ]
    assert isinstance(estimates[0], RiskEstimate)
    assert estimates[0] == estimates[1]


@VERSIONS
@pytest.mark.parametrize("case", sorted(payload(FhirVersion.R4, "diabetes")["shows"]))
def test_known_diabetes_is_seen_in_every_version(version: FhirVersion, case: str) -> None:
    sent = payload(version, "diabetes")["shows"][case]
    assert set(mapped([patient(), sent]).findings) == {"known_diabetes"}


@VERSIONS
@pytest.mark.parametrize("case", sorted(payload(FhirVersion.R4, "diabetes")["shows not"]))
def test_what_was_denied_is_no_diabetes_in_any_version(version: FhirVersion, case: str) -> None:
    sent = payload(version, "diabetes")["shows not"][case]
    assert mapped([patient(), sent]).findings == {}


@pytest.mark.parametrize("code", ["stopped", "on-hold", "taking-not-as-directed", "unknown"])
def test_a_medicine_that_was_stopped_still_says_diabetes(code: str) -> None:
    sent = payload(FhirVersion.R5, "diabetes")["shows"]["a medicine that is taken"]
    sent["adherence"]["code"]["coding"][0]["code"] = code
    assert set(mapped([patient(), sent]).findings) == {"known_diabetes"}


def test_an_end_said_by_a_boolean_is_an_end() -> None:
    pregnant = payload(FhirVersion.STU3, "diabetes")["shows"]["a diagnosis"]
    pregnant |= {"onsetDateTime": "2026-09-01", "assertedDate": "2026-09-01"}
    pregnant["code"] = {"coding": [{"system": "http://snomed.info/sct", "code": "77386006"}]}
    assert set(mapped([patient(), pregnant]).findings) == {"pregnancy"}
    assert mapped([patient(), {**pregnant, "abatementBoolean": True}]).findings == {}
    ongoing = mapped([patient(), {**pregnant, "abatementBoolean": False}])
    assert set(ongoing.findings) == {"pregnancy"}


def test_a_date_under_its_old_name_ends_what_does_not_last() -> None:
    pregnant = payload(FhirVersion.STU3, "diabetes")["shows"]["a diagnosis"]
    pregnant["code"] = {"coding": [{"system": "http://snomed.info/sct", "code": "77386006"}]}
    del pregnant["onsetDateTime"]
    assert pregnant["assertedDate"] < "2020"
    assert mapped([patient(), pregnant]).findings == {}


def test_an_animal_is_not_scored_as_a_person() -> None:
    animal = {"species": {"coding": [{"system": "http://snomed.info/sct", "code": "448771007"}]}}
    sent = {**payload(FhirVersion.STU3, "chart")["patient"], "animal": animal}
    validate(sent, FhirVersion.STU3)
    assert set(mapped([sent]).values()) == set()


@pytest.mark.parametrize("value", [{}, {"valueCodeableConcept": {"text": "fetus"}}])
def test_a_value_about_somebody_unnamed_is_not_the_patients(value: Resource) -> None:
    url = "http://hl7.org/fhir/StructureDefinition/observation-focal-subject"
    glucose = observation("2345-7", 141, "mg/dL")
    assert "glucose" in mapped([patient(), glucose]).values()
    about_another = {**glucose, "extension": [{"url": url, **value}]}
    assert "glucose" not in mapped([patient(), about_another]).values()


@given(st.lists(st.sampled_from(list(FhirVersion)), min_size=4, max_size=4), st.randoms())
def test_a_record_of_mixed_versions_is_read_whole(
    versions: list[FhirVersion], random: typing.Any
) -> None:
    keys = ("patient", "observations", "conditions", "medications")
    charts = [payload(version, "chart") for version in versions]
    mixed = resources({key: chart[key] for key, chart in zip(keys, charts, strict=True)})
    random.shuffle(mixed)
    assert mapped(mixed) == mapped(chart_of(FhirVersion.R4))
    version_of(mixed)


def test_r4_is_read_as_it_is() -> None:
    found = [*chart_of(FhirVersion.R4), *payload(FhirVersion.R4, "diabetes")["shows"].values()]
    for resource in found:
        assert as_r4(resource) == resource


@VERSIONS
def test_reading_changes_nothing_that_it_was_given(version: FhirVersion) -> None:
    found = [*chart_of(version), *payload(version, "diabetes")["shows"].values()]
    before = copy.deepcopy(found)
    for resource in found:
        once = as_r4(resource)
        assert as_r4(once) == once
    assert found == before


ELEMENTS = sorted(
    {name for marks in MARKS.values() for name in marks}
    | {"adherence", "animal", "clinicalStatus", "extension", "contained", "ingredient", "item"}
    | {"basis", "prediction", "identifier", "deviceName", "name", "version", "code", "resourceType"}
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["n", "x", "Medication"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["coding", "code", "concept", "reference"]), inner)
        | st.dictionaries(st.sampled_from(ELEMENTS), inner, max_size=4)
    ),
    max_leaves=8,
)
KINDS = sorted({kind for by_type in DIFFERENCES.values() for kind in by_type} | set(MARKS))


@given(
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(ELEMENTS), ANYTHING, max_size=6),
    st.sampled_from(list(FhirVersion)),
)
def test_whatever_is_sent_is_read_told_and_written(
    kind: str, sent: Resource, version: FhirVersion
) -> None:
    resource = {**sent, "resourceType": kind}
    before = copy.deepcopy(resource)
    mapped([resource])
    version_of([resource])
    rendered(resource, version)
    assert resource == before


# ----------------------------------------------------------------------------------- which version


@VERSIONS
def test_a_chart_tells_its_version(version: FhirVersion) -> None:
    expected = FhirVersion.R4 if version is FhirVersion.R4B else version
    found = chart_of(version)
    assert version_of(found) is expected
    assert version_of(reversed(found)) is expected


def test_without_marks_or_against_each_other_it_is_r4() -> None:
    assert version_of([]) is FhirVersion.R4
    assert version_of([patient(), observation("2345-7", 141, "mg/dL")]) is FhirVersion.R4
    both = [*chart_of(FhirVersion.STU3), *chart_of(FhirVersion.R5)]
    assert version_of(both) is FhirVersion.R4
    assert version_of([None, 7, "x", {}, {"resourceType": 7}]) is FhirVersion.R4


def elements_of(kind: str, version: FhirVersion) -> dict[str, Any]:
    fields = model(kind, version).model_fields
    return {field.alias or name: field.annotation for name, field in fields.items()}


@pytest.mark.parametrize(
    ("kind", "element"), [(kind, element) for kind in MARKS for element in MARKS[kind]]
)
def test_each_mark_is_an_element_of_the_versions_it_stands_for_and_of_no_other(
    kind: str, element: str
) -> None:
    having = {v for v in FhirVersion if element in elements_of(kind, v)}
    assert having == MARKS[kind][element]


def json_form(annotation: Any) -> type:
    """list, str for codes, dict for what is made of elements."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        (annotation,) = [a for a in typing.get_args(annotation) if a is not types.NoneType]
    if typing.get_origin(annotation) is list:
        return list
    return str if "CodeType" in str(annotation) or "str" in str(annotation) else dict


@pytest.mark.parametrize(
    ("kind", "element"), [(kind, element) for kind in FORMS for element in FORMS[kind]]
)
def test_each_form_is_that_of_the_versions_it_stands_for(kind: str, element: str) -> None:
    forms: dict[type, set[FhirVersion]] = {}
    for version in FhirVersion:
        forms.setdefault(json_form(elements_of(kind, version)[element]), set()).add(version)
    assert forms == {form: set(of) for form, of in FORMS[kind][element].items()}


# ----------------------------------------------------------------------------------------- writing


def an_assessment(*found: Resource, encounter: str | None = "e1", **more: Any) -> Resource:
    vector = mapped([patient(), *found])
    about = About(
        id="ra1",
        identifier="abc|d",
        patient_id="p1",
        encounter_id=encounter,
        occurrence=NOW,
        mitigation="Order an HbA1c",
    )
    prediction = Prediction(
        outcome={"text": "Undiagnosed type 2 diabetes"},
        probability=0.25,
        level="high",
        relative_risk=4.1,
        baseline=-3.5,
        contributions=[("age", 0.5), ("glucose", 1.0)],
        rationale="Glucose",
    )
    identity = ModelIdentity(name="test-model", version="1.2.3", title="Test model")
    return {**compose_risk_assessment(about, prediction, identity, vector), **more}


FULL = an_assessment(
    observation("2345-7", 118, "mg/dL", id="g"),
    observation("39156-5", 31, "kg/m2", id=None),
    reasonCode=[{"text": "Screening"}],
    note=[{"text": "One"}, {"text": "Two"}],
)


@pytest.mark.proves(4)
@VERSIONS
@pytest.mark.parametrize(
    "resource", [an_assessment(encounter=None), FULL, following(FULL, "the-one-before")]
)
def test_a_risk_assessment_is_valid_in_every_version(
    version: FhirVersion, resource: Resource
) -> None:
    before = copy.deepcopy(resource)
    written = rendered(resource, version)
    validate(written, version)
    for device in written["contained"]:
        validate(device, version)
    assert resource == before


@pytest.mark.parametrize("version", [FhirVersion.STU3, FhirVersion.R5])
def test_as_r4_it_would_not_be_valid_there(version: FhirVersion) -> None:
    with pytest.raises(ValueError, match="validation error"):
        validate(FULL, version)


@VERSIONS
def test_nothing_of_the_estimate_is_lost_in_any_version(version: FhirVersion) -> None:
    written = rendered(FULL, version)
    told, meant = written["prediction"][0], FULL["prediction"][0]
    assert told["probabilityDecimal"] == 25, "a percentage in every version"
    for element in ("extension", "outcome", "relativeRisk", "rationale"):
        assert told[element] == meant[element]
    assert told["qualitativeRisk"]["coding"][0]["code"] == "high"
    assert [b.get("reference") for b in written["basis"]] == [None, "Observation/g"]
    assert [b["display"] for b in written["basis"]] == [b["display"] for b in FULL["basis"]]
    for element in ("subject", "status", "method", "performer", "mitigation"):
        assert written[element] == FULL[element]


def test_stu3_has_its_own_names() -> None:
    written = rendered(FULL, FhirVersion.STU3)
    assert written["context"] == {"reference": "Encounter/e1"}
    assert written["identifier"] == FULL["identifier"][0]
    assert written["comment"] == "One\nTwo"
    assert written["reasonCodeableConcept"] == {"text": "Screening"}
    assert not any("type" in reference for reference in written["basis"])
    (device,) = written["contained"]
    assert (device["model"], device["version"]) == ("Test model", "1.2.3")
    (coding,) = written["prediction"][0]["qualitativeRisk"]["coding"]
    assert coding["system"] == "http://hl7.org/fhir/risk-probability"


def test_r5_has_its_own_names() -> None:
    written = rendered(FULL, FhirVersion.R5)
    assert written["encounter"] == {"reference": "Encounter/e1"}
    assert written["reason"] == [{"concept": {"text": "Screening"}}]
    (device,) = written["contained"]
    assert device["name"] == [{"value": "Test model", "type": "user-friendly-name"}]


def test_a_reason_may_be_a_reference() -> None:
    reason = {"reference": "Condition/c1"}
    resource = an_assessment(reasonReference=[reason])
    for version in FhirVersion:
        validate(rendered(resource, version), version)
    assert rendered(resource, FhirVersion.STU3)["reasonReference"] == reason
    assert rendered(resource, FhirVersion.R5)["reason"] == [{"reference": reason}]


@VERSIONS
@pytest.mark.parametrize("other", list(FhirVersion))
def test_what_was_written_for_one_version_can_be_written_for_another(
    version: FhirVersion, other: FhirVersion
) -> None:
    again = rendered(rendered(FULL, version), other)
    validate(again, other)
    assert again["contained"][0]["identifier"] == FULL["contained"][0]["identifier"]
    assert again["prediction"] == rendered(FULL, other)["prediction"]


@VERSIONS
def test_it_is_found_again_on_a_server_of_any_version(version: FhirVersion) -> None:
    assert if_none_exist(rendered(FULL, version)) == if_none_exist(FULL)


OBSERVATIONS = st.lists(
    st.builds(
        observation,
        st.sampled_from(["2345-7", "39156-5", "2085-9", "29463-7", "8302-2"]),
        st.floats(1, 400),
        st.sampled_from(["mg/dL", "kg/m2", "kg", "cm", None]),
        id=st.none() | st.sampled_from(["o1", "o2", "o3"]),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(OBSERVATIONS, st.none() | st.just("e1"), st.sampled_from(list(FhirVersion)))
def test_every_assessment_that_is_made_can_be_written(
    found: list[Resource], encounter: str | None, version: FhirVersion
) -> None:
    validate(rendered(an_assessment(*found, encounter=encounter), version), version)


# ------------------------------------------------------------------------------------- the service


def system_actor(parts: Parts, version: FhirVersion | None) -> Service:
    client = Client(
        name="EHR",
        fhir_servers=("http://127.0.0.1:8080/fhir",),
        write_back="system-action",
        fhir_version=version,
    )
    return Service.of(replace(parts, clients=Clients((client,), demo=True)))


def called(service: Service, chart: Mapping[str, Any]) -> Any:
    """A call of that client, in an encounter."""
    context = {"userId": "Practitioner/1", "patientId": "p1", "encounterId": "e1"}
    body = patient_view(prefetch=chart, fhirServer="http://127.0.0.1:8080/fhir", context=context)
    answer = service.call(body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def given_out(answer: Any) -> Iterator[Resource]:
    """Every FHIR resource in an answer: what cards suggest, and the system actions."""
    for card in answer["cards"]:
        for suggestion in card.get("suggestions", ()):
            yield from (action["resource"] for action in suggestion["actions"])
    yield from (action["resource"] for action in answer["systemActions"])


ORDERS = {"STU3": "ProcedureRequest", "R4": "ServiceRequest", "R5": "ServiceRequest"}


@pytest.mark.parametrize("version", [FhirVersion.STU3, FhirVersion.R4, FhirVersion.R5])
def test_an_ehr_gets_its_own_version_back(version: FhirVersion, parts: Parts) -> None:
    service = system_actor(parts, None)
    order, assessment = given_out(called(service, payload(version, "chart")))
    assert order["resourceType"] == ORDERS[version]
    assert assessment["resourceType"] == "RiskAssessment"
    for resource in (order, assessment):
        validate(resource, version)
    # What is stored, and read at /fhir, is R4.
    (entry,) = service.request("GET", "/fhir/RiskAssessment?patient=p1").json()["entry"]
    validate(entry["resource"], FhirVersion.R4)
    assert entry["resource"]["encounter"] == {"reference": "Encounter/e1"}


@VERSIONS
def test_the_clients_file_has_the_last_word(version: FhirVersion, parts: Parts) -> None:
    for sent in FhirVersion:
        service = system_actor(parts, version)
        answer = called(service, payload(sent, "chart"))
        made = list(given_out(answer))
        assert made
        for resource in made:
            validate(resource, version)


@pytest.mark.parametrize(("severity", "status"), [("error", 412), ("warning", 200)])
def test_what_r5_says_beside_the_entries_is_heard(
    severity: str, status: int, app_client: Service
) -> None:
    chart = payload(FhirVersion.R5, "chart")
    issue = {"severity": severity, "code": "incomplete"}
    chart["conditions"]["issues"] = {"resourceType": "OperationOutcome", "issue": [issue]}
    validate(chart["conditions"], FhirVersion.R5)
    assert app_client.call(patient_view(prefetch=chart)).status_code == status


def test_prefetch_without_marks_is_answered_in_r4(parts: Parts) -> None:
    chart = {
        "patient": patient(),
        "observations": searchset(
            observation("2345-7", 141, "mg/dL"), observation("39156-5", 34.2, "kg/m2")
        ),
        "conditions": searchset(),
        "medications": searchset(),
    }
    order, _ = given_out(called(system_actor(parts, None), chart))
    assert order["resourceType"] == "ServiceRequest"
    validate(order, FhirVersion.R4)
