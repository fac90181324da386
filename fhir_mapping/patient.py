"""The patient in context: birth date, gender and death, from the Patient resource."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from fhir_mapping.times import read_date, whole_years
from fhir_mapping.vector import Absent, AbsentReason, Entry, Present, Source

BIRTH_DATE, GENDER = "Patient.birthDate", "Patient.gender"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSlot:
    """A feature read from the Patient; `categories` turns a code into a number."""

    name: str
    title: str
    element: str
    unit: str
    plausible: tuple[float, float]
    categories: Mapping[str, float]


@dataclass(slots=True)
class PatientFacts:
    """Birth date, gender and death of the patient in context.

    Where a Patient arrives in several versions, each fact is taken from the latest that states it.
    """

    patient_id: str
    born: tuple[str, date, date] | None = None
    born_text: str = ""
    gender: tuple[str, str] | None = None
    deceased: bool = False

    def take(self, patient: dict[str, Any]) -> None:
        # A Patient without an id is accepted: FHIR leaves it optional, and the caller vouches for
        # what it passes as the patient in context.
        if patient.get("id") not in (None, self.patient_id):
            return
        meta = patient.get("meta")
        version = str(meta.get("lastUpdated", "")) if isinstance(meta, dict) else ""
        days = read_date(patient.get("birthDate"))
        if days and (self.born is None or (version, *days) > self.born):
            self.born, self.born_text = (version, *days), patient["birthDate"]
        gender = patient.get("gender")
        if isinstance(gender, str) and (self.gender is None or (version, gender) > self.gender):
            self.gender = (version, gender)
        self.deceased = self.deceased or _is_deceased(patient)

    def age(self, as_of: datetime) -> int | None:
        """Completed years; of a partial birth date the youngest age that it allows, so that a
        child is never taken for an adult."""
        if self.born is None or self.born[1] > as_of.date():
            return None
        return max(0, whole_years(min(self.born[2], as_of.date()), as_of.date()))

    def entry(self, slot: PatientSlot, as_of: datetime) -> Entry:
        if slot.element == BIRTH_DATE:
            value: float | None = self.age(as_of)
            missing = AbsentReason.FUTURE if self.born else AbsentReason.NOT_RECORDED
        else:
            value = slot.categories.get(self.gender[1].strip()) if self.gender else None
            missing = AbsentReason.NO_VALUE if self.gender else AbsentReason.NOT_RECORDED
        if value is None:
            return Absent(name=slot.name, reason=missing)
        if not slot.plausible[0] <= value <= slot.plausible[1]:
            return Absent(name=slot.name, reason=AbsentReason.IMPLAUSIBLE)
        source = Source(
            reference=f"Patient/{self.patient_id}",
            effective=None,
            recorded_value=None,
            recorded_unit=None,
            title=slot.title,
        )
        return Present(name=slot.name, value=float(value), unit=slot.unit, sources=(source,))


def _is_deceased(patient: Mapping[str, Any]) -> bool:
    """Any statement of death but a plain `false`, also a date whose value was left out."""
    boolean = patient.get("deceasedBoolean")
    if boolean is not None and boolean is not False:
        return True
    return "deceasedDateTime" in patient or "_deceasedDateTime" in patient
