"""FHIR JSON as it arrives, read into values; whatever cannot be trusted gives a reason instead.

Nothing here raises on malformed content: a record has thousands of resources, and one bad one
makes its own value absent, not the patient's assessment.
"""

import math
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from fhir_mapping.units import Rounding, UnitReader
from fhir_mapping.vector import AbsentReason

# http://hl7.org/fhir/R4/valueset-observation-status.html. Not `preliminary`: it may still change,
# and nobody would tell us.
USABLE_STATUS = frozenset({"final", "amended", "corrected"})
_NUMBER = (int, float)
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_UUID = re.compile(r"urn:uuid:([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")
_REFERENCE = re.compile(
    r"(?:(https?://.+)/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]+)?"
)


class Subject(Enum):
    """Whose a resource is, as far as it can be told."""

    THIS_PATIENT = "this patient"
    ANOTHER = "another"
    UNCERTAIN = "uncertain"


class Reading(NamedTuple):
    """A number in a concept's canonical unit, with what the record said."""

    value: float
    recorded_value: float
    recorded_unit: str
    comparator: str | None


def whose(resource: Mapping[str, Any], *, patient_id: str, fhir_base: str | None) -> Subject:
    """Compares `subject` with the patient in context: type, id, and the server where it is named.

    An absolute reference is this patient's only on the server that the request names: the same id
    on another server is another patient. http://hl7.org/fhir/R4/references.html#literal
    """
    subject = resource.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(reference, str):
        return Subject.UNCERTAIN
    # The common form first: this runs for every Observation that matters.
    if reference == f"Patient/{patient_id}":
        return Subject.THIS_PATIENT
    return _parsed(reference.strip(), patient_id, fhir_base)


def _parsed(reference: str, patient_id: str, fhir_base: str | None) -> Subject:
    if uuid := _UUID.fullmatch(reference):
        same = uuid[1].lower() == patient_id.lower()
        return Subject.THIS_PATIENT if same else Subject.UNCERTAIN
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return Subject.UNCERTAIN
    base, type_, id_ = match.groups()
    if type_ != "Patient":
        return Subject.ANOTHER
    here = base is None or (fhir_base is not None and base.rstrip("/") == fhir_base.rstrip("/"))
    # Ids of two servers cannot be compared: the same person has another id on each.
    if not here:
        return Subject.UNCERTAIN
    return Subject.THIS_PATIENT if id_ == patient_id else Subject.ANOTHER


def usable_status(observation: Mapping[str, Any]) -> bool:
    """Real records carry trailing blanks; nothing else is forgiven."""
    status = observation.get("status")
    return isinstance(status, str) and status.strip() in USABLE_STATUS


def reference_to(resource: Mapping[str, Any]) -> str | None:
    """`Observation/123`, or None for a resource without an id that FHIR allows."""
    type_, id_ = resource.get("resourceType"), resource.get("id")
    return f"{type_}/{id_}" if isinstance(id_, str) and _ID.fullmatch(id_) else None


def read_quantity(
    element: Mapping[str, Any], reader: UnitReader, rounded: Rounding
) -> Reading | AbsentReason:
    """valueQuantity of an Observation or a component, in the concept's unit.

    A quantity marked as absent, without a number, or without a certain unit has no value.
    """
    quantity = element.get("valueQuantity")
    if "dataAbsentReason" in element or not isinstance(quantity, dict):
        return AbsentReason.NO_VALUE
    value = quantity.get("value")
    if isinstance(value, bool) or not isinstance(value, _NUMBER):
        return AbsentReason.NO_VALUE
    try:
        number = float(value)
    except OverflowError:
        return AbsentReason.NO_VALUE
    if not math.isfinite(number):
        return AbsentReason.NO_VALUE
    unit = reader.read(quantity)
    if isinstance(unit, AbsentReason):
        return unit
    converted = rounded(reader.conversions[unit.code](number))
    if not math.isfinite(converted):
        return AbsentReason.IMPLAUSIBLE
    return Reading(converted, number, unit.code, _comparator(quantity))


def _comparator(quantity: Mapping[str, Any]) -> str | None:
    """The comparator; an unknown one is kept, and so makes the value a bound, not exact."""
    comparator = quantity.get("comparator")
    return None if comparator in (None, "") else str(comparator)
