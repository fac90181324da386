"""ROC and precision-recall curves, at a hundred cuts of equal weight."""

from __future__ import annotations

import numpy as np

from model_training.evaluation.scored import Scored, rounded
from model_training.sample import Floats


def roc_curve(scored: Scored) -> list[list[float]]:
    """[false positive rate, sensitivity]"""
    _, true, false = _curve(scored)
    return [[rounded(x), rounded(y)] for x, y in zip(false, true, strict=True)]


def precision_recall(scored: Scored) -> list[list[float]]:
    """[sensitivity, positive predictive value]"""
    flagged, true, _ = _curve(scored)
    prevalence = float(scored.weighted[0] @ scored.events / scored.weighted[0].sum())
    return [
        [rounded(y), rounded(y * prevalence / share)]
        for share, y in zip(flagged, true, strict=True)
    ]


def _curve(scored: Scored) -> tuple[Floats, Floats, Floats]:
    """Share alerted, sensitivity and false positive rate."""
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
