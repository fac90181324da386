"""The eager subject: the same service logic as one would first write it, in good faith.

FastAPI parses the body into a pydantic model; every prefetched resource and Bundle is validated
whole with fhir.resources (R4B); then this project's mapping, the same XGBoost model with the
`shap` package for the explanation (made once, at start), the same card, the same RiskAssessment,
and the same durable store. Nothing in it is slow on purpose: it maps the dicts that came, not a
dump of the validated models, and its explainer has no background data to go through.

What it does not do: limits, strict JSON, missing prefetch read from a FHIR server, write-back.
"""

from __future__ import annotations

import argparse
import uuid
from typing import Any

import numpy as np
import shap
import xgboost
from fastapi import FastAPI, Response
from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel

from benchmarks.serving import serve
from benchmarks.subjects import ROOT
from cds_service import cards
from cds_service.app import assemble, utc_now
from cds_service.hooks import ServiceDefinition
from cds_service.inputs import identifier_of, inputs_of
from cds_service.judgement import Scored
from cds_service.parts import Parts
from cds_service.risk_assessment import id_of, risk_assessment
from cds_service.settings import Settings
from cds_service.store import AssessmentRecord, AuditEntry, IssuedCard
from fhir_mapping import FeatureVector, Present, map_features
from fhir_mapping.risk_assessment import About
from risk_model import Contribution, Model, RiskEstimate


class Context(BaseModel):
    """Of patient-view."""

    userId: str  # noqa: N815 (the standard's word)
    patientId: str  # noqa: N815
    encounterId: str | None = None  # noqa: N815


class HookCall(BaseModel):
    """The body of a call."""

    hook: str
    hookInstance: str  # noqa: N815
    context: Context
    fhirServer: str | None = None  # noqa: N815
    prefetch: dict[str, Any]


