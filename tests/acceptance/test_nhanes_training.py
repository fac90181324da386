"""The shipped artifact is what the recipe makes of NHANES, byte for byte, and scores as it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from model_training.cohort import select_cohort
from model_training.features import as_values
from model_training.logistic import logistic
from model_training.masking import without_panels
from model_training.sources.nhanes import load_cycles, read_cycle
from model_training.pipeline import Trained, train_nhanes
from model_training.publish import publish
from model_training.recipe import load_recipe
from risk_model import RiskEstimate, load_model, score
from tests.data import data_folder

pytestmark = pytest.mark.xdist_group("nhanes-training")
SHIPPED = Path(__file__).parents[2] / "model_artifacts" / "diabetes-undiagnosed" / "1.0.0"
RECIPE = load_recipe()


@pytest.fixture(scope="module")
def nhanes() -> Path:
    return data_folder("nhanes")


@pytest.fixture(scope="module")
def trained(nhanes: Path) -> Trained:
    return train_nhanes(nhanes, RECIPE, lambda step: None)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SHIPPED / "report/report.json").read_text("utf-8"))
    return loaded


def test_training_again_gives_the_shipped_bytes(trained: Trained) -> None:
    manifest = json.loads((SHIPPED / "manifest.json").read_text("utf-8"))
    if manifest["software"]["xgboost"] != xgboost.__version__:
        pytest.skip("the artifact was trained with another version of xgboost")
    shipped = {
        path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*") if path.is_file()
    }
    assert shipped == set(trained.files)
    different = [
        name for name, content in trained.files.items() if (SHIPPED / name).read_bytes() != content
    ]
    assert different == []


def test_publishing_replaces_an_older_folder_and_leaves_nothing_beside_it(
    trained: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "model" / "1.0.0"
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "left-over.txt").write_text("older")
    model = publish(trained.files, folder)
    assert model.directory == folder
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("scenario", RECIPE.scenarios, ids=lambda scenario: scenario.id)
def test_scores_of_test_people_equal_the_training_pipelines(
    trained: Trained, scenario: Any
) -> None:
    model = load_model(SHIPPED)
    chosen = np.random.default_rng(4).choice(len(trained.samples["test"]), 60, replace=False)
    rows = without_panels(trained.samples["test"].values[chosen], scenario.absent, RECIPE)
    expected = logistic(trained.choice.best.log_odds(rows))
    compared = 0
    for row, probability in zip(rows, expected, strict=True):
        got = score(model, as_values(row, RECIPE))
        if isinstance(got, RiskEstimate):
            compared += 1
            assert got.probability == pytest.approx(probability, abs=1e-6)
    assert compared > 40


def test_cohort_sizes_are_those_known_for_these_tables(nhanes: Path) -> None:
    never_told = []
    for cycle in load_cycles():
        flow = select_cohort(read_cycle(nhanes, cycle), RECIPE.raw["cohort"]).flow
        never_told += [(count, events) for kept, count, events in flow if kept.startswith("never")]
    assert len(never_told) == 9
    assert (min(never_told)[0], max(never_told)[0]) == (4039, 5289)
    assert {min(events for _, events in never_told), max(e for _, e in never_told)} == {103, 192}


def test_nobody_of_the_test_cycle_is_among_the_fitted(trained: Trained) -> None:
    ids = {part: set(cohort.people["SEQN"]) for part, cohort in trained.cohorts.items()}
    assert not ids["test"] & (ids["fit"] | ids["tune"])
    assert not ids["fit"] & ids["tune"]


def test_the_manifest_repeats_the_report(report: dict[str, Any]) -> None:
    performance = json.loads((SHIPPED / "manifest.json").read_text("utf-8"))["performance"]
    complete = report["test"]["scenarios"]["complete"]
    assert performance["auroc"] == complete["auroc"]
    assert performance["levels"] == report["test"]["levels"]


def test_the_model_beats_simpler_means_and_bears_holes(report: dict[str, Any]) -> None:
    scenarios = report["test"]["scenarios"]
    for entry in report["test"]["comparators"].values():
        assert entry["model_minus_comparator"][1] > 0
    assert scenarios["complete"]["auroc"][0] > 0.9
    assert scenarios["no_glucose"]["auroc"][0] > 0.8
    assert min(entry["auroc"][0] for entry in scenarios.values()) > 0.75


def test_learning_from_records_with_holes_pays(report: dict[str, Any]) -> None:
    candidates = report["tuning"]["candidates"]
    chosen = candidates[report["tuning"]["chosen"]]
    assert chosen["mean_log_loss"] < candidates["no-holes"]["mean_log_loss"]
