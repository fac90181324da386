"""Which version of FHIR a call speaks, where nobody has said so: CDS Hooks requests name none.

The marks are elements of the resources themselves that some versions have and others have not, or
have in another form. R4 and R4B have the same ones here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhir_mapping.versions import FhirVersion

Versions = frozenset[FhirVersion]
_ALL: Versions = frozenset(FhirVersion)
_STU3: Versions = frozenset({FhirVersion.STU3})
_R5: Versions = frozenset({FhirVersion.R5})
_FROM_R4 = _ALL - _STU3
_TO_R4 = _ALL - _R5
_R4_ONLY = _FROM_R4 & _TO_R4

# By type and element: the versions that have it. http://hl7.org/fhir/R4/diff.html and
# http://hl7.org/fhir/R5/diff.html; a test holds the table against models of all versions.
MARKS: Mapping[str, Mapping[str, Versions]] = {
    "Observation": {
        "comment": _STU3,
        "context": _STU3,
        "related": _STU3,
        "derivedFrom": _FROM_R4,
        "encounter": _FROM_R4,
        "focus": _FROM_R4,
        "hasMember": _FROM_R4,
        "note": _FROM_R4,
        "partOf": _FROM_R4,
        "bodyStructure": _R5,
        "instantiatesCanonical": _R5,
        "instantiatesReference": _R5,
        "triggeredBy": _R5,
    },
    "Condition": {
        "abatementBoolean": _STU3,
        "assertedDate": _STU3,
        "context": _STU3,
        "asserter": _TO_R4,
        "encounter": _FROM_R4,
        "recordedDate": _FROM_R4,
        "recorder": _R4_ONLY,
        "participant": _R5,
    },
    "MedicationRequest": {
        "context": _STU3,
        "definition": _STU3,
        "medicationCodeableConcept": _TO_R4,
        "medicationReference": _TO_R4,
        "reasonCode": _TO_R4,
        "reasonReference": _TO_R4,
        "doNotPerform": _FROM_R4,
        "encounter": _FROM_R4,
        "reportedBoolean": _R4_ONLY,
        "effectiveDosePeriod": _R5,
        "medication": _R5,
        "reason": _R5,
        "renderedDosageInstruction": _R5,
    },
    "MedicationStatement": {
        "reasonNotTaken": _STU3,
        "taken": _STU3,
        "context": _TO_R4,
        "medicationCodeableConcept": _TO_R4,
        "medicationReference": _TO_R4,
        "statusReason": _R4_ONLY,
        "adherence": _R5,
        "encounter": _R5,
        "medication": _R5,
        "reason": _R5,
    },
    "Patient": {"animal": _STU3},
}
# By type and element: the versions in which it has this JSON form.
FORMS: Mapping[str, Mapping[str, Mapping[type, Versions]]] = {
    "Observation": {"interpretation": {dict: _STU3, list: _FROM_R4}},
    "Condition": {
        "clinicalStatus": {str: _STU3, dict: _FROM_R4},
        "verificationStatus": {str: _STU3, dict: _FROM_R4},
    },
    "MedicationRequest": {"category": {dict: _STU3, list: _FROM_R4}},
}


def version_of(resources: Iterable[Any]) -> FhirVersion:
    """The one version that all marks allow; R4 where they allow it, or contradict each other."""
    allowed = _ALL
    for resource in resources:
        for versions in _marks(resource):
            allowed &= versions
    # Either R4 is allowed, or nothing is, or exactly one of STU3 and R5.
    return next(iter(allowed)) if len(allowed) == 1 else FhirVersion.R4


def _marks(resource: Any) -> Iterator[Versions]:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(kind, str):
        return
    marks = MARKS.get(kind, {})
    for element in marks.keys() & resource.keys():
        yield marks[element]
    for element, forms in FORMS.get(kind, {}).items():
        yield forms.get(type(resource.get(element)), _ALL)
