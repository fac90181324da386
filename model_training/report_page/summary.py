"""The first screen: the question, the three figures that matter, the gates, for whom not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model_training.gates import requirement, said
from model_training.report_page.calibration import expected_and_seen
from model_training.report_page.discrimination import pairs_ranked_rightly
from model_training.report_page.figures import (
    Figure,
    Json,
    bounds_of,
    count,
    found,
    listed,
    number,
    percent,
    percent_with_interval,
    sentence,
    value_of,
)

_NOTES_SHOWN = 3  # on the first screen; all of them stand under the people
_EXCLUDED = {
    "deceased": "people who have died",
    "known_diabetes": "people with known diabetes",
    "pregnancy": "pregnant people",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure that matters: its name, its value, its interval and what it means."""

    name: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    title: str
    measured: str
    required: str
    note: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """`verdict` says in a sentence how the gates went; `passed` is None where there are none."""

    title: str
    model: str
    question: str
    measured_on: str
    tiles: Sequence[Tile]
    gates: Sequence[Gate]
    passed: bool | None
    verdict: str
    not_for: Sequence[str]
    limits: Sequence[str]
    more_limits: int


def summary(report: Json, manifest: Json) -> Summary:
    gates = [_gate(gate) for gate in report.get("gates") or ()]
    passed = all(gate.passed for gate in gates) if gates else None
    model = found(report, "model") or {}
    notes = found(report, "data", "notes") or ()
    return Summary(
        title=manifest.get("title") or model.get("title", ""),
        model=f"{manifest.get('name')} {manifest.get('version')}",
        question=manifest.get("question") or model.get("question", ""),
        measured_on=_measured_on(report),
        tiles=_tiles(report),
        gates=gates,
        passed=passed,
        verdict=_verdict(gates, report.get("forced")),
        not_for=_not_for(manifest),
        limits=[sentence(note) for note in notes[:_NOTES_SHOWN]],
        more_limits=max(0, len(notes) - _NOTES_SHOWN),
    )


def _measured_on(report: Json) -> str:
    test = found(report, "test") or {}
    periods = found(report, "data", "parts", "test", "periods") or ()
    where = f" of {', '.join(map(str, periods))}" if periods else ""
    return (
        f"Measured on {count(test.get('people'))} people{where}, "
        f"{count(test.get('events'))} of them with the outcome."
    )


def _tiles(report: Json) -> list[Tile]:
    test = found(report, "test") or {}
    auroc = found(test, "scenarios", "complete", "auroc")
    at = found(test, "levels", "at_moderate") or found(test, "scenarios", "complete", "at_moderate")
    ratio = found(test, "calibration", "observed_to_expected")
    tiles = [
        Tile(
            name="It ranks: AUROC",
            value=number(auroc),
            interval=_interval(auroc, 3),
            meaning=pairs_ranked_rightly(test),
        )
    ]
    if at:
        tiles.append(
            Tile(
                name=f"It finds: sensitivity from {percent(at['cut'])} on",
                value=percent(at["sensitivity"]),
                interval=_share_interval(at["sensitivity"]),
                meaning=_alerts(at),
            )
        )
    tiles.append(
        Tile(
            name="Its percentages: observed / expected",
            value=number(ratio, 2),
            interval=_interval(ratio, 2),
            meaning=expected_and_seen(ratio),
        )
    )
    return [tile for tile in tiles if tile.value != number(None)]


def _alerts(at: Json) -> str:
    flagged = value_of(at["flagged"])
    alerts = number(None) if flagged is None else count(flagged * 1000)
    return (
        f"{alerts} of 1,000 people are alerted; of these alerts "
        f"{percent_with_interval(at['ppv'])} are right."
    )


def _interval(figure: Figure, digits: int) -> str:
    bounds = bounds_of(figure)
    if bounds is None:
        return "interval not known"
    return f"95 % interval {number(bounds[0], digits)} to {number(bounds[1], digits)}"


def _share_interval(figure: Figure) -> str:
    bounds = bounds_of(figure)
    if bounds is None:
        return "interval not known"
    return f"95 % interval {percent(bounds[0])} to {percent(bounds[1])}"


def _gate(gate: Json) -> Gate:
    measured = gate.get("measured")
    return Gate(
        title=gate["title"],
        measured="could not be told" if measured is None else said(measured),
        required=requirement(gate),
        note=gate.get("note") or "",
        passed=bool(gate["passed"]),
    )


def _verdict(gates: Sequence[Gate], forced: str | Json | None) -> str:
    by_force = _by_force(forced)
    if not gates:
        return f"No gates were set for this data set.{by_force}"
    failed = [gate.title for gate in gates if not gate.passed]
    if not failed:
        return f"All {count(len(gates))} gates for publishing were passed."
    text = (
        f"{count(len(failed))} of {count(len(gates))} gates were not passed: {'; '.join(failed)}."
    )
    return f"{text}{by_force}"


def _not_for(manifest: Json) -> list[str]:
    domain = manifest.get("domain") or {}
    youngest = domain.get("minimum_age")
    ages = [f"people under {youngest} years"] if youngest else []
    excluded = [_EXCLUDED.get(rule, rule.replace("_", " ")) for rule in domain.get("exclude") or ()]
    return ages + excluded


def _by_force(forced: str | Json | None) -> str:
    """The trace that `--force` leaves: its reason alone, or with the gates it went past."""
    if not forced:
        return ""
    if isinstance(forced, str):
        return f" Published by force: {sentence(forced)}"
    gates = listed(forced.get("failed") or ["not named"])
    return f" Published by force, against gates {gates}: {sentence(forced.get('reason') or '')}"
