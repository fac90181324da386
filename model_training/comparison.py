"""Two versions side by side: what they ask for, how they measure up, whom they class differently.

Everything about people counts each of them once: stored predictions carry no survey weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from model_training.artifact import Artifact
from model_training.dataset import DatasetError
from model_training.predictions import Predictions
from risk_model import Manifest

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
# A value and its 95 % interval; NaN where it cannot be told.
Figure = tuple[float, float, float]

_NORMAL_975 = 1.959963984540054
UNKNOWN: Figure = (math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclassified:
    """Who moved to a higher and to a lower level, and the net reclassification improvement.

    `events`: share moved up minus share moved down among those with the outcome; `others`: share
    moved down minus share moved up among those without; `total` is their sum (Pencina et al.,
    Stat Med 2008;27:157-172). It weighs both halves alike however rare the outcome is, so read
    the halves (Kerr et al., Epidemiology 2014;25:114-121).
    """

    events_up: int
    events_down: int
    others_up: int
    others_down: int
    events: Figure
    others: Figure
    total: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """People of one level before and one level after."""

    before: str
    after: str
    people: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """One record whose probability changed much."""

    record: str
    event: bool
    before: float
    after: float
    level_before: str
    level_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleCompared:
    """The same people under both versions. `reclassified` is None where the levels' names differ:
    then no level is higher than another."""

    scenario: str
    people: int
    events: int
    auroc_before: float
    auroc_after: float
    auroc_difference: Figure
    mean_before: float
    mean_after: float
    correlation: float
    rank_correlation: float
    cells: tuple[Cell, ...]
    reclassified: Reclassified | None
    movers: tuple[Mover, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One figure of both reports; None where a report does not have it."""

    title: str
    before: Sequence[float | None] | float | None
    after: Sequence[float | None] | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the two manifests and reports say of themselves; `groups` are AUROCs by group."""

    features_added: tuple[str, ...]
    features_removed: tuple[str, ...]
    figures: tuple[FigureRow, ...]
    groups: tuple[FigureRow, ...]
    levels_before: tuple[tuple[str, float], ...]
    levels_after: tuple[tuple[str, float], ...]


# Title, path in report["test"].
_COUNTS = (("People", ("people",)), ("With the outcome", ("events",)))
_FIGURES = (
    ("Average precision", ("scenarios", "complete", "average_precision")),
    ("Brier score", ("calibration", "brier")),
    ("Calibration slope", ("calibration", "slope")),
    ("Observed / expected", ("calibration", "observed_to_expected")),
    ("Integrated calibration index", ("calibration", "ici")),
    ("Flagged from moderate on", ("levels", "at_moderate", "flagged")),
    ("Sensitivity from moderate on", ("levels", "at_moderate", "sensitivity")),
    ("Specificity from moderate on", ("levels", "at_moderate", "specificity")),
    ("PPV from moderate on", ("levels", "at_moderate", "ppv")),
    ("PPV at high", ("levels", "at_high", "ppv")),
)


def describe(before: Artifact, after: Artifact) -> Described:
    ours, theirs = _titles(before.manifest), _titles(after.manifest)
    tests = before.report.get("test") or {}, after.report.get("test") or {}
    return Described(
        features_added=tuple(title for name, title in theirs.items() if name not in ours),
        features_removed=tuple(title for name, title in ours.items() if name not in theirs),
        figures=(*_fixed(_COUNTS, *tests), *_scenarios(*tests), *_fixed(_FIGURES, *tests)),
        groups=tuple(_groups(*tests)),
        levels_before=_levels(before.manifest),
        levels_after=_levels(after.manifest),
    )


def compare_people(
    before: Predictions,
    after: Predictions,
    manifests: tuple[Manifest, Manifest],
    *,
    scenario: str,
    seed: int,
    replicates: int = 1000,
    movers: int = 10,
) -> PeopleCompared:
    """Raises DatasetError where the two do not speak of the same people in the same order, or one
    of them has no such scenario."""
    _require_same(before, after, scenario)
    was, now = before.scenarios[scenario], after.scenarios[scenario]
    known = ~(np.isnan(was) | np.isnan(now))
    was, now, events = was[known], now[known], before.events[known]
    records = [record for record, there in zip(before.records, known, strict=True) if there]
    level_was, level_now = (_levels_of(*pair) for pair in zip(manifests, (was, now), strict=True))
    names = tuple(tuple(band.level for band in manifest.levels) for manifest in manifests)
    moved = reclassified(level_now - level_was, events, seed=seed, replicates=replicates)
    return PeopleCompared(
        scenario=scenario,
        people=len(events),
        events=int(events.sum()),
        auroc_before=auroc(was, events),
        auroc_after=auroc(now, events),
        auroc_difference=auroc_difference(now, was, events),
        mean_before=_mean(was),
        mean_after=_mean(now),
        correlation=_correlation(was, now),
        rank_correlation=_correlation(rankdata(was), rankdata(now)),
        cells=_cells(names, level_was, level_now, events),
        reclassified=moved if names[0] == names[1] else None,
        movers=_movers(records, events, (was, now), manifests, movers),
    )


def auroc(scores: Floats, events: Ints) -> float:
    """The chance that a person with the outcome scores above one without; ties count half."""
    both = 0 < events.sum() < len(events)
    return float(_placements(scores, events)[0].mean()) if both else math.nan


def auroc_difference(scores: Floats, others: Floats, events: Ints) -> Figure:
    """AUROC of `scores` minus that of `others` on the same people, with DeLong's 95 % interval.

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837-845, in the form of Sun and Xu, IEEE
    Signal Process Lett 2014;21:1389-1393: exact variances, so no chance and no seed. People of one
    sampling unit resemble each other, which this does not count: it may be a little narrow.
    """
    known = ~(np.isnan(scores) | np.isnan(others))
    scores, others, events = scores[known], others[known], events[known]
    if min(events.sum(), len(events) - events.sum()) < 2:
        return UNKNOWN
    sick, well = (
        mine - theirs
        for mine, theirs in zip(
            _placements(scores, events), _placements(others, events), strict=True
        )
    )
    difference = float(sick.mean())
    error = math.sqrt(sick.var(ddof=1) / len(sick) + well.var(ddof=1) / len(well))
    return difference, difference - _NORMAL_975 * error, difference + _NORMAL_975 * error


def reclassified(steps: Ints, events: Ints, *, seed: int, replicates: int) -> Reclassified:
    """From how many levels each person moved up (negative: down); bootstrap over people."""
    happened = events.astype(bool)
    moves = [steps > 0, steps < 0, steps == 0]
    counts = np.array([np.sum(who & move) for who in (happened, ~happened) for move in moves])
    # To draw people with replacement is to draw how many fall into each of the six cells.
    drawn = np.random.default_rng(seed).multinomial(
        len(events), counts / len(events), size=replicates
    )
    halves = _net(np.vstack([counts, drawn]).astype(np.float64))
    return Reclassified(
        events_up=int(counts[0]),
        events_down=int(counts[1]),
        others_up=int(counts[3]),
        others_down=int(counts[4]),
        events=_with_interval(halves[0]),
        others=_with_interval(halves[1]),
        total=_with_interval(halves[0] + halves[1]),
    )


def _net(counts: Floats) -> tuple[Floats, Floats]:
    """Up, down and unmoved with the outcome, then without it → the two halves."""
    sick, well = counts[:, :3], counts[:, 3:]
    return (
        _ratio(sick[:, 0] - sick[:, 1], sick.sum(axis=1)),
        _ratio(well[:, 1] - well[:, 0], well.sum(axis=1)),
    )


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    out: Floats = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _with_interval(measured: Floats) -> Figure:
    """From the figure and its replicates, in that order."""
    replicates = measured[1:][np.isfinite(measured[1:])]
    if len(replicates) == 0:
        return UNKNOWN
    low, high = np.percentile(replicates, [2.5, 97.5])
    return float(measured[0]), float(low), float(high)


def _placements(scores: Floats, events: Ints) -> tuple[Floats, Floats]:
    """For each person with the outcome the share of those without who score lower, ties half; for
    each without, the share of those with who score higher."""
    happened = events == 1
    together = rankdata(scores)
    above = together[happened] - rankdata(scores[happened])
    below = together[~happened] - rankdata(scores[~happened])
    sick: Floats = above / np.sum(~happened)
    well: Floats = 1 - below / np.sum(happened)
    return sick, well


def _require_same(before: Predictions, after: Predictions, scenario: str) -> None:
    if not before.same_people(after):
        raise DatasetError(
            "The two versions were measured on different people: give --data DIR to score both "
            "on one data set."
        )
    lacking = [p for p in (before, after) if scenario not in p.scenarios]
    if lacking:
        known = ", ".join(lacking[0].scenarios)
        raise DatasetError(f"There is no scenario {scenario}. There are: {known}.")


def _levels_of(manifest: Manifest, probabilities: Floats) -> Ints:
    """The place of each probability's level, from 0 for the lowest."""
    cuts = [band.below for band in manifest.levels[:-1]]
    return np.searchsorted(cuts, probabilities, side="right").astype(np.int64)


