"""The HealthChain subjects: its CDS Hooks gateway and FHIRFeatureMapper, our XGBoost model behind.

Runs in an environment of its own (healthchain_process.py): it imports nothing of this project. Put
together as HealthChain's sepsis example was: prefetch to one bundle, bundle to a row of a data
frame by a schema of codes, row to the model. Two of them:

- *tuned*, in its favour: schema and mapper made once, the model is given an array, the event loop
  and the HTTP parser are the fast ones that HealthChain does not ask for, calls are not logged;
- *as installed* (`--plain`): the schema is a file and read for each call as in that example, the
  model is given the data frame, and uvicorn has what `pip install healthchain` brings.

What is left out, because HealthChain leaves it to its user: units (a value in mmol/L would be taken
for mg/dL), status, dates (`last` is the last in the Bundle, not the newest), blood pressure inside
a panel, whose record it is, known diabetes, plausibility, the explanation, the RiskAssessment and
any storage. It does less, then, for what it costs.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"
from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import xgboost
from fastapi import Response
from healthchain.fhir import prefetch_to_bundle
from healthchain.gateway import CDSHooksService, HealthChainAPI
from healthchain.io import Dataset
from healthchain.io.containers.featureschema import FeatureSchema
from healthchain.io.mappers.fhirfeaturemapper import FHIRFeatureMapper
from healthchain.models import CDSRequest, CDSResponse
from healthchain.models.responses.cdsresponse import Card

LOINC = "http://loinc.org"
# One code for each feature: a schema has no more. Those that the benchmark's calls carry.
CODES = {
    "glucose": "2345-7",
    "body_mass_index": "39156-5",
    "systolic_blood_pressure": "8480-6",
    "diastolic_blood_pressure": "8462-4",
    "total_cholesterol": "2093-3",
    "hdl_cholesterol": "2085-9",
    "triglycerides": "2571-8",
    "creatinine": "2160-0",
    "alanine_aminotransferase": "1742-6",
    "aspartate_aminotransferase": "1920-8",
    "gamma_glutamyl_transferase": "2324-2",
    "urate": "3084-1",
    "albumin": "1751-7",
    "urine_albumin_creatinine_ratio": "9318-7",
}
ELEMENTS = {"age": "birthDate", "sex": "gender"}


def schema(features: list[str]) -> FeatureSchema:
    """Every feature of the model, in the model's order."""
    return FeatureSchema.from_dict(
        {
            "name": "diabetes",
            "version": "1",
            "features": {name: _source(name) for name in features},
        }
    )


def _source(feature: str) -> dict[str, object]:
    if feature in ELEMENTS:
        return {"fhir_resource": "Patient", "field": ELEMENTS[feature], "required": False}
    return {
        "fhir_resource": "Observation",
        "code": CODES[feature],
        "code_system": LOINC,
        "required": False,
    }


class Predictor:
    """The model as it was trained: its trees, its calibration, its levels."""

    def __init__(self, artifact: Path) -> None:
        manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
        calibration = json.loads((artifact / "calibration.json").read_text(encoding="utf-8"))
        if calibration["method"] != "sigmoid" or (artifact / "preprocessing.json").exists():
            raise SystemExit("this model needs more than its trees and a slope: write that first")
        self._slope, self._intercept = calibration["slope"], calibration["intercept"]
        self._levels = [(band["level"], band.get("below", 1.1)) for band in manifest["levels"]]
        self._oldest = next(f["clip"][1] for f in manifest["features"] if f["name"] == "age")
        self._features = [feature["name"] for feature in manifest["features"]]
        self._sex, self._age = self._features.index("sex"), self._features.index("age")
        self._mapper = FHIRFeatureMapper(schema(self._features))
        self._booster = xgboost.Booster(params={"nthread": 1})
        self._booster.load_model(artifact / "model.ubj")
        self._booster.set_param({"nthread": 1})
        self.scored, self.last = 0, math.nan

    def probability(self, request: CDSRequest) -> float:
        """Of the patient of this call."""
        row = self._row(prefetch_to_bundle(request.prefetch))
        margin = float(self._booster.inplace_predict(row, predict_type="margin")[0])
        self.last = 1 / (1 + math.exp(-(self._slope * margin + self._intercept)))
        self.scored += 1
        return self.last

    def _row(self, bundle: dict[str, Any]) -> Any:
        found = self._mapper.extract_features(bundle, aggregation="last")
        row = found[self._features].to_numpy(dtype=np.float32)
        row[0, self._sex] = 1 - row[0, self._sex]  # HealthChain counts men as 1, the model women
        row[0, self._age] = min(row[0, self._age], self._oldest)
        return row

    def level(self, probability: float) -> str:
        return next(level for level, below in self._levels if probability < below)


class PlainPredictor(Predictor):
    """The same figure by way of HealthChain's Dataset, as its example goes."""

    def __init__(self, artifact: Path, folder: Path) -> None:
        super().__init__(artifact)
        self._schema = folder / "schema.yaml"
        schema(self._features).to_yaml(self._schema)

    def _row(self, bundle: dict[str, Any]) -> Any:
        dataset = Dataset.from_fhir_bundle(bundle, schema=self._schema, aggregation="last")
        row = dataset.data[self._features].astype("float64")
        row["sex"] = 1.0 - row["sex"]
        row["age"] = row["age"].clip(upper=self._oldest)
        return row


def application(predictor: Predictor) -> HealthChainAPI:
    """The gateway with one hook, and what the benchmark asks every subject for."""
    cds = CDSHooksService()

    @cds.hook("patient-view", id="diabetes-risk")
    def diabetes_risk(request: CDSRequest) -> CDSResponse:
        probability = predictor.probability(request)
        level = predictor.level(probability)
        if level == "low":
            return CDSResponse(cards=[])
        card = Card(
            summary=f"Undiagnosed type 2 diabetes: {probability:.0%}. Consider an HbA1c.",
            indicator="warning" if level == "high" else "info",
            detail=f"**{probability:.0%}** ({level}).\n\n**What to do:** order an HbA1c.",
            source={"label": "Undiagnosed type 2 diabetes"},
        )
        return CDSResponse(cards=[card])

    app = HealthChainAPI(title="diabetes", service_type="cds-hooks")
    app.register_service(cds, path="/cds")

    @app.get("/readyz")
    async def ready() -> Response:
        return Response(b"{}", media_type="application/json")

    # HealthChain answers 200 without a card where its handler raises: only a count tells.
    @app.get("/metrics")
    async def metrics() -> Response:
        counted = f'cds_assessments_total{{outcome="scored"}} {predictor.scored}'
        return Response(f"{counted}\nlast_probability {predictor.last!r}\n")

    return app


def main() -> None:
    """`python -P benchmarks/healthchain_app.py --port 8001 --artifact model_artifacts/…`"""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        predictor = (
            PlainPredictor(given.artifact, Path(folder))
            if given.plain
            else Predictor(given.artifact)
        )
        uvicorn.run(
            application(predictor),
            port=given.port,
            loop="asyncio" if given.plain else "uvloop",
            http="h11" if given.plain else "httptools",
            access_log=False,
            log_level="warning",
        )


if __name__ == "__main__":
    main()
