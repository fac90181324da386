"""The plain fit that the studies share: trees on given columns, people predicted unseen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from joblib import Parallel, delayed

from model_training import measures
from model_training.measures import Interval, interval
from model_training.sample import Flags, Floats, Ints, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One cross-validated fit: columns (n, p), signs of the columns, labels, who is held out."""

    columns: Floats
    monotone: tuple[int, ...]
    events: Ints
    folds: Sequence[Flags]
    learn_from: Flags | None = None


def predict_unseen(tasks: Sequence[Task], parameters: Mapping[str, Any]) -> list[Floats]:
    """Margins per task, one per person, each by a model that did not see the person's fold.

    `learn_from` narrows who is learned from, not who is predicted. Tasks run side by side, each on
    one thread.
    """
    made = Parallel(n_jobs=-1)(delayed(_cross_validated)(task, parameters) for task in tasks)
    return list(made)


def bootstrap(sample: Sample, rule: Mapping[str, Any]) -> Floats:
    """Replicate weights of the survey design, fewer than for the test figures."""
    return measures.replicate_weights(sample, replicates=rule["replicates"], seed=rule["seed"])


def gain(new: Floats, old: Floats, events: Ints, weights: Floats) -> Interval:
    """How much AUROC the new scores add, on the same people and the same replicates."""
    return interval(measures.auroc(new, events, weights) - measures.auroc(old, events, weights))


def figure(entry: Interval, digits: int = 4) -> list[float | None]:
    return [
        None if np.isnan(value) else round(float(value), digits) + 0.0
        for value in (entry.value, entry.low, entry.high)
    ]


def _cross_validated(task: Task, parameters: Mapping[str, Any]) -> Floats:
    margins = np.full(len(task.events), np.nan)
    columns = task.columns.astype(np.float32)
    given = {
        **{name: value for name, value in parameters.items() if name != "rounds"},
        "objective": "binary:logistic",
        "monotone_constraints": task.monotone,
        "nthread": 1,
    }
    for inside in task.folds:
        learned = ~inside if task.learn_from is None else ~inside & task.learn_from
        matrix = xgboost.DMatrix(columns[learned], task.events[learned], nthread=1)
        booster = xgboost.train(given, matrix, parameters["rounds"])
        margins[inside] = booster.inplace_predict(columns[inside], predict_type="margin")
    return margins
