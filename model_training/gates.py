"""What a version must reach before it is published, as the recipe's [[gates]] say it.

A gate names a figure by its path in report.json and a bound for it; nothing here knows what the
figure means:

    measure   dotted path; `*` stands for every entry of an object, and the worst one decides;
              keys that hold a dot are quoted: test.sensitivity_at_false_positive_rate."0.1"
    bound     "value" (default), "low" or "high": which end of the 95 % interval is held against it
    minus     path of a figure whose value is taken off before (never with `*`)
    against   "published": the same figure of the version published now is taken off, with the
              interval of the difference
    at_least, at_most, within
              exactly one of them; within = [low, high]. Bounds are inclusive
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from model_training.comparison import auroc_difference
from model_training.gate_rules import BOUNDS, Gate
from model_training.predictions import Predictions

# The figures that can be counted again from stored predictions, and so compared in pairs.
_PAIRED = re.compile(r"test\.scenarios\.(?P<scenario>[^.*]+)\.auroc")
_STEP = re.compile(r'"([^"]*)"|([^."]+)')

Figure = tuple[float, float, float]


class Measured(Protocol):
    """A version as gates need it: model_training.artifact.Artifact is one."""

    @property
    def reference(self) -> str: ...

    @property
    def report(self) -> Mapping[str, Any]: ...

    @property
    def predictions(self) -> Predictions | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """`measured` is None where the figure could not be told, which is no pass, and for a first
    version, which has nothing to be held against.

    `note` says which entry decided, what was left out, and what it was compared with.
    """

    gate: Gate
    measured: float | None
    passed: bool
    note: str

    def as_json(self) -> dict[str, Any]:
        """An entry of report.json's `gates`."""
        low, high = self.gate.low, self.gate.high
        required = {"at_least": low, "at_most": high}.get(self.gate.rule, [low, high])
        return {
            "id": self.gate.id,
            "title": self.gate.title,
            "measured": self.measured,
            "rule": self.gate.rule,
            "required": required,
            "passed": self.passed,
            "note": self.note or None,
        }

    def sentence(self) -> str:
        """What was asked and what there is, for people: `Title: 0.841, at least 0.85 asked …`."""
        asked = requirement(self.as_json())
        if self.measured is None and self.passed:
            return f"{self.gate.title}: {self.note}."
        if self.measured is None:
            return f"{self.gate.title}: could not be told, {asked} asked. {self.note}"
        short = max(self.gate.low - self.measured, self.measured - self.gate.high)
        miss = "" if self.passed else f", missed by {said(short)}"
        note = f" ({self.note})" if self.note else ""
        return f"{self.gate.title}: {said(self.measured)}, {asked} asked{miss}{note}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One figure that a path led to: where, and its numbers."""

    where: str
    figure: Figure


def judge(
    gates: Sequence[Gate],
    report: Mapping[str, Any],
    published: Measured | None,
    *,
    predictions: Predictions | None = None,
) -> tuple[GateResult, ...]:
    """Every gate's result. `published` is the version published now, None for the first one;
    `predictions` are the new version's own: with those of the published one they make pairs."""
    return tuple(_judged(gate, report, published, predictions) for gate in gates)


def requirement(result: Mapping[str, Any]) -> str:
    """What a gate's entry in report.json asks for, in words: `at least 0.85`."""
    required = result["required"]
    if isinstance(required, Sequence):
        return f"{said(required[0])} to {said(required[1])}"
    return f"{str(result.get('rule', 'at_least')).replace('_', ' ')} {said(required)}"


