"""Weighted logistic regression by Newton's method: calibration, its audit, and a comparator."""

from __future__ import annotations

import numpy as np

from model_training.sample import Floats

_STEPS = 100
_CONVERGED = 1e-10


def fit_logistic(
    columns: Floats,
    events: Floats,
    weights: Floats,
    *,
    ridge: float = 0.0,
    offset: Floats | float = 0.0,
) -> Floats:
    """Coefficients, the intercept last and unpenalised; weights are scaled to a mean of 1."""
    design = np.column_stack([columns, np.ones(len(events))])
    weights = weights / weights.mean()
    penalty = np.diag([ridge] * (design.shape[1] - 1) + [0.0])
    coefficients = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        probability = logistic(design @ coefficients + offset)
        gradient = design.T @ (weights * (events - probability)) - penalty @ coefficients
        curvature = weights * probability * (1 - probability)
        step = np.linalg.solve(design.T @ (design * curvature[:, None]) + penalty, gradient)
        coefficients = coefficients + step
        if np.abs(step).max() < _CONVERGED:
            return coefficients
    raise ArithmeticError("logistic regression did not converge: is the outcome separable?")


def logistic(log_odds: Floats) -> Floats:
    # tanh never overflows, unlike exp.
    return 0.5 * (1.0 + np.tanh(0.5 * log_odds))


def log_loss(log_odds: Floats, events: Floats, weights: Floats) -> float:
    signs = 2 * events - 1
    return float(np.average(np.logaddexp(0.0, -signs * log_odds), weights=weights))
