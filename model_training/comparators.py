"""What simpler means reach on the same people: glucose by itself, logistic regression, and the
paper scores that a practice nurse can add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from model_training.preprocessing import fit_preprocessor
from model_training.recipe import Recipe
from model_training.risk_scores import RiskScore, ada_risk_test, findrisc
from model_training.sample import Floats, Sample, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparator:
    """A score per person; the higher, the likelier. `note` says what it could not be given.

    `reads` are the model's inputs that it takes from the record; what a person is asked is none.
    """

    title: str
    scores: Floats
    reads: frozenset[str]
    note: str | None


def compare_with(development: Sample, test: Sample, recipe: Recipe) -> list[Comparator]:
    """Those that the recipe names, on the test people, fitted on the development people; a paper
    score whose items the source does not have is left out."""
    named = recipe.raw["evaluation"].get("comparators", ())
    return [
        _COMPARATORS[name](development, test, recipe)
        for name in named
        if set(_ITEMS.get(name, ())) <= set(test.people)
    ]


def _glucose(development: Sample, test: Sample, recipe: Recipe) -> Comparator:
    name = next(f.name for f in recipe.features if f.concept == "glucose")
    column = recipe.columns.index(name)
    median = float(np.nanmedian(development.values[:, column]))
    scores = np.where(np.isnan(test.values[:, column]), median, test.values[:, column])
    return Comparator(
        title="Glucose alone",
        scores=scores.astype(np.float64),
        reads=frozenset({name}),
        note=_filled(test.values[:, column]),
    )


def _logistic_regression(development: Sample, test: Sample, recipe: Recipe) -> Comparator:
    """The same inputs: gaps filled with the median, scaled, one-hot, a weak ridge."""
    pipeline = logistic_pipeline(development, recipe)
    return Comparator(
        title="Logistic regression",
        scores=np.asarray(pipeline.decision_function(test.values), np.float64),
        reads=frozenset(recipe.columns),
        note="the same inputs, gaps filled with the median",
    )


def logistic_pipeline(development: Sample, recipe: Recipe) -> Pipeline:
    preprocessor = fit_preprocessor(
        development.values, recipe, "median", recipe.raw["preprocessing"]
    )
    regression = LogisticRegression(C=1.0, max_iter=1000)
    regression.fit(
        preprocessor.transformer.transform(development.values),
        development.events,
        sample_weight=development.weights / development.weights.mean(),
    )
    return Pipeline([("preprocess", preprocessor.transformer), ("regress", regression)])


def _ada(development: Sample, test: Sample, recipe: Recipe) -> Comparator:
    del development, recipe
    return _paper_score("ADA risk test", ada_risk_test(test.people))


def _findrisc(development: Sample, test: Sample, recipe: Recipe) -> Comparator:
    del development, recipe
    return _paper_score("FINDRISC", findrisc(test.people))


def _paper_score(title: str, score: RiskScore) -> Comparator:
    note = (
        f"up to {score.most} points; not asked: {', '.join(score.left_out)}; an item is missing in "
        f"{score.incomplete:.1%} of people and counts 0"
    )
    return Comparator(title=title, scores=score.points, reads=frozenset(), note=note)


def _filled(values: Values) -> str | None:
    share = float(np.isnan(values).mean())
    return f"absent in {share:.1%}, filled with the median" if share else None


_QUESTIONS = ("family_history", "physically_active")
_ITEMS: Mapping[str, tuple[str, ...]] = {
    "ada_risk_test": (*_QUESTIONS, "gestational_diabetes", "hypertension"),
    "findrisc": (*_QUESTIONS, "waist", "antihypertensives"),
}
_COMPARATORS: Mapping[str, Callable[[Sample, Sample, Recipe], Comparator]] = {
    "glucose": _glucose,
    "logistic_regression": _logistic_regression,
    "ada_risk_test": _ada,
    "findrisc": _findrisc,
}
