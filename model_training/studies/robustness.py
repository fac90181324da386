"""Would more people help, and does the pipeline find anything where there is nothing to find?"""

from __future__ import annotations

from typing import Any

import numpy as np

from model_training import measures
from model_training.fitting import folds_of
from model_training.logistic import fit_logistic, log_loss
from model_training.measures import interval
from model_training.recipe import Recipe
from model_training.sample import Floats, Sample
from model_training.studies.unseen import Task, bootstrap, figure, predict_unseen

Json = dict[str, Any]


def learning_curve(development: Sample, recipe: Recipe) -> list[Json]:
    """Everybody is predicted unseen, by models that learned from a share of the other folds."""
    study = recipe.raw["studies"]
    order = np.random.default_rng(study["seed"]).random(len(development))
    folds = folds_of(development, recipe)
    shares = study["learning_shares"]
    tasks = [
        Task(
            columns=development.values.astype(np.float64),
            monotone=_signs(recipe),
            events=development.events,
            folds=folds,
            learn_from=order < share,
        )
        for share in shares
    ]
    weights = bootstrap(development, study)
    kept = (len(folds) - 1) / len(folds)
    return [
        {
            "people": round(kept * int((order < share).sum())),
            "events": round(kept * int(development.events[order < share].sum())),
            "auroc": figure(interval(measures.auroc(margins, development.events, weights))),
            "log_loss": round(_calibrated_loss(margins, development), 6),
        }
        for share, margins in zip(shares, predict_unseen(tasks, study["parameters"]), strict=True)
    ]


def permutation_check(development: Sample, recipe: Recipe) -> Json:
    """Labels shuffled among all people, everything else as always: nothing is left to find."""
    study = recipe.raw["studies"]
    rng = np.random.default_rng(study["seed"])
    folds = folds_of(development, recipe)
    tasks = [
        Task(
            columns=development.values.astype(np.float64),
            monotone=_signs(recipe),
            events=rng.permutation(development.events),
            folds=folds,
        )
        for _ in range(study["permutations"])
    ]
    ones = np.ones((1, len(development)))
    found = [
        round(float(measures.auroc(margins, task.events, ones)[0]), 4)
        for task, margins in zip(tasks, predict_unseen(tasks, study["parameters"]), strict=True)
    ]
    return {"repeats": len(found), "auroc": found, "mean": round(float(np.mean(found)), 4)}


def _signs(recipe: Recipe) -> tuple[int, ...]:
    return tuple(feature.monotone for feature in recipe.features)


def _calibrated_loss(margins: Floats, people: Sample) -> float:
    events = people.events.astype(np.float64)
    slope, intercept = fit_logistic(margins, events, people.weights)
    return log_loss(slope * margins + intercept, events, people.weights)
