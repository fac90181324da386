"""Which resources can change a vector: the walk asks it, and whoever reads a request's body may.

An EHR that does not honour the codes of a prefetch template sends the whole chart, of which most
is looked at by nobody. That is told here by type and codes alone, before anything else is read.
"""

from typing import Any, NamedTuple

from fhir_mapping.findings import MEDICATION_TYPES
from fhir_mapping.mapping import CompiledMapping, Wanted, WantedCodes

# Nothing that `versions.as_r4` does turns another type into one of these, or changes a code of an
# Observation; so this may be asked of a resource as it was sent, whatever its version of FHIR.
READ_WHOLE = MEDICATION_TYPES | {"Patient", "Condition"}


class Hit(NamedTuple):
    """An Observation or component whose codes are wanted; of more than one concept, a conflict."""

    element: dict[str, Any]
    wanted: tuple[Wanted, ...]


def reads(mapping: CompiledMapping, resource: Any) -> bool:
    """False only where `map_features` gives the same vector with `resource` and without it.

    Whatever else is in the record, whoever the patient is and whenever it is asked; `of_others`
    is the same too. It is total, as the walk is: any JSON may be given.
    """
    if not isinstance(resource, dict):
        return False
    kind = resource.get("resourceType")
    if kind == "Observation":
        return bool(hits(resource, mapping.wanted))
    return isinstance(kind, str) and kind in READ_WHOLE


def hits(observation: dict[str, Any], codes: WantedCodes) -> list[Hit]:
    """What this Observation and its components are about, as far as it is wanted."""
    found = []
    if wanted := _named(observation, codes):
        found.append(Hit(observation, wanted))
    components = observation.get("component")
    if isinstance(components, list):
        for component in components:
            if isinstance(component, dict) and (wanted := _named(component, codes)):
                found.append(Hit(component, wanted))
    return found


def _named(element: dict[str, Any], codes: WantedCodes) -> tuple[Wanted, ...]:
    """The concepts that the codes of an element name, each once. Codes are matched whole."""
    code = element.get("code")
    codings = code.get("coding") if isinstance(code, dict) else None
    if not isinstance(codings, list):
        return ()
    found: dict[str, Wanted] = {}
    for coding in codings:
        if not isinstance(coding, dict):
            continue
        value = coding.get("code")
        # The code before its system: nearly all have the same system, and few a wanted code.
        systems = codes.get(value.strip()) if isinstance(value, str) else None
        if systems is None:
            continue
        system = coding.get("system")
        wanted = systems.get(system.strip()) if isinstance(system, str) else None
        # Beside another code of its concept, one whose mass would be another substance's decides.
        if wanted and (wanted.molar_only or wanted.concept not in found):
            found[wanted.concept] = wanted
    return tuple(found.values())
