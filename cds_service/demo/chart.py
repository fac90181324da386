"""How a made-up person becomes FHIR R4 resources: each kind of fact has one function.

LOINC displays are the long common names. Reference intervals are those of an ordinary adult
laboratory; they colour the chart of the demo and reach no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

LOINC = "http://loinc.org"
SNOMED_CT = "http://snomed.info/sct"
ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
UCUM = "http://unitsofmeasure.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"

Resource = dict[str, Any]
Category = Literal["laboratory", "vital-signs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """One FHIR Coding."""

    system: str
    code: str
    display: str

    def resource(self) -> Resource:
        """As FHIR JSON."""
        return {"system": self.system, "code": self.code, "display": self.display}


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A test that can be ordered or measured: its LOINC code, UCUM unit and reference interval.

    `label` is what the chart calls it; `display` is LOINC's long common name.
    """

    __test__ = False  # pytest collects classes that start with "Test"

    label: str
    loinc: str
    display: str
    unit: str
    low: float | None = None
    high: float | None = None
    category: Category = "laboratory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One value of one test, `days_ago` days before the chart is opened.

    `codings` replaces the test's own LOINC coding, in the order given. `unit_text` writes the unit
    as words with no code behind it. `subject` files another patient's result in this chart.
    """

    test: Test
    value: float
    days_ago: int
    status: str = "final"
    codings: tuple[Coding, ...] = ()
    unit_text: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BloodPressure:
    """One blood pressure reading in mm[Hg], written as the LOINC panel with two components."""

    systolic: float
    diastolic: float
    days_ago: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One entry of the problem list."""

    text: str
    codings: tuple[Coding, ...]
    onset_days_ago: int
    clinical: str = "active"
    verification: str = "confirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Medicine:
    """One active prescription."""

    coding: Coding
    dosage: str
    days_ago: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A made-up person and all that the record holds about them."""

    id: str
    given: str
    family: str
    gender: Literal["female", "male", "other", "unknown"]
    age: int
    story: str
    results: tuple[Result | BloodPressure, ...] = ()
    problems: tuple[Problem, ...] = ()
    medicines: tuple[Medicine, ...] = ()
    died_days_ago: int | None = None


def resources_of(person: Person, *, day: date) -> Iterator[Resource]:
    """The person's record as FHIR R4 resources, dated back from `day`; the Patient comes first."""
    yield patient(person, day=day)
    for number, result in enumerate(person.results, start=1):
        if isinstance(result, BloodPressure):
            yield blood_pressure(person, result, number=number, day=day)
        else:
            yield observation(person, result, number=number, day=day)
    for number, problem in enumerate(person.problems, start=1):
        yield condition(person, problem, number=number, day=day)
    for number, medicine in enumerate(person.medicines, start=1):
        yield medication_request(person, medicine, number=number, day=day)


def patient(person: Person, *, day: date) -> Resource:
    """The Patient: the birthday was 100 days ago, so that the age holds on every `day`."""
    resource: Resource = {
        "resourceType": "Patient",
        "id": person.id,
        "identifier": [{"system": "urn:demo-ehr:mrn", "value": _record_number(person)}],
        "active": True,
        "name": [{"use": "official", "family": person.family, "given": [person.given]}],
        "gender": person.gender,
        "birthDate": _birth_date(person.age, day=day).isoformat(),
    }
    if person.died_days_ago is not None:
        resource["deceasedDateTime"] = _at(day, person.died_days_ago, hour=3)
    return resource


def observation(person: Person, result: Result, *, number: int, day: date) -> Resource:
    """A single-valued Observation with its reference interval and the laboratory's H or L."""
    test = result.test
    codings = result.codings or (Coding(system=LOINC, code=test.loinc, display=test.display),)
    resource = _observation_head(
        person, f"{person.id}-{number:02}-{_slug(test.label)}", test.category
    )
    resource |= {
        "status": result.status,
        "code": {"coding": [coding.resource() for coding in codings], "text": test.label},
        "subject": {"reference": f"Patient/{result.subject or person.id}"},
        "effectiveDateTime": _at(day, result.days_ago, hour=8),
        "valueQuantity": _quantity(result.value, test.unit, unit_text=result.unit_text),
    }
    interval = _reference_interval(test)
    if interval:
        resource["referenceRange"] = [interval]
        resource["interpretation"] = [_interpretation(result.value, test)]
    return resource


