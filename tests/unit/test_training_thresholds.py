"""Each rule's cut, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_training.sample import Sample, sample_from
from model_training.thresholds import Cuts, choose_cuts, rationale
from tests.people import made_up_people, small_recipe

# Ten people, one at each tenth and a half; those with the outcome marked.
GIVEN = np.array([0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95])
EVENTS = [0, 0, 0, 1, 0, 0, 1, 1, 0, 1]


def people(weights: Any = 1.0) -> Sample:
    return sample_from(made_up_people(10).assign(event=EVENTS, weight=weights), small_recipe())


def cuts_by_rule(weights: Any = 1.0, **rule: Any) -> dict[str, dict[str, float]]:
    recipe = small_recipe(thresholds={"step": 0.1, **rule})
    _, section = choose_cuts(GIVEN, people(weights), recipe)
    return dict(
        zip(
            ("f1", "alert_budget", "predictive_value", "net_benefit"),
            section["candidates"],
            strict=True,
        )
    )


def test_the_highest_f1_counted_by_hand() -> None:
    """Cut 0.6: three found of four, one needless, F1 6/8; 0.3 gives 8/11, all others less."""
    found = cuts_by_rule()["f1"]
    assert found["cut"] == 0.6
    assert (found["sensitivity"], found["ppv"]) == (0.75, 0.75)
    assert found["alerts_per_1000"] == 400


@pytest.mark.parametrize(("budget", "cut"), [(0.3, 0.7), (0.35, 0.7), (0.29, 0.8), (1.0, 0.1)])
def test_the_alert_budget_takes_the_lowest_cut_that_keeps_it(budget: float, cut: float) -> None:
    found = cuts_by_rule(alert_budget=budget)["alert_budget"]
    assert found["cut"] == cut
    assert found["alerts_per_1000"] <= 1000 * budget


@pytest.mark.parametrize(
    ("wanted", "cut"), [(0.5, 0.2), (0.55, 0.3), (0.6, 0.5), (0.75, 0.6), (0.9, 0.9)]
)
def test_the_predictive_value_takes_the_lowest_cut_that_reaches_it(
    wanted: float, cut: float
) -> None:
    """From 0.2 on 4 of 8, from 0.3 on 4 of 7, from 0.5 on 3 of 5, from 0.6 on 3 of 4, from 0.7 on
    2 of 3, from 0.8 on 1 of 2, from 0.9 on 1 of 1."""
    found = cuts_by_rule(predictive_value=wanted)["predictive_value"]
    assert found["cut"] == cut
    assert found["ppv"] >= wanted


@pytest.mark.parametrize(("needless", "cut"), [(4, 0.2), (1, 0.5), (9, 0.1)])
def test_net_benefit_takes_the_cut_that_the_exchange_rate_implies(
    needless: float, cut: float
) -> None:
    """Four needless tests for a case: a risk of one in five."""
    assert cuts_by_rule(needless_tests_per_case=needless)["net_benefit"]["cut"] == cut


def test_weights_count_as_so_many_people() -> None:
    """The five at the top stand for one third each: all of them fit a budget of a fourth."""
    weights = np.where(GIVEN > 0.5, 1 / 3, 1.0)
    assert cuts_by_rule(weights, alert_budget=0.25)["alert_budget"]["cut"] == 0.5


def test_what_cannot_be_reached_ends_at_the_last_cut_of_the_grid() -> None:
    found = cuts_by_rule(alert_budget=0.05, predictive_value=1.1)
    assert found["alert_budget"]["cut"] == 0.9
    assert found["predictive_value"]["cut"] == 0.9


def test_a_cut_that_alerts_nobody_has_figures_all_the_same() -> None:
    recipe = small_recipe(thresholds={"step": 0.1, "alert_budget": 0.0})
    _, section = choose_cuts(GIVEN / 2, people(), recipe)
    silent = section["candidates"][1]
    assert silent["cut"] == 0.5
    assert (silent["sensitivity"], silent["ppv"], silent["alerts_per_1000"]) == (0, 0, 0)


def test_the_recipe_names_the_rule_of_each_level_and_the_report_says_so() -> None:
    recipe = small_recipe(
        thresholds={"step": 0.1, "used": {"moderate": "net_benefit", "high": "f1"}}
    )
    cuts, section = choose_cuts(GIVEN, people(), recipe)
    assert cuts == Cuts(moderate=0.2, high=0.6)
    assert section["used"] == {
        "moderate": "the cut at which finding one case is worth 4 needless tests (net benefit)",
        "high": "the cut with the highest F1",
    }
    said = rationale(cuts, recipe)
    assert "Moderate from 0.2: the cut at which" in said
    assert "High from 0.6: the cut with the highest F1. For tests." in said


def test_high_lies_at_least_one_step_above_moderate() -> None:
    recipe = small_recipe(
        thresholds={"step": 0.1, "used": {"moderate": "alert_budget", "high": "predictive_value"}}
    )
    cuts, _ = choose_cuts(GIVEN, people(), recipe)
    assert cuts == Cuts(moderate=0.7, high=0.8)


def test_cuts_are_written_as_the_grid_has_them() -> None:
    """0.1 + 0.005 is 0.10500000000000001 in binary."""
    used = {"moderate": "net_benefit", "high": "net_benefit"}
    recipe = small_recipe(thresholds={"step": 0.005, "needless_tests_per_case": 9, "used": used})
    cuts, _ = choose_cuts(GIVEN, people(), recipe)
    assert (cuts.moderate, cuts.high) == (0.1, 0.105)
