"""The patient in context: birth date, gender and death, from the Patient resource."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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

    Where a Patient arrives in several versions, each fact is taken from the latest that has it in
    a usable form.
    """

    patient_id: str
    births: set[tuple[str, date, date]] = field(default_factory=set)
    genders: set[tuple[str, str]] = field(default_factory=set)
    deceased: bool = False

    def take(self, patient: dict[str, Any]) -> None:
        # A Patient without an id is accepted: FHIR leaves it optional, and the caller vouches for
        # what it passes as the patient in context.
        if patient.get("id") not in (None, self.patient_id):
            return
        self.deceased = self.deceased or _is_deceased(patient)
        if _is_unusable(patient):
            return
        meta = patient.get("meta")
        version = str(meta.get("lastUpdated", "")) if isinstance(meta, dict) else ""
        days = read_date(patient.get("birthDate"))
        if days:
            self.births.add((version, *days))
        gender = patient.get("gender")
        if isinstance(gender, str):
            self.genders.add((version, gender.strip()))

    def age(self, as_of: datetime) -> int | None:
        """Completed years; of a partial birth date the youngest age that it allows, so that a
        child is never taken for an adult."""
        return next(self._ages(as_of), None)

    def _ages(self, as_of: datetime) -> Iterator[int]:
        today = as_of.date()
        for _, first, last in sorted(self.births, reverse=True):
            if first <= today:
                yield whole_years(min(last, today), today)

    def entry(self, slot: PatientSlot, as_of: datetime) -> Entry:
        values = self._values(slot, as_of)
        value = next((v for v in values if slot.plausible[0] <= v <= slot.plausible[1]), None)
        if value is None:
            return Absent(name=slot.name, reason=self._reason(slot, values))
        source = Source(
            reference=f"Patient/{self.patient_id}",
            effective=None,
            recorded_value=None,
            recorded_unit=None,
            title=slot.title,
        )
        return Present(name=slot.name, value=value, unit=slot.unit, sources=(source,))

    def _values(self, slot: PatientSlot, as_of: datetime) -> list[float]:
        if slot.element == BIRTH_DATE:
            return [float(age) for age in self._ages(as_of)]
        known = sorted(self.genders, reverse=True)
        return [slot.categories[code] for _, code in known if code in slot.categories]

    def _reason(self, slot: PatientSlot, values: list[float]) -> AbsentReason:
        if values:
            return AbsentReason.IMPLAUSIBLE
        if slot.element == BIRTH_DATE:
            return AbsentReason.FUTURE if self.births else AbsentReason.NOT_RECORDED
        return AbsentReason.NO_VALUE if self.genders else AbsentReason.NOT_RECORDED


def _is_unusable(patient: Mapping[str, Any]) -> bool:
    """Qualified in a way that we do not understand, or merged into another record.

    http://hl7.org/fhir/R4/extensibility.html#modifierExtension,
    http://hl7.org/fhir/R4/valueset-link-type.html
    """
    links = patient.get("link")
    types = (
        [link.get("type") for link in links if isinstance(link, dict)]
        if isinstance(links, list)
        else []
    )
    return bool(
        patient.get("modifierExtension") or patient.get("implicitRules") or "replaced-by" in types
    )


def _is_deceased(patient: Mapping[str, Any]) -> bool:
    """Any statement of death but a plain `false`, also a date whose value was left out."""
    boolean = patient.get("deceasedBoolean")
    if boolean is not None and boolean is not False:
        return True
    return "deceasedDateTime" in patient or "_deceasedDateTime" in patient
