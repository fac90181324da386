"""A model from people to bytes, on one screen: choose, fit, measure, study, write.

Everything is chosen on the development people; the test people are measured at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from model_training.calibration import (
    CalibrationChoice,
    calibrated,
    choose_calibration,
    rows_to_calibrate,
)
from model_training.characteristics import characteristics
from model_training.comparators import compare_with
from model_training.dataset import DEVELOPMENT, TEST, TREATED, Dataset, DatasetError, Part, Reporter
from model_training.evaluation import Evaluation, evaluate
from model_training.explained import explain_sample
from model_training.export import Calibrated, artifact_files, manifest_of, model_files
from model_training.fitting import OutOfFold, Settings, fit_model, folds_of, out_of_fold
from model_training.gate_rules import parse_gates
from model_training.gates import GateResult, Measured, judge
from model_training.logistic import logistic
from model_training.publish import forced_trace
from model_training.recipe import Recipe
from model_training.sample import Sample, require_both_classes, sample_from
from model_training.search import CRITERION, Found, search, settings_chosen
from model_training.studies.alternatives import compare_alternatives
from model_training.studies.panels import (
    judge_panels,
    judgeable,
    outcomes_known,
    require_core,
)
from model_training.studies.race import ETHNICITY, groups_of, study_race
from model_training.studies.robustness import learning_curve, permutation_check
from model_training.thresholds import choose_cuts

Json = dict[str, Any]
REPORT_FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The model, and what was chosen for it on the way; nobody of the test part was looked at."""

    model: Calibrated
    settings: Settings
    unseen: OutOfFold
    choices: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A run's outcome: `files` as model_training.publish takes them."""

    built: Built
    evaluation: Evaluation
    report: Json
    gates: tuple[GateResult, ...]
    files: dict[str, bytes]


def train(
    dataset: Dataset,
    recipe: Recipe,
    reporter: Reporter,
    *,
    published: Measured | None = None,
    chosen: Mapping[str, Any] | None = None,
    force: str | None = None,
) -> Trained:
    """Deterministic in the data, the recipe and the versions of the libraries.

    `chosen` is the report's choices.search of an earlier run: that search is not made again, and
    the model is the same. `published` is the version that the gates compare with; `force`, the
    reason for publishing although one fails, goes into report and card. Raises DatasetError.
    """
    development, test = (_sample(dataset, part, recipe) for part in (DEVELOPMENT, TEST))
    require_core(development, recipe)
    built = build(development, recipe, reporter, chosen=chosen)
    evaluation = measure(built.model, dataset, development, test, recipe, reporter)
    report = {
        "format": REPORT_FORMAT,
        "model": _model(built, recipe),
        "data": data_section(dataset, recipe),
        "choices": built.choices | study_choices(built, development, recipe, reporter),
        "test": evaluation.test,
        **_studies(built, development, test, recipe, reporter),
    }
    results = judge(
        parse_gates(recipe.raw.get("gates", [])),
        report,
        published,
        predictions=evaluation.predictions,
    )
    report |= {
        "gates": [result.as_json() for result in results],
        "forced": forced_trace(results, force),
    }
    reporter.step("Writing the report")
    return Trained(
        built=built,
        evaluation=evaluation,
        report=report,
        gates=results,
        files=artifact_files(
            model_files(built.model, development, recipe),
            manifest_of(built.model, dataset, report, recipe),
            report,
            evaluation.predictions,
            recipe,
        ),
    )


def build(
    development: Sample,
    recipe: Recipe,
    reporter: Reporter,
    *,
    chosen: Mapping[str, Any] | None = None,
) -> Built:
    """Search, cross-validate, calibrate, cut, and fit on everybody of the development part."""
    reporter.step("Searching hyperparameters" if chosen is None else "Taking the settings found")
    found = (
        search(development, recipe, reporter)
        if chosen is None
        else Found(settings=settings_chosen(recipe, chosen), section=dict(chosen))
    )
    reporter.step("Predicting people unseen")
    unseen = out_of_fold(development, found.settings, recipe)
    calibration = _calibration(unseen, development, recipe)
    margins = unseen.margins[recipe.scenarios[0].id]
    probabilities = logistic(calibrated(calibration.exported, margins))
    cuts, thresholds = choose_cuts(probabilities, development, recipe)
    reporter.step("Fitting the model")
    fitted = fit_model(development, found.settings, recipe)
    prevalence = float(np.average(development.events, weights=development.weights))
    return Built(
        model=Calibrated(
            fitted=fitted,
            calibration=calibration.exported,
            cuts=cuts,
            prevalence=round(prevalence, 4),
        ),
        settings=found.settings,
        unseen=unseen,
        choices={
            "cross_validation": {"folds": _folds(development, recipe), "criterion": CRITERION},
            "search": found.section,
            "calibration": _calibration_section(calibration),
            "thresholds": thresholds,
        },
    )


