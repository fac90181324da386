"""What a model is worth on people it has not seen: the report's `test`, for any model and source.

Nothing here is typed: everything is counted or computed. A figure is [value, low, high], a 95 %
interval; null where it cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model_training import measures
from model_training.comparators import Comparator
from model_training.dataset import Reporter
from model_training.logistic import fit_logistic, logistic
from model_training.masking import without_panels
from model_training.measures import Interval, Measure, interval
from model_training.predictions import Predictions
from model_training.predictions import rounded as as_stored
from model_training.recipe import Recipe, titles
from model_training.sample import Flags, Floats, Ints, Sample, Values
from model_training.thresholds import Cuts

Json = dict[str, Any]
Predict = Callable[[Values], Floats]
_DIGITS = 4
_TENTHS = 10
_CURVE_POINTS = 60
_RISKS = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """People, the probabilities (or scores) they were given, and replicate weights.

    `everyone` counts each person once, `weighted` as many as they stand for; both are of shape
    (1 + replicates, n), the first row the people as they are.
    """

    probabilities: Floats
    events: Ints
    everyone: Floats
    weighted: Floats

    def only(self, chosen: Flags) -> Scored:
        return Scored(
            probabilities=self.probabilities[chosen],
            events=self.events[chosen],
            everyone=self.everyone[:, chosen],
            weighted=self.weighted[:, chosen],
        )

    def given(self, scores: Floats) -> Scored:
        """The same people with other scores."""
        return Scored(
            probabilities=scores,
            events=self.events,
            everyone=self.everyone,
            weighted=self.weighted,
        )

    def measure(
        self, measure: Measure, *, weighted: bool = True, replicates: int | None = None
    ) -> Interval:
        weights = self.weighted if weighted else self.everyone
        kept = None if replicates is None else replicates + 1
        return interval(measure(self.probabilities, self.events, weights[:kept]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The report's `test`, and what each person was given."""

    test: Json
    predictions: Predictions


def evaluate(
    predict: Predict,
    sample: Sample,
    recipe: Recipe,
    cuts: Cuts,
    reporter: Reporter,
    *,
    comparators: Sequence[Comparator] = (),
    treated: Sample | None = None,
) -> Evaluation:
    """`predict`: rows in the recipe's feature order → probabilities. `treated`: people whom only
    the cohort's rule on treatment left out; the figures with them are given beside."""
    everyone = _replicates(sample, recipe)
    comparators = [replace(entry, scores=as_stored(entry.scores)) for entry in comparators]
    scored = {}
    for scenario in recipe.scenarios:
        reporter.step(f"Measuring: {scenario.title.lower()}")
        values = without_panels(sample.values, scenario.absent, recipe)
        scored[scenario.id] = Scored(
            # As they are stored, so that every figure can be counted again from the file.
            probabilities=as_stored(predict(values)),
            events=sample.events,
            everyone=everyone,
            weighted=everyone * sample.weights,
        )
    complete = scored[recipe.scenarios[0].id]
    reporter.step("Measuring: calibration, groups, decisions and comparators")
    rule = recipe.raw["evaluation"]
    test = {
        "people": len(sample),
        "events": int(sample.events.sum()),
        "prevalence": figure(complete.measure(measures.prevalence)),
        "prevalence_unweighted": rounded(float(sample.events.mean())),
        "replicates": rule["replicates"],
        "design": _design(sample),
        "scenarios": {
            scenario.id: {
                "title": scenario.title,
                "absent": titles(recipe, scenario.absent),
                **_scenario(scored[scenario.id], cuts),
            }
            for scenario in recipe.scenarios
        },
        "outcomes": _outcomes(sample, complete, scored, recipe, comparators),
        "calibration": _calibration(complete, rule["fitted_replicates"]),
        "roc": _roc_curve(complete),
        "precision_recall": _precision_recall(complete),
        "sensitivity_at_false_positive_rate": {
            f"{rate:g}": figure(
                complete.measure(measures.sensitivity_at_false_positive_rate(rate), weighted=False)
            )
            for rate in rule["false_positive_rates"]
        },
        "specificity_at_sensitivity": {
            f"{wanted:g}": figure(
                complete.measure(measures.specificity_at_sensitivity(wanted), weighted=False)
            )
            for wanted in rule["sensitivities"]
        },
        "decision_curve": _decision_curve(complete, comparators, rule["decision_thresholds"]),
        "alerts": [_alert(complete, cut) for cut in _alert_cuts(rule, cuts)],
        "levels": _levels(complete, cuts),
        "groups": _groups(sample, complete, cuts, recipe),
        "comparators": _comparators(complete, comparators),
        "with_treated": None if treated is None else _with_treated(predict, treated, recipe),
    }
    predictions = Predictions(
        records=tuple(sample.records),
        events=sample.events,
        scenarios={id_: entry.probabilities for id_, entry in scored.items()},
        comparators={comparator.title: comparator.scores for comparator in comparators},
    )
    return Evaluation(test=test, predictions=predictions)


