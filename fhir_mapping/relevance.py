"""Which resources can change a vector: the walk asks it, and whoever reads a request's body may.

An EHR that does not honour the codes of a prefetch template sends the whole chart, of which most
is looked at by nobody. That is told here by type and codes alone, before anything else is read.
"""

from collections.abc import Sequence
from typing import Any

from fhir_mapping.findings import MEDICATION_TYPES
from fhir_mapping.mapping import CompiledMapping, Wanted, WantedCodes

# Nothing that `versions.as_r4` does turns another type into one of these, or changes a code of an
# Observation; so this may be asked of a resource as it was sent, whatever its version of FHIR.
READ_WHOLE = MEDICATION_TYPES | {"Patient", "Condition"}


# The concepts of an element whose codes name more than one.
Conflict = frozenset[str]
# An Observation or a component of one, and what its codes name.
Hit = tuple[dict[str, Any], Wanted | Conflict]


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


def hits(observation: dict[str, Any], codes: WantedCodes) -> Sequence[Hit]:
    """What this Observation and its components are about, as far as it is wanted."""
    named = _named(observation, codes)
    components = observation.get("component")
    if not isinstance(components, list):
        return () if named is None else ((observation, named),)
    found: list[Hit] = [] if named is None else [(observation, named)]
    for component in components:
        if isinstance(component, dict):
            named = _named(component, codes)
            if named is not None:
                found.append((component, named))
    return found


def _named(element: dict[str, Any], codes: WantedCodes) -> Wanted | Conflict | None:
    """What the codes of an element name. Codes are matched whole: system and code."""
    code = element.get("code")
    codings = code.get("coding") if isinstance(code, dict) else None
    if not isinstance(codings, list):
        return None
    found: Wanted | None = None
    others: set[str] | None = None
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
        if wanted is None:
            continue
        if found is None:
            found = wanted
        elif wanted.concept != found.concept:
            others = others or set()
            others.add(wanted.concept)
        elif wanted.molar_only:
            # Beside another code of its concept, one whose mass is another substance's decides.
            found = wanted
    return Conflict((found.concept, *others)) if found and others else found
