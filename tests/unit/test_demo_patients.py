"""The demo patients are valid FHIR, never stale, and each gets the answer that its story tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from cds_service.demo.patients import DemoPatient, demo_patients
from cds_service.demo.prefetch import resolve_prefetch
from cds_service.judgement import InsufficientData, Judgement, Scored, judge, outcome_name
from fhir_mapping import CompiledMapping, FeatureVector, compile_mapping, load_catalog, map_features
from risk_model import Model, load_model

ROOT = Path(__file__).parents[2]
AS_OF = datetime(2024, 3, 1, 1, 30, tzinfo=UTC)
PEOPLE = {person.id: person for person in demo_patients(AS_OF)}
SERVICE = json.loads((ROOT / "hooks.json").read_text())["services"][0]


@pytest.fixture(scope="module")
def model() -> Model:
    serving = SERVICE["serving"]
    return load_model(ROOT / "model_artifacts" / serving["model"] / serving["modelVersion"])


@pytest.fixture(scope="module")
def mapping(model: Model) -> CompiledMapping:
    return compile_mapping(load_catalog(), model.manifest.raw)


def vector_of(mapping: CompiledMapping, person: DemoPatient) -> FeatureVector:
    return map_features(
        mapping, person.resources, as_of=AS_OF, patient_id=person.id, fhir_base=None
    )


def judgement_of(model: Model, mapping: CompiledMapping, person: DemoPatient) -> Judgement:
    return judge(vector_of(mapping, person), model)


@pytest.mark.parametrize("person", PEOPLE.values(), ids=PEOPLE)
def test_every_resource_is_valid_r4(person: DemoPatient) -> None:
    for resource in person.resources:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)


def test_ids_are_unique_across_the_whole_demo() -> None:
    ids = [(r["resourceType"], r["id"]) for person in PEOPLE.values() for r in person.resources]
    assert len(set(ids)) == len(ids)


def test_the_same_day_gives_the_same_charts() -> None:
    """A chart opened twice on one day is the same call twice, and stores nothing new."""
    assert demo_patients(AS_OF) == demo_patients(AS_OF + timedelta(hours=22))


@pytest.mark.parametrize(
    "as_of",
    [
        datetime(2024, 2, 29, 0, 0, 1, tzinfo=UTC),
        datetime(2024, 6, 8, 12, tzinfo=UTC),  # 100 days after a 29 February
        datetime(2031, 12, 31, 23, 59, tzinfo=UTC),
    ],
)
def test_no_date_lies_in_the_future_and_ages_hold(as_of: datetime) -> None:
    for then, now in zip(PEOPLE.values(), demo_patients(as_of), strict=True):
        assert all(date <= as_of.isoformat() for date in dates_in(now))
        assert whole_years(now, as_of) == whole_years(then, AS_OF)


def dates_in(person: DemoPatient) -> list[str]:
    names = ("effectiveDateTime", "onsetDateTime", "authoredOn", "birthDate", "deceasedDateTime")
    return [r[name] for r in person.resources for name in names if name in r]


def whole_years(person: DemoPatient, as_of: datetime) -> int:
    born = datetime.fromisoformat(person.resources[0]["birthDate"])
    return as_of.year - born.year - ((as_of.month, as_of.day) < (born.month, born.day))


@pytest.mark.parametrize(
    ("patient", "outcome"),
    {
        "okafor-amara": "high",
        "lindqvist-ingrid": "high",
        "quispe-mateo": "moderate",
        "haugen-linnea": "low",
        "wisniewski-tomasz": "moderate",
        "kealoha-leilani": "high",
        "haidari-farid": "insufficient-data",
        "etcheverry-dolores": "out-of-domain:known_diabetes",
        "mensah-kwabena": "settled:hba1c-diabetic",
        "raghunathan-priya": "settled:hba1c-normal",
        "tamihana-noah": "out-of-domain:minimum_age",
        "hayashida-yuki": "out-of-domain:pregnancy",
        "sorgaard-henrik": "out-of-domain:deceased",
        "arikan-zeynep": "high",
    }.items(),
)
def test_each_patient_gets_the_answer_of_the_story(
    patient: str, outcome: str, model: Model, mapping: CompiledMapping
) -> None:
    judgement = judgement_of(model, mapping, PEOPLE[patient])
    found = judgement.estimate.level if isinstance(judgement, Scored) else outcome_name(judgement)
    assert found == outcome


def test_the_twin_in_si_units_gets_the_very_same_probability(
    model: Model, mapping: CompiledMapping
) -> None:
    conventional, si = (PEOPLE[name] for name in ("okafor-amara", "lindqvist-ingrid"))
    assert vector_of(mapping, conventional).values() == vector_of(mapping, si).values()
    assert not units_in(conventional) & {"mmol/L", "umol/L", "g/L"}
    assert {"mmol/L", "umol/L", "g/L"} <= units_in(si)


def units_in(person: DemoPatient) -> set[str]:
    return {r["valueQuantity"]["unit"] for r in person.resources if "valueQuantity" in r}


def test_in_the_messy_chart_only_the_patients_own_valid_result_counts(
    mapping: CompiledMapping,
) -> None:
    """13.1 was entered in error, 402 belongs to somebody else, 92 is years old."""
    person = PEOPLE["arikan-zeynep"]
    glucose = {r["valueQuantity"]["value"] for r in person.resources if has_code(r, "2345-7")}
    assert glucose == {131, 13.1, 402, 92}
    assert vector_of(mapping, person).values()["glucose"] == 131


def test_too_little_data_names_the_groups_of_which_one_would_do(
    model: Model, mapping: CompiledMapping
) -> None:
    judgement = judgement_of(model, mapping, PEOPLE["haidari-farid"])
    assert isinstance(judgement, InsufficientData)
    assert judgement.groups


def test_the_prefetch_templates_ask_for_every_result_in_the_charts() -> None:
    """No demo result is there for show only: each is of a kind that the service asks for."""
    for person in PEOPLE.values():
        own = {r["id"] for r in person.resources if is_observation_of(r, person.id)}
        prefetch = resolve_prefetch(SERVICE["prefetch"], person.resources)
        bundle = prefetch["observations"]
        assert {entry["resource"]["id"] for entry in bundle.get("entry", [])} == own


def is_observation_of(resource: Mapping[str, Any], patient: str) -> bool:
    return (
        resource["resourceType"] == "Observation"
        and resource["subject"]["reference"] == f"Patient/{patient}"
    )


def has_code(resource: Mapping[str, Any], code: str) -> bool:
    codings = resource.get("code", {}).get("coding", [])
    return any(coding["code"] == code for coding in codings)
