"""Where a risk becomes worth a card: cuts by several rules, on people whom the model had not seen.

The recipe says which rule is used for which level, and the report shows all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_training import measures
from model_training.recipe import Recipe
from model_training.sample import Floats, Ints, Sample

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Lowest probability of each level."""

    moderate: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _People:
    probabilities: Floats
    events: Ints
    weights: Floats

    def measure(self, measure: measures.Measure) -> float:
        value = measure(self.probabilities, self.events, self.weights[None, :])[0]
        return float(np.nan_to_num(value))


def choose_cuts(probabilities: Floats, sample: Sample, recipe: Recipe) -> tuple[Cuts, Json]:
    """The cuts that the recipe's rules name, and every rule's cut with what it would mean."""
    rule = recipe.raw["thresholds"]
    people = _People(probabilities=probabilities, events=sample.events, weights=sample.weights)
    cuts = {name: find(people, _grid(rule), rule) for name, (_, find) in _RULES.items()}
    used = rule["used"]
    moderate = cuts[used["moderate"]]
    above = round(moderate + rule["step"], 6)
    chosen = Cuts(moderate=moderate, high=max(cuts[used["high"]], above))
    return chosen, {
        "used": {level: _RULES[name][0](rule) for level, name in used.items()},
        "candidates": [
            {"rule": title(rule), **_consequences(people, cuts[name])}
            for name, (title, _) in _RULES.items()
        ],
    }


def rationale(cuts: Cuts, recipe: Recipe) -> str:
    rule = recipe.raw["thresholds"]
    said = {level: _RULES[name][0](rule) for level, name in rule["used"].items()}
    return (
        f"Cuts on a grid of {rule['step']:g}, chosen on the development people with their weights, "
        "each scored by a model that had not seen anybody of the same period; nobody of the test "
        f"part was looked at. Moderate from {cuts.moderate:g}: {said['moderate']}. High from "
        f"{cuts.high:g}: {said['high']}. {rule['why']}"
    )


def _grid(rule: Mapping[str, Any]) -> list[float]:
    steps = round(1 / rule["step"])
    return [round(step * rule["step"], 6) for step in range(1, steps)]


def _consequences(people: _People, cut: float) -> Json:
    share = people.measure(measures.flagged_share(cut))
    return {
        "cut": cut,
        "sensitivity": round(people.measure(measures.sensitivity(cut)), 4),
        "ppv": round(people.measure(measures.positive_predictive_value(cut)), 4),
        "alerts_per_1000": round(1000 * share, 1),
    }


def _by_f1(people: _People, grid: list[float], rule: Mapping[str, Any]) -> float:
    del rule
    return max(grid, key=lambda cut: people.measure(measures.f1(cut)))


def _by_alert_budget(people: _People, grid: list[float], rule: Mapping[str, Any]) -> float:
    within = (
        cut for cut in grid if people.measure(measures.flagged_share(cut)) <= rule["alert_budget"]
    )
    return next(within, grid[-1])


def _by_predictive_value(people: _People, grid: list[float], rule: Mapping[str, Any]) -> float:
    reached = (
        cut
        for cut in grid
        if people.measure(measures.positive_predictive_value(cut)) >= rule["predictive_value"]
    )
    return next(reached, grid[-1])


def _by_net_benefit(people: _People, grid: list[float], rule: Mapping[str, Any]) -> float:
    """The threshold probability that the exchange rate implies, whoever the people are (Vickers
    and Elkin, Med Decis Making 2006;26:565-574): a calibrated model is best cut there."""
    del people
    wanted = 1 / (1 + rule["needless_tests_per_case"])
    return min(grid, key=lambda cut: abs(cut - wanted))


_Title = Callable[[Mapping[str, Any]], str]
_Find = Callable[[_People, list[float], Mapping[str, Any]], float]
_RULES: Mapping[str, tuple[_Title, _Find]] = {
    "f1": (lambda rule: "the cut with the highest F1", _by_f1),
    "alert_budget": (
        lambda rule: f"the lowest cut that alerts at most {rule['alert_budget']:.0%} of people",
        _by_alert_budget,
    ),
    "predictive_value": (
        lambda rule: (
            "the lowest cut at and above which at least "
            f"{rule['predictive_value']:.0%} have the outcome"
        ),
        _by_predictive_value,
    ),
    "net_benefit": (
        lambda rule: (
            "the cut at which finding one case is worth "
            f"{rule['needless_tests_per_case']:g} needless tests (net benefit)"
        ),
        _by_net_benefit,
    ),
}
