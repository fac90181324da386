"""A model's estimate as a FHIR RiskAssessment (R4): http://hl7.org/fhir/R4/riskassessment.html

The resource stands alone: the model is a contained Device, so that any server takes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir_mapping.vector import Entry, FeatureVector, Present, Source

IDENTIFIER_SYSTEM = "urn:cds-service:risk-assessment"
MODEL_SYSTEM = "urn:cds-service:model"
UCUM = "http://unitsofmeasure.org"
RISK_PROBABILITY = "http://terminology.hl7.org/CodeSystem/risk-probability"
# The extension holds one feature's share of the prediction: `feature` (its name in the model's
# manifest), `value` (what the model was given; left out where the feature was absent) and
# `logOdds` (exact TreeSHAP, on the calibrated scale: BASELINE_URL plus all shares is the logit of
# the probability).
CONTRIBUTION_URL = "urn:cds-service:extension:feature-contribution"
BASELINE_URL = "urn:cds-service:extension:baseline-log-odds"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model said so: name and version of its artifact, and its title."""

    name: str
    version: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model said. `probability` 0 to 1; `level` a code of risk-probability (low, moderate,
    high); `contributions` (feature, log-odds) in the model's order; `outcome` a CodeableConcept."""

    outcome: Mapping[str, Any]
    probability: float
    level: str
    relative_risk: float
    baseline: float
    contributions: Sequence[tuple[str, float]]
    rationale: str


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whom and when the assessment is about; `mitigation` is what could be done."""

    id: str
    identifier: str
    patient_id: str
    encounter_id: str | None
    occurrence: datetime
    mitigation: str | None


def compose_risk_assessment(
    about: About, prediction: Prediction, model: ModelIdentity, vector: FeatureVector
) -> dict[str, Any]:
    """The RiskAssessment of one estimate; its `basis` is every Observation the model was given."""
    resource: dict[str, Any] = {
        "resourceType": "RiskAssessment",
        "id": about.id,
        "contained": [_device(model)],
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": about.identifier}],
        "status": "final",
        "method": _method(model),
        "subject": {"reference": f"Patient/{about.patient_id}"},
        "occurrenceDateTime": about.occurrence.isoformat(timespec="seconds"),
        "performer": {"reference": "#model"},
        "prediction": [_prediction(prediction, vector)],
    }
    if about.encounter_id:
        resource["encounter"] = {"reference": f"Encounter/{about.encounter_id}"}
    if basis := _basis(vector):
        resource["basis"] = basis
    if about.mitigation:
        resource["mitigation"] = about.mitigation
    return resource


def following(resource: Mapping[str, Any], before: str) -> dict[str, Any]:
    """`resource`, in the version that it has, as the one after the assessment identified by
    `before`.

    A logical reference: the one before may be created later, elsewhere or not at all, and nobody
    here knows the id that it gets. http://hl7.org/fhir/R4/references.html#logical
    """
    parent: dict[str, Any] = {"identifier": {"system": IDENTIFIER_SYSTEM, "value": before}}
    # STU3's RiskAssessment has one identifier at most, and its Reference no type.
    # http://hl7.org/fhir/STU3/riskassessment.html
    if isinstance(resource.get("identifier"), list):
        parent = {"type": "RiskAssessment", **parent}
    return {**resource, "parent": parent}


def _device(model: ModelIdentity) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": "model",
        "identifier": [{"system": MODEL_SYSTEM, "value": f"{model.name}|{model.version}"}],
        "status": "active",
        "deviceName": [{"name": model.title, "type": "user-friendly-name"}],
        "version": [{"value": model.version}],
    }


def _method(model: ModelIdentity) -> dict[str, Any]:
    coding = {
        "system": MODEL_SYSTEM,
        "version": model.version,
        "code": model.name,
        "display": model.title,
    }
    return {"coding": [coding], "text": f"{model.title}, model {model.name} {model.version}"}


def _prediction(prediction: Prediction, vector: FeatureVector) -> dict[str, Any]:
    entries = vector.entries
    shares = [_contribution(name, share, entries[name]) for name, share in prediction.contributions]
    baseline = {"url": BASELINE_URL, "valueDecimal": round(prediction.baseline, 9)}
    return {
        "extension": [baseline, *shares],
        "outcome": dict(prediction.outcome),
        # A percentage: http://hl7.org/fhir/R4/riskassessment-definitions.html
        "probabilityDecimal": round(prediction.probability * 100, 6),
        "qualitativeRisk": {
            "coding": [
                {
                    "system": RISK_PROBABILITY,
                    "code": prediction.level,
                    "display": f"{prediction.level.capitalize()} likelihood",
                }
            ]
        },
        "relativeRisk": round(prediction.relative_risk, 4),
        "rationale": prediction.rationale,
    }


def _contribution(name: str, log_odds: float, entry: Entry) -> dict[str, Any]:
    feature = {"url": "feature", "valueString": name}
    share = {"url": "logOdds", "valueDecimal": round(log_odds, 9)}
    if not isinstance(entry, Present):
        return {"url": CONTRIBUTION_URL, "extension": [feature, share]}
    quantity = {"value": entry.value, "unit": entry.unit, "system": UCUM, "code": entry.unit}
    value = {"url": "value", "valueQuantity": quantity}
    return {"url": CONTRIBUTION_URL, "extension": [feature, value, share]}


def _basis(vector: FeatureVector) -> list[dict[str, Any]]:
    """Each Observation once, in the order of the features that it served."""
    basis: dict[str, dict[str, Any]] = {}
    for entry in vector.entries.values():
        for source in entry.sources if isinstance(entry, Present) else ():
            if source.reference is None or not source.reference.startswith("Patient/"):
                reference = _reference(source)
                basis.setdefault(reference.get("reference", reference["display"]), reference)
    return list(basis.values())


def _reference(source: Source) -> dict[str, Any]:
    """A reference; an Observation that came without an id can only be described."""
    when = f", {source.effective.text}" if source.effective else ""
    display = f"{source.title}{when}"
    if not source.reference:
        return {"type": "Observation", "display": display}
    return {"reference": source.reference, "type": "Observation", "display": display}
