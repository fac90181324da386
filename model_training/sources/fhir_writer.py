"""NHANES' people as a FHIR Bulk Data export, as if each had been a patient seen once.

What `train nhanes` and `train fhir` make of the same people can so be compared, and a site has an
example of an export that the reader takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
import pandas as pd

from fhir_mapping import load_catalog
from fhir_mapping.concepts import Concept
from model_training.dataset import DatasetError
from model_training.recipe import Recipe
from model_training.sources.fhir_survey import (
    BLACK,
    HISPANIC,
    MEXICAN_AMERICAN,
    NOT_HISPANIC,
    OTHER,
    OTHER_RACE,
    WHITE,
    SurveyDesign,
    group_extensions,
    survey_extension,
)
from model_training.sources.nhanes_cycles import load_codes

_PERSON = "SEQN"
_DIGITS = 6  # so that ids sort as strings as they do as numbers
_YES = 1
_LOINC, _SNOMED = "http://loinc.org", "http://snomed.info/sct"
_ATC, _RXNORM = "http://www.whocc.no/atc", "http://www.nlm.nih.gov/research/umls/rxnorm"
_UCUM = "http://unitsofmeasure.org"
_STATUS = "http://terminology.hl7.org/CodeSystem/condition"
# Answers that put a person outside the model's question.
_CONDITIONS = (
    ("told_diabetes", "73211009", "Diabetes mellitus"),
    ("pregnant", "77386006", "Pregnancy"),
)
# NHANES asks about pills for blood sugar without their name; metformin, the usual one, stands here.
_MEDICINES = (
    ("takes_insulin", _ATC, "A10A", "Insulins and analogues"),
    ("takes_pills", _RXNORM, "6809", "metformin"),
)
# RIDRETH1's groups in CDC's Race and Ethnicity: ethnicity, detailed ethnicity, race.
_GROUPS: Mapping[str, tuple[str, str | None, str | None]] = {
    "Mexican American": (HISPANIC, MEXICAN_AMERICAN, None),
    "Other Hispanic": (HISPANIC, OTHER, None),
    "Non-Hispanic White": (NOT_HISPANIC, None, WHITE),
    "Non-Hispanic Black": (NOT_HISPANIC, None, BLACK),
    "Other or multiple": (NOT_HISPANIC, None, OTHER_RACE),
}
_UG_PER_ML_OVER_MG_PER_DL = 100  # (µg/mL) / (mg/dL) → mg/g

Row = Mapping[Any, Any]


def write_nhanes_as_fhir(people: pd.DataFrame, folder: Path, recipe: Recipe) -> None:
    """One Patient.ndjson, Observation.ndjson, Condition.ndjson and MedicationRequest.ndjson.

    `people`: everybody interviewed in one or more cycles, as read_cycle gives them. Everything is
    dated to 1 January of the cycle's second year, the middle of the survey; a diagnosis that they
    were told of, and its medicines, to the day before. Raises DatasetError where `people` lack an
    input of the recipe.
    """
    people = people.assign(
        urine_albumin_creatinine_ratio=_UG_PER_ML_OVER_MG_PER_DL
        * people["urine_albumin"]
        / people["urine_creatinine"]
    )
    measured = _measured(recipe)
    lacking = sorted(set(measured) - set(people))
    if lacking:
        raise DatasetError(f"The people of NHANES lack {', '.join(lacking)}: nothing was written.")
    codes = load_codes()
    folder.mkdir(parents=True, exist_ok=True)
    names = ("Patient", "Observation", "Condition", "MedicationRequest")
    with (
        (folder / f"{names[0]}.ndjson").open("wb") as patients,
        (folder / f"{names[1]}.ndjson").open("wb") as observations,
        (folder / f"{names[2]}.ndjson").open("wb") as conditions,
        (folder / f"{names[3]}.ndjson").open("wb") as medicines,
    ):
        for row in people.to_dict("records"):
            visit = _visit(row)
            _write(patients, [_patient(row, visit, codes.sex, codes.ethnicity)])
            _write(observations, _observations(row, visit, measured))
            _write(conditions, _told(row, visit))
            _write(medicines, _taken(row, visit))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visit:
    """Whose the resources are, and when they were made."""

    patient_id: str
    year: int

    @property
    def day(self) -> str:
        return f"{self.year}-01-01"

    @property
    def day_before(self) -> str:
        return f"{self.year - 1}-12-31"

    def about(self, type_: str, what: str) -> dict[str, Any]:
        return {
            "resourceType": type_,
            "id": f"{self.patient_id}-{what}",
            "subject": {"reference": f"Patient/{self.patient_id}"},
        }


def _visit(row: Row) -> _Visit:
    return _Visit(
        patient_id=str(int(row[_PERSON])).zfill(_DIGITS),
        year=int(str(row["cycle"]).split("-")[1]),
    )


def _measured(recipe: Recipe) -> dict[str, Concept]:
    """The columns that are Observations: the recipe's inputs and its outcome."""
    concepts = load_catalog().concepts
    wanted = {feature.name: concepts[feature.concept] for feature in recipe.features}
    outcome = recipe.raw["cohort"]["outcome_concept"]
    wanted[outcome] = concepts[outcome]
    return {name: concept for name, concept in wanted.items() if concept.element is None}


