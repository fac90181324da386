"""The served artifact is what the recipe makes of CDC's tables, and nothing in it saw its test.

The search for hyperparameters, which takes long, is not made again: its result is in the report.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xgboost

from model_training.artifact import newest, read_artifact
from model_training.dataset import DEVELOPMENT, TEST, Dataset, Silent
from model_training.evaluation import Evaluation
from model_training.export import model_files
from model_training.gate_rules import parse_gates
from model_training.gates import judge
from model_training.masking import without_panels
from model_training.model_card.quote import ARTIFACTS
from model_training.pipeline import Built, build, data_section, measure
from model_training.publish import json_bytes
from model_training.recipe import Scenario, load_recipe
from model_training.sample import Sample, as_values, sample_from
from model_training.sources.nhanes import read_nhanes
from risk_model import RiskEstimate, load_model, score
from tests.data import data_folder
from tests.shipped import NAME, SHIPPED, VERSION, needs_recipe, shipped_json

pytestmark = [needs_recipe, pytest.mark.xdist_group("nhanes-training")]
RECIPE = load_recipe()
# Adults who were never told of diabetes and take nothing against it, and how many have it.
COHORT = {DEVELOPMENT: (36697, 1054), TEST: (4536, 129)}


@pytest.fixture(scope="module")
def report() -> Any:
    return shipped_json("report/report.json")


@pytest.fixture(scope="module")
def nhanes() -> Dataset:
    return read_nhanes(data_folder("nhanes"), RECIPE, Silent())


@pytest.fixture(scope="module")
def samples(nhanes: Dataset) -> dict[str, Sample]:
    return {part: sample_from(nhanes.parts[part].people, RECIPE) for part in (DEVELOPMENT, TEST)}


@pytest.fixture(scope="module")
def built(samples: dict[str, Sample], report: Any) -> Built:
    version = shipped_json("manifest.json")["software"]["xgboost"]
    if version != xgboost.__version__:
        pytest.skip(f"the artifact was trained with xgboost {version}, not {xgboost.__version__}")
    chosen = report["choices"]["search"]
    return build(samples[DEVELOPMENT], RECIPE, Silent(), chosen=chosen)


@pytest.fixture(scope="module")
def evaluation(built: Built, nhanes: Dataset, samples: dict[str, Sample]) -> Evaluation:
    return measure(built.model, nhanes, samples[DEVELOPMENT], samples[TEST], RECIPE, Silent())


def as_json(value: Any) -> Any:
    return json.loads(json_bytes(value))


# ----------------------------------------------------------------------------------- made again


def test_the_recipe_in_the_artifact_is_the_one_in_the_tree() -> None:
    assert (SHIPPED / "recipe.toml").read_text("utf-8") == RECIPE.text
    assert (RECIPE.name, RECIPE.version) == (NAME, VERSION)


def test_training_again_gives_the_shipped_bytes(built: Built, samples: dict[str, Sample]) -> None:
    made = model_files(built.model, samples[DEVELOPMENT], RECIPE)
    assert set(made) >= {"model.ubj", "calibration.json", "golden_scores.json", "recipe.toml"}
    different = [name for name in made if (SHIPPED / name).read_bytes() != made[name]]
    assert different == []
    assert (SHIPPED / "preprocessing.json").exists() == ("preprocessing.json" in made)


def test_the_levels_and_the_choices_are_made_again(built: Built, report: Any) -> None:
    levels = {
        entry["level"]: entry.get("below") for entry in shipped_json("manifest.json")["levels"]
    }
    cuts = built.model.cuts
    assert levels == {"low": cuts.moderate, "moderate": cuts.high, "high": None}
    assert built.model.prevalence == shipped_json("manifest.json")["prevalence"]
    for name in ("cross_validation", "calibration", "thresholds"):
        assert as_json(built.choices[name]) == report["choices"][name], name


def test_measuring_again_gives_the_reports_figures(evaluation: Evaluation, report: Any) -> None:
    """Those of the model itself; a logistic regression that it is compared with is solved by
    routines that differ in the last digits between processors."""
    again = as_json(evaluation.test)
    sections = ("people", "events", "prevalence", "scenarios", "calibration", "levels", "groups")
    for name in (*sections, "alerts", "roc", "precision_recall", "with_treated"):
        assert again[name] == report["test"][name], name


def test_what_each_person_is_given_is_what_was_stored(evaluation: Evaluation) -> None:
    stored = read_artifact(SHIPPED).predictions
    assert stored is not None
    assert evaluation.predictions.same_people(stored)
    assert list(evaluation.predictions.scenarios) == list(stored.scenarios)
    for id_, values in stored.scenarios.items():
        np.testing.assert_array_equal(evaluation.predictions.scenarios[id_], values, id_)
    for title, values in stored.comparators.items():
        np.testing.assert_allclose(evaluation.predictions.comparators[title], values, 1e-3, 1e-3)


@pytest.mark.parametrize("scenario", RECIPE.scenarios, ids=lambda scenario: scenario.id)
def test_the_service_gives_test_people_the_stored_probability(
    samples: dict[str, Sample], scenario: Scenario
) -> None:
    stored = read_artifact(SHIPPED).predictions
    assert stored is not None
    assert list(stored.records) == samples[TEST].records
    chosen = np.random.default_rng(4).choice(len(samples[TEST]), 60, replace=False)
    rows = without_panels(samples[TEST].values[chosen], scenario.absent, RECIPE)
    model, compared = load_model(SHIPPED), 0
    for row, probability in zip(rows, stored.scenarios[scenario.id][chosen], strict=True):
        got = score(model, as_values(row, RECIPE))
        if isinstance(got, RiskEstimate):
            compared += 1
            assert got.probability == pytest.approx(probability, abs=1e-6)
    assert compared > 40


# ------------------------------------------------------------------------------------ the people


def test_cohort_sizes_are_those_known_for_these_tables(nhanes: Dataset, report: Any) -> None:
    for part, known in COHORT.items():
        last = nhanes.parts[part].flow[-1]
        assert (last.people, last.events) == known
    assert as_json(data_section(nhanes, RECIPE)) == report["data"]


def test_nobody_of_the_test_part_is_in_development(nhanes: Dataset) -> None:
    development, test = (nhanes.parts[part].people for part in (DEVELOPMENT, TEST))
    assert not set(development["person"]) & set(test["person"])
    assert not set(development["period"]) & set(test["period"])
    stored = read_artifact(SHIPPED).predictions
    assert stored is not None
    assert list(stored.records) == test["record"].tolist()


def test_what_was_chosen_was_chosen_on_development_periods_alone(report: Any) -> None:
    parts = report["data"]["parts"]
    folds = report["choices"]["cross_validation"]["folds"]
    periods = [period for fold in folds for period in fold]
    assert sorted(periods) == sorted(parts["development"]["periods"])
    assert len(set(periods)) == len(periods)
    assert [p for p in parts["test"]["periods"] if p in json.dumps(report["choices"])] == []


# ----------------------------------------------------------------------------------- what is asked


def test_the_gates_are_judged_again_with_the_same_result(report: Any) -> None:
    published = newest(ARTIFACTS, NAME, before=VERSION)
    assert published is not None
    again = judge(
        parse_gates(shipped_json("manifest.json")["gates"]),
        report,
        published,
        predictions=read_artifact(SHIPPED).predictions,
    )
    assert as_json([result.as_json() for result in again]) == report["gates"]
    assert len(again) >= 6
    assert [result.gate.id for result in again if not result.passed] == []
    assert report["forced"] is None


def test_the_model_is_no_worse_than_simpler_means_and_bears_holes(report: Any) -> None:
    test = report["test"]
    for title, entry in test["comparators"].items():
        assert entry["model_minus_comparator"][0] > 0, title
    assert test["scenarios"]["complete"]["auroc"][0] > 0.9
    assert test["scenarios"]["no_glucose"]["auroc"][0] > 0.8
    assert min(entry["auroc"][0] for entry in test["scenarios"].values()) > 0.75


def test_shuffled_labels_teach_nothing(report: Any) -> None:
    assert report["permutation"]["mean"] == pytest.approx(0.5, abs=0.05)
