"""FHIR STU3, R4, R4B and R5: every difference that matters here, in one table.

Inside, everything is R4. `as_r4` reads a resource of any version, `rendered` writes one as a given
version has it. Which version a call speaks is told in `version_marks`.

Reading goes by the form of each element and asks for no version: nothing that is read here has, in
two versions, the same name and form and another meaning. So a mixed record, or a wrong setting,
hides no diagnosis. R4B differs from R4 in nothing that is used here.

Versions side by side: http://hl7.org/fhir/R4/diff.html (STU3 to R4), http://hl7.org/fhir/R5/diff.html
(R4 to R5), and under "R3 Diff" and "R4 Diff" of each resource.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

Resource = dict[str, Any]


class FhirVersion(StrEnum):
    """The versions that may call and be written to, in the words of clients files."""

    STU3 = "STU3"
    R4 = "R4"
    R4B = "R4B"
    R5 = "R5"


class Difference(Protocol):
    """One difference between R4 and another version, on a resource's own top level.

    Both methods change `resource` in place, never what hangs below it, and leave alone what has not
    the form that they expect: `read` does nothing to R4.
    """

    def read(self, resource: Resource) -> None: ...
    def write(self, resource: Resource) -> None: ...


@dataclass(frozen=True, slots=True)
class Renamed:
    """The same under another name."""

    r4: str
    other: str

    def read(self, resource: Resource) -> None:
        if self.other in resource:
            resource.setdefault(self.r4, resource.pop(self.other))

    def write(self, resource: Resource) -> None:
        if self.r4 in resource:
            resource[self.other] = resource.pop(self.r4)


@dataclass(frozen=True, slots=True)
class Retyped:
    """The resource itself has another name."""

    r4: str
    other: str

    def read(self, resource: Resource) -> None:
        if resource.get("resourceType") == self.other:
            resource["resourceType"] = self.r4

    def write(self, resource: Resource) -> None:
        resource["resourceType"] = self.other


@dataclass(frozen=True, slots=True)
class One:
    """A list in R4; in the other version one at most: the first."""

    element: str

    def read(self, resource: Resource) -> None:
        if isinstance(resource.get(self.element), dict):
            resource[self.element] = [resource[self.element]]

    def write(self, resource: Resource) -> None:
        held = resource.pop(self.element, None)
        if isinstance(held, list) and held:
            resource[self.element] = held[0]


@dataclass(frozen=True, slots=True)
class Text:
    """A list of `{key: text}` in R4, one plain text in the other version.

    `more` is what else R4 requires beside it.
    """

    r4: str
    other: str
    key: str
    more: Mapping[str, str] = field(default_factory=dict)

    def read(self, resource: Resource) -> None:
        if isinstance(resource.get(self.other), str):
            text = resource.pop(self.other)
            resource.setdefault(self.r4, [{self.key: text, **self.more}])

    def write(self, resource: Resource) -> None:
        texts = [item[self.key] for item in _dicts(resource.pop(self.r4, None)) if self.key in item]
        if texts:
            resource[self.other] = "\n".join(map(str, texts))


@dataclass(frozen=True, slots=True)
class Each:
    """A difference inside each item of a list."""

    element: str
    inner: Difference

    def read(self, resource: Resource) -> None:
        self._each(resource, self.inner.read)

    def write(self, resource: Resource) -> None:
        self._each(resource, self.inner.write)

    def _each(self, resource: Resource, change: Callable[[Resource], None]) -> None:
        held = resource.get(self.element)
        if not isinstance(held, list):
            return
        items = [dict(item) if isinstance(item, dict) else item for item in held]
        for item in _dicts(items):
            change(item)
        resource[self.element] = items


@dataclass(frozen=True, slots=True)
class Within:
    """A difference inside one element."""

    element: str
    inner: Difference

    def read(self, resource: Resource) -> None:
        self._change(resource, self.inner.read)

    def write(self, resource: Resource) -> None:
        self._change(resource, self.inner.write)

    def _change(self, resource: Resource, change: Callable[[Resource], None]) -> None:
        held = resource.get(self.element)
        if isinstance(held, dict):
            changed = dict(held)
            change(changed)
            resource[self.element] = changed


@dataclass(frozen=True, slots=True)
class Concept:
    """A CodeableConcept in R4, in R5 the concept of a CodeableReference."""

    element: str

    def read(self, resource: Resource) -> None:
        held = resource.get(self.element)
        if isinstance(held, dict) and "concept" in held:
            resource[self.element] = held["concept"]

    def write(self, resource: Resource) -> None:
        if self.element in resource:
            resource[self.element] = {"concept": resource[self.element]}


@dataclass(frozen=True, slots=True)
class Reasons:
    """`reasonCode` and `reasonReference`, lists in R4; in R5 `reason`, CodeableReferences."""

    def read(self, resource: Resource) -> None:
        if not isinstance(resource.get("reason"), list):
            return
        reasons = list(_dicts(resource.pop("reason")))
        for name, part in (("reasonCode", "concept"), ("reasonReference", "reference")):
            if held := [reason[part] for reason in reasons if part in reason]:
                resource.setdefault(name, held)

    def write(self, resource: Resource) -> None:
        reasons = [
            *({"concept": code} for code in _dicts(resource.pop("reasonCode", None))),
            *({"reference": one} for one in _dicts(resource.pop("reasonReference", None))),
        ]
        if reasons:
            resource["reason"] = reasons


@dataclass(frozen=True, slots=True)
class OneReason:
    """`reasonCode` and `reasonReference`, lists in R4; in STU3's RiskAssessment one `reason[x]`."""

    def read(self, resource: Resource) -> None:
        if isinstance(resource.get("reasonCodeableConcept"), dict):
            resource.setdefault("reasonCode", [resource.pop("reasonCodeableConcept")])
        if isinstance(resource.get("reasonReference"), dict):
            resource["reasonReference"] = [resource["reasonReference"]]

    def write(self, resource: Resource) -> None:
        codes = list(_dicts(resource.pop("reasonCode", None)))
        references = list(_dicts(resource.pop("reasonReference", None)))
        if codes:
            resource["reasonCodeableConcept"] = codes[0]
        elif references:
            resource["reasonReference"] = references[0]