def _cells(
    names: tuple[tuple[str, ...], ...], before: Ints, after: Ints, events: Ints
) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            before=was,
            after=now,
            people=int(np.sum(chosen)),
            events=int(events[chosen].sum()),
        )
        for i, was in enumerate(names[0])
        for j, now in enumerate(names[1])
        for chosen in [(before == i) & (after == j)]
    )


def _movers(
    records: Sequence[str],
    events: Ints,
    scores: tuple[Floats, Floats],
    manifests: tuple[Manifest, Manifest],
    count: int,
) -> tuple[Mover, ...]:
    was, now = scores
    order = [at for at in np.argsort(-np.abs(now - was), kind="stable") if now[at] != was[at]]
    return tuple(
        Mover(
            record=records[at],
            event=bool(events[at]),
            before=float(was[at]),
            after=float(now[at]),
            level_before=manifests[0].level_of(float(was[at])),
            level_after=manifests[1].level_of(float(now[at])),
        )
        for at in order[:count]
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _correlation(ours: Floats, theirs: Floats) -> float:
    varies = len(ours) > 1 and ours.std() > 0 and theirs.std() > 0
    return float(np.corrcoef(ours, theirs)[0, 1]) if varies else math.nan


def _titles(manifest: Manifest) -> dict[str, str]:
    return {feature.name: feature.title for feature in manifest.features}


def _levels(manifest: Manifest) -> tuple[tuple[str, float], ...]:
    return tuple((band.level, band.below) for band in manifest.levels)


def _scenarios(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FigureRow]:
    """AUROC for every kind of record that either report has, in the newer one's order."""
    entries = {**(after.get("scenarios") or {}), **(before.get("scenarios") or {})}
    return [
        FigureRow(
            title=f"AUROC, {entry['title'][0].lower()}{entry['title'][1:]}",
            before=_at(before, ("scenarios", id_, "auroc")),
            after=_at(after, ("scenarios", id_, "auroc")),
        )
        for id_, entry in entries.items()
    ]


def _fixed(
    places: Sequence[tuple[str, tuple[str, ...]]],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> list[FigureRow]:
    rows = [
        FigureRow(title=title, before=_at(before, path), after=_at(after, path))
        for title, path in places
    ]
    return [row for row in rows if row.before is not None or row.after is not None]


def _groups(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FigureRow]:
    ours, theirs = _by_group(before), _by_group(after)
    return [
        FigureRow(title=title, before=ours.get(title), after=theirs.get(title))
        for title in {**theirs, **ours}
    ]


def _by_group(test: Mapping[str, Any]) -> dict[str, Any]:
    """Group title → AUROC. Reports of format 1 have no axes, and put the axis into the title where
    the group alone would not be understood, as in `Age 18–39`."""
    found: dict[str, Any] = {}
    for axis, groups in (test.get("groups") or {}).items():
        flat = "auroc" in groups
        named = {axis: groups} if flat else groups
        for group, entry in named.items():
            said_alone = flat or not any(sign.isdigit() for sign in group)
            found[group if said_alone else f"{axis} {group}"] = entry.get("auroc")
    return found


def _at(node: Any, path: Sequence[str]) -> Any:
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
