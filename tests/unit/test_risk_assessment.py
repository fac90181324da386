"""The RiskAssessment that is stored: valid FHIR R4, and faithful to what the model was given."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest
from fhir.resources.R4B.riskassessment import RiskAssessment

from fhir_mapping import compile_mapping, load_catalog, map_features
from fhir_mapping.risk_assessment import (
    BASELINE_URL,
    CONTRIBUTION_URL,
    About,
    ModelIdentity,
    Prediction,
    compose_risk_assessment,
)
from tests.data import data_folder
from tests.fhir import observation, patient
from tests.manifests import raw_manifest

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MAPPING = compile_mapping(load_catalog(), raw_manifest())


def resource(*resources: dict[str, Any], **about: Any) -> dict[str, Any]:
    vector = map_features(MAPPING, [patient(), *resources], as_of=NOW, patient_id="p1")
    facts = {
        "id": "ra1",
        "identifier": "abc",
        "patient_id": "p1",
        "encounter_id": "e1",
        "occurrence": NOW,
        "mitigation": "Order an HbA1c",
        **about,
    }
    prediction = Prediction(
        outcome={"text": "Undiagnosed type 2 diabetes"},
        probability=0.1234567891,
        level="high",
        relative_risk=4.1,
        baseline=-3.5,
        contributions=[("age", 0.5), ("glucose", 1.0), ("hdl_cholesterol", -0.1)],
        rationale="Glucose",
    )
    model = ModelIdentity(name="test-model", version="1.2.3", title="Test model")
    return compose_risk_assessment(About(**facts), prediction, model, vector)


RECORD = (
    observation("2345-7", 118, "mg/dL", id="g"),
    observation("29463-7", 90, "kg", id="w"),
    observation("8302-2", 180, "cm", id="h"),
)


@pytest.mark.parametrize("about", [{}, {"encounter_id": None, "mitigation": None}])
@pytest.mark.parametrize("record", [(), RECORD, (observation("2345-7", 99, "mg/dL", id=None),)])
def test_it_is_valid_r4(record: tuple[dict[str, Any], ...], about: dict[str, Any]) -> None:
    RiskAssessment.model_validate(resource(*record, **about))


@pytest.mark.proves(4)
def test_it_passes_the_r4_json_schema() -> None:
    with gzip.open(data_folder("hl7_r4") / "fhir.schema.r4.json.gz") as file:
        schema = json.load(file)
    jsonschema.validate(resource(*RECORD), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**resource(*RECORD), "status": 7}, schema)


def test_the_basis_is_every_observation_that_reached_the_model() -> None:
    unused = observation("2345-7", 300, "mg/dL", id="x", status="entered-in-error")
    basis = resource(*RECORD, unused)["basis"]
    assert {b["reference"] for b in basis} == {"Observation/g", "Observation/w", "Observation/h"}
    assert len(basis) == 3


def test_the_probability_is_a_percentage_and_nothing_is_lost_of_it() -> None:
    prediction = resource(*RECORD)["prediction"][0]
    assert prediction["probabilityDecimal"] == 12.345679
    assert prediction["qualitativeRisk"]["coding"][0]["code"] == "high"


def test_contributions_name_feature_value_and_share() -> None:
    extensions = resource(*RECORD)["prediction"][0]["extension"]
    assert extensions[0] == {"url": BASELINE_URL, "valueDecimal": -3.5}
    by_name = {e["extension"][0]["valueString"]: e["extension"] for e in extensions[1:]}
    assert {e["url"] for e in extensions[1:]} == {CONTRIBUTION_URL}
    assert by_name["glucose"][1]["valueQuantity"]["value"] == 118
    assert [part["url"] for part in by_name["hdl_cholesterol"]] == ["feature", "logOdds"]


def test_the_model_is_named_as_method_and_performer() -> None:
    made = resource()
    device = made["contained"][0]
    assert made["performer"]["reference"] == f"#{device['id']}"
    assert device["version"] == [{"value": "1.2.3"}]
    assert made["method"]["coding"][0]["version"] == "1.2.3"