def _patient(
    row: Row, visit: _Visit, sexes: Mapping[int, str], groups: Mapping[int, str]
) -> dict[str, Any]:
    ethnicity, detailed, race = _GROUPS[groups[int(row["ethnicity"])]]
    design = SurveyDesign(
        weight=row["survey_weight"],
        stratum=int(row["stratum"]),
        sampling_unit=int(row["sampling_unit"]),
        record=visit.patient_id,
    )
    return {
        "resourceType": "Patient",
        "id": visit.patient_id,
        "extension": [
            survey_extension(design),
            *group_extensions(ethnicity=ethnicity, detailed=detailed, race=race),
        ],
        "gender": sexes[int(row["gender"])],
        # So that the completed years on the visit's day, a birthday, are the age on record.
        "birthDate": f"{visit.year - int(row['age']):04d}-01-01",
    }


def _observations(
    row: Row, visit: _Visit, measured: Mapping[str, Concept]
) -> Iterator[dict[str, Any]]:
    for name, concept in measured.items():
        if pd.notna(row[name]):
            # FHIR's ids have no underscore.
            yield visit.about("Observation", name.replace("_", "-")) | {
                "status": "final",
                "code": {"coding": [{"system": _LOINC, "code": concept.loinc[0]}]},
                "effectiveDateTime": visit.day,
                "valueQuantity": {
                    "value": float(row[name]),
                    "unit": concept.unit,
                    "system": _UCUM,
                    "code": concept.unit,
                },
            }


def _told(row: Row, visit: _Visit) -> Iterator[dict[str, Any]]:
    for column, code, display in _CONDITIONS:
        if row[column] == _YES:
            yield visit.about("Condition", column.replace("_", "-")) | {
                "clinicalStatus": {"coding": [{"system": f"{_STATUS}-clinical", "code": "active"}]},
                "verificationStatus": {
                    "coding": [{"system": f"{_STATUS}-ver-status", "code": "confirmed"}]
                },
                "code": {"coding": [{"system": _SNOMED, "code": code, "display": display}]},
                "recordedDate": visit.day_before,
            }


def _taken(row: Row, visit: _Visit) -> Iterator[dict[str, Any]]:
    for column, system, code, display in _MEDICINES:
        if row[column] == _YES:
            yield visit.about("MedicationRequest", column.replace("_", "-")) | {
                "status": "active",
                "intent": "order",
                "medicationCodeableConcept": {
                    "coding": [{"system": system, "code": code, "display": display}]
                },
                "authoredOn": visit.day_before,
            }


def _write(file: IO[bytes], resources: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
    for resource in resources:
        file.write(orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE))