def said(number: float) -> str:
    """Counts whole, figures to four places without trailing zeros."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{round(number, 4) + 0.0:g}"


def _judged(
    gate: Gate,
    report: Mapping[str, Any],
    published: Measured | None,
    predictions: Predictions | None,
) -> GateResult:
    if gate.against_published:
        return _against(gate, report, published, predictions)
    found = list(_figures(report, _path(gate.measure)))
    taken = 0.0 if gate.minus is None else _one(report, gate.minus)
    bound = BOUNDS.index(gate.bound)
    known = {entry.where: entry.figure[bound] - taken for entry in found}
    known = {where: number for where, number in known.items() if not math.isnan(number)}
    unknown = [entry.where for entry in found if entry.where not in known]
    if not known:
        paths = " or ".join(path for path in (gate.measure, gate.minus) if path)
        return _untold(gate, f"The report has no figure at {paths}.")
    where = min(known, key=lambda name: _room(gate, known[name]))
    decided = [where] if "*" in gate.measure else []
    left_out = [f"no figure for {', '.join(unknown)}"] if unknown else []
    return _result(gate, known[where], "; ".join([*decided, *left_out]))


def _against(
    gate: Gate,
    report: Mapping[str, Any],
    published: Measured | None,
    predictions: Predictions | None,
) -> GateResult:
    if published is None:
        note = "nothing is published to compare it with"
        return GateResult(gate=gate, measured=None, passed=True, note=note)
    figure, note = _paired(gate, published, predictions) or _unpaired(gate, report, published)
    number = figure[BOUNDS.index(gate.bound)]
    if math.isnan(number):
        return _untold(gate, f"{gate.measure} is missing here or in {published.reference}.")
    return _result(gate, number, note)


def _paired(
    gate: Gate, published: Measured, predictions: Predictions | None
) -> tuple[Figure, str] | None:
    """The difference on the very same people, where both versions' figures are stored."""
    scenario = _PAIRED.fullmatch(gate.measure)
    before = published.predictions
    if scenario is None or predictions is None or before is None:
        return None
    which = scenario["scenario"]
    both = which in predictions.scenarios and which in before.scenarios
    if not both or not predictions.same_people(before):
        return None
    figure = auroc_difference(
        predictions.scenarios[which], before.scenarios[which], predictions.events
    )
    return figure, f"against {published.reference}, on the same people"


def _unpaired(gate: Gate, report: Mapping[str, Any], published: Measured) -> tuple[Figure, str]:
    """The difference of two figures that were measured by themselves."""
    now = _figure_at(report, gate.measure)
    before = _figure_at(published.report, gate.measure)
    difference = now[0] - before[0]
    low = difference - math.hypot(now[0] - now[1], before[2] - before[0])
    high = difference + math.hypot(now[2] - now[0], before[0] - before[1])
    return (difference, low, high), f"against {published.reference}, each by itself"


def _result(gate: Gate, measured: float, note: str) -> GateResult:
    # Rounded first: what is shown is what was judged.
    number = round(measured, 6)
    return GateResult(gate=gate, measured=number, passed=gate.low <= number <= gate.high, note=note)


def _untold(gate: Gate, note: str) -> GateResult:
    return GateResult(gate=gate, measured=None, passed=False, note=note)


def _room(gate: Gate, number: float) -> float:
    """How far inside the bounds a number lies, negative outside."""
    return min(number - gate.low, gate.high - number)


def _one(report: Mapping[str, Any], path: str) -> float:
    return _figure_at(report, path)[0]


def _figure_at(report: Mapping[str, Any], path: str) -> Figure:
    return next((e.figure for e in _figures(report, _path(path))), (math.nan,) * 3)


def _path(text: str) -> list[str]:
    return [quoted or plain for quoted, plain in _STEP.findall(text)]


def _figures(node: Any, path: Sequence[str], starred: tuple[str, ...] = ()) -> Iterator[_Found]:
    """Whatever the path leads to; nothing where it leads nowhere."""
    if not path:
        yield _Found(where=": ".join(starred), figure=_figure(node))
        return
    if not isinstance(node, Mapping):
        return
    if path[0] == "*":
        for key, inner in node.items():
            yield from _figures(inner, path[1:], (*starred, key))
    elif path[0] in node:
        yield from _figures(node[path[0]], path[1:], starred)


def _figure(node: Any) -> Figure:
    """[value, low, high], or a plain number, whose interval is itself; NaN for anything else."""
    parts = node if isinstance(node, Sequence) and len(node) == 3 else [node] * 3
    value, low, high = (_number(part) for part in parts)
    return value, low, high


def _number(part: Any) -> float:
    known = isinstance(part, int | float) and not isinstance(part, bool)
    return float(part) if known else math.nan
