"""The search finds the same settings each time, and they can be built again from its report."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from model_training.calibration import calibrated, fit_calibration, rows_to_calibrate
from model_training.dataset import Silent
from model_training.fitting import fit_model, out_of_fold, settings_from
from model_training.logistic import log_loss
from model_training.search import Found, mean_loss, scenario_losses, search, settings_chosen
from tests.people import in_this_process, made_up_sample, small_recipe

RECIPE = small_recipe()
SAMPLE = made_up_sample(RECIPE, 240)


@pytest.fixture(autouse=True)
def _in_this_process() -> Iterator[None]:
    with in_this_process():
        yield


@pytest.fixture(scope="module")
def found() -> Found:
    with in_this_process():
        return search(SAMPLE, RECIPE, Silent())


class Told:
    """What a reporter was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def step(self, title: str) -> None:
        self.said.append(title)

    def detail(self, text: str) -> None:
        self.said.append(text)


def test_the_same_seed_finds_the_same_settings(found: Found) -> None:
    told = Told()
    again = search(SAMPLE, RECIPE, told)
    assert again == found
    assert [line.partition(":")[0] for line in told.said] == [
        "trial 1 of 3",
        "trial 2 of 3",
        "trial 3 of 3",
    ]


def test_another_seed_tries_others(found: Found) -> None:
    other = search(SAMPLE, small_recipe(search={"seed": 14}), Silent())
    assert other.section["table"] != found.section["table"]


def test_the_first_trial_is_what_the_recipe_says(found: Found) -> None:
    first = next(row for row in found.section["table"] if row["number"] == 0)
    own = settings_from(RECIPE).parameters
    assert (first["max_depth"], first["learning_rate"]) == (own["max_depth"], own["learning_rate"])
    unseen = out_of_fold(SAMPLE, settings_from(RECIPE), RECIPE, stop_early=True)
    assert first["value"] == pytest.approx(mean_loss(unseen, SAMPLE, RECIPE), abs=1e-6)
    assert first["rounds"] == unseen.rounds


def test_the_best_trial_is_the_one_chosen(found: Found) -> None:
    table = found.section["table"]
    assert [row["value"] for row in table] == sorted(row["value"] for row in table)
    assert len(table) == found.section["trials"] == 3
    assert found.section["chosen"] == {
        name: value for name, value in table[0].items() if name not in ("number", "value")
    }


def test_trials_keep_within_the_space(found: Found) -> None:
    for row in found.section["table"]:
        for name, entry in RECIPE.raw["search"]["space"].items():
            assert entry["low"] <= row[name] <= entry["high"]
        assert isinstance(row["max_depth"], int)


def test_the_settings_chosen_are_built_again_from_the_report(found: Found) -> None:
    section = json.loads(json.dumps(found.section))
    again = settings_chosen(RECIPE, section)
    assert again == found.settings
    one, other = (fit_model(SAMPLE, settings, RECIPE) for settings in (found.settings, again))
    assert one.booster.save_raw() == other.booster.save_raw()
    assert section == found.section, "the section itself is left as it was"


def test_what_is_not_searched_stays_as_the_recipe_has_it(found: Found) -> None:
    own = settings_from(RECIPE)
    assert found.settings.parameters["max_bin"] == own.parameters["max_bin"]
    assert found.settings.masked_share == own.masked_share
    assert found.settings.imputation == own.imputation


def test_the_criterion_is_the_loss_after_one_calibration_for_all_kinds_of_record() -> None:
    unseen = out_of_fold(SAMPLE, settings_from(RECIPE), RECIPE)
    exported = fit_calibration(rows_to_calibrate(unseen, SAMPLE, RECIPE), "sigmoid")
    expected = {
        id_: log_loss(
            calibrated(exported, unseen.margins[id_]),
            SAMPLE.events.astype(float),
            SAMPLE.weights,
        )
        for id_ in ("complete", "no_glucose")
    }
    assert scenario_losses(unseen, SAMPLE, RECIPE) == pytest.approx(expected)
    assert mean_loss(unseen, SAMPLE, RECIPE) == pytest.approx(np.mean(list(expected.values())))
    assert expected["complete"] < expected["no_glucose"]