def blood_pressure(person: Person, reading: BloodPressure, *, number: int, day: date) -> Resource:
    """The panel LOINC 85354-9; its value sits in the components 8480-6 and 8462-4."""
    resource = _observation_head(person, f"{person.id}-{number:02}-blood-pressure", "vital-signs")
    resource |= {
        "status": "final",
        "code": {
            "coding": [_loinc("85354-9", "Blood pressure panel with all children optional")],
            "text": "Blood pressure",
        },
        "subject": {"reference": f"Patient/{person.id}"},
        "effectiveDateTime": _at(day, reading.days_ago, hour=9),
        "component": [
            {
                "code": {"coding": [_loinc("8480-6", "Systolic blood pressure")]},
                "valueQuantity": _quantity(reading.systolic, "mm[Hg]"),
            },
            {
                "code": {"coding": [_loinc("8462-4", "Diastolic blood pressure")]},
                "valueQuantity": _quantity(reading.diastolic, "mm[Hg]"),
            },
        ],
    }
    return resource


def condition(person: Person, problem: Problem, *, number: int, day: date) -> Resource:
    """A problem-list Condition."""
    return {
        "resourceType": "Condition",
        "id": f"{person.id}-problem-{number}",
        "clinicalStatus": _status("condition-clinical", problem.clinical),
        "verificationStatus": _status("condition-ver-status", problem.verification),
        "category": [_status("condition-category", "problem-list-item")],
        "code": {
            "coding": [coding.resource() for coding in problem.codings],
            "text": problem.text,
        },
        "subject": {"reference": f"Patient/{person.id}"},
        "onsetDateTime": (day - timedelta(days=problem.onset_days_ago)).isoformat(),
    }


def medication_request(person: Person, medicine: Medicine, *, number: int, day: date) -> Resource:
    """An active order for a medicine."""
    return {
        "resourceType": "MedicationRequest",
        "id": f"{person.id}-medicine-{number}",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {
            "coding": [medicine.coding.resource()],
            "text": medicine.coding.display,
        },
        "subject": {"reference": f"Patient/{person.id}"},
        "authoredOn": (day - timedelta(days=medicine.days_ago)).isoformat(),
        "dosageInstruction": [{"text": medicine.dosage}],
    }


def _observation_head(person: Person, id_: str, category: Category) -> Resource:
    return {
        "resourceType": "Observation",
        "id": id_,
        "category": [_status("observation-category", category)],
    }


def _slug(label: str) -> str:
    return label.lower().replace(" ", "-")


def _loinc(code: str, display: str) -> Resource:
    return {"system": LOINC, "code": code, "display": display}


def _status(system: str, code: str) -> Resource:
    return {"coding": [{"system": f"{TERMINOLOGY}/{system}", "code": code}]}


def _quantity(value: float, unit: str, *, unit_text: str | None = None) -> Resource:
    if unit_text is not None:
        return {"value": value, "unit": unit_text}
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _reference_interval(test: Test) -> Resource:
    return {
        side: _quantity(limit, test.unit)
        for side, limit in (("low", test.low), ("high", test.high))
        if limit is not None
    }


def _interpretation(value: float, test: Test) -> Resource:
    if test.high is not None and value > test.high:
        return _status("v3-ObservationInterpretation", "H")
    if test.low is not None and value < test.low:
        return _status("v3-ObservationInterpretation", "L")
    return _status("v3-ObservationInterpretation", "N")


def _birth_date(age: int, *, day: date) -> date:
    birthday = day - timedelta(days=100)
    # 29 February has no twin in most birth years; the 28th keeps the age right.
    return birthday.replace(year=birthday.year - age, day=min(birthday.day, 28))


def _record_number(person: Person) -> str:
    """A six-digit number that depends on the id alone."""
    return str(
        100_000 + sum(ord(letter) * 31**place for place, letter in enumerate(person.id)) % 900_000
    )


def _at(day: date, days_ago: int, *, hour: int) -> str:
    moment = datetime.combine(day - timedelta(days=days_ago), time(hour, 40), tzinfo=UTC)
    return moment.isoformat()
