"""What a run has made, as the files of an artifact; model_training.publish writes them.

Bytes depend on the recipe, the data and the library versions only: fixed key order, no time stamps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xgboost

from model_training.calibration import calibrated
from model_training.dataset import Dataset
from model_training.fitting import Fitted
from model_training.golden import golden_cases
from model_training.logistic import logistic
from model_training.model_card import model_card, model_card_json
from model_training.predictions import Predictions, predictions_bytes
from model_training.publish import json_bytes, seal
from model_training.recipe import Recipe, manifest_feature
from model_training.report_page import report_page, report_pictures
from model_training.sample import Floats, Sample, Values
from model_training.thresholds import Cuts, rationale

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """The model as it will be served. `calibration` is calibration.json."""

    fitted: Fitted
    calibration: Json
    cuts: Cuts
    prevalence: float

    def predict(self, rows: Values) -> Floats:
        """Rows in the recipe's feature order, NaN where absent → probabilities."""
        return logistic(calibrated(self.calibration, self.fitted.margins(rows)))


def model_files(model: Calibrated, development: Sample, recipe: Recipe) -> dict[str, bytes]:
    """What scoring needs, and the recipe."""
    files = {
        "model.ubj": bytes(model.fitted.booster.save_raw(raw_format="ubj")),
        "calibration.json": json_bytes(model.calibration),
        "golden_scores.json": json_bytes(
            {"cases": golden_cases(model.predict, development, recipe)}
        ),
        "recipe.toml": recipe.text.encode(),
    }
    preprocessing = model.fitted.preprocessor.export()
    if preprocessing is not None:
        files["preprocessing.json"] = json_bytes(preprocessing)
    return files


def manifest_of(model: Calibrated, dataset: Dataset, report: Json, recipe: Recipe) -> Json:
    """The manifest without its `files`."""
    raw = recipe.raw
    return {
        "format": 1,
        "name": recipe.name,
        "version": recipe.version,
        "title": raw["title"],
        "question": raw["question"],
        "outcome": raw["outcome"],
        "files": {},
        "features": [manifest_feature(feature) for feature in recipe.features],
        "panels": [
            {"id": panel.id, "title": panel.title, "features": list(panel.features)}
            for panel in recipe.panels.values()
        ],
        "sufficiency": raw.get("sufficiency", {}),
        "domain": raw.get("domain", {}),
        "settled_by": raw.get("settled_by", []),
        "levels": [
            {"level": "low", "below": model.cuts.moderate},
            {"level": "moderate", "below": model.cuts.high},
            {"level": "high"},
        ],
        "levels_rationale": rationale(model.cuts, recipe),
        "prevalence": model.prevalence,
        "prevalence_rationale": "Weighted, in the people on whom the probability was calibrated, "
        "so that figure and baseline speak of the same population.",
        "cohort": _cohort(dataset, report, recipe),
        "performance": _performance(report),
        "gates": raw.get("gates", []),
        "software": {"xgboost": xgboost.__version__},
    }


def artifact_files(
    files: Mapping[str, bytes],
    described: Json,
    report: Json,
    predictions: Predictions,
    recipe: Recipe,
) -> dict[str, bytes]:
    """Path inside the folder → bytes, the manifest with everybody's digest last."""
    pictures = report_pictures(report)
    made = {
        **files,
        "report/report.json": json_bytes(report),
        "report/report.html": report_page(report, described).encode(),
        "report/predictions.csv.gz": predictions_bytes(predictions),
        **pictures,
    }
    made["MODEL_CARD.md"] = model_card(
        described, report, recipe.statements, pictures=set(pictures)
    ).encode()
    made["model_card.json"] = json_bytes(model_card_json(described, report, recipe.statements))
    return seal(made, described)


def _cohort(dataset: Dataset, report: Json, recipe: Recipe) -> Json:
    return {
        "source": dataset.description,
        "outcome": recipe.raw["cohort"]["outcome_definition"],
        **report["data"]["parts"],
    }


def _performance(report: Json) -> Json:
    test = report["test"]
    complete = next(iter(test["scenarios"].values()))
    return {
        "measured_on": ", ".join(report["data"]["parts"]["test"]["periods"]),
        "figures": "[value, low, high] of a 95 % interval, weighted unless named otherwise",
        "people": test["people"],
        "events": test["events"],
        "auroc": complete["auroc"],
        "auroc_weighted": complete["auroc_weighted"],
        "calibration_slope": test["calibration"]["slope"],
        "observed_to_expected": test["calibration"]["observed_to_expected"],
        "levels": test["levels"],
        "auroc_by_record": {
            scenario["title"]: scenario["auroc"] for scenario in test["scenarios"].values()
        },
    }
