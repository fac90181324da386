"""Prefetch: which keys are satisfied, null, missing, or an OperationOutcome. Pure.

CDS Hooks 2.0.1, "Prefetch Template": a key that is absent was not attempted and may be read from
the FHIR server; null means that the client has no such data; an OperationOutcome means that the
query failed, and asking again would fail again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote

from cds_service.errors import BadRequest, PrefetchUnavailable
from cds_service.hooks import HookRequest, ServiceDefinition
from fhir_mapping import CompiledMapping, reads
from fhir_mapping.version_marks import VersionMarks

Resource = dict[str, Any]

# Shared by all that it stands for: nobody changes a resource.
_UNREAD: Resource = {"resourceType": "Observation"}
_PATIENT_ID = "{{context.patientId}}"


@dataclass(frozen=True, slots=True)
class Satisfied:
    """The resources that answer the template. `incomplete`: the server said that some are left
    out, or gave only the first page. `told`: an OperationOutcome beside them says that the rest
    could not be had, and asking again would fail again."""

    resources: tuple[dict[str, Any], ...]
    incomplete: bool = False
    told: bool = False


@dataclass(frozen=True, slots=True)
class Null:
    """Sent as null: the client has no such data."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Not sent, or not what the template asks for: it may be read from the FHIR server."""

    reason: str = "was not sent"


@dataclass(frozen=True, slots=True)
class Failed:
    """The client's query ended in an OperationOutcome, or ours in a fault."""

    reason: str = "the EHR's query ended in an OperationOutcome"


KeyState = Satisfied | Null | Missing | Failed


def states(templates: Mapping[str, str], request: HookRequest) -> dict[str, KeyState]:
    """The state of every key that the service publishes; keys that it does not are ignored."""
    sent = request.prefetch or {}
    return {
        key: state_of(template, sent[key]) if key in sent else Missing()
        for key, template in templates.items()
    }


def state_of(template: str, value: Any, *, incomplete: bool = False) -> KeyState:
    """Judges what was sent, or read, for one template. `incomplete`: pages are known to lack."""
    if value is None:
        return Null()
    kind = value.get("resourceType")
    if kind == "OperationOutcome":
        return Failed()
    if kind == "Bundle":
        return _of_bundle(template, value, incomplete)
    if "?" not in template and kind == _type_of(template):
        return Satisfied((value,))
    return Missing("was sent as something else than its template asks for")


def _of_bundle(template: str, bundle: Mapping[str, Any], incomplete: bool) -> KeyState:
    entries = bundle.get("entry") or []
    if not isinstance(entries, list):
        return Missing("was sent as a Bundle whose entries are no list")
    wanted = _type_of(template)
    resources: list[Resource] = []
    others: list[Resource] = []
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict):
            (resources if resource.get("resourceType") == wanted else others).append(resource)
    if "?" not in template:
        # A read answered by a Bundle of exactly one is unmistakable; of several it is not.
        one = len(resources) == 1
        return Satisfied(tuple(resources)) if one else Missing("was sent as a Bundle")
    outcomes = [r for r in others if _is_outcome(r)]
    # R5 may say beside the entries what went wrong (Bundle.issues).
    beside = [issues for issues in (bundle.get("issues"),) if _is_outcome(issues)]
    faults = [r for r in (*outcomes, *beside) if _is_fault(r)]
    if faults and not resources:
        return Failed()
    if len(others) > len(outcomes) and not resources:
        return Missing("was sent with other resources than its template asks for")
    unreadable = len(resources) + len(others) < len(entries)
    lacks = bool(faults) or unreadable or _has_more(bundle, len(resources))
    return Satisfied(tuple(resources), incomplete=incomplete or lacks, told=bool(faults))


def _is_outcome(resource: Any) -> TypeGuard[Resource]:
    return isinstance(resource, dict) and resource.get("resourceType") == "OperationOutcome"


