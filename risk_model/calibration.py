"""From a booster's margin to calibrated log-odds: four methods, one function each.

Training and serving share this arithmetic: what was chosen by cross-validation is what answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from risk_model.manifest import CALIBRATION, ArtifactError

Floats = npt.NDArray[np.float64]

# Closer than this, margins are one: XGBoost's are 32-bit, good to about a millionth.
_NEAR = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigmoid:
    """log-odds = slope · margin + intercept (Platt 1999); identity is slope 1, intercept 0."""

    slope: float
    intercept: float

    def log_odds(self, margins: Floats) -> Floats:
        return self.slope * margins + self.intercept

    def scale(self, margin: float, expected: float) -> float:
        return self.slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Beta:
    """log-odds = a · ln p - b · ln(1 - p) + c, where p is the sigmoid of the margin.

    Kull, Silva Filho and Flach 2017, https://doi.org/10.1214/17-EJS1338SI; a = b is a sigmoid.
    """

    a: float
    b: float
    c: float

    def log_odds(self, margins: Floats) -> Floats:
        # ln p = -ln(1 + e^-m) and -ln(1 - p) = ln(1 + e^m): neither p nor 1 - p is ever rounded.
        rising = -self.a * np.logaddexp(0.0, -margins)
        return np.asarray(rising + self.b * np.logaddexp(0.0, margins) + self.c)

    def scale(self, margin: float, expected: float) -> float:
        return _secant(self, margin, expected)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Isotonic:
    """The probability, interpolated linearly over the margin between knots, flat outside them."""

    margins: Floats
    probabilities: Floats

    def log_odds(self, margins: Floats) -> Floats:
        probabilities = np.interp(margins, self.margins, self.probabilities)
        return np.asarray(np.log(probabilities) - np.log1p(-probabilities))

    def scale(self, margin: float, expected: float) -> float:
        return _secant(self, margin, expected)


Calibration = Sigmoid | Beta | Isotonic


def calibrated_log_odds(calibration: Calibration, margins: Floats) -> Floats:
    """Calibrated log-odds, one for each margin (log-odds before calibration)."""
    return calibration.log_odds(np.asarray(margins, dtype=np.float64))


def _secant(calibration: Beta | Isotonic, margin: float, expected: float) -> float:
    """(g(m) - g(b)) / (m - b): scaled by it, shares that sum to m - b sum to g(m) - g(b).

    Where the two meet it is the slope of g there.
    """
    middle, half = (margin + expected) / 2, max(abs(margin - expected) / 2, _NEAR)
    low, high = calibration.log_odds(np.array([middle - half, middle + half])).tolist()
    return float(high - low) / (2 * half)


def parse_calibration(raw: Any) -> Calibration:
    """calibration.json → the calibration; raises ArtifactError that says what is wrong."""
    _require(isinstance(raw, dict), "is not a JSON object")
    match raw.get("method"):
        case "identity":
            return Sigmoid(slope=1.0, intercept=0.0)
        case "sigmoid":
            return _sigmoid(raw)
        case "beta":
            return _beta(raw)
        case "isotonic":
            return _isotonic(raw)
    raise _unusable(
        f"method is {raw.get('method')!r}, none of 'identity', 'sigmoid', 'beta', 'isotonic'"
    )


def _sigmoid(raw: Mapping[str, Any]) -> Sigmoid:
    slope = _number(raw.get("slope"), "slope")
    _require(slope > 0, f"slope {slope} is not above 0")
    return Sigmoid(slope=slope, intercept=_number(raw.get("intercept"), "intercept"))


def _beta(raw: Mapping[str, Any]) -> Beta:
    a, b, c = (_number(raw.get(name), name) for name in ("a", "b", "c"))
    # Otherwise a higher margin could mean a lower risk, or every margin the same.
    _require(a >= 0 and b >= 0 and a + b > 0, f"a {a} and b {b} are not both 0 or more, one above")
    return Beta(a=a, b=b, c=c)


def _isotonic(raw: Mapping[str, Any]) -> Isotonic:
    margins, probabilities = _numbers(raw, "margins"), _numbers(raw, "probabilities")
    counts = f"{len(margins)} margins and {len(probabilities)} probabilities"
    _require(len(margins) == len(probabilities) > 0, f"has {counts}")
    _require(bool((np.diff(margins) > 0).all()), "margins do not rise")
    _require(bool((np.diff(probabilities) >= 0).all()), "probabilities fall")
    inside = probabilities[0] > 0 and probabilities[-1] < 1
    _require(inside, "probabilities reach 0 or 1, whose log-odds are infinite")
    return Isotonic(margins=margins, probabilities=probabilities)


def _numbers(raw: Mapping[str, Any], name: str) -> Floats:
    values = raw.get(name)
    if not isinstance(values, list):
        raise _unusable(f"{name} is {values!r}, not a list of numbers")
    return np.array([_number(value, f"{name}[{n}]") for n, value in enumerate(values)])


def _number(value: Any, name: str) -> float:
    # JSON has no infinity, and 1e999 becomes one all the same.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise _unusable(f"{name} is {value!r}, not a finite number")
    return float(value)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise _unusable(problem)


def _unusable(problem: str) -> ArtifactError:
    return ArtifactError(CALIBRATION, problem, "Train the model again")
