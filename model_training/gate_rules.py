"""The recipe's [[gates]], read. What their fields mean is said in gates.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_training.dataset import DatasetError

# A figure stands in report.json with its interval in this order.
BOUNDS = ("value", "low", "high")
_LIMITS = ("at_least", "at_most", "within")
_KEYS = {"id", "title", "measure", "bound", "minus", "against", *_LIMITS}
_PUBLISHED = "published"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One entry of [[gates]]. `low` and `high` are the inclusive bounds, infinite where open."""

    id: str
    title: str
    measure: str
    bound: str
    minus: str | None
    against_published: bool
    rule: str
    low: float
    high: float


def parse_gates(raw: Sequence[Mapping[str, Any]]) -> tuple[Gate, ...]:
    """The recipe's [[gates]]; raises DatasetError naming the gate that cannot be used."""
    gates = tuple(_gate(entry) for entry in raw)
    ids = [gate.id for gate in gates]
    twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
    if twice:
        raise DatasetError(f"The recipe has several gates of one id: {', '.join(twice)}.")
    return gates


def _gate(raw: Mapping[str, Any]) -> Gate:
    name = raw.get("id", "without an id")
    strange = sorted(set(raw) - _KEYS)
    _require(not strange, name, f"has unknown entries: {', '.join(strange)}")
    rules = [rule for rule in _LIMITS if rule in raw]
    _require(len(rules) == 1, name, f"needs exactly one of {', '.join(_LIMITS)}")
    _require(raw.get("bound", "value") in BOUNDS, name, f"needs a bound of {', '.join(BOUNDS)}")
    _require(raw.get("against") in (None, _PUBLISHED), name, f"can be against {_PUBLISHED} only")
    _require("against" not in raw or "minus" not in raw, name, "has both minus and against")
    _require("*" not in str(raw.get("minus", "")), name, "takes off one figure, not several")
    try:
        low, high = _limits(rules[0], raw[rules[0]])
        return Gate(
            id=str(raw["id"]),
            title=str(raw["title"]),
            measure=str(raw["measure"]),
            bound=raw.get("bound", "value"),
            minus=raw.get("minus"),
            against_published="against" in raw,
            rule=rules[0],
            low=low,
            high=high,
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise DatasetError(
            f"The recipe's gate {name} cannot be used: {fault!r} is missing or wrong."
        ) from fault


def _limits(rule: str, limit: Any) -> tuple[float, float]:
    if rule == "within":
        low, high = limit
        return float(low), float(high)
    bound = float(limit)
    return (bound, math.inf) if rule == "at_least" else (-math.inf, bound)


def _require(holds: bool, name: str, problem: str) -> None:
    if not holds:
        raise DatasetError(f"The recipe's gate {name} {problem}.")
