"""Which version of FHIR a call speaks, where nobody has said so: CDS Hooks requests name none.

The marks are elements of the resources themselves that some versions have and others have not, or
have in another form. R4 and R4B have the same ones here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
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


@dataclass(frozen=True, slots=True)
class _Telling:
    """What, in a resource of one type, could still exclude a version: its elements' names, and the
    forms of elements that all versions have."""

    elements: frozenset[str]
    forms: tuple[tuple[str, frozenset[type]], ...]

    def is_in(self, resource: Mapping[str, Any]) -> bool:
        for element, forms in self.forms:
            if type(resource.get(element)) in forms:
                return True
        return not self.elements.isdisjoint(resource)


class VersionMarks:
    """The marks of the resources looked at so far, in any order; it holds none of them.

    Every resource of a call counts, also one that no feature is read from.
    """

    __slots__ = ("_allowed", "_telling")

    def __init__(self) -> None:
        self._allowed = _ALL
        self._telling = _telling(_ALL)

    def look_at(self, resource: Any) -> bool:
        """True where it may tell something that those before it did not. Total: any JSON may be
        given."""
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        telling = self._telling.get(kind) if isinstance(kind, str) else None
        # Most resources tell nothing that is not known yet.
        if telling and telling.is_in(resource):
            for versions in _marks(resource):
                self._allowed &= versions
            self._telling = _telling(self._allowed)
            return True
        return False

    @property
    def version(self) -> FhirVersion:
        """The one version that all marks allow; R4 where they allow it, or contradict."""
        # Either R4 is allowed, or nothing is, or exactly one of STU3 and R5.
        return next(iter(self._allowed)) if len(self._allowed) == 1 else FhirVersion.R4


def version_of(resources: Iterable[Any]) -> FhirVersion:
    """The one version that all marks allow; R4 where they allow it, or contradict each other."""
    marks = VersionMarks()
    for resource in resources:
        marks.look_at(resource)
    return marks.version


def _marks(resource: Mapping[str, Any]) -> Iterator[Versions]:
    kind = resource["resourceType"]
    for element, versions in MARKS[kind].items():
        if element in resource:
            yield versions
    for element, forms in FORMS.get(kind, {}).items():
        yield forms.get(type(resource.get(element)), _ALL)


@cache
def _telling(allowed: Versions) -> Mapping[str, _Telling]:
    """By type. There are no more of these tables than there are sets of versions."""
    return {
        kind: _Telling(
            frozenset(name for name, versions in marks.items() if allowed - versions),
            tuple(
                (name, frozenset(form for form, versions in forms.items() if allowed - versions))
                for name, forms in FORMS.get(kind, {}).items()
            ),
        )
        for kind, marks in MARKS.items()
    }