def measure(
    model: Calibrated,
    dataset: Dataset,
    development: Sample,
    test: Sample,
    recipe: Recipe,
    reporter: Reporter,
) -> Evaluation:
    treated = dataset.parts.get(TREATED)
    with_treated = None
    if treated is not None:
        with_treated = joined(test, sample_from(treated.people, recipe))
    return evaluate(
        model.predict,
        test,
        recipe,
        model.cuts,
        reporter,
        comparators=compare_with(development, test, recipe),
        treated=with_treated,
    )


def data_section(dataset: Dataset, recipe: Recipe) -> Json:
    """The report's data."""
    parts = {id_: part for id_, part in dataset.parts.items() if id_ in (DEVELOPMENT, TEST)}
    return {
        "source": dataset.source,
        "description": dataset.description,
        "notes": list(dataset.notes),
        "parts": {id_: _part(part) for id_, part in parts.items()},
        "characteristics": characteristics(
            {id_: sample_from(part.people, recipe) for id_, part in parts.items()}, recipe
        ),
    }


def study_choices(built: Built, development: Sample, recipe: Recipe, reporter: Reporter) -> Json:
    """What the choices were compared with."""
    reporter.step("Comparing imputation, class weighting and records with holes")
    made = compare_alternatives(development, built.settings, built.unseen, recipe, reporter)
    # A panel is judged by several outcomes: one alone may be an assay's.
    if judgeable(development, recipe) and len(outcomes_known(development, recipe)) > 1:
        reporter.step("Judging candidate inputs")
        made["panels"] = judge_panels(development, recipe, reporter)
    return made


def steps(recipe: Recipe) -> int:
    """How often a run begins a step after its data are read, for a progress bar."""
    return len(recipe.scenarios) + 7 + bool(recipe.raw["studies"].get("panels"))


def joined(sample: Sample, other: Sample) -> Sample:
    return Sample(
        values=np.vstack([sample.values, other.values]),
        events=np.concatenate([sample.events, other.events]),
        weights=np.concatenate([sample.weights, other.weights]),
        strata=np.concatenate([sample.strata, other.strata]),
        units=np.concatenate([sample.units, other.units]),
        people=pd.concat([sample.people, other.people], ignore_index=True),
    )


def _sample(dataset: Dataset, part: str, recipe: Recipe) -> Sample:
    if part not in dataset.parts:
        raise DatasetError(f"The data set has no {part} part: the recipe's [split] asks for one.")
    sample = sample_from(dataset.parts[part].people, recipe)
    require_both_classes(sample, part)
    return sample


def _calibration(unseen: OutOfFold, development: Sample, recipe: Recipe) -> CalibrationChoice:
    return choose_calibration(
        rows_to_calibrate(unseen, development, recipe),
        [np.tile(inside, 2) for inside in folds_of(development, recipe)],
        recipe.raw["calibration"],
    )


def _calibration_section(choice: CalibrationChoice) -> Json:
    return {
        "chosen": choice.method,
        "methods": [
            {
                "id": method,
                "log_loss": _finite(float(np.mean(losses)), 6),
                "observed_to_expected": _finite(choice.observed_to_expected[method], 4),
            }
            for method, losses in choice.losses.items()
        ],
    }


def _finite(value: float, digits: int) -> float | None:
    return round(value, digits) if np.isfinite(value) else None


def _folds(development: Sample, recipe: Recipe) -> list[list[str]]:
    return [
        sorted({str(period) for period in development.periods[inside]})
        for inside in folds_of(development, recipe)
    ]


def _studies(
    built: Built, development: Sample, test: Sample, recipe: Recipe, reporter: Reporter
) -> Json:
    reporter.step("Studying race, the number of people, and shuffled labels")
    races = bool(ETHNICITY in development.people and groups_of(development, recipe))
    return {
        "explanation": explain_sample(built.model.fitted, test, recipe),
        "learning_curve": learning_curve(development, recipe),
        "permutation": permutation_check(development, recipe),
        "race": study_race(development, recipe) if races else None,
    }


def _model(built: Built, recipe: Recipe) -> Json:
    return {
        "name": recipe.name,
        "version": recipe.version,
        "title": recipe.raw["title"],
        "question": recipe.raw["question"],
        "algorithm": "Gradient-boosted trees (XGBoost), monotone where medicine knows the sign",
        "trees": built.model.fitted.booster.num_boosted_rounds(),
        "max_depth": built.settings.parameters["max_depth"],
        "imputation": built.settings.imputation,
        "calibration": built.choices["calibration"]["chosen"],
        "features": len(recipe.features),
    }


def _part(part: Part) -> Json:
    return {
        "periods": list(part.periods),
        "people": len(part.people),
        "events": int(part.people["event"].sum()),
        "flow": [asdict(step) for step in part.flow],
    }