class Scorer:
    """The booster and its explainer, loaded once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._names = [feature.name for feature in model.manifest.features]
        self._booster = xgboost.Booster(params={"nthread": 1})
        self._booster.load_model(model.directory / "model.ubj")
        self._booster.set_param({"nthread": 1})
        self._explainer = shap.TreeExplainer(self._booster)
        self.last = float("nan")

    def estimate(self, values: dict[str, float]) -> RiskEstimate:
        """The figure that the service gives, by the packages that everybody knows."""
        features = self._model.manifest.features
        row = np.array([[_clipped(f.clip, values.get(f.name)) for f in features]])
        matrix = xgboost.DMatrix(row, feature_names=self._names, nthread=1)
        margin = self._booster.predict(matrix, output_margin=True).astype(np.float64)
        log_odds = float(self._model.calibration.log_odds(margin)[0])
        probability = float(1 / (1 + np.exp(-log_odds)))
        self.last = probability
        expected = float(np.ravel(self._explainer.expected_value)[0])
        scale = self._model.calibration.scale(float(margin[0]), expected)
        shares = [
            Contribution(feature=name, value=values.get(name), log_odds=scale * float(share))
            for name, share in zip(self._names, self._explainer.shap_values(row)[0], strict=True)
        ]
        return RiskEstimate(
            probability=probability,
            level=self._model.manifest.level_of(probability),
            relative_risk=probability / self._model.manifest.prevalence,
            baseline=log_odds - sum(share.log_odds for share in shares),
            contributions=tuple(sorted(shares, key=lambda share: -abs(share.log_odds))),
        )


def _clipped(clip: tuple[float | None, float | None], value: float | None) -> float:
    if value is None:
        return float("nan")
    low, high = clip
    raised = value if low is None else max(low, value)
    return raised if high is None else min(high, raised)


def application(parts: Parts) -> FastAPI:
    """Ready, metrics and the call."""
    app = FastAPI(openapi_url=None)
    scorers = {name: Scorer(loaded.model) for name, loaded in parts.models.items()}

    @app.get("/readyz")
    async def ready() -> Response:
        return Response(b"{}", media_type="application/json")

    @app.get("/metrics")
    def metrics() -> Response:
        last = "".join(f"last_probability {scorer.last!r}\n" for scorer in scorers.values())
        return Response(parts.metrics.text() + last.encode())

    # A plain function: FastAPI runs it in a worker thread, since it waits for the database.
    @app.post("/cds-services/{service_id}")
    def call(service_id: str, sent: HookCall) -> dict[str, Any]:
        definition = parts.services[service_id]
        return {"cards": answer(parts, definition, scorers[definition.model], sent)}

    return app


def answer(
    parts: Parts, definition: ServiceDefinition, scorer: Scorer, sent: HookCall
) -> list[dict[str, Any]]:
    """Validated, mapped, scored, explained, stored. No card where the question does not arise."""
    received_at = parts.clock()
    for value in sent.prefetch.values():
        if value is not None:
            get_fhir_model_class(value["resourceType"]).model_validate(value)
    loaded = parts.model_of(definition)
    vector = map_features(
        loaded.mapping,
        list(_resources(sent.prefetch)),
        as_of=received_at,
        patient_id=sent.context.patientId,
        fhir_base=sent.fhirServer,
    )
    estimate = scorer.estimate(vector.values()) if _in_question(vector) else None
    shown = (
        cards.compose(
            Scored(estimate),
            vector=vector,
            manifest=loaded.model.manifest,
            wording=definition.wording,
            unread=(),
            frame=_frame(parts, sent),
        )
        if estimate
        else []
    )
    record = _record(definition, loaded.model, sent, vector, estimate) if estimate else None
    issued = [
        IssuedCard(
            uuid=card.uuid,
            kind=card.kind,
            indicator=card.body["indicator"],
            assessment_id=record.id if record else None,
            hook_instance=sent.hookInstance,
            service_id=definition.id,
        )
        for card in shown
    ]
    outcome = "scored" if record else "not-scored"
    parts.store.record(record, issued, _audit(definition, sent, vector, outcome), None)
    parts.metrics.count_assessment(service=definition.id, outcome=outcome)
    return [card.body for card in shown]


def _resources(prefetch: dict[str, Any]) -> Any:
    for value in prefetch.values():
        if value is not None and value["resourceType"] == "Bundle":
            yield from (entry["resource"] for entry in value.get("entry", ()))
        elif value is not None:
            yield value


def _in_question(vector: FeatureVector) -> bool:
    """An adult without the diagnosis, alive, and no result that answers the question by itself."""
    settled = any(isinstance(entry, Present) for entry in vector.settling.values())
    adult = vector.age is not None and vector.age >= 18
    return adult and not (vector.deceased or vector.findings or settled)


def _frame(parts: Parts, sent: HookCall) -> cards.Frame:
    return cards.Frame(
        card_uuid=str(uuid.uuid4()),
        suggestion_uuid=str(uuid.uuid4()),
        patient_id=sent.context.patientId,
        encounter_id=sent.context.encounterId,
        model_card_url=f"{parts.settings.public_url}/model-card",
    )


def _record(
    definition: ServiceDefinition,
    model: Model,
    sent: HookCall,
    vector: FeatureVector,
    estimate: RiskEstimate,
) -> AssessmentRecord:
    origin, patient_id = sent.fhirServer or "", sent.context.patientId
    name, version = model.manifest.name, model.manifest.version
    identifier = identifier_of(
        origin=origin, patient_id=patient_id, model=name, version=version, vector=vector
    )
    about = About(
        id=id_of(identifier),
        identifier=identifier,
        patient_id=patient_id,
        encounter_id=sent.context.encounterId,
        occurrence=vector.as_of,
        mitigation=None,
    )
    return AssessmentRecord(
        id=about.id,
        identifier=identifier,
        origin=origin,
        patient_id=patient_id,
        encounter_id=about.encounter_id,
        service_id=definition.id,
        model=name,
        model_version=version,
        as_of=vector.as_of,
        received_at=vector.as_of,
        hook_instance=sent.hookInstance,
        probability=estimate.probability,
        level=estimate.level,
        inputs=inputs_of(vector, mitigation=None),
        resource=risk_assessment(about, estimate, vector, model.manifest),
    )


def _audit(
    definition: ServiceDefinition, sent: HookCall, vector: FeatureVector, outcome: str
) -> AuditEntry:
    return AuditEntry(
        recorded_at=vector.as_of,
        outcome=outcome,
        status=200,
        user=sent.context.userId,
        patient_id=sent.context.patientId,
        hook_instance=sent.hookInstance,
        service_id=definition.id,
        model=definition.model,
        model_version=definition.model_version,
        action=sent.hook,
    )


def settings(database_url: str) -> Settings:
    """The shipped model and hooks, and a store of its own."""
    return Settings(
        profile="demo",
        database_url=database_url,
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
    )


def main() -> None:
    """`python -m benchmarks.eager --port 8001 --database sqlite:///eager.db`"""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    given = parser.parse_args()
    serve(application(assemble(settings(given.database), utc_now)), given.port)


if __name__ == "__main__":
    main()
