"""Prefetch templates, generated from the codes that a mapping reads, so that the two never part.

Only what every client supports: a read, and searches by `patient` and `code`.
https://cds-hooks.hl7.org/2.0/#prefetch-template
"""

from fhir_mapping.concepts import Catalog
from fhir_mapping.mapping import CompiledMapping

PATIENT = "{{context.patientId}}"


def prefetch_templates(mapping: CompiledMapping) -> dict[str, str]:
    """Key to FHIR query: `patient`, `observations`, and where the domain needs them `conditions`
    and `medications`."""
    codes = ",".join(f"{mapping.catalog.systems['loinc'][0]}|{code}" for code in _codes(mapping))
    templates = {
        "patient": f"Patient/{PATIENT}",
        "observations": f"Observation?patient={PATIENT}&code={codes}",
    }
    if mapping.findings:
        templates["conditions"] = f"Condition?patient={PATIENT}"
    if any(rule.medicine_words or _has_medicines(rule.prefixes) for rule in mapping.findings):
        templates["medications"] = f"MedicationRequest?patient={PATIENT}"
    return templates


def _has_medicines(prefixes: object) -> bool:
    return isinstance(prefixes, dict) and bool(prefixes.get("atc"))


def _codes(mapping: CompiledMapping) -> list[str]:
    catalog: Catalog = mapping.catalog
    read = set(mapping.concept_of.values())
    own = [code for id_, c in catalog.concepts.items() if id_ in read for code in c.loinc]
    panels = [code for id_, c in catalog.concepts.items() if id_ in read for code in c.panels]
    return list(dict.fromkeys([*own, *panels]))
