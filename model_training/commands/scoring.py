"""Two versions on one data set: the newer recipe says who is in, each manifest what is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from model_training.artifact import Artifact
from model_training.as_served import recipe_of, service_predict
from model_training.commands.terminal import reporting
from model_training.dataset import TEST, DatasetError, Reporter
from model_training.masking import without_panels
from model_training.predictions import Predictions
from model_training.recipe import Recipe, Scenario
from model_training.sample import sample_from
from model_training.sources.nhanes import read_nhanes
from risk_model import load_model

Pair = tuple[Artifact, Artifact]


def score_both(pair: Pair, data: Path, scenario: str) -> tuple[Predictions, Predictions]:
    """The test people of the recipe, from NHANES tables. Raises DatasetError."""
    recipe = _with_inputs_of_both(pair, _recipe(pair))
    chosen = _scenario(recipe, scenario)
    with reporting() as reporter:
        periods = recipe.raw["split"]["test"]
        people = read_nhanes(data, recipe, reporter, parts={TEST: periods}).parts[TEST].people
        return (
            _scored(pair[0], people, recipe, chosen, reporter),
            _scored(pair[1], people, recipe, chosen, reporter),
        )


def _recipe(pair: Pair) -> Recipe:
    found = pair[1].recipe or pair[0].recipe
    if found is None:
        raise DatasetError(
            f"Neither {pair[0].reference} nor {pair[1].reference} holds a recipe.toml, which says "
            "who is to be scored."
        )
    if found.raw["split"]["kind"] != "period":
        raise DatasetError(f"The recipe of {found.name} is not for NHANES: it has no periods.")
    return found


def _with_inputs_of_both(pair: Pair, recipe: Recipe) -> Recipe:
    features = {
        feature.name: feature
        for artifact in pair
        for feature in recipe_of(artifact.manifest, recipe).features
    }
    return replace(recipe, features=tuple(features.values()))


def _scenario(recipe: Recipe, scenario: str) -> Scenario:
    known = {entry.id: entry for entry in recipe.scenarios}
    if scenario not in known:
        raise DatasetError(f"There is no scenario {scenario}. There are: {', '.join(known)}.")
    return known[scenario]


def _scored(
    artifact: Artifact,
    people: pd.DataFrame,
    recipe: Recipe,
    scenario: Scenario,
    reporter: Reporter,
) -> Predictions:
    reporter.step(f"Scoring with {artifact.reference}")
    own = recipe_of(artifact.manifest, recipe)
    sample = sample_from(people, own)
    rows = without_panels(sample.values, scenario.absent, own)
    predict = service_predict(load_model(artifact.directory), own)
    return Predictions(
        records=tuple(sample.records),
        events=sample.events,
        scenarios={scenario.id: predict(rows)},
        comparators={},
    )
