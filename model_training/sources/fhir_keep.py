"""The first reading of an export: whose each line is, and which lines matter to a recipe."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fhir_mapping import CompiledMapping
from fhir_mapping.codes import code_keys
from fhir_mapping.findings import MEDICATION_TYPES, medication_shows
from fhir_mapping.versions import as_r4
from model_training.dataset import Reporter
from model_training.sources.fhir_export import Lines, read_export
from model_training.sources.fhir_patient import Resource, Rules
from model_training.sources.fhir_spool import Spool

# The letter under which a line is kept. An Observation of the outcome that also holds an input is
# kept under both.
PATIENT, RESULT, OBSERVATION, CONDITION, MEDICATION = b"P", b"R", b"O", b"C", b"M"
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_UUID = re.compile(r"(?:urn:uuid:)?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")
_REFERENCE = re.compile(
    r"(?:(https?://.+)/)?(Patient|Medication)/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]+)?"
)


@dataclass(slots=True)
class Kept:
    """What the first reading found beside the lines in the spool."""

    lines: Lines = field(default_factory=Lines)
    kinds: Counter[bytes] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)
    without_patient: int = 0
    medicines: dict[str, Any] = field(default_factory=dict)

    def server(self) -> str | None:
        """The server that absolute references name: all files of an export come from one."""
        return min(self.servers, key=lambda base: (-self.servers[base], base), default=None)


def keep(folder: Path, rules: Rules, spool: Spool, reporter: Reporter) -> Kept:
    kept = Kept()
    for resource, line in read_export(folder, kept.lines, reporter):
        kinds = _kinds(resource, rules)
        if not kinds:
            _keep_medicine(resource, kept, rules)
            continue
        owner = _owner(resource, kept)
        if owner is None:
            kept.without_patient += 1
            continue
        for kind in kinds:
            kept.kinds[kind] += 1
            spool.add(owner, kind, line)
    return kept


def _kinds(resource: Resource, rules: Rules) -> list[bytes]:
    type_ = resource["resourceType"]
    if type_ == "Observation":
        wanted = ((RESULT, rules.outcome), (OBSERVATION, rules.features))
        concepts = {kind: _concepts(resource, mapping) for kind, mapping in wanted}
        concepts[OBSERVATION].discard(rules.concept)
        return [kind for kind, found in concepts.items() if found]
    if type_ in MEDICATION_TYPES:
        request = as_r4(resource)
        # The Medication may stand further on in the export.
        asked = medication_id(request) or any(
            medication_shows(request, rule, rules.findings.system_names)
            for rule in rules.findings.findings
        )
        return [MEDICATION] if asked else []
    if type_ == "Condition":
        return [CONDITION]
    return [PATIENT] if type_ == "Patient" else []


def _concepts(observation: Resource, mapping: CompiledMapping) -> set[str]:
    """Of the Observation itself and of its components."""
    found = set(_coded(observation, mapping))
    components = observation.get("component")
    for component in components if isinstance(components, list) else ():
        if isinstance(component, dict):
            found.update(_coded(component, mapping))
    return found


def _coded(element: Mapping[str, Any], mapping: CompiledMapping) -> Iterator[str]:
    for key in code_keys(element.get("code")):
        if key in mapping.concept_of:
            yield mapping.concept_of[key]


def _keep_medicine(resource: Resource, kept: Kept, rules: Rules) -> None:
    """A Medication that implies a finding: in many exports a request only refers to it."""
    identity = resource.get("id")
    if resource["resourceType"] != "Medication" or not isinstance(identity, str):
        return
    medicine = as_r4(resource)
    request = {"contained": [medicine], "medicationReference": {"reference": f"#{identity}"}}
    if any(
        medication_shows(request, rule, rules.findings.system_names)
        for rule in rules.findings.findings
    ):
        kept.medicines[identity] = resource


def medication_id(request: Mapping[str, Any]) -> str | None:
    """Of the Medication that a request refers to; R5 has the reference one level down."""
    reference = request.get("medicationReference")
    medication = request.get("medication")
    if isinstance(medication, dict):
        reference = medication.get("reference", reference)
    text = reference.get("reference") if isinstance(reference, dict) else None
    match = _REFERENCE.fullmatch(text.strip()) if isinstance(text, str) else None
    return match[3] if match and match[2] == "Medication" else None


def _owner(resource: Resource, kept: Kept) -> str | None:
    """The id of the patient whose line this is."""
    if resource["resourceType"] == "Patient":
        identity = resource.get("id")
        return _plain(identity) if isinstance(identity, str) and _ID.fullmatch(identity) else None
    base, identity = subject_of(resource)
    if base is not None:
        kept.servers[base] += 1
    return identity


def subject_of(resource: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The server, where it is named, and the id: `Patient/1`, absolute, or `urn:uuid:`."""
    subject = resource.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(reference, str):
        return None, None
    reference = reference.strip()
    if match := _REFERENCE.fullmatch(reference):
        base, type_, identity = match.groups()
        return (base, _plain(identity)) if type_ == "Patient" else (None, None)
    uuid = _UUID.fullmatch(reference)
    return None, _plain(uuid[1]) if uuid else None


def _plain(identity: str) -> str:
    """The case of a UUID's letters says nothing."""
    return identity.lower() if _UUID.fullmatch(identity) else identity
