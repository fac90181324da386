"""Made-up patient-view calls: every patient differs, and a third of the Observations matter.

An EHR that honours the `code=` of the prefetch template sends relevant results only; many send the
whole chart. A third is the mix that the benchmarks promise, at every size.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

LOINC = "http://loinc.org"
SNOMED_CT = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
UCUM = "http://unitsofmeasure.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"

BLOOD_PRESSURE = "85354-9"
# One in three is relevant.
EVERY = 3
DAYS = 700

Resource = dict[str, Any]
# LOINC code, long common name, UCUM unit, usual range, decimals.
Test = tuple[str, str, str, float, float, int]

RELEVANT: tuple[Test, ...] = (
    ("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 75, 180, 0),
    ("39156-5", "Body mass index (BMI) [Ratio]", "kg/m2", 20, 40, 1),
    (BLOOD_PRESSURE, "Blood pressure panel with all children optional", "mm[Hg]", 105, 170, 0),
    ("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 140, 280, 0),
    ("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 30, 80, 0),
    ("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", 60, 320, 0),
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 0.6, 1.6, 2),
    (
        "1742-6",
        "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma",
        "U/L",
        8,
        80,
        0,
    ),
    (
        "1920-8",
        "Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma",
        "U/L",
        8,
        70,
        0,
    ),
    (
        "2324-2",
        "Gamma glutamyl transferase [Enzymatic activity/volume] in Serum or Plasma",
        "U/L",
        8,
        110,
        0,
    ),
    ("3084-1", "Urate [Mass/volume] in Serum or Plasma", "mg/dL", 3, 9, 1),
    ("1751-7", "Albumin [Mass/volume] in Serum or Plasma", "g/dL", 3.4, 5, 1),
    ("9318-7", "Albumin/Creatinine [Mass Ratio] in Urine", "mg/g", 3, 60, 1),
)

OTHER: tuple[Test, ...] = (
    ("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 132, 146, 0),
    ("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 3.4, 5.4, 1),
    ("2075-0", "Chloride [Moles/volume] in Serum or Plasma", "mmol/L", 96, 108, 0),
    ("2028-9", "Carbon dioxide, total [Moles/volume] in Serum or Plasma", "mmol/L", 20, 30, 0),
    ("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", 6, 30, 0),
    ("17861-6", "Calcium [Mass/volume] in Serum or Plasma", "mg/dL", 8.4, 10.6, 1),
    ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 10, 17, 1),
    ("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", 32, 50, 1),
    ("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 130, 420, 0),
    ("789-8", "Erythrocytes [#/volume] in Blood by Automated count", "10*6/uL", 3.5, 5.8, 2),
    ("787-2", "MCV [Entitic volume] by Automated count", "fL", 78, 102, 1),
    ("8867-4", "Heart rate", "/min", 52, 105, 0),
    ("9279-1", "Respiratory rate", "/min", 10, 22, 0),
    ("8310-5", "Body temperature", "Cel", 36, 38.4, 1),
    ("2708-6", "Oxygen saturation in Arterial blood", "%", 91, 100, 0),
    ("1975-2", "Bilirubin.total [Mass/volume] in Serum or Plasma", "mg/dL", 0.2, 1.6, 1),
    (
        "6768-6",
        "Alkaline phosphatase [Enzymatic activity/volume] in Serum or Plasma",
        "U/L",
        40,
        130,
        0,
    ),
    (
        "3016-3",
        "Thyrotropin [Units/volume] in Serum or Plasma",
        "m[IU]/L",
        0.4,
        5,
        2,
    ),
)


def bodies(count: int, *, observations: int, seed: str, now: datetime) -> Iterator[bytes]:
    """`count` calls as they go over the wire; the same seed gives the same calls."""
    for number in range(count):
        chance = random.Random(f"{seed}-{observations}-{number}")  # noqa: S311 (not a secret)
        yield orjson.dumps(call(chance, observations=observations, now=now))


def call(chance: random.Random, *, observations: int, now: datetime) -> Resource:
    """One patient-view call about an adult who is in the model's domain, and so is scored."""
    patient_id = _id(chance)
    chart = {
        "observations": [_observation(chance, patient_id, n, now) for n in range(observations)],
        "conditions": [_condition(chance, patient_id, code, now) for code in CONDITIONS],
        "medications": [_medication(chance, patient_id, now)],
    }
    return {
        "hook": "patient-view",
        "hookInstance": _id(chance),
        "context": {"userId": "Practitioner/1", "patientId": patient_id},
        "prefetch": {
            "patient": _patient(chance, patient_id, now),
            **{key: _searchset(resources) for key, resources in chart.items()},
        },
    }