def figure(entry: Interval) -> list[float | None]:
    return [
        None if np.isnan(value) else rounded(value)
        for value in (entry.value, entry.low, entry.high)
    ]


def rounded(value: float, digits: int = _DIGITS) -> float:
    # + 0.0 turns the negative zero, which JSON would show, into zero.
    return round(float(value), digits) + 0.0


def _replicates(sample: Sample, recipe: Recipe) -> Floats:
    rule = recipe.raw["evaluation"]
    return measures.replicate_weights(sample, replicates=rule["replicates"], seed=rule["seed"])


def _design(sample: Sample) -> str:
    strata = len(np.unique(sample.strata))
    units = len(np.unique(np.stack([sample.strata, sample.units]), axis=1).T)
    if strata == 1:
        return f"Bootstrap over {units:,} people; no survey design."
    return (
        f"Bootstrap over the survey's {units} sampling units within {strata} strata (Rao, Wu and "
        "Yue, 1992)."
    )


def _scenario(scored: Scored, cuts: Cuts) -> Json:
    return {
        "auroc": figure(scored.measure(measures.auroc, weighted=False)),
        "auroc_weighted": figure(scored.measure(measures.auroc)),
        "average_precision": figure(scored.measure(measures.average_precision, weighted=False)),
        "average_precision_weighted": figure(scored.measure(measures.average_precision)),
        "brier": figure(scored.measure(measures.brier, weighted=False)),
        "brier_weighted": figure(scored.measure(measures.brier)),
        "observed_to_expected": figure(scored.measure(measures.observed_to_expected)),
        "at_moderate": _yield(scored, cuts.moderate),
    }


def _yield(scored: Scored, cut: float) -> Json:
    return {
        "cut": cut,
        "flagged": figure(scored.measure(measures.flagged_share(cut))),
        "sensitivity": figure(scored.measure(measures.sensitivity(cut))),
        "specificity": figure(scored.measure(measures.specificity(cut))),
        "ppv": figure(scored.measure(measures.positive_predictive_value(cut))),
    }


def _alert(scored: Scored, cut: float) -> Json:
    at = _yield(scored, cut)
    per_1000 = [None if value is None else round(1000 * value, 1) for value in at["flagged"]]
    return {
        "cut": cut,
        "alerts_per_1000": per_1000,
        "ppv": at["ppv"],
        "sensitivity": at["sensitivity"],
    }


def _alert_cuts(rule: Mapping[str, Any], cuts: Cuts) -> list[float]:
    return sorted({*rule["decision_thresholds"], cuts.moderate, cuts.high})


def _outcomes(
    sample: Sample,
    complete: Scored,
    scored: Mapping[str, Scored],
    recipe: Recipe,
    comparators: Sequence[Comparator],
) -> Json:
    """The same probabilities against other definitions of the disease, in whom they are known."""
    made: Json = {}
    for outcome in recipe.raw.get("outcomes", ()):
        if outcome["column"] not in sample.people:
            continue
        known = sample.people[outcome["column"]].notna().to_numpy()
        known = known & (sample.people[outcome["weight"]] > 0).to_numpy()
        events = sample.people[outcome["column"]].to_numpy(np.float64)[known].astype(np.int64)
        if not 0 < events.sum() < len(events):
            continue
        made[outcome["id"]] = {
            "title": outcome["title"],
            "people": int(known.sum()),
            "events": int(events.sum()),
            **_ranking(complete, known, events),
            "scenarios": {
                id_: _ranking(scored[id_], known, events)
                for id_ in ("no_glucose", "no_labs")
                if id_ in scored
            },
            "comparators": {
                comparator.title: _ranking(complete.given(comparator.scores), known, events)
                for comparator in comparators
            },
        }
    return made


def _ranking(scored: Scored, known: Flags, events: Ints) -> Json:
    people = scored.only(known)
    return {
        "auroc": figure(interval(measures.auroc(people.probabilities, events, people.everyone))),
        "average_precision": figure(
            interval(measures.average_precision(people.probabilities, events, people.everyone))
        ),
    }


