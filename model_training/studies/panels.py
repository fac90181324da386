"""Inputs earn their place: what each candidate panel adds, for three outcomes, with and without
glucose.

A panel that helps to foresee HbA1c and not a raised fasting glucose foretells the assay and not
the disease. Where glucose is known, a fasting outcome is nearly told already and no panel can
add to it; so a panel is judged where glucose is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_training import measures
from model_training.dataset import DatasetError, Reporter
from model_training.fitting import folds_of
from model_training.measures import Interval, interval
from model_training.recipe import Recipe
from model_training.sample import Flags, Sample, column_values
from model_training.studies.unseen import Task, bootstrap, figure, predict_unseen

Json = dict[str, Any]
_SETTINGS = {"no_glucose": "Glucose unknown", "complete": "Glucose known"}
_GLUCOSE = "glucose"
RULE = (
    "In, if it adds to the ranking where glucose is unknown: for HbA1c, and for at least one of "
    "the outcomes that contain a raised fasting glucose (95 % interval of the gain in AUROC above "
    "zero)."
)


def judge_panels(development: Sample, recipe: Recipe, reporter: Reporter) -> Json:
    """The report's choices.panels."""
    outcomes = outcomes_known(development, recipe)
    panels = judgeable(development, recipe)
    judged: dict[str, Json] = {panel["id"]: {} for panel in panels}
    sizes = []
    for outcome in outcomes:
        reporter.detail(f"{outcome['title']}: {len(panels)} panels")
        people = development.with_outcome(outcome["column"], outcome["weight"])
        sizes.append({"people": len(people), "events": int(people.events.sum())})
        for setting in _SETTINGS:
            gains = _gains(people, setting, recipe)
            for panel, gained in gains.items():
                judged[panel].setdefault(setting, {})[outcome["id"]] = gained
    return {
        "rule": RULE,
        "outcomes": [
            {"id": outcome["id"], "title": outcome["title"], **size}
            for outcome, size in zip(outcomes, sizes, strict=True)
        ],
        "settings": [{"id": id_, "title": title} for id_, title in _SETTINGS.items()],
        "panels": [_entry(panel, judged[panel["id"]], outcomes) for panel in panels],
    }


def judgeable(people: Sample, recipe: Recipe) -> list[Mapping[str, Any]]:
    """The candidate panels that the source has."""
    panels = recipe.raw["studies"].get("panels", [])
    return [panel for panel in panels if set(panel["columns"]) <= set(people.people)]


def outcomes_known(people: Sample, recipe: Recipe) -> list[Mapping[str, Any]]:
    """The outcomes that the source has, the model's own first."""
    return [entry for entry in recipe.raw["outcomes"] if entry["column"] in people.people]


def require_core(people: Sample, recipe: Recipe) -> None:
    """Raises DatasetError where the source lacks a column that every study begins with."""
    read = {feature.name for feature in recipe.features} | set(people.people)
    lacking = [name for name in recipe.raw["studies"]["core"] if name not in read]
    if lacking:
        raise DatasetError(
            f"The recipe's [studies] core names {', '.join(lacking)}, which this source does not "
            "have: take it out there."
        )


def core_task(people: Sample, recipe: Recipe) -> Task:
    """The inputs that candidates are added to."""
    return _task(people, recipe.raw["studies"]["core"], folds_of(people, recipe), recipe)


def _gains(people: Sample, setting: str, recipe: Recipe) -> dict[str, Interval]:
    """Panel id → gain in AUROC over the core without the panel."""
    study = recipe.raw["studies"]
    core = [name for name in study["core"] if setting == "complete" or name != _GLUCOSE]
    pairs = [
        ([name for name in core if name not in panel["columns"]], panel["columns"])
        for panel in judgeable(people, recipe)
    ]
    lists = {tuple(names) for without, added in pairs for names in (without, [*without, *added])}
    wanted = sorted(lists)
    folds = folds_of(people, recipe)
    tasks = [_task(people, names, folds, recipe) for names in wanted]
    weights = bootstrap(people, study)
    reached = {
        names: measures.auroc(scores, people.events, weights)
        for names, scores in zip(wanted, predict_unseen(tasks, study["parameters"]), strict=True)
    }
    return {
        panel["id"]: interval(reached[(*without, *added)] - reached[tuple(without)])
        for panel, (without, added) in zip(judgeable(people, recipe), pairs, strict=True)
    }


def _task(people: Sample, names: Sequence[str], folds: Sequence[Flags], recipe: Recipe) -> Task:
    """Inputs of the model as it is given them, with their signs; others as the source has them."""
    known = {feature.name: feature for feature in recipe.features}
    columns = [
        column_values(people.people, known[name])
        if name in known
        else people.people[name].to_numpy(np.float64)
        for name in names
    ]
    return Task(
        columns=np.column_stack(columns),
        monotone=tuple(known[name].monotone if name in known else 0 for name in names),
        events=people.events,
        folds=folds,
    )


def _entry(
    panel: Mapping[str, Any],
    gains: Mapping[str, Mapping[str, Interval]],
    outcomes: Sequence[Mapping[str, Any]],
) -> Json:
    first = outcomes[0]["id"]
    unknown = gains["no_glucose"]
    helps_first = unknown[first].low > 0
    helping = [outcome for outcome in outcomes[1:] if unknown[outcome["id"]].low > 0]
    earned = helps_first and bool(helping)
    served = panel.get("served", True)
    return {
        "id": panel["id"],
        "title": panel["title"],
        "inputs": list(panel["inputs"]),
        "verdict": "in" if served and (earned or panel.get("kept")) else "out",
        "reason": _reason(panel, helps_first, helping, earned=earned, served=served),
        "gain": {
            setting: {outcome: figure(entry) for outcome, entry in entries.items()}
            for setting, entries in gains.items()
        },
    }


def _reason(
    panel: Mapping[str, Any],
    helps_first: bool,
    helping: Sequence[Mapping[str, Any]],
    *,
    earned: bool,
    served: bool,
) -> str:
    if earned and served:
        said = " and ".join(outcome["title"] for outcome in helping)
        return f"Adds to the ranking for HbA1c and for {said}."
    if earned:
        return f"Adds to the ranking; left out because {panel['why_not']}."
    if panel.get("kept"):
        return (
            "No gain for both kinds of outcome that can be told from chance; kept, because "
            f"{panel['kept']}."
        )
    if helps_first:
        return (
            "Helps for HbA1c; for a raised fasting glucose no gain can be told from chance. What "
            "it adds may be the assay and not the disease."
        )
    if helping:
        return "Does not help for HbA1c, the outcome of the model."
    return "No gain that can be told from chance."
