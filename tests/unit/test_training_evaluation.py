"""The report's figures are counted again here, by scikit-learn and by hand, from the predictions
that were stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from model_training.characteristics import characteristics
from model_training.comparators import compare_with
from model_training.dataset import Silent
from model_training.evaluation import Evaluation, evaluate, memberships
from model_training.logistic import logistic
from model_training.pipeline import joined
from model_training.predictions import predictions_bytes, read_predictions
from model_training.recipe import Recipe
from model_training.sample import Floats, Sample, Values, sample_from
from model_training.thresholds import Cuts
from tests.people import made_up_people, made_up_sample, small_recipe

CUTS = Cuts(moderate=0.2, high=0.5)


def predict(rows: Values) -> Floats:
    """A little off the truth, so that calibration has something to tell."""
    known = rows[:, [0, 2, 3]].astype(np.float64)
    age, glucose, bmi = np.where(np.isnan(known), [50.0, 105.0, 28.0], known).T
    return logistic(-1.2 + 0.05 * (glucose - 105) + 0.1 * (bmi - 28) + 0.02 * (age - 50))


def people(count: int = 500) -> pd.DataFrame:
    table = made_up_people(count, seed=3, missing=0.1)
    rng = np.random.default_rng(4)
    fasting = (rng.random(count) < 0.3).astype(float)
    fasting[rng.random(count) < 0.4] = np.nan
    return table.assign(event_fasting_glucose=fasting, fasting_weight=table["weight"] * 2)


@cache
def evaluated() -> tuple[Sample, Recipe, Evaluation]:
    recipe = small_recipe()
    sample = sample_from(people(), recipe)
    learned = made_up_sample(recipe, 300)
    made = evaluate(
        predict,
        sample,
        recipe,
        CUTS,
        Silent(),
        comparators=compare_with(learned, sample, recipe),
        treated=joined(sample, made_up_sample(recipe, 40, seed=9)),
    )
    return sample, recipe, made


def near(value: float) -> Any:
    """Figures have four decimals."""
    return pytest.approx(value, abs=6e-5)


def count(chosen: Any, weights: Floats) -> float:
    return float((chosen * weights).sum())


def measured_by_others(p: Floats, sample: Sample) -> dict[str, float]:
    events, weights = sample.events, sample.weights
    return {
        "auroc": roc_auc_score(events, p),
        "auroc_weighted": roc_auc_score(events, p, sample_weight=weights),
        "average_precision": average_precision_score(events, p),
        "average_precision_weighted": average_precision_score(events, p, sample_weight=weights),
        "brier": brier_score_loss(events, p),
        "brier_weighted": brier_score_loss(events, p, sample_weight=weights),
        "observed_to_expected": count(events, weights) / count(p, weights),
    }


# ------------------------------------------------------------------------- kinds of record


@pytest.mark.parametrize("scenario", ["complete", "no_glucose"])
def test_figures_of_a_kind_of_record_are_those_of_scikit_learn(scenario: str) -> None:
    sample, _, made = evaluated()
    expected = measured_by_others(made.predictions.scenarios[scenario], sample)
    for name, value in expected.items():
        figure = made.test["scenarios"][scenario][name]
        assert figure[0] == near(value), name
        assert figure[1] < figure[0] < figure[2], name


def test_what_is_stored_is_what_was_predicted_without_the_panel() -> None:
    sample, recipe, made = evaluated()
    blank = sample.values.copy()
    blank[:, recipe.columns.index("glucose")] = np.nan
    assert made.predictions.scenarios["complete"] == pytest.approx(predict(sample.values), rel=1e-8)
    assert made.predictions.scenarios["no_glucose"] == pytest.approx(predict(blank), rel=1e-8)
    assert made.test["scenarios"]["no_glucose"]["absent"] == ["Glucose"]
    assert list(made.predictions.records) == sample.records
    assert made.predictions.events.tolist() == sample.events.tolist()


def test_figures_can_be_counted_again_from_the_stored_file() -> None:
    sample, _, made = evaluated()
    stored = read_predictions(predictions_bytes(made.predictions))
    for id_, p in stored.scenarios.items():
        assert np.array_equal(p, made.predictions.scenarios[id_])
        assert made.test["scenarios"][id_]["auroc"][0] == near(roc_auc_score(sample.events, p))
    for title, scores in stored.comparators.items():
        figure = made.test["comparators"][title]["auroc"][0]
        assert figure == near(roc_auc_score(sample.events, scores))


def test_people_events_and_prevalence_are_counted() -> None:
    sample, recipe, made = evaluated()
    test = made.test
    assert (test["people"], test["events"]) == (500, int(sample.events.sum()))
    assert test["prevalence"][0] == near(np.average(sample.events, weights=sample.weights))
    assert test["prevalence_unweighted"] == near(sample.events.mean())
    assert test["replicates"] == recipe.raw["evaluation"]["replicates"]
    assert "30 sampling units within 15 strata" in test["design"]


# ------------------------------------------------------------------------- cuts and decisions


@pytest.mark.parametrize(("at", "cut"), [("at_moderate", 0.2), ("at_high", 0.5)])
def test_yield_at_a_level_is_counted_with_the_weights(at: str, cut: float) -> None:
    sample, _, made = evaluated()
    p, events, w = made.predictions.scenarios["complete"], sample.events, sample.weights
    found = made.test["levels"][at]
    assert found["cut"] == cut
    assert found["flagged"][0] == near(count(p >= cut, w) / w.sum())
    assert found["sensitivity"][0] == near(count((p >= cut) & (events == 1), w) / count(events, w))
    assert found["specificity"][0] == near(
        count((p < cut) & (events == 0), w) / count(events == 0, w)
    )
    assert found["ppv"][0] == near(count((p >= cut) & (events == 1), w) / count(p >= cut, w))
    alert = next(entry for entry in made.test["alerts"] if entry["cut"] == cut)
    assert alert["alerts_per_1000"][0] == pytest.approx(1000 * found["flagged"][0], abs=0.1)


def test_bands_share_out_everybody() -> None:
    sample, _, made = evaluated()
    p, w = made.predictions.scenarios["complete"], sample.weights
    bands = made.test["levels"]["bands"]
    assert sum(band["people"] for band in bands.values()) == len(sample)
    assert sum(band["events"] for band in bands.values()) == sample.events.sum()
    assert sum(band["share"] for band in bands.values()) == near(1)
    inside = (p >= 0.2) & (p < 0.5)
    assert bands["moderate"]["observed"][0] == near(
        np.average(sample.events[inside], weights=w[inside])
    )


def test_net_benefit_of_testing_everybody_follows_from_the_prevalence() -> None:
    sample, _, made = evaluated()
    prevalence = np.average(sample.events, weights=sample.weights)
    section = made.test["decision_curve"]
    for threshold, value in zip(
        section["thresholds"], section["curves"]["Test everybody"], strict=True
    ):
        expected = prevalence - (1 - prevalence) * threshold / (1 - threshold)
        assert value == pytest.approx(expected, abs=1e-6)
    p, w = made.predictions.scenarios["complete"], sample.weights
    true = count((p >= 0.3) & (sample.events == 1), w) / w.sum()
    false = count((p >= 0.3) & (sample.events == 0), w) / w.sum()
    own = section["curves"]["This model"][section["thresholds"].index(0.3)]
    assert own == pytest.approx(true - false * 0.3 / 0.7, abs=1e-6)


def test_curves_pass_through_the_figures() -> None:
    sample, _, made = evaluated()
    p, w = made.predictions.scenarios["complete"], sample.weights
    roc = np.array(made.test["roc"])
    assert (np.diff(roc, axis=0) >= 0).all()
    assert roc[-1].tolist() == [1, 1]
    area = float(np.sum(np.diff(roc[:, 0]) * (roc[1:, 1] + roc[:-1, 1]) / 2))
    assert area == pytest.approx(roc_auc_score(sample.events, p, sample_weight=w), abs=0.01)
    recall, precision = np.array(made.test["precision_recall"]).T
    assert recall[-1] == 1
    assert precision[-1] == near(np.average(sample.events, weights=w))


# ------------------------------------------------------------------------- calibration


def test_slope_and_intercept_are_those_of_a_logistic_regression_on_the_log_odds() -> None:
    sample, _, made = evaluated()
    p = made.predictions.scenarios["complete"]
    log_odds = np.log(p / (1 - p))
    regression = LogisticRegression(C=np.inf, tol=1e-10)
    theirs = regression.fit(log_odds[:, None], sample.events, sample_weight=sample.weights)
    weighted = made.test["calibration"]
    assert weighted["slope"][0] == pytest.approx(theirs.coef_[0, 0], abs=2e-4)
    theirs = regression.fit(log_odds[:, None], sample.events)
    unweighted = made.test["calibration"]["unweighted"]
    assert unweighted["slope"][0] == pytest.approx(theirs.coef_[0, 0], abs=2e-4)
    assert unweighted["observed_to_expected"][0] == near(sample.events.sum() / p.sum())


def test_tenths_are_ten_groups_of_equal_weight_from_the_lowest_risks_up() -> None:
    sample, _, made = evaluated()
    groups = made.test["calibration"]["groups"]
    assert len(groups) == 10
    assert sum(group["people"] for group in groups) == len(sample)
    assert sum(group["events"] for group in groups) == sample.events.sum()
    predicted = [group["predicted"] for group in groups]
    assert predicted == sorted(predicted)
    expected = np.average(made.predictions.scenarios["complete"], weights=sample.weights)
    assert np.mean(predicted) == pytest.approx(expected, abs=0.01)


def test_the_calibration_curve_has_its_interval_around_it() -> None:
    curve = np.array(evaluated()[2].test["calibration"]["curve"], dtype=np.float64)
    assert (np.diff(curve[:, 0]) > 0).all()
    assert (curve[:, 2] <= curve[:, 3]).all()
    assert curve[-1, 1] > curve[0, 1]


# ------------------------------------------------------------------------- groups and outcomes


def test_figures_of_a_group_are_those_of_its_people_alone() -> None:
    sample, _, made = evaluated()
    p = made.predictions.scenarios["complete"]
    inside = sample.values[:, 0] >= 60
    group = made.test["groups"]["Age"]["60 and over"]
    part = sample.only(inside)
    assert (group["people"], group["events"]) == (int(inside.sum()), int(part.events.sum()))
    for name, value in measured_by_others(p[inside], part).items():
        assert group[name][0] == near(value), name


def test_a_group_is_measured_as_a_report_of_its_people_alone_measures_them() -> None:
    """All of it again: the same members, the same figures as when nobody else is there."""
    sample, recipe, made = evaluated()
    inside = sample.values[:, 0] >= 60
    group = made.test["groups"]["Age"]["60 and over"]
    alone = evaluate(predict, sample.only(inside), recipe, CUTS, Silent()).test
    for name in ("sensitivity_at_false_positive_rate", "specificity_at_sensitivity"):
        assert values(group[name]) == values(alone[name])
        assert None not in values(group[name]).values()
    for name in ("slope", "intercept_in_the_large", "observed_to_expected", "ici", "brier"):
        assert group["calibration"][name][0] == alone["calibration"][name][0] is not None
    assert group["calibration"]["groups"] == alone["calibration"]["groups"]
    assert [alert["cut"] for alert in group["alerts"]] == [a["cut"] for a in alone["alerts"]]
    assert [a["ppv"][0] for a in group["alerts"]] == [a["ppv"][0] for a in alone["alerts"]]
    for way in ("This model", "Test everybody"):
        assert group["decision_curve"]["curves"][way] == alone["decision_curve"]["curves"][way]


def values(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: figure[0] for name, figure in figures.items()}


def test_every_group_and_every_kind_of_record_has_every_measure_that_everybody_has() -> None:
    _, _, made = evaluated()
    parts = [
        *made.test["scenarios"].values(),
        *(entry for groups in made.test["groups"].values() for entry in groups.values()),
    ]
    whole = set(made.test["scenarios"]["complete"]) - {"title", "absent"}
    assert {"calibration", "decision_curve", "alerts", "auroc_weighted"} < whole
    assert all(whole < set(part) for part in parts)
    assert made.test["calibration"] == made.test["scenarios"]["complete"]["calibration"]


def test_a_kind_of_record_stands_beside_the_comparators_that_it_still_feeds() -> None:
    _, _, made = evaluated()
    ways = {
        id_: set(entry["decision_curve"]["curves"]) for id_, entry in made.test["scenarios"].items()
    }
    assert {"Glucose alone, recalibrated", "Logistic regression, recalibrated"} < ways["complete"]
    assert ways["no_glucose"] == {"This model", "Test everybody"}
    men = made.test["groups"]["Sex"]["Men"]
    assert set(men["decision_curve"]["curves"]) == ways["complete"]


def test_groups_leave_out_whom_the_source_does_not_tell() -> None:
    sample, recipe, made = evaluated()
    women = sample.values[:, 1] == 1
    men = sample.values[:, 1] == 0
    assert (women | men).mean() < 0.95
    counted = {title: group["people"] for title, group in made.test["groups"]["Sex"].items()}
    assert counted == {"Men": int(men.sum()), "Women": int(women.sum())}
    assert set(memberships(sample, recipe)) == {"Sex", "Age", "Race and ethnicity"}


def test_an_axis_that_the_source_does_not_have_is_left_out() -> None:
    test = quickly(people(120).drop(columns="ethnicity"))
    assert list(test["groups"]) == ["Sex", "Age"]


def test_a_group_without_anybody_is_left_out() -> None:
    table = people(120).assign(ethnicity="Circle")
    assert list(quickly(table)["groups"]["Race and ethnicity"]) == ["Circle"]


def test_a_group_of_one_class_has_no_ranking_and_its_other_figures() -> None:
    table = people(200)
    table.loc[table["ethnicity"] == "Square", "event"] = 0
    square = quickly(table)["groups"]["Race and ethnicity"]["Square"]
    assert square["auroc"] == [None, None, None]
    assert square["observed_to_expected"][0] == 0
    assert square["at_moderate"]["sensitivity"] == [None, None, None]
    assert square["at_moderate"]["specificity"][0] > 0
    nothing = [None, None, None]
    assert set(map(tuple, square["sensitivity_at_false_positive_rate"].values())) == {
        tuple(nothing)
    }
    assert set(map(tuple, square["specificity_at_sensitivity"].values())) == {tuple(nothing)}
    assert square["calibration"]["slope"] == square["calibration"]["ici"] == nothing
    assert {tuple(point[1:]) for point in square["calibration"]["curve"]} == {tuple(nothing)}


def test_other_outcomes_are_measured_in_whom_they_are_known() -> None:
    sample, _, made = evaluated()
    known = sample.people["event_fasting_glucose"].notna().to_numpy()
    events = sample.people["event_fasting_glucose"].to_numpy(float)[known]
    p = made.predictions.scenarios
    section = made.test["outcomes"]["fasting_glucose"]
    assert list(made.test["outcomes"]) == ["hba1c", "fasting_glucose"]
    assert (section["people"], section["events"]) == (int(known.sum()), int(events.sum()))
    assert section["auroc"][0] == near(roc_auc_score(events, p["complete"][known]))
    other = section["scenarios"]["no_glucose"]["average_precision"][0]
    assert other == near(average_precision_score(events, p["no_glucose"][known]))
    for title, scores in made.predictions.comparators.items():
        figure = section["comparators"][title]["auroc"][0]
        assert figure == near(roc_auc_score(events, scores[known]))


def test_the_models_own_outcome_says_the_same_in_both_places() -> None:
    test = evaluated()[2].test
    for name in ("auroc", "average_precision"):
        assert test["outcomes"]["hba1c"][name] == test["scenarios"]["complete"][name]


def test_comparators_are_measured_on_the_same_people() -> None:
    sample, recipe, made = evaluated()
    own = made.test["scenarios"]["complete"]["auroc"][0]
    for entry in made.test["comparators"].values():
        assert entry["model_minus_comparator"][0] == pytest.approx(
            own - entry["auroc"][0], abs=2e-4
        )
    glucose = made.predictions.comparators["Glucose alone"]
    column = sample.values[:, recipe.columns.index("glucose")]
    assert np.array_equal(glucose[~np.isnan(column)], column[~np.isnan(column)])
    assert len(set(glucose[np.isnan(column)])) == 1
    assert "filled with the median" in made.test["comparators"]["Glucose alone"]["note"]


def test_people_under_treatment_are_measured_beside_the_others() -> None:
    sample, recipe, made = evaluated()
    everybody = joined(sample, made_up_sample(recipe, 40, seed=9))
    section = made.test["with_treated"]
    assert (section["people"], section["events"]) == (540, int(everybody.events.sum()))
    expected = roc_auc_score(everybody.events, predict(everybody.values))
    assert section["auroc"][0] == near(expected)
    assert quickly(people(120))["with_treated"] is None


# ------------------------------------------------------------------------- hard cases


@pytest.mark.parametrize(
    "given",
    [0.3, 0.0, 1.0, np.array([0.0, 1.0] * 60), np.array([1e-12, 0.5, 1.0] * 40)],
    ids=["one-risk-for-all", "never", "always", "certain", "nearly-certain"],
)
def test_probabilities_of_any_kind_give_figures_or_null_and_no_stack_trace(given: Any) -> None:
    """A model of another's, or a hundred people, may give everybody the same or be certain."""
    recipe = small_recipe()
    sample = sample_from(people(120), recipe)

    def others(rows: Values) -> Floats:
        return np.broadcast_to(np.asarray(given, dtype=np.float64), (len(rows),)).copy()

    made = evaluate(others, sample, recipe, CUTS, Silent())
    json.dumps(made.test, allow_nan=False)
    assert made.test["scenarios"]["complete"]["brier"][0] is not None


