"""What adding race and ethnicity would change: the evidence for leaving them out, and what it
costs whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from model_training import measures
from model_training.evaluation import memberships
from model_training.logistic import fit_logistic, log_loss, logistic
from model_training.measures import interval
from model_training.recipe import Recipe
from model_training.sample import Flags, Floats, Sample
from model_training.studies.panels import core_task, outcomes_known
from model_training.studies.unseen import bootstrap, figure, gain, predict_unseen

Json = dict[str, Any]
ETHNICITY = "ethnicity"
# Outcome of the recipe → its entry in the section.
_SECTIONS = {"fasting_glucose": "fasting", "both": "both"}


def study_race(development: Sample, recipe: Recipe) -> Json:
    """The report's race: the same fit with and without, on development people, unseen.

    Both are calibrated alike, on all people together. "fasting" and "both" are the same for the
    outcomes that contain a raised fasting glucose, to see whether a group's risk is misjudged for
    the disease or for the assay.
    """
    without, with_ = _probabilities(development, recipe, (False, True))
    weights = bootstrap(development, recipe.raw["studies"])
    groups = groups_of(development, recipe)
    return {
        "without": _overall(without, development),
        "with": _overall(with_, development),
        "difference": figure(gain(with_, without, development.events, weights)),
        "groups": {
            title: {
                "people": int(inside.sum()),
                "events": int(development.events[inside].sum()),
                "observed_to_expected": {
                    "without": _observed_to_expected(development, without, weights, inside),
                    "with": _observed_to_expected(development, with_, weights, inside),
                },
                "sensitivity_at_moderate": {
                    "without": _sensitivity(development, without, weights, inside, recipe),
                    "with": _sensitivity(development, with_, weights, inside, recipe),
                },
            }
            for title, inside in groups.items()
        },
        **{
            _SECTIONS[outcome["id"]]: _by_group(
                development.with_outcome(outcome["column"], outcome["weight"]), recipe
            )
            for outcome in outcomes_known(development, recipe)
            if outcome["id"] in _SECTIONS
        },
    }


def _by_group(people: Sample, recipe: Recipe) -> Json:
    without, with_ = _probabilities(people, recipe, (False, True))
    weights = bootstrap(people, recipe.raw["studies"])
    return {
        title: {
            "people": int(inside.sum()),
            "events": int(people.events[inside].sum()),
            "observed_to_expected": {
                "without": _observed_to_expected(people, without, weights, inside),
                "with": _observed_to_expected(people, with_, weights, inside),
            },
        }
        for title, inside in groups_of(people, recipe).items()
    }


def _probabilities(
    people: Sample, recipe: Recipe, with_race: tuple[bool, ...]
) -> tuple[Floats, ...]:
    task = core_task(people, recipe)
    indicators = np.column_stack(list(groups_of(people, recipe).values())).astype(np.float64)
    informed = replace(
        task,
        columns=np.column_stack([task.columns, indicators]),
        monotone=(*task.monotone, *([0] * indicators.shape[1])),
    )
    tasks = [informed if race else task for race in with_race]
    made = predict_unseen(tasks, recipe.raw["studies"]["parameters"])
    return tuple(_calibrated(margins, people) for margins in made)


def _calibrated(margins: Floats, people: Sample) -> Floats:
    slope, intercept = fit_logistic(margins, people.events.astype(np.float64), people.weights)
    return logistic(slope * margins + intercept)


def groups_of(people: Sample, recipe: Recipe) -> dict[str, Flags]:
    """The recipe's groups that occur; who is in none of them has no indicator."""
    axes = [e["axis"] for e in recipe.raw["evaluation"]["groups"] if e.get("column") == ETHNICITY]
    inside = memberships(people, recipe)
    return {t: chosen for axis in axes for t, chosen in inside[axis].items() if chosen.any()}


def _overall(probabilities: Floats, people: Sample) -> Json:
    log_odds = np.log(probabilities / (1 - probabilities))
    ones = np.ones((1, len(people)))
    return {
        "auroc": round(float(measures.auroc(probabilities, people.events, ones)[0]), 4),
        "log_loss": round(log_loss(log_odds, people.events.astype(float), people.weights), 6),
    }


def _observed_to_expected(
    people: Sample, probabilities: Floats, weights: Floats, inside: Flags
) -> list[float | None]:
    weighted = weights[:, inside] * people.weights[inside]
    return figure(
        interval(
            measures.observed_to_expected(probabilities[inside], people.events[inside], weighted)
        )
    )


def _sensitivity(
    people: Sample, probabilities: Floats, weights: Floats, inside: Flags, recipe: Recipe
) -> list[float | None]:
    """At the cut that keeps the alert budget, chosen for each model by itself."""
    cut = _cut(probabilities, people, recipe.raw["thresholds"]["alert_budget"])
    weighted = weights[:, inside] * people.weights[inside]
    measure = measures.sensitivity(cut)
    return figure(interval(measure(probabilities[inside], people.events[inside], weighted)))


def _cut(probabilities: Floats, people: Sample, budget: float) -> float:
    order = np.argsort(-probabilities, kind="stable")
    alerted = np.cumsum(people.weights[order]) / people.weights.sum()
    return float(probabilities[order][np.searchsorted(alerted, budget)])
