"""What simpler means reach on the same people: glucose by itself, logistic regression."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model_training.features import Floats, Sample
from model_training.logistic import fit_logistic
from model_training.masking import Values
from model_training.recipe import Recipe

_RIDGE = 1.0


def comparator_scores(fit: Sample, test: Sample, recipe: Recipe) -> Mapping[str, Floats]:
    """Title → score of every test person; gaps are filled with the fit people's median."""
    return {
        "Glucose alone": _glucose(fit, test, recipe),
        "Logistic regression": _logistic_regression(fit, test),
    }


def _glucose(fit: Sample, test: Sample, recipe: Recipe) -> Floats:
    column = recipe.columns.index("glucose")
    return _filled(test.values, _medians(fit.values))[:, column]


def _logistic_regression(fit: Sample, test: Sample) -> Floats:
    """All inputs, standardised, with a weak ridge; survey-weighted as the model's calibration."""
    medians = _medians(fit.values)
    seen = _filled(fit.values, medians)
    mean, spread = seen.mean(axis=0), seen.std(axis=0)
    coefficients = fit_logistic(
        (seen - mean) / spread, fit.events.astype(np.float64), fit.weights, ridge=_RIDGE
    )
    unseen: Floats = (_filled(test.values, medians) - mean) / spread
    return np.asarray(unseen @ coefficients[:-1] + coefficients[-1], dtype=np.float64)


def _medians(values: Values) -> Floats:
    return np.nanmedian(values.astype(np.float64), axis=0)


def _filled(values: Values, medians: Floats) -> Floats:
    return np.where(np.isnan(values), medians, values.astype(np.float64))
