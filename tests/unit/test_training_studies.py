"""What the studies say of people in whom the truth is known, because they are made up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_training.dataset import DatasetError, Silent
from model_training.fitting import folds_of, out_of_fold, settings_from
from model_training.logistic import logistic
from model_training.recipe import Recipe
from model_training.report_page.robustness import race_pictures
from model_training.sample import Sample, sample_from
from model_training.search import mean_loss
from model_training.studies.alternatives import compare_alternatives
from model_training.studies.panels import (
    core_task,
    judge_panels,
    judgeable,
    outcomes_known,
    require_core,
)
from model_training.studies.race import groups_of, study_race
from model_training.studies.robustness import learning_curve, permutation_check
from model_training.studies.unseen import Task, gain, predict_unseen
from tests.people import in_this_process, made_up_people, made_up_sample, small_recipe

COUNT = 1200
OUTCOMES = ("event", "event_fasting_glucose", "event_both")


@pytest.fixture(autouse=True)
def _in_this_process() -> Iterator[None]:
    with in_this_process():
        yield


def panel(id_: str, *columns: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "title": id_.title(), "inputs": [id_], "columns": list(columns), **more}


def recipe_with(*panels: dict[str, Any], **studies: Any) -> Recipe:
    return small_recipe(studies={"panels": list(panels), **studies})


def judged_people() -> pd.DataFrame:
    """`marker` belongs to the disease, `assay` to the first outcome's assay alone, `fasting` to
    the two others, `noise` to nothing."""
    rng = np.random.default_rng(21)
    table = made_up_people(COUNT, seed=5)
    names = ("marker", "assay", "fasting", "noise")
    table[list(names)] = rng.normal(size=(COUNT, len(names)))
    disease = 0.03 * (table["glucose"] - 105) + 1.3 * table["marker"] - 1
    table["event"] = drawn(disease + 1.3 * table["assay"], rng)
    table["event_fasting_glucose"] = drawn(disease + 1.3 * table["fasting"], rng).astype(float)
    table["event_both"] = drawn(disease + 1.3 * table["fasting"], rng).astype(float)
    # Some have not fasted.
    table.loc[rng.random(COUNT) < 0.1, ["event_fasting_glucose", "event_both"]] = np.nan
    return table.assign(fasting_weight=table["weight"] * 1.5)


def drawn(log_odds: Any, rng: np.random.Generator) -> Any:
    return (rng.random(len(log_odds)) < logistic(np.asarray(log_odds))).astype(int)


@cache
def judged() -> dict[str, Any]:
    recipe = recipe_with(
        panel("marker", "marker"),
        panel("assay", "assay"),
        panel("fasting", "fasting"),
        panel("noise", "noise"),
        panel("unserved", "marker", served=False, why_not="nobody can read it"),
        panel("elsewhere", "not_in_this_source"),
    )
    sample = sample_from(judged_people(), recipe)
    return judge_panels(sample, recipe, Silent())


def verdict(id_: str) -> tuple[str, str]:
    entry = next(entry for entry in judged()["panels"] if entry["id"] == id_)
    return entry["verdict"], entry["reason"]


# ------------------------------------------------------------------------- panels


def test_a_panel_that_adds_for_every_outcome_is_in() -> None:
    assert verdict("marker") == (
        "in",
        "Adds to the ranking for HbA1c and for Fasting glucose and Both.",
    )


def test_a_panel_of_pure_chance_is_out() -> None:
    assert verdict("noise") == ("out", "No gain that can be told from chance.")


def test_a_panel_that_adds_for_the_assay_only_is_out_and_the_reason_says_so() -> None:
    said = verdict("assay")
    assert said[0] == "out"
    assert "Helps for HbA1c; for a raised fasting glucose no gain" in said[1]
    assert "the assay and not the disease" in said[1]


def test_a_panel_that_adds_for_the_other_outcomes_only_is_out() -> None:
    assert verdict("fasting") == ("out", "Does not help for HbA1c, the outcome of the model.")


def test_a_panel_that_no_record_holds_is_out_although_it_adds() -> None:
    said = verdict("unserved")
    assert said == ("out", "Adds to the ranking; left out because nobody can read it.")


def test_a_panel_that_the_source_lacks_is_not_judged() -> None:
    assert "elsewhere" not in [entry["id"] for entry in judged()["panels"]]


def test_gains_are_given_for_every_outcome_with_and_without_glucose() -> None:
    for entry in judged()["panels"]:
        assert list(entry["gain"]) == ["no_glucose", "complete"]
        for outcomes in entry["gain"].values():
            assert list(outcomes) == ["hba1c", "fasting_glucose", "both"]
            for value, low, high in outcomes.values():
                assert low <= high
                assert -0.2 < value < 0.4
    marker = next(entry["gain"] for entry in judged()["panels"] if entry["id"] == "marker")
    assert marker["no_glucose"]["hba1c"][0] > 0.1


def test_each_outcome_counts_those_in_whom_it_is_known() -> None:
    people = judged_people()
    expected = [
        {"people": int(people[name].notna().sum()), "events": int(people[name].sum())}
        for name in OUTCOMES
    ]
    counted = [{k: o[k] for k in ("people", "events")} for o in judged()["outcomes"]]
    assert counted == expected
    assert counted[1]["people"] < counted[0]["people"] == COUNT


def test_a_panel_of_the_core_is_judged_by_what_is_lost_without_it() -> None:
    recipe = recipe_with(panel("bmi", "body_mass_index"), panel("noise", "noise"))
    table = made_up_people(COUNT, seed=6)
    table["noise"] = np.random.default_rng(1).normal(size=COUNT)
    for column in OUTCOMES[1:]:
        table[column] = table["event"].astype(float)
    sample = sample_from(table.assign(fasting_weight=1.0), recipe)
    verdicts = {p["id"]: p["verdict"] for p in judge_panels(sample, recipe, Silent())["panels"]}
    assert verdicts == {"bmi": "in", "noise": "out"}


def test_only_what_the_source_has_is_asked_of_it() -> None:
    recipe = recipe_with(panel("marker", "marker"))
    sample = made_up_sample(recipe, 50)
    assert judgeable(sample, recipe) == []
    assert [outcome["id"] for outcome in outcomes_known(sample, recipe)] == ["hba1c"]


# ------------------------------------------------------------------------- race


GROUPS = {"Circle": 600, "Square": 600}


def grouped_people() -> pd.DataFrame:
    """Squares have the first outcome at three times the odds that their inputs tell; the second
    outcome is told by the inputs alone."""
    rng = np.random.default_rng(8)
    table = made_up_people(2400, seed=9)
    square = (table["ethnicity"] == "Square").to_numpy()
    disease = 0.05 * (table["glucose"] - 105) + 0.08 * (table["body_mass_index"] - 28) - 1
    table["event"] = drawn(disease + np.log(3) * square, rng)
    table["event_fasting_glucose"] = drawn(disease, rng).astype(float)
    table["event_both"] = drawn(disease - 0.5, rng).astype(float)
    return table.assign(fasting_weight=table["weight"])


@cache
def race() -> dict[str, Any]:
    recipe = small_recipe()
    return study_race(sample_from(grouped_people(), recipe), recipe)


def test_a_groups_offset_in_one_outcome_shows_in_that_outcome_without_race() -> None:
    circle, square = (race()["groups"][name]["observed_to_expected"] for name in GROUPS)
    value, low, _ = square["without"]
    assert value > 1.15
    assert low > 1.05
    assert circle["without"][2] < 0.95


def test_it_goes_where_race_is_added() -> None:
    for name in GROUPS:
        assert race()["groups"][name]["observed_to_expected"]["with"][0] == pytest.approx(
            1, abs=0.06
        )
    assert race()["difference"][1] > 0
    assert race()["with"]["auroc"] > race()["without"]["auroc"]
    assert race()["with"]["log_loss"] < race()["without"]["log_loss"]


@pytest.mark.parametrize("section", ["fasting", "both"])
def test_it_is_not_there_in_outcomes_that_the_inputs_tell(section: str) -> None:
    for name in GROUPS:
        value, low, high = race()[section][name]["observed_to_expected"]["without"]
        assert value == pytest.approx(1, abs=0.12), name
        assert low < 1 < high, name


def test_the_page_reads_what_the_study_writes() -> None:
    named = [picture.name for picture in race_pictures({"race": race()})]
    assert named == ["race", "race-fasting"]


def test_without_race_the_misjudged_group_is_found_less_often_than_with_it() -> None:
    sensitivity = race()["groups"]["Square"]["sensitivity_at_moderate"]
    assert sensitivity["with"][0] > sensitivity["without"][0]


def test_groups_are_counted_as_they_are() -> None:
    table = grouped_people()
    for name, entry in race()["groups"].items():
        inside = table["ethnicity"] == name
        assert (entry["people"], entry["events"]) == (
            int(inside.sum()),
            int(table["event"][inside].sum()),
        )


def test_a_group_without_anybody_is_not_studied() -> None:
    recipe = small_recipe()
    table = grouped_people().assign(ethnicity="Circle")
    assert list(groups_of(sample_from(table, recipe), recipe)) == ["Circle"]
    nobody = sample_from(grouped_people().assign(ethnicity=None), recipe)
    assert groups_of(nobody, recipe) == {}


# ------------------------------------------------------------------------- robustness


@cache
def plain() -> tuple[Sample, Recipe]:
    recipe = small_recipe()
    return made_up_sample(recipe, 1000), recipe


def test_shuffled_labels_leave_nothing_to_find() -> None:
    sample, recipe = plain()
    made = permutation_check(sample, recipe)
    assert made["repeats"] == len(made["auroc"]) == 3
    assert len(set(made["auroc"])) == 3
    assert made["mean"] == pytest.approx(np.mean(made["auroc"]), abs=1e-4)
    assert made["mean"] == pytest.approx(0.5, abs=0.05)
    assert permutation_check(sample, recipe) == made


def test_more_people_teach_more() -> None:
    sample, recipe = plain()
    few, all_ = learning_curve(sample, recipe)
    assert few["people"] == pytest.approx(75, abs=25)
    assert all_["people"] == 750
    assert all_["events"] == round(0.75 * sample.events.sum())
    assert few["auroc"][0] + 0.03 < all_["auroc"][0]
    assert few["log_loss"] > all_["log_loss"]
    assert all_["auroc"][0] > 0.75


def test_learning_from_a_share_leaves_the_others_unlearned_and_all_predicted() -> None:
    """Whoever is not learned from can have any label: the margins are the same."""
    sample, recipe = plain()
    task = core_task(sample, recipe)
    half = np.arange(len(sample)) % 2 == 0
    narrowed = replace(task, learn_from=half)
    flipped = replace(narrowed, events=np.where(half, task.events, 1 - task.events))
    one, other, all_ = predict_unseen(
        [narrowed, flipped, task], recipe.raw["studies"]["parameters"]
    )
    assert np.isfinite(one).all()
    assert np.array_equal(one, other)
    assert not np.array_equal(one, all_)


def test_a_studys_margins_do_not_depend_on_the_labels_of_those_held_out() -> None:
    sample, recipe = plain()
    task = core_task(sample, recipe)
    inside = folds_of(sample, recipe)[0]
    flipped = replace(task, events=np.where(inside, 1 - task.events, task.events))
    one, other = predict_unseen([task, flipped], recipe.raw["studies"]["parameters"])
    assert np.array_equal(one[inside], other[inside])
    assert not np.array_equal(one[~inside], other[~inside])


def test_signs_are_kept_in_the_studies_too() -> None:
    rising = np.linspace(0, 1, 200)
    events = (np.random.default_rng(1).random(200) < rising).astype(np.int64)
    folds = [np.arange(200) % 2 == 0, np.arange(200) % 2 == 1]
    _, recipe = plain()
    made = {
        sign: predict_unseen(
            [Task(columns=rising[:, None], monotone=(sign,), events=events, folds=folds)],
            recipe.raw["studies"]["parameters"],
        )[0][folds[0]]
        for sign in (1, -1)
    }
    assert (np.diff(made[1]) >= 0).all()
    assert np.ptp(made[1]) > 1
    assert (np.diff(made[-1]) <= 0).all()


def test_a_gain_is_the_difference_on_the_same_replicates() -> None:
    events = np.array([0, 1, 0, 1])
    weights = np.array([[1.0, 1, 1, 1], [2, 2, 0, 0], [0, 0, 1, 1]])
    perfect, wrong = np.array([0.1, 0.9, 0.2, 0.8]), np.array([0.9, 0.1, 0.2, 0.8])
    made = gain(perfect, wrong, events, weights)
    assert made.value == 0.75  # of four pairs all in order, against one
    assert (made.low, made.high) == pytest.approx((0.025, 0.975))


# ------------------------------------------------------------------------- alternatives


def test_alternatives_are_measured_as_the_model_itself_is() -> None:
    recipe = small_recipe()
    sample = made_up_sample(recipe, 240, missing=0.1)
    settings = settings_from(recipe)
    unseen = out_of_fold(sample, settings, recipe)
    made = compare_alternatives(sample, settings, unseen, recipe, Silent())
    assert {key: made[key].get("chosen", made[key].get("chosen_share")) for key in made} == {
        "imputation": "native",
        "class_weighting": "none",
        "masking": 0.5,
    }
    own = round(mean_loss(unseen, sample, recipe), 6)
    chosen = {"native", "none", "share-0.5"}
    for section in made.values():
        for entry in section["methods"]:
            assert set(entry["auroc"]) == {"complete", "no_glucose"}
            assert (entry["log_loss"] == own) == (entry["id"] in chosen), entry["id"]
    other = out_of_fold(sample, settings.changed(imputation="median"), recipe)
    median = next(entry for entry in made["imputation"]["methods"] if entry["id"] == "median")
    assert median["log_loss"] == round(mean_loss(other, sample, recipe), 6)


def test_a_core_column_that_the_source_lacks_is_named_before_anything_is_fitted() -> None:
    recipe = recipe_with(core=["age", "shoe_size"])
    with pytest.raises(DatasetError, match=r"\[studies\] core names shoe_size"):
        require_core(made_up_sample(recipe, 50), recipe)
    require_core(made_up_sample(recipe, 50), recipe_with(core=["age", "glucose"]))
