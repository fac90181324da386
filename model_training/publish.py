"""From a fitted, measured model to a versioned folder that risk_model will accept.

Bytes depend on the recipe, the data and the XGBoost version only: fixed key order, no time stamps.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xgboost

import risk_model
from model_training.cohort import Cohort
from model_training.drawing import performance_svg
from model_training.fitting import Fitted
from model_training.golden import golden_cases
from model_training.levels import Cuts, rationale
from model_training.model_card import model_card
from model_training.recipe import FeatureSpec, Recipe

Json = dict[str, Any]


def artifact_files(
    fitted: Fitted,
    cuts: Cuts,
    prevalence: float,
    cohorts: Mapping[str, Cohort],
    report: Json,
    recipe: Recipe,
) -> dict[str, bytes]:
    """Path inside the folder → bytes, the manifest with everybody's digest last."""
    described = _manifest(cuts, prevalence, cohorts, report, recipe)
    title = (
        f"{recipe.raw['name']} {recipe.raw['version']}, NHANES {recipe.raw['cohort']['test'][0]}"
    )
    files = {
        "model.ubj": bytes(fitted.booster.save_raw(raw_format="ubj")),
        "calibration.json": json_bytes(
            {"method": "sigmoid", "slope": fitted.slope, "intercept": fitted.intercept}
        ),
        "golden_scores.json": json_bytes({"cases": golden_cases(fitted, recipe)}),
        "report/report.json": json_bytes(report),
        "report/performance.svg": performance_svg(report["test"], title).encode(),
        "MODEL_CARD.md": model_card(described, report).encode(),
    }
    digests = {path: _digest(files[path]) for path in sorted(files)}
    return files | {"manifest.json": json_bytes(described | {"files": digests})}


def publish(files: Mapping[str, bytes], folder: Path) -> risk_model.Model:
    """Writes the folder whole or not at all, then loads it as the service would."""
    staged = folder.with_name(f".{folder.name}.staged")
    shutil.rmtree(staged, ignore_errors=True)
    for path, content in files.items():
        target = staged / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    risk_model.load_model(staged)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(staged, folder)
    return risk_model.load_model(folder)


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _manifest(
    cuts: Cuts,
    prevalence: float,
    cohorts: Mapping[str, Cohort],
    report: Json,
    recipe: Recipe,
) -> Json:
    raw = recipe.raw
    return {
        "format": 1,
        "name": raw["name"],
        "version": raw["version"],
        "title": raw["title"],
        "question": raw["question"],
        "outcome": raw["outcome"],
        "files": {},
        "features": [_feature(feature) for feature in recipe.features],
        "sufficiency": raw["sufficiency"],
        "domain": raw["domain"],
        "settled_by": raw["settled_by"],
        "levels": [
            {"level": "low", "below": cuts.moderate},
            {"level": "moderate", "below": cuts.high},
            {"level": "high"},
        ],
        "levels_rationale": rationale(cuts, raw["cohort"]["tune"], raw["levels"]),
        "prevalence": prevalence,
        "prevalence_rationale": "Survey-weighted, in the people on whom the probability was "
        "calibrated, so that figure and baseline speak of the same population.",
        "cohort": _cohort(cohorts, recipe),
        "performance": _performance(report, recipe),
        "software": {"xgboost": xgboost.__version__},
    }


def _feature(feature: FeatureSpec) -> Json:
    clip = None if feature.clip_above is None else [None, feature.clip_above]
    categories = {} if feature.categories is None else {"categories": dict(feature.categories)}
    return {
        "name": feature.name,
        "title": feature.title,
        "concept": feature.name,
        "unit": feature.unit,
        **categories,
        "statistic": "latest",
        "look_back_days": feature.look_back_days,
        "plausible": list(feature.plausible),
        "clip": clip,
        "required": feature.required,
        "monotone": feature.monotone,
        "stale_after_days": feature.stale_after_days,
    }


def _cohort(cohorts: Mapping[str, Cohort], recipe: Recipe) -> Json:
    rules = recipe.raw["cohort"]
    return {
        "source": rules["source"],
        "outcome": rules["outcome_definition"],
        **{
            part: {
                "cycles": rules[part],
                "people": len(cohort.people),
                "events": int(cohort.people["event"].sum()),
                "flow": [
                    {"kept": kept, "people": people, "events": events}
                    for kept, people, events in cohort.flow
                ],
            }
            for part, cohort in cohorts.items()
        },
    }


def _performance(report: Json, recipe: Recipe) -> Json:
    test = report["test"]
    return {
        "measured_on": f"NHANES {', '.join(recipe.raw['cohort']['test'])}, measured once",
        "figures": "[value, low, high] of a 95 % interval, survey-weighted unless named otherwise",
        "people": test["people"],
        "events": test["events"],
        "auroc": test["scenarios"]["complete"]["auroc"],
        "auroc_weighted": test["scenarios"]["complete"]["auroc_weighted"],
        "calibration_slope": test["calibration"]["slope"],
        "observed_to_expected": test["calibration"]["observed_to_expected"],
        "levels": test["levels"],
        "auroc_by_record": {
            scenario["title"]: scenario["auroc"] for scenario in test["scenarios"].values()
        },
    }


def _digest(content: bytes) -> Json:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
