"""The trees: people are predicted by models that never saw them, their period, or their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from joblib import parallel_config

from model_training.dataset import PERSON, DatasetError
from model_training.fitting import (
    HOLES,
    Fitted,
    OutOfFold,
    absent_panels,
    fit_model,
    folds_of,
    holed,
    out_of_fold,
    settings_from,
)
from model_training.logistic import log_loss
from model_training.masking import without_panels
from model_training.measures import auroc
from model_training.sample import sample_from
from tests.people import PERIODS, in_this_process, made_up_people, made_up_sample, small_recipe

RECIPE = small_recipe()
SAMPLE = made_up_sample(RECIPE, 400, missing=0.1)
SETTINGS = settings_from(RECIPE)


@pytest.fixture(autouse=True)
def _in_this_process() -> Iterator[None]:
    with in_this_process():
        yield


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit_model(SAMPLE, SETTINGS, RECIPE)


@pytest.fixture(scope="module")
def unseen() -> OutOfFold:
    with in_this_process():
        return out_of_fold(SAMPLE, SETTINGS, RECIPE)


# ------------------------------------------------------------------------- folds


def test_folds_hold_out_whole_periods_and_everybody_once() -> None:
    sample = made_up_sample(RECIPE, 120, periods=[*PERIODS, "2009-2010", "2011-2012"])
    folds = folds_of(sample, RECIPE)
    assert np.sum(folds, axis=0).tolist() == [1] * 120
    held_out = [sorted(set(sample.periods[inside])) for inside in folds]
    assert held_out == [
        ["2001-2002", "2009-2010"],
        ["2003-2004", "2011-2012"],
        ["2005-2006"],
        ["2007-2008"],
    ]
    for inside in folds:
        assert not set(sample.periods[inside]) & set(sample.periods[~inside])


def test_where_periods_are_too_few_nobody_is_on_both_sides_of_a_fold() -> None:
    """Several rows of one person, as admissions are."""
    table = made_up_people(300, periods=PERIODS[:1])
    table[PERSON] = [f"p{n // 3}" for n in range(300)]
    sample = sample_from(table, RECIPE)
    folds = folds_of(sample, RECIPE)
    assert len(folds) == 4
    assert np.sum(folds, axis=0).tolist() == [1] * 300
    persons = sample.people[PERSON].to_numpy(str)
    for inside in folds:
        assert not set(persons[inside]) & set(persons[~inside])
        share = sample.events[inside].mean()
        assert share == pytest.approx(sample.events.mean(), abs=0.05)


def test_folds_over_people_depend_on_the_seed_only() -> None:
    sample = made_up_sample(RECIPE, 200, periods=PERIODS[:1])
    other_seed = small_recipe(cross_validation={"seed": 4})
    one, same, other = (
        np.array(folds_of(sample, recipe)) for recipe in (RECIPE, RECIPE, other_seed)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("rare", [0, 1])
def test_fewer_people_of_a_class_than_folds_is_an_error(rare: int) -> None:
    table = made_up_people(100, periods=PERIODS[:1]).assign(event=1 - rare)
    table.loc[:2, "event"] = rare
    with pytest.raises(DatasetError, match="3 people of the smaller class are too few for 4 folds"):
        folds_of(sample_from(table, RECIPE), RECIPE)


# ------------------------------------------------------------------------- people unseen


def test_everybody_is_predicted_for_every_kind_of_record_and_with_holes(unseen: OutOfFold) -> None:
    assert set(unseen.margins) == {"complete", "no_glucose", HOLES}
    for margins in unseen.margins.values():
        assert np.isfinite(margins).all()
    ones = np.ones((1, len(SAMPLE)))
    ranked = {id_: auroc(m, SAMPLE.events, ones)[0] for id_, m in unseen.margins.items()}
    assert 0.55 < ranked["no_glucose"] < ranked["complete"] < 0.9


def test_margins_do_not_depend_on_the_labels_of_those_held_out(unseen: OutOfFold) -> None:
    inside = folds_of(SAMPLE, RECIPE)[1]
    flipped = replace(SAMPLE, events=np.where(inside, 1 - SAMPLE.events, SAMPLE.events))
    changed = out_of_fold(flipped, SETTINGS, RECIPE)
    for id_, margins in unseen.margins.items():
        assert np.array_equal(margins[inside], changed.margins[id_][inside]), id_
        assert not np.array_equal(margins[~inside], changed.margins[id_][~inside]), id_


def test_margins_are_those_of_a_model_fitted_on_the_others(unseen: OutOfFold) -> None:
    inside = folds_of(SAMPLE, RECIPE)[2]
    others = fit_model(SAMPLE.only(~inside), SETTINGS, RECIPE)
    values = SAMPLE.values[inside]
    assert np.array_equal(unseen.margins["complete"][inside], others.margins(values))
    blank = without_panels(values, absent_panels(RECIPE, "no_glucose"), RECIPE)
    assert np.array_equal(unseen.margins["no_glucose"][inside], others.margins(blank))


def test_margins_do_not_depend_on_how_many_folds_run_at_once(unseen: OutOfFold) -> None:
    with parallel_config(backend="threading", n_jobs=2):
        together = out_of_fold(SAMPLE, SETTINGS, RECIPE)
    for id_, margins in unseen.margins.items():
        assert np.array_equal(margins, together.margins[id_]), id_


def test_only_the_scenarios_asked_for_are_predicted(unseen: OutOfFold) -> None:
    one = out_of_fold(SAMPLE, SETTINGS, RECIPE, scenarios=["no_glucose"])
    assert list(one.margins) == ["no_glucose"]
    assert np.array_equal(one.margins["no_glucose"], unseen.margins["no_glucose"])


def test_records_with_holes_are_the_same_people_with_panels_lost() -> None:
    blanked = holed(SAMPLE, RECIPE)
    kept = ~np.isnan(blanked)
    assert blanked.shape == SAMPLE.values.shape
    assert np.array_equal(blanked[kept], SAMPLE.values[kept])
    lost = np.isnan(blanked) & ~np.isnan(SAMPLE.values)
    assert 0.3 < lost[:, RECIPE.columns.index("glucose")].mean() < 0.7
    assert not lost[:, RECIPE.columns.index("age")].any()


# ------------------------------------------------------------------------- the fit


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(fitted: Fitted) -> None:
    again = fit_model(SAMPLE, SETTINGS, RECIPE)
    reseeded = SETTINGS.changed(parameters={**SETTINGS.parameters, "seed": 2})
    other = fit_model(SAMPLE, reseeded, RECIPE)
    assert again.booster.save_raw() == fitted.booster.save_raw()
    assert other.booster.save_raw() != fitted.booster.save_raw()


def test_the_probability_follows_the_signs_that_the_recipe_gives(fitted: Fitted) -> None:
    rng = np.random.default_rng(1)
    for position, feature in enumerate(RECIPE.features):
        if not feature.monotone:
            continue
        column = SAMPLE.values[:, position]
        steps = np.linspace(np.nanmin(column), np.nanmax(column), 30, dtype=np.float32)
        for person in rng.choice(len(SAMPLE), 20, replace=False):
            rows = np.tile(SAMPLE.values[person], (len(steps), 1))
            rows[:, position] = steps
            rising = np.diff(fitted.margins(rows)) * feature.monotone
            assert (rising >= 0).all(), feature.name


def test_a_sign_against_the_data_leaves_the_input_without_effect() -> None:
    """Glucose raises the risk; told that it must not, the trees cannot use it."""
    features = tuple(
        replace(feature, monotone=-1) if feature.name == "glucose" else feature
        for feature in RECIPE.features
    )
    forbidden = fit_model(SAMPLE, SETTINGS, replace(RECIPE, features=features))
    rows = np.tile(SAMPLE.values[0], (20, 1))
    rows[:, RECIPE.columns.index("glucose")] = np.linspace(70, 200, 20)
    assert np.diff(forbidden.margins(rows)).max() <= 0


def test_early_stopping_ends_where_people_unseen_no_longer_gain() -> None:
    noise = replace(SAMPLE, events=np.random.default_rng(3).permutation(SAMPLE.events))
    settings = SETTINGS.changed(rounds=200)
    learned, watched = noise.only(np.arange(400) < 300), noise.only(np.arange(400) >= 300)
    stopped = fit_model(learned, settings, RECIPE, stop_on=watched)
    assert 1 <= stopped.booster.num_boosted_rounds() < 30
    assert fit_model(learned, SETTINGS, RECIPE).booster.num_boosted_rounds() == 12


def test_folds_that_stop_early_say_where() -> None:
    found = out_of_fold(SAMPLE, SETTINGS.changed(rounds=300), RECIPE, stop_early=True)
    assert 3 <= found.rounds < 100


def test_balanced_classes_raise_the_margins_by_about_the_odds_of_the_outcome(
    fitted: Fitted,
) -> None:
    balanced = fit_model(SAMPLE, SETTINGS.changed(class_weighting="balanced"), RECIPE)
    raised = (balanced.margins(SAMPLE.values) - fitted.margins(SAMPLE.values)).mean()
    share = SAMPLE.events.mean()
    assert raised == pytest.approx(np.log((1 - share) / share), rel=0.5)


def test_survey_weights_count_only_where_they_are_asked_for(fitted: Fitted) -> None:
    heavy = replace(SAMPLE, weights=np.where(SAMPLE.events == 1, 5.0, 1.0))
    equal = fit_model(heavy, SETTINGS, RECIPE)
    survey = fit_model(heavy, SETTINGS.changed(weighting="survey"), RECIPE)
    assert equal.booster.save_raw() == fitted.booster.save_raw()
    assert survey.margins(SAMPLE.values).mean() > equal.margins(SAMPLE.values).mean() + 0.5


def test_balanced_classes_weigh_the_same_with_survey_weights_too() -> None:
    """However the people with the outcome are weighted, both classes end with half of it all."""
    balanced = SETTINGS.changed(weighting="survey", class_weighting="balanced")
    heavy = replace(SAMPLE, weights=np.where(SAMPLE.events == 1, 5.0, 1.0))
    alike = replace(SAMPLE, weights=np.ones(400))
    one, other = (fit_model(people, balanced, RECIPE) for people in (heavy, alike))
    assert one.margins(SAMPLE.values) == pytest.approx(other.margins(SAMPLE.values), abs=1e-4)


def test_copies_with_holes_teach_what_to_say_where_glucose_is_unknown() -> None:
    learned, test = made_up_sample(RECIPE, 600), made_up_sample(RECIPE, 600, seed=2)
    blank = without_panels(test.values, ("glucose",), RECIPE)
    without, with_ = (
        log_loss(
            fit_model(learned, SETTINGS.changed(masked_share=share), RECIPE).margins(blank),
            test.events.astype(float),
            np.ones(600),
        )
        for share in (0.0, 0.7)
    )
    assert with_ < without - 0.05


def test_settings_say_what_the_recipe_says_and_change_one_at_a_time() -> None:
    assert SETTINGS.rounds == 12
    assert SETTINGS.parameters["seed"] == 1
    changed = settings_from(RECIPE, imputation="median")
    assert changed.imputation == "median"
    assert changed.changed(imputation="native") == SETTINGS