def test_a_handful_of_people_gives_figures_or_null() -> None:
    table = people(6).assign(event=[0, 1, 0, 0, 0, 0])
    test = quickly(table)
    json.dumps(test, allow_nan=False)
    assert test["events"] == 1


def test_without_a_survey_design_people_are_drawn() -> None:
    table = people(120).assign(stratum=1, sampling_unit=np.arange(120), weight=1.0)
    assert quickly(table)["design"] == "Bootstrap over 120 people; no survey design."


def test_the_same_people_give_the_same_report() -> None:
    assert quickly(people(120)) == quickly(people(120))


def quickly(table: pd.DataFrame) -> Mapping[str, Any]:
    recipe = small_recipe(evaluation={"replicates": 10, "fitted_replicates": 4})
    return evaluate(predict, sample_from(table, recipe), recipe, CUTS, Silent()).test


# ------------------------------------------------------------------------- who the people are


def test_characteristics_are_medians_quartiles_and_shares_of_the_table() -> None:
    sample, recipe, _ = evaluated()
    rows = {row["title"]: row for row in characteristics({"test": sample}, recipe)}
    glucose = sample.people["glucose"].round()
    low, middle, high = glucose.quantile([0.25, 0.5, 0.75])
    assert rows["Glucose, mg/dL"]["test"] == [
        *(pytest.approx(value, abs=0.5) for value in (middle, low, high)),
        near(glucose.isna().mean()),
    ]
    women = sample.people["sex"] == 1
    assert rows["Sex: Women"]["test"] == [int(women.sum()), near(women.mean())]
    assert "Sex" not in rows
