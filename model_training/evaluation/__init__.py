"""What a model is worth on people it has not seen: the report's `test`, for any model and source.

Nothing here is typed: everything is counted or computed. A figure is [value, low, high], a 95 %
interval; null where it cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_training import measures
from model_training.comparators import Comparator
from model_training.dataset import Reporter
from model_training.evaluation.curves import precision_recall, roc_curve
from model_training.evaluation.decisions import as_risks, levels
from model_training.evaluation.performance import WHOLE, Performance
from model_training.evaluation.scored import Json, Scored, figure, rounded
from model_training.masking import without_panels
from model_training.measures import interval
from model_training.predictions import Predictions
from model_training.predictions import rounded as as_stored
from model_training.recipe import Recipe, Scenario, titles
from model_training.sample import Flags, Floats, Ints, Sample, Values
from model_training.thresholds import Cuts

Predict = Callable[[Values], Floats]


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
    performance = Performance(rule=recipe.raw["evaluation"], cuts=cuts)
    rivals = _rivals(complete, comparators)
    everybody = performance.of(complete, _risks(rivals), everybody=True)
    test = {
        "people": len(sample),
        "events": int(sample.events.sum()),
        "prevalence": figure(complete.measure(measures.prevalence)),
        "prevalence_unweighted": rounded(float(sample.events.mean())),
        "replicates": recipe.raw["evaluation"]["replicates"],
        "design": _design(sample),
        "scenarios": _scenarios(performance, scored, rivals, everybody, recipe),
        "outcomes": _outcomes(sample, complete, scored, recipe, comparators),
        **{name: everybody[name] for name in WHOLE},
        "roc": roc_curve(complete),
        "precision_recall": precision_recall(complete),
        "levels": levels(complete, cuts),
        "groups": _groups(performance, sample, complete, rivals, recipe),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rival:
    """A comparator as risks, and the inputs that it takes from the record."""

    title: str
    risks: Floats
    reads: frozenset[str]


def _rivals(complete: Scored, comparators: Sequence[Comparator]) -> list[_Rival]:
    return [
        _Rival(
            title=f"{comparator.title}, recalibrated",
            risks=as_risks(comparator, complete),
            reads=comparator.reads,
        )
        for comparator in comparators
    ]


def _risks(rivals: Sequence[_Rival], inside: Flags | None = None) -> dict[str, Floats]:
    return {rival.title: rival.risks if inside is None else rival.risks[inside] for rival in rivals}


def _scenarios(
    performance: Performance,
    scored: Mapping[str, Scored],
    rivals: Sequence[_Rival],
    everybody: Json,
    recipe: Recipe,
) -> Json:
    """Each kind of record, beside the comparators whose inputs it still holds."""
    first, *others = recipe.scenarios
    made = {first.id: _scenario(first, everybody, recipe)}
    for scenario in others:
        gone = {name for panel in scenario.absent for name in recipe.panels[panel].features}
        able = [rival for rival in rivals if not rival.reads & gone]
        measured = performance.of(scored[scenario.id], _risks(able))
        made[scenario.id] = _scenario(scenario, measured, recipe)
    return made


def _scenario(scenario: Scenario, measured: Json, recipe: Recipe) -> Json:
    return {
        "title": scenario.title,
        "absent": titles(recipe, scenario.absent),
        **measured,
    }


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


def _groups(
    performance: Performance,
    sample: Sample,
    scored: Scored,
    rivals: Sequence[_Rival],
    recipe: Recipe,
) -> Json:
    """Comparators are recalibrated on everybody, as the model is: a group has no say of its own."""
    return {
        axis: {
            title: {"people": int(inside.sum()), "events": int(sample.events[inside].sum())}
            | performance.of(scored.only(inside), _risks(rivals, inside))
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
            "roc": roc_curve(simpler),
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
