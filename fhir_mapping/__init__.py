"""FHIR JSON to a model's features and back. Standard library only; knows no HTTP and no model."""

from fhir_mapping.concepts import Catalog, ConceptsError, load_catalog
from fhir_mapping.mapping import CompiledMapping, MappingError, compile_mapping
from fhir_mapping.relevance import reads
from fhir_mapping.templates import prefetch_templates
from fhir_mapping.vector import (
    Absent,
    AbsentReason,
    Bound,
    Effective,
    FeatureVector,
    Finding,
    Present,
    Source,
)
from fhir_mapping.walk import map_features

__all__ = [
    "Absent",
    "AbsentReason",
    "Bound",
    "Catalog",
    "CompiledMapping",
    "ConceptsError",
    "Effective",
    "FeatureVector",
    "Finding",
    "MappingError",
    "Present",
    "Source",
    "compile_mapping",
    "load_catalog",
    "map_features",
    "prefetch_templates",
    "reads",
]