def _is_fault(outcome: Mapping[str, Any]) -> bool:
    """Searches also carry hints and warnings, which take nothing away from the answer.

    http://hl7.org/fhir/R4/valueset-issue-severity.html
    """
    issues = outcome.get("issue")
    severities = [
        issue.get("severity") if isinstance(issue, dict) else None
        for issue in (issues if isinstance(issues, list) else ())
    ]
    return not severities or any(s not in ("information", "warning") for s in severities)


def _has_more(bundle: Mapping[str, Any], matches: int) -> bool:
    """A further page, or a total that says there are more matches than were sent."""
    total, links = bundle.get("total"), bundle.get("link")
    if isinstance(total, int) and total > matches:
        return True
    return any(
        isinstance(link, dict) and link.get("relation") == "next"
        for link in (links if isinstance(links, list) else ())
    )


def _type_of(template: str) -> str:
    return template.split("?")[0].split("/")[0]


def query_of(template: str, patient_id: str) -> str:
    """The relative URL that a template stands for."""
    return template.replace(_PATIENT_ID, quote(patient_id, safe=""))


def check_available(states: Mapping[str, KeyState], definition: ServiceDefinition) -> None:
    """Raises PrefetchUnavailable naming every required key that cannot be used, with the reason.

    An empty search is an answer, and null stands for one; a patient who is null is not. Of a key
    in `whole_prefetch` a part is not enough.
    """
    keys = dict.fromkeys((*definition.required_prefetch, *definition.whole_prefetch))
    lacking = {key: why for key in keys if (why := _why_not(key, states[key], definition))}
    if lacking:
        raise PrefetchUnavailable(lacking)


def _why_not(key: str, state: KeyState, definition: ServiceDefinition) -> str | None:
    match state:
        case Missing(reason) | Failed(reason) if key in definition.required_prefetch:
            return reason
        case Null() if key == "patient":
            return "is null"
        case Satisfied(incomplete=True) if key in definition.whole_prefetch:
            return "is not complete"
    return None


def resources(states: Mapping[str, KeyState]) -> Iterator[dict[str, Any]]:
    """Everything that was satisfied, one resource after the other."""
    for state in states.values():
        if isinstance(state, Satisfied):
            yield from state.resources


def how_many(states: Mapping[str, KeyState]) -> int:
    """Of what `resources` gives."""
    return sum(len(state.resources) for state in states.values() if isinstance(state, Satisfied))


def without_the_unread(mapping: CompiledMapping) -> Callable[[Resource], Resource]:
    """For the body of one call: a resource as it is, or the least that stands for one of its type
    where no feature is read from it and it tells nothing of the version of FHIR."""
    marks = VersionMarks()

    def reduced(resource: Resource) -> Resource:
        kind = resource.get("resourceType")
        if marks.look_at(resource) or kind != "Observation" or reads(mapping, resource):
            return resource
        return _UNREAD

    return reduced


def unread(states: Mapping[str, KeyState]) -> tuple[str, ...]:
    """Keys whose data the answer had to do without, wholly or in part: the card says so."""
    return tuple(
        key
        for key, state in states.items()
        if isinstance(state, Missing | Failed) or is_partial(state)
    )


def may_be_read(state: KeyState) -> bool:
    """True for what was not sent, and for what was sent in part with no word that there is no
    more to be had. Null and a failed query are answers: they are never asked for again."""
    if isinstance(state, Satisfied):
        return state.incomplete and not state.told
    return isinstance(state, Missing)


def is_partial(state: KeyState) -> bool:
    """Some of it is there, and some is known to lack."""
    return isinstance(state, Satisfied) and state.incomplete


def check_patient(states: Mapping[str, KeyState], patient_id: str) -> None:
    """Another patient's resource under `patient` is a mix-up that nobody may score.

    Raises BadRequest. FHIR leaves the id optional, so a Patient without one is taken at its word.
    """
    state = states.get("patient")
    for patient in state.resources if isinstance(state, Satisfied) else ():
        if patient.get("id") not in (None, patient_id):
            raise BadRequest(
                "The prefetched Patient is not the patient in context.",
                expression="prefetch.patient.id",
            )
