"""One estimate as the RiskAssessment that is stored, by a call and by a replay of it. Pure."""

from __future__ import annotations

import uuid
from typing import Any

from cds_service import cards
from cds_service.once import once
from fhir_mapping import FeatureVector
from fhir_mapping.risk_assessment import (
    About,
    ModelIdentity,
    Prediction,
    compose_risk_assessment,
)
from risk_model import Manifest, RiskEstimate

# Namespace of the ids that are made from an assessment's identifier: the same fact, the same id.
_ASSESSMENTS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:cds-service:risk-assessment")


def id_of(identifier: str) -> str:
    """The id of the RiskAssessment that has this identifier."""
    return str(uuid.uuid5(_ASSESSMENTS, identifier))


def risk_assessment(
    about: About, estimate: RiskEstimate, vector: FeatureVector, manifest: Manifest
) -> dict[str, Any]:
    """The resource, in R4: everything in it is in the arguments, or in the model's manifest."""
    prediction = Prediction(
        outcome=manifest.raw["outcome"],
        probability=estimate.probability,
        level=estimate.level,
        relative_risk=estimate.relative_risk,
        baseline=estimate.baseline,
        contributions=[(c.feature, c.log_odds) for c in estimate.contributions],
        rationale=cards.rationale(estimate, vector, manifest),
    )
    return compose_risk_assessment(about, prediction, _identity(manifest), vector)


@once
def _identity(manifest: Manifest) -> ModelIdentity:
    return ModelIdentity(name=manifest.name, version=manifest.version, title=manifest.title)