def _calibration(scored: Scored, replicates: int) -> Json:
    def fitted(measure: Measure, *, weighted: bool) -> list[float | None]:
        return figure(scored.measure(measure, weighted=weighted, replicates=replicates))

    return {
        "slope": fitted(measures.calibration_slope, weighted=True),
        "intercept_in_the_large": fitted(measures.calibration_intercept, weighted=True),
        "observed_to_expected": figure(scored.measure(measures.observed_to_expected)),
        "ici": fitted(measures.integrated_calibration_index, weighted=True),
        "brier": figure(scored.measure(measures.brier)),
        "groups": _tenths(scored),
        "histogram": _histogram(scored),
        "curve": _smooth_curve(scored, replicates),
        "unweighted": {
            "slope": fitted(measures.calibration_slope, weighted=False),
            "intercept_in_the_large": fitted(measures.calibration_intercept, weighted=False),
            "observed_to_expected": figure(
                scored.measure(measures.observed_to_expected, weighted=False)
            ),
            "ici": fitted(measures.integrated_calibration_index, weighted=False),
        },
    }


def _smooth_curve(scored: Scored, replicates: int) -> list[list[float | None]]:
    """[given, observed, low, high] from the 1st to the 99th percentile of the given risks."""
    given = measures.log_odds(scored.probabilities)
    low, high = (float(end) for end in np.quantile(given, [0.01, 0.99]))
    at = logistic(np.linspace(low, high, _CURVE_POINTS))

    def curve(weights: Floats) -> Floats:
        drawn = weights > 0
        if not 0 < scored.events[drawn].sum() < drawn.sum():
            return np.full(len(at), np.nan)
        try:
            return measures.smooth_observed(
                scored.probabilities[drawn], scored.events[drawn], weights[drawn], at
            )
        except (ArithmeticError, np.linalg.LinAlgError):
            return np.full(len(at), np.nan)

    curves = np.array([curve(row) for row in scored.weighted[: replicates + 1]])
    return [
        [rounded(risk, 6), *(None if v is None else rounded(v, 6) for v in _plain(points))]
        for risk, points in zip(at, curves.T, strict=True)
    ]


def _plain(measured: Floats) -> list[float | None]:
    made = interval(measured)
    return [None if np.isnan(v) else float(v) for v in (made.value, made.low, made.high)]


def _tenths(scored: Scored) -> list[Json]:
    """Groups of equal weight, from the lowest risks up."""
    weights = scored.weighted[0]
    order = np.argsort(scored.probabilities, kind="stable")
    position = np.cumsum(weights[order]) / weights.sum()
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.minimum((position * _TENTHS).astype(int), _TENTHS - 1)
    return [
        {
            "people": int(inside.sum()),
            "events": int(scored.events[inside].sum()),
            "predicted": rounded(_mean(scored.probabilities, weights, inside)),
            "observed": rounded(_mean(scored.events, weights, inside)),
        }
        for inside in (group == number for number in range(_TENTHS))
        if inside.any()
    ]


def _histogram(scored: Scored) -> list[list[float]]:
    """[low, high, weight] of bands of given risk, three to each power of ten."""
    weights = scored.weighted[0]
    shares, edges = np.histogram(scored.probabilities, bins=_RISKS, weights=weights)
    total = weights.sum()
    return [
        [low, high, rounded(share / total, 5)]
        for low, high, share in zip(edges[:-1].tolist(), edges[1:].tolist(), shares, strict=True)
    ]


def _mean(values: Floats | Ints, weights: Floats, chosen: Flags) -> float:
    return float(np.average(values[chosen], weights=weights[chosen]))


def _curve(scored: Scored) -> tuple[Floats, Floats, Floats]:
    """Share alerted, sensitivity and false positive rate at a hundred cuts of equal weight."""
    weights = scored.weighted[0]
    order = np.argsort(-scored.probabilities, kind="stable")
    happened = scored.events[order]
    true = np.cumsum(weights[order] * happened) / (weights * scored.events).sum()
    false = np.cumsum(weights[order] * (1 - happened)) / (weights * (1 - scored.events)).sum()
    flagged = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(flagged, np.linspace(0, 1, 101)).clip(max=len(order) - 1)
    # Whoever has the same score is alerted together.
    falling = -scored.probabilities[order]
    at = np.searchsorted(falling, falling[at], side="right") - 1
    return flagged[at], true[at], false[at]


def _roc_curve(scored: Scored) -> list[list[float]]:
    _, true, false = _curve(scored)
    return [[rounded(x), rounded(y)] for x, y in zip(false, true, strict=True)]


def _precision_recall(scored: Scored) -> list[list[float]]:
    flagged, true, _ = _curve(scored)
    prevalence = float(scored.weighted[0] @ scored.events / scored.weighted[0].sum())
    return [
        [rounded(y), rounded(y * prevalence / share)]
        for share, y in zip(flagged, true, strict=True)
    ]


