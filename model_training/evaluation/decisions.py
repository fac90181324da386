"""What acting on probabilities does: yield at a cut, alerts, levels, net benefit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from model_training import measures
from model_training.comparators import Comparator
from model_training.evaluation.scored import Json, Scored, figure, rounded
from model_training.logistic import fit_logistic, logistic
from model_training.sample import Flags, Floats
from model_training.thresholds import Cuts


def yield_at(scored: Scored, cut: float) -> Json:
    return {
        "cut": cut,
        "flagged": figure(scored.measure(measures.flagged_share(cut))),
        "sensitivity": figure(scored.measure(measures.sensitivity(cut))),
        "specificity": figure(scored.measure(measures.specificity(cut))),
        "ppv": figure(scored.measure(measures.positive_predictive_value(cut))),
    }


def alert(scored: Scored, cut: float) -> Json:
    at = yield_at(scored, cut)
    per_1000 = [None if value is None else round(1000 * value, 1) for value in at["flagged"]]
    return {
        "cut": cut,
        "alerts_per_1000": per_1000,
        "ppv": at["ppv"],
        "sensitivity": at["sensitivity"],
    }


def levels(scored: Scored, cuts: Cuts) -> Json:
    p = scored.probabilities
    bands = {
        "low": p < cuts.moderate,
        "moderate": (cuts.moderate <= p) & (p < cuts.high),
        "high": cuts.high <= p,
    }
    return {
        "at_moderate": yield_at(scored, cuts.moderate),
        "at_high": yield_at(scored, cuts.high),
        "bands": {name: _band(scored, inside) for name, inside in bands.items()},
    }


def decision_curve(scored: Scored, rivals: Mapping[str, Floats], at: Sequence[float]) -> Json:
    """Net benefit per person, weighted; `rivals` are risks that other means gave these people."""
    ways = {
        "This model": scored.probabilities,
        "Test everybody": np.ones_like(scored.probabilities),
        **rivals,
    }
    return {
        "thresholds": list(at),
        "curves": {
            title: [_net_benefit(scored, risks, threshold) for threshold in at]
            for title, risks in ways.items()
        },
    }


def as_risks(comparator: Comparator, scored: Scored) -> Floats:
    """A comparator's score as a risk, by a logistic regression on these very people: that favours
    the comparator."""
    scores = comparator.scores
    centred = (scores - scores.mean()) / (scores.std() or 1.0)
    slope, intercept = fit_logistic(
        centred, scored.events.astype(np.float64), scored.weighted[0], ridge=1e-6
    )
    return logistic(slope * centred + intercept)


def _net_benefit(scored: Scored, risks: Floats, threshold: float) -> float:
    measure = measures.net_benefit(threshold, threshold)
    return rounded(measure(risks, scored.events, scored.weighted[:1])[0], 6)


def _band(scored: Scored, inside: Flags) -> Json:
    weights = scored.weighted[0]
    people = scored.only(inside)
    return {
        "people": int(inside.sum()),
        "events": int(people.events.sum()),
        "share": rounded(weights[inside].sum() / weights.sum()),
        "observed": figure(people.measure(measures.prevalence)),
    }
