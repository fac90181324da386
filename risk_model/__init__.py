"""A trained risk model: verify its artifact, load it, score values, explain the figure.

Knows numbers and manifests only: no FHIR, no HTTP, no training code.
"""

from risk_model.calibration import Calibration, calibrated_log_odds, parse_calibration
from risk_model.explanation import Contribution
from risk_model.manifest import ArtifactError, Feature, Level, Manifest, Panel, parse_manifest
from risk_model.preprocessing import Preprocessing, parse_preprocessing, preprocess_rows
from risk_model.scoring import InsufficientData, Model, RiskEstimate, load_model, score

__all__ = [
    "ArtifactError",
    "Calibration",
    "Contribution",
    "Feature",
    "InsufficientData",
    "Level",
    "Manifest",
    "Model",
    "Panel",
    "Preprocessing",
    "RiskEstimate",
    "calibrated_log_odds",
    "load_model",
    "parse_calibration",
    "parse_manifest",
    "parse_preprocessing",
    "preprocess_rows",
    "score",
]
