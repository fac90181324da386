"""A model from raw tables to bytes, on one screen: read, select, fit, choose, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model_training.cohort import Cohort, select_cohort, select_treated
from model_training.features import Sample, sample_from
from model_training.fitting import Choice, choose
from model_training.levels import Cuts, choose_cuts
from model_training.logistic import logistic
from model_training.sources.nhanes import load_cycles, read_cycle
from model_training.publish import artifact_files
from model_training.recipe import Recipe
from model_training.report import measure_on_test, tuning

Announce = Callable[[str], None]
PARTS = ("fit", "tune", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a run has made: the choice, its cuts, the people of each part, and the artifact."""

    choice: Choice
    cuts: Cuts
    cohorts: Mapping[str, Cohort]
    samples: Mapping[str, Sample]
    report: dict[str, Any]
    files: dict[str, bytes]


def train_nhanes(folder: Path, recipe: Recipe, announce: Announce) -> Trained:
    """Deterministic in the tables, the recipe and the XGBoost version."""
    people = read_people(folder, recipe, announce)
    rules = recipe.raw["cohort"]
    cohorts = {part: select_cohort(people[part], rules) for part in PARTS}
    samples = {part: sample_from(cohorts[part].people, recipe) for part in PARTS}

    choice = choose(samples["fit"], samples["tune"], recipe, announce)
    tune = samples["tune"]
    cuts = choose_cuts(logistic(choice.best.log_odds(tune.values)), tune, recipe.raw["levels"])
    prevalence = round(float(np.average(tune.events, weights=tune.weights)), 4)

    treated = select_treated(people["test"], rules)
    with_treated = pd.concat([cohorts["test"].people, treated], ignore_index=True)
    report = {
        "model": _shape(choice),
        "tuning": tuning(choice),
        "test": measure_on_test(
            samples["fit"],
            samples["test"],
            sample_from(with_treated, recipe),
            choice,
            cuts,
            recipe,
            announce,
        ),
    }
    announce("Writing the artifact")
    return Trained(
        choice=choice,
        cuts=cuts,
        cohorts=cohorts,
        samples=samples,
        report=report,
        files=artifact_files(choice.best, cuts, prevalence, cohorts, report, recipe),
    )


def read_people(folder: Path, recipe: Recipe, announce: Announce) -> dict[str, pd.DataFrame]:
    """Everybody interviewed, by part."""
    cycles = {cycle.years: cycle for cycle in load_cycles()}
    people: dict[str, pd.DataFrame] = {}
    for part in PARTS:
        tables = []
        for years in recipe.raw["cohort"][part]:
            announce(f"Reading NHANES {years}")
            tables.append(read_cycle(folder, cycles[years]))
        people[part] = pd.concat(tables, ignore_index=True)
    return people


def steps(recipe: Recipe) -> int:
    """How often a run announces, for a progress bar."""
    cycles = sum(len(recipe.raw["cohort"][part]) for part in PARTS)
    return cycles + len(recipe.candidates) + len(recipe.scenarios) + 2


def _shape(choice: Choice) -> dict[str, Any]:
    best = choice.best
    return {
        "trees": best.booster.num_boosted_rounds(),
        "max_depth": best.candidate.parameters["max_depth"],
        "calibration": {"slope": best.slope, "intercept": best.intercept},
    }
