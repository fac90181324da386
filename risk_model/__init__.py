"""A trained risk model: verify its artifact, load it, score values, explain the figure.

Knows numbers and manifests only: no FHIR, no HTTP, no training code.
"""

from risk_model.explanation import Contribution
from risk_model.manifest import ArtifactError, Feature, Level, Manifest, parse_manifest
from risk_model.scoring import InsufficientData, Model, RiskEstimate, load_model, score

__all__ = [
    "ArtifactError",
    "Contribution",
    "Feature",
    "InsufficientData",
    "Level",
    "Manifest",
    "Model",
    "RiskEstimate",
    "load_model",
    "parse_manifest",
    "score",
]