@dataclass(frozen=True, slots=True)
class Moved:
    """A code system that has moved to another address, anywhere below an element."""

    element: str
    r4: str
    other: str

    def read(self, resource: Resource) -> None:
        if self.element in resource:
            resource[self.element] = _replaced(resource[self.element], self.other, self.r4)

    def write(self, resource: Resource) -> None:
        if self.element in resource:
            resource[self.element] = _replaced(resource[self.element], self.r4, self.other)


@dataclass(frozen=True, slots=True)
class New:
    """An element that the other version does not have: left out when writing."""

    element: str

    def read(self, resource: Resource) -> None:
        """Nothing: without it, it is R4 all the same."""

    def write(self, resource: Resource) -> None:
        resource.pop(self.element, None)


class _ReadOnly:
    """Of resources that this service reads and never writes."""

    __slots__ = ()

    def write(self, resource: Resource) -> None:
        """Nothing: it has no place in what is written here."""


@dataclass(frozen=True, slots=True)
class PlainCode(_ReadOnly):
    """A CodeableConcept in R4, a plain code before."""

    element: str
    system: str

    def read(self, resource: Resource) -> None:
        code = resource.get(self.element)
        if isinstance(code, str):
            resource[self.element] = _code(self.system, code)


@dataclass(frozen=True, slots=True)
class ConceptOrReference(_ReadOnly):
    """`xCodeableConcept` or `xReference` in R4; in R5 `x`, a CodeableReference.

    http://hl7.org/fhir/R5/references.html#CodeableReference
    """

    element: str

    def read(self, resource: Resource) -> None:
        held = resource.get(self.element)
        if isinstance(held, dict):
            del resource[self.element]
            for name, part in (("CodeableConcept", "concept"), ("Reference", "reference")):
                if part in held:
                    resource.setdefault(f"{self.element}{name}", held[part])


@dataclass(frozen=True, slots=True)
class Abated(_ReadOnly):
    """STU3's `abatementBoolean`. R4 has none, and says it by the clinical status (con-4)."""

    def read(self, resource: Resource) -> None:
        if resource.pop("abatementBoolean", None) is True:
            resource["clinicalStatus"] = _code(CLINICAL, "inactive")


@dataclass(frozen=True, slots=True)
class NotTaken(_ReadOnly):
    """Not taken: STU3's `taken` n, R5's `adherence` not-taking; in R4 a status.

    Not what R5 counts under it, stopped and on-hold: who was treated had the disease, as in R4.
    http://hl7.org/fhir/R5/codesystem-medication-statement-adherence.html
    """

    def read(self, resource: Resource) -> None:
        adherence = _member(_member(resource.get("adherence"), "code"), "coding")
        codes = [coding.get("code") for coding in _dicts(adherence)]
        not_taken = resource.get("taken") == "n" or "not-taking" in codes
        # A record made in error stays one.
        if not_taken and resource.get("status") != "entered-in-error":
            resource["status"] = "not-taken"


@dataclass(frozen=True, slots=True)
class Animal(_ReadOnly):
    """STU3's `Patient.animal` is a modifier: whoever does not understand it must not use the rest.

    http://hl7.org/fhir/STU3/patient-definitions.html#Patient.animal
    """

    def read(self, resource: Resource) -> None:
        if "animal" in resource:
            animal = {"url": "http://hl7.org/fhir/StructureDefinition/patient-animal"}
            resource.setdefault("modifierExtension", [animal])


