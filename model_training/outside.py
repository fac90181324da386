"""A published model on people of another data set: the same report, with figures of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from model_training.artifact import Artifact
from model_training.as_served import recipe_of, service_predict, without_figure
from model_training.comparators import compare_with
from model_training.dataset import TEST, TREATED, Dataset, DatasetError, Reporter
from model_training.evaluation import evaluate
from model_training.pipeline import REPORT_FORMAT, data_section, joined
from model_training.predictions import Predictions
from model_training.recipe import Recipe
from model_training.sample import require_both_classes, sample_from
from model_training.thresholds import Cuts
from risk_model import Manifest, load_model

# Would have to be fitted first, and on these very people.
_FITTED = frozenset({"logistic_regression"})

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """report.json of the outside data set, and what each person was given."""

    report: Json
    predictions: Predictions


def recipe_inside(artifact: Artifact) -> Recipe:
    """Its own recipe, asking for what its manifest asks for: what the service would read.

    Raises DatasetError where the artifact does not say who its people are.
    """
    recipe = artifact.recipe
    if recipe is None:
        raise DatasetError(
            f"{artifact.reference} holds no recipe.toml, which says who is in and what is read: "
            "it was published before recipes were kept. Train it again to evaluate it."
        )
    return recipe_of(artifact.manifest, recipe)


def evaluate_outside(
    artifact: Artifact, dataset: Dataset, recipe: Recipe, reporter: Reporter
) -> Outside:
    """Raises DatasetError where the people do not fit the model, or have one outcome only."""
    model = load_model(artifact.directory)
    sample = sample_from(dataset.parts[TEST].people, recipe)
    require_both_classes(sample, TEST)
    treated = dataset.parts.get(TREATED)
    evaluation = evaluate(
        service_predict(model, recipe),
        sample,
        recipe,
        cuts_of(artifact.manifest),
        reporter,
        comparators=compare_with(sample, sample, _unfitted(recipe)),
        treated=None if treated is None else joined(sample, sample_from(treated.people, recipe)),
    )
    unanswered = without_figure(model, sample.values, recipe)
    return Outside(
        report={
            "format": REPORT_FORMAT,
            "model": _model(artifact),
            "data": _data(dataset, recipe, unanswered),
            "test": evaluation.test,
            "forced": artifact.forced,
        },
        predictions=evaluation.predictions,
    )


def cuts_of(manifest: Manifest) -> Cuts:
    """Where the levels begin; raises DatasetError where they are not low, moderate and high."""
    if [band.level for band in manifest.levels] != ["low", "moderate", "high"]:
        raise DatasetError(
            f"{manifest.name}/{manifest.version} has other levels than low, moderate and high: "
            "its figures at the cuts cannot be told."
        )
    return Cuts(moderate=manifest.levels[0].below, high=manifest.levels[1].below)


def _unfitted(recipe: Recipe) -> Recipe:
    rule = recipe.raw["evaluation"]
    named: Sequence[str] = rule.get("comparators", ())
    kept = [name for name in named if name not in _FITTED]
    return replace(recipe, raw={**recipe.raw, "evaluation": {**rule, "comparators": kept}})


def _model(artifact: Artifact) -> Json:
    manifest = artifact.manifest
    described = {
        "name": manifest.name,
        "version": manifest.version,
        "title": manifest.title,
        "question": manifest.raw.get("question"),
        "features": len(manifest.features),
    }
    return {**artifact.report.get("model", {}), **described}


def _data(dataset: Dataset, recipe: Recipe, unanswered: int) -> Json:
    """The test people's own; those that a split keeps for training are none of this report."""
    section = data_section(replace(dataset, parts={TEST: dataset.parts[TEST]}), recipe)
    if unanswered:
        section["notes"].append(
            f"For {unanswered:,} of the people the service gives no figure, because too little is "
            "known of them; here they are scored like everybody else."
        )
    return section