def _id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _patient(chance: random.Random, patient_id: str, now: datetime) -> Resource:
    born = now - timedelta(days=chance.uniform(30, 75) * 365.25)
    return {
        "resourceType": "Patient",
        "id": patient_id,
        "gender": chance.choice(("female", "male")),
        "birthDate": f"{born:%Y-%m-%d}",
    }


def _observation(chance: random.Random, patient_id: str, place: int, now: datetime) -> Resource:
    turn, rest = divmod(place, EVERY)
    test = chance.choice(OTHER) if rest else RELEVANT[turn % len(RELEVANT)]
    code, display, *_ = test
    when = f"{now - timedelta(days=chance.uniform(1, DAYS)):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "resourceType": "Observation",
        "id": _id(chance),
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": "laboratory"}]}],
        "code": {"coding": [_coding(LOINC, code, display)], "text": display},
        "subject": {"reference": f"Patient/{patient_id}"},
        "encounter": {"reference": f"Encounter/{_id(chance)}"},
        "effectiveDateTime": when,
        "issued": when,
        **(
            _pressures(chance)
            if code == BLOOD_PRESSURE
            else {"valueQuantity": _value(chance, test)}
        ),
    }


def _pressures(chance: random.Random) -> Resource:
    parts: tuple[Test, ...] = (
        ("8480-6", "Systolic blood pressure", "mm[Hg]", 105, 170, 0),
        ("8462-4", "Diastolic blood pressure", "mm[Hg]", 60, 100, 0),
    )
    return {
        "component": [
            {
                "code": {"coding": [_coding(LOINC, part[0], part[1])], "text": part[1]},
                "valueQuantity": _value(chance, part),
            }
            for part in parts
        ]
    }


def _value(chance: random.Random, test: Test) -> Resource:
    _, _, unit, low, high, decimals = test
    value = round(chance.uniform(low, high), decimals)
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


CONDITIONS = (
    ("38341003", "Hypertensive disorder"),
    ("55822004", "Hyperlipidemia"),
    ("396275006", "Osteoarthritis"),
)


def _condition(
    chance: random.Random, patient_id: str, code: tuple[str, str], now: datetime
) -> Resource:
    return {
        "resourceType": "Condition",
        "id": _id(chance),
        "clinicalStatus": {"coding": [{"system": CLINICAL, "code": "active"}]},
        "verificationStatus": {"coding": [{"system": VERIFICATION, "code": "confirmed"}]},
        "code": {"coding": [_coding(SNOMED_CT, *code)], "text": code[1]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "onsetDateTime": f"{now - timedelta(days=chance.uniform(100, 4000)):%Y-%m-%d}",
    }


def _medication(chance: random.Random, patient_id: str, now: datetime) -> Resource:
    name = "lisinopril 10 MG Oral Tablet"
    return {
        "resourceType": "MedicationRequest",
        "id": _id(chance),
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"coding": [_coding(RXNORM, "314076", name)], "text": name},
        "subject": {"reference": f"Patient/{patient_id}"},
        "authoredOn": f"{now - timedelta(days=chance.uniform(1, DAYS)):%Y-%m-%d}",
    }


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}


def _searchset(resources: list[Resource]) -> Resource:
    entries = [
        {
            "fullUrl": f"https://ehr.example.org/fhir/{found['resourceType']}/{found['id']}",
            "resource": found,
            "search": {"mode": "match"},
        }
        for found in resources
    ]
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(entries),
        "entry": entries,
    }


def utc_now() -> datetime:
    """The present, for results that are to be recent."""
    return datetime.now(UTC)