@dataclass(frozen=True, slots=True)
class FocalSubject(_ReadOnly):
    """Whom a value is about, when not the patient of record: an extension before R4's `focus`.

    http://hl7.org/fhir/STU3/observation.html#notes
    """

    def read(self, resource: Resource) -> None:
        for extension in _dicts(resource.get("extension")):
            if extension.get("url") == FOCAL_SUBJECT:
                resource.setdefault("focus", [extension.get("valueReference") or {}])


CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
FOCAL_SUBJECT = "http://hl7.org/fhir/StructureDefinition/observation-focal-subject"
RISK_PROBABILITY = "http://terminology.hl7.org/CodeSystem/risk-probability"
RISK_PROBABILITY_STU3 = "http://hl7.org/fhir/risk-probability"

_ORDER_STU3 = (Retyped("ServiceRequest", "ProcedureRequest"), Renamed("encounter", "context"))

# In the order of writing; reading takes them backwards. `prediction.probabilityDecimal` is not
# here: a percentage in all of them (ras-2, "Must be <= 100", is in STU3 as it is in R5).
# http://hl7.org/fhir/STU3/riskassessment-definitions.html#RiskAssessment.prediction.probability_x_
DIFFERENCES: Mapping[FhirVersion, Mapping[str, tuple[Difference, ...]]] = {
    FhirVersion.STU3: {
        "Condition": (
            Abated(),
            PlainCode("clinicalStatus", CLINICAL),
            PlainCode("verificationStatus", VERIFICATION),
            Renamed("recordedDate", "assertedDate"),
        ),
        "Device": (
            Text("deviceName", "model", "name", {"type": "user-friendly-name"}),
            Text("version", "version", "value"),
        ),
        "MedicationStatement": (NotTaken(),),
        "Observation": (FocalSubject(),),
        "Patient": (Animal(),),
        "ProcedureRequest": _ORDER_STU3,
        "RiskAssessment": (
            One("identifier"),
            Each("basis", New("type")),
            Within("parent", New("type")),
            Moved("prediction", RISK_PROBABILITY, RISK_PROBABILITY_STU3),
            OneReason(),
            Text("note", "comment", "text"),
            Renamed("encounter", "context"),
        ),
        "ServiceRequest": _ORDER_STU3,
    },
    FhirVersion.R4: {},
    FhirVersion.R4B: {},
    FhirVersion.R5: {
        "Device": (Each("deviceName", Renamed("name", "value")), Renamed("deviceName", "name")),
        "Medication": (Each("ingredient", ConceptOrReference("item")),),
        "MedicationRequest": (ConceptOrReference("medication"), Reasons()),
        "MedicationStatement": (NotTaken(), ConceptOrReference("medication"), Reasons()),
        "RiskAssessment": (Reasons(),),
        "ServiceRequest": (Concept("code"), Reasons()),
    },
}


def _reading() -> dict[str, tuple[Difference, ...]]:
    """All differences of a type, whatever the version, in the order of reading."""
    found: dict[str, list[Difference]] = {}
    for by_type in DIFFERENCES.values():
        for kind, differences in by_type.items():
            found.setdefault(kind, []).extend(reversed(differences))
    return {kind: tuple(differences) for kind, differences in found.items()}


_READING = _reading()


def as_r4(resource: Resource) -> Resource:
    """A resource of any version, contained ones too, as R4 has it. Never changes what it is given.

    It is total: whatever is malformed stays as it was.
    """
    read = _read(resource)
    contained = resource.get("contained")
    # One level: contained resources contain none (dom-2).
    if isinstance(contained, list):
        read = {**read, "contained": [_read(r) if isinstance(r, dict) else r for r in contained]}
    return read


def rendered(resource: Resource, version: FhirVersion) -> Resource:
    """A resource of any version as `version` has it; what that has no place for is left out."""
    r4 = as_r4(resource)
    written = _written(r4, version)
    contained = r4.get("contained")
    if isinstance(contained, list):
        written["contained"] = [
            _written(one, version) if isinstance(one, dict) else one for one in contained
        ]
    return written


def _read(resource: Resource) -> Resource:
    kind = resource.get("resourceType")
    differences = _READING.get(kind, ()) if isinstance(kind, str) else ()
    # An Observation differs by an extension at most, and a record holds thousands of them.
    if not differences or (kind == "Observation" and "extension" not in resource):
        return resource
    read = dict(resource)
    for difference in differences:
        difference.read(read)
    return read


def _written(resource: Resource, version: FhirVersion) -> Resource:
    kind = resource.get("resourceType")
    written = dict(resource)
    for difference in DIFFERENCES[version].get(kind, ()) if isinstance(kind, str) else ():
        difference.write(written)
    return written


def _dicts(items: Any) -> Iterator[Resource]:
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield item


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _code(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _replaced(value: Any, old: str, new: str) -> Any:
    """`value` with each text that is `old` replaced, however deep."""
    match value:
        case dict():
            return {name: _replaced(member, old, new) for name, member in value.items()}
        case list():
            return [_replaced(item, old, new) for item in value]
        case _:
            return new if value == old else value
