"""The measured figures, as JSON: nothing here is typed, everything is counted or computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_training import measures
from model_training.comparators import comparator_scores
from model_training.features import Floats, Sample
from model_training.fitting import Choice
from model_training.levels import Cuts
from model_training.logistic import fit_logistic, logistic
from model_training.masking import without_panels
from model_training.measures import Interval, Measure, interval
from model_training.recipe import Recipe

Announce = Callable[[str], None]
Json = dict[str, Any]
_DIGITS = 4
_CALIBRATION_GROUPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Test people, the probabilities they were given, and the replicate weights of the survey.

    `everyone` counts each person once, `weighted` as many as they stand for.
    """

    probabilities: Floats
    events: npt.NDArray[np.int64]
    everyone: Floats
    weighted: Floats

    def only(self, chosen: npt.NDArray[np.bool_]) -> Scored:
        return Scored(
            probabilities=self.probabilities[chosen],
            events=self.events[chosen],
            everyone=self.everyone[:, chosen],
            weighted=self.weighted[:, chosen],
        )

    def measure(self, measure: Measure, *, weighted: bool = True) -> Interval:
        weights = self.weighted if weighted else self.everyone
        return interval(measure(self.probabilities, self.events, weights))


def measure_on_test(
    fit: Sample,
    test: Sample,
    with_treated: Sample,
    choice: Choice,
    cuts: Cuts,
    recipe: Recipe,
    announce: Announce,
) -> Json:
    """All figures on the test cycle. `with_treated`: the same people and those under treatment."""
    scored = {}
    for scenario in recipe.scenarios:
        announce(f"Measuring: {scenario.title.lower()}")
        scored[scenario.id] = _score(test, choice, recipe, scenario.absent)
    complete = scored[recipe.scenarios[0].id]
    announce("Measuring: groups and comparators")
    return {
        "people": len(test),
        "events": int(test.events.sum()),
        "prevalence": _figure(complete.measure(measures.prevalence)),
        "prevalence_unweighted": _rounded(test.events.mean()),
        "scenarios": {
            scenario.id: {"title": scenario.title} | _scenario(scored[scenario.id], cuts)
            for scenario in recipe.scenarios
        },
        "calibration": _calibration(complete),
        "curve": _roc_curve(complete),
        "levels": _levels(complete, cuts),
        "groups": _groups(test, complete, cuts, recipe),
        "comparators": _comparators(fit, test, complete, recipe),
        "with_treated": _with_treated(with_treated, choice, recipe),
    }


def tuning(choice: Choice) -> Json:
    return {
        "criterion": "survey-weighted log loss on the tune cycles, mean of the scenarios",
        "chosen": choice.best.candidate.id,
        "candidates": {
            name: {
                "mean_log_loss": _rounded(float(np.mean(list(losses.values()))), 6),
                "log_loss": {scenario: _rounded(loss, 6) for scenario, loss in losses.items()},
            }
            for name, losses in choice.losses.items()
        },
    }


def _score(sample: Sample, choice: Choice, recipe: Recipe, absent: Sequence[str] = ()) -> Scored:
    rule = recipe.raw["evaluation"]
    multipliers = measures.replicate_weights(
        sample, replicates=rule["replicates"], seed=rule["seed"]
    )
    values = without_panels(sample.values, absent, recipe)
    return Scored(
        probabilities=logistic(choice.best.log_odds(values)),
        events=sample.events,
        everyone=multipliers,
        weighted=multipliers * sample.weights,
    )


def _scenario(scored: Scored, cuts: Cuts) -> Json:
    return {
        "auroc": _figure(scored.measure(measures.auroc, weighted=False)),
        "auroc_weighted": _figure(scored.measure(measures.auroc)),
        "observed_to_expected": _figure(scored.measure(measures.observed_to_expected)),
        "at_moderate": _yield(scored, cuts.moderate),
    }


def _yield(scored: Scored, cut: float) -> Json:
    return {
        "cut": cut,
        "flagged": _figure(scored.measure(measures.flagged_share(cut))),
        "sensitivity": _figure(scored.measure(measures.sensitivity(cut))),
        "specificity": _figure(scored.measure(measures.specificity(cut))),
        "ppv": _figure(scored.measure(measures.positive_predictive_value(cut))),
    }


def _levels(scored: Scored, cuts: Cuts) -> Json:
    bands = {"low": (0.0, cuts.moderate), "moderate": (cuts.moderate, cuts.high)}
    bands["high"] = (cuts.high, np.inf)
    weights = scored.weighted[0]
    return {
        "at_moderate": _yield(scored, cuts.moderate),
        "at_high": _yield(scored, cuts.high),
        "bands": {
            name: _band(scored, (low <= scored.probabilities) & (scored.probabilities < high))
            | {"share": _rounded(_share(weights, scored.probabilities, low, high))}
            for name, (low, high) in bands.items()
        },
    }