def _decision_curve(
    scored: Scored, comparators: Sequence[Comparator], thresholds: Sequence[float]
) -> Json:
    """Net benefit per person. A comparator's score is first turned into a risk by a logistic
    regression on these very people, which favours it."""
    curves = {
        "This model": [_net_benefit(scored, scored.probabilities, t) for t in thresholds],
        "Test everybody": [
            _net_benefit(scored, np.ones_like(scored.probabilities), t) for t in thresholds
        ],
    }
    for comparator in comparators:
        risks = _as_risk(comparator.scores, scored)
        title = f"{comparator.title}, recalibrated"
        curves[title] = [_net_benefit(scored, risks, t) for t in thresholds]
    return {"thresholds": list(thresholds), "curves": curves}


def _net_benefit(scored: Scored, risks: Floats, threshold: float) -> float:
    measure = measures.net_benefit(threshold, threshold)
    return rounded(measure(risks, scored.events, scored.weighted[:1])[0], 6)


def _as_risk(scores: Floats, scored: Scored) -> Floats:
    centred = (scores - scores.mean()) / (scores.std() or 1.0)
    slope, intercept = fit_logistic(
        centred, scored.events.astype(np.float64), scored.weighted[0], ridge=1e-6
    )
    return logistic(slope * centred + intercept)


def _levels(scored: Scored, cuts: Cuts) -> Json:
    p = scored.probabilities
    bands = {
        "low": p < cuts.moderate,
        "moderate": (cuts.moderate <= p) & (p < cuts.high),
        "high": cuts.high <= p,
    }
    return {
        "at_moderate": _yield(scored, cuts.moderate),
        "at_high": _yield(scored, cuts.high),
        "bands": {name: _band(scored, inside) for name, inside in bands.items()},
    }


def _band(scored: Scored, inside: Flags) -> Json:
    weights = scored.weighted[0]
    people = scored.only(inside)
    return {
        "people": int(inside.sum()),
        "events": int(people.events.sum()),
        "share": rounded(weights[inside].sum() / weights.sum()),
        "observed": figure(people.measure(measures.prevalence)),
    }


def _groups(sample: Sample, scored: Scored, cuts: Cuts, recipe: Recipe) -> Json:
    return {
        axis: {
            title: {"people": int(inside.sum()), "events": int(sample.events[inside].sum())}
            | _scenario(scored.only(inside), cuts)
            for title, inside in groups.items()
            if inside.any()
        }
        for axis, groups in memberships(sample, recipe).items()
    }


def memberships(sample: Sample, recipe: Recipe) -> Mapping[str, Mapping[str, Flags]]:
    """Axis → group → who is in it; axes whose column the source does not have are left out."""
    made: dict[str, dict[str, Flags]] = {}
    for entry in recipe.raw["evaluation"]["groups"]:
        if "feature" in entry:
            values = sample.values[:, recipe.columns.index(entry["feature"])]
            made[entry["axis"]] = {
                title: (low <= values) & (values < high)
                for title, (low, high) in entry["groups"].items()
            }
        elif entry["column"] in sample.people:
            found = sample.people[entry["column"]].astype(object).to_numpy()
            made[entry["axis"]] = {title: found == title for title in entry["groups"]}
    return made


def _comparators(model: Scored, comparators: Sequence[Comparator]) -> Json:
    own = measures.auroc(model.probabilities, model.events, model.everyone)
    made: Json = {}
    for comparator in comparators:
        simpler = model.given(comparator.scores)
        theirs = measures.auroc(comparator.scores, model.events, model.everyone)
        made[comparator.title] = {
            "auroc": figure(interval(theirs)),
            "auroc_weighted": figure(simpler.measure(measures.auroc)),
            "average_precision": figure(
                simpler.measure(measures.average_precision, weighted=False)
            ),
            "model_minus_comparator": figure(interval(own - theirs)),
            "roc": _roc_curve(simpler),
            "note": comparator.note,
        }
    return made


def _with_treated(predict: Predict, sample: Sample, recipe: Recipe) -> Json:
    everyone = _replicates(sample, recipe)
    scored = Scored(
        probabilities=predict(sample.values),
        events=sample.events,
        everyone=everyone,
        weighted=everyone * sample.weights,
    )
    return {
        "people": len(sample),
        "events": int(sample.events.sum()),
        "auroc": figure(scored.measure(measures.auroc, weighted=False)),
        "auroc_weighted": figure(scored.measure(measures.auroc)),
    }