def _band(scored: Scored, inside: npt.NDArray[np.bool_]) -> Json:
    people = scored.only(inside)
    return {
        "people": int(inside.sum()),
        "events": int(people.events.sum()),
        "observed": _figure(people.measure(measures.prevalence)),
    }


def _share(weights: Floats, probabilities: Floats, low: float, high: float) -> float:
    inside = (low <= probabilities) & (probabilities < high)
    return float(weights[inside].sum() / weights.sum())


def _calibration(scored: Scored) -> Json:
    """Slope and intercept of the outcome on the given log-odds, and ten groups of equal weight."""
    weights, events = scored.weighted[0], scored.events.astype(np.float64)
    log_odds = np.log(scored.probabilities / (1 - scored.probabilities))
    slope, _ = fit_logistic(log_odds, events, weights)
    (intercept,) = fit_logistic(np.empty((len(events), 0)), events, weights, offset=log_odds)
    return {
        "slope": _rounded(slope),
        "intercept_in_the_large": _rounded(intercept),
        "brier": _figure(scored.measure(measures.brier)),
        "observed_to_expected": _figure(scored.measure(measures.observed_to_expected)),
        "groups": _calibration_groups(scored),
    }


def _calibration_groups(scored: Scored) -> list[Json]:
    weights = scored.weighted[0]
    order = np.argsort(scored.probabilities, kind="stable")
    position = np.cumsum(weights[order]) / weights.sum()
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.minimum((position * _CALIBRATION_GROUPS).astype(int), _CALIBRATION_GROUPS - 1)
    return [
        {
            "people": int((group == number).sum()),
            "events": int(scored.events[group == number].sum()),
            "predicted": _rounded(_mean(scored.probabilities, weights, group == number)),
            "observed": _rounded(_mean(scored.events, weights, group == number)),
        }
        for number in range(_CALIBRATION_GROUPS)
    ]


def _roc_curve(scored: Scored) -> list[list[float]]:
    """[1 − specificity, sensitivity] at a hundred cuts of equal weight, survey-weighted."""
    weights = scored.weighted[0]
    order = np.argsort(-scored.probabilities, kind="stable")
    happened = scored.events[order]
    true = np.cumsum(weights[order] * happened) / (weights * scored.events).sum()
    false = np.cumsum(weights[order] * (1 - happened)) / (weights * (1 - scored.events)).sum()
    flagged = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(flagged, np.linspace(0, 1, 101)).clip(max=len(order) - 1)
    return [[_rounded(false[i]), _rounded(true[i])] for i in at]


def _groups(test: Sample, scored: Scored, cuts: Cuts, recipe: Recipe) -> Json:
    return {
        title: {"people": int(chosen.sum()), "events": int(test.events[chosen].sum())}
        | _scenario(scored.only(chosen), cuts)
        for title, chosen in _memberships(test, recipe).items()
    }


def _memberships(test: Sample, recipe: Recipe) -> Mapping[str, npt.NDArray[np.bool_]]:
    sex = test.values[:, recipe.columns.index("sex")]
    age = test.values[:, recipe.columns.index("age")]
    rule = recipe.raw["evaluation"]
    ages = {
        f"Age {title}": (low <= age) & (age < high)
        for title, (low, high) in rule["age_bands"].items()
    }
    ethnicities = {title: test.ethnicity == code for title, code in rule["ethnicity"].items()}
    return {"Men": sex == 0, "Women": sex == 1} | ages | ethnicities


def _comparators(fit: Sample, test: Sample, model: Scored, recipe: Recipe) -> Json:
    own = measures.auroc(model.probabilities, model.events, model.everyone)
    return {
        title: {
            "auroc": _figure(interval(measures.auroc(scores, test.events, model.everyone))),
            "auroc_weighted": _figure(
                interval(measures.auroc(scores, test.events, model.weighted))
            ),
            "model_minus_comparator": _figure(
                interval(own - measures.auroc(scores, test.events, model.everyone))
            ),
        }
        for title, scores in comparator_scores(fit, test, recipe).items()
    }


def _with_treated(sample: Sample, choice: Choice, recipe: Recipe) -> Json:
    scored = _score(sample, choice, recipe)
    return {
        "people": len(sample),
        "events": int(sample.events.sum()),
        "auroc": _figure(scored.measure(measures.auroc, weighted=False)),
        "auroc_weighted": _figure(scored.measure(measures.auroc)),
    }


def _mean(values: npt.NDArray[Any], weights: Floats, chosen: npt.NDArray[np.bool_]) -> float:
    return float(np.average(values[chosen], weights=weights[chosen]))


def _figure(figure: Interval) -> list[float | None]:
    """[value, low, high] of a 95 % interval; null where nobody was there to be counted."""
    return [
        None if np.isnan(entry) else _rounded(entry)
        for entry in (figure.value, figure.low, figure.high)
    ]


def _rounded(value: float, digits: int = _DIGITS) -> float:
    # + 0.0 turns the negative zero, which JSON would show, into zero.
    return round(float(value), digits) + 0.0
