"""A gate is data: a path into report.json and a bound; what cannot be told is no pass."""

from __future__ import annotations

import copy
import tomllib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from model_training.comparison import auroc, auroc_difference, compare_people
from model_training.dataset import DatasetError
from model_training.gate_rules import parse_gates
from model_training.gates import GateResult, judge
from model_training.predictions import Predictions
from risk_model import parse_manifest
from tests.manifests import raw_manifest
from tests.report_json import made_up_report

REPORT = made_up_report()
AUROC = "test.scenarios.complete.auroc"


@dataclass(frozen=True)
class PublishedVersion:
    """Stands in for an Artifact: what gates ask of one."""

    report: dict[str, Any] = field(default_factory=lambda: REPORT)
    predictions: Predictions | None = None
    reference: str = "test-model/1.0.0"


def result(gate: dict[str, Any], report: dict[str, Any] = REPORT, **more: Any) -> GateResult:
    entry = {"id": "g", "title": "Gate", **gate}
    published = more.pop("published", None)
    return judge(parse_gates([entry]), report, published, **more)[0]


def people(chance: float = 0.0, seed: int = 1, count: int = 2000) -> Predictions:
    """Made-up people whose probabilities are blurred by `chance`."""
    rng = np.random.default_rng(5)
    truth = rng.normal(-2.5, 1.2, count)
    events = (rng.random(count) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    noise = np.random.default_rng(seed).normal(0, chance, count) if chance else 0.0
    return Predictions(
        records=tuple(str(at) for at in range(count)),
        events=events,
        scenarios={"complete": 1 / (1 + np.exp(-(truth + noise)))},
        comparators={},
    )


# ------------------------------------------------------------------------------------- the figures
def test_the_lower_bound_is_held_against_the_gate_and_not_the_value() -> None:
    value, low, _ = REPORT["test"]["scenarios"]["complete"]["auroc"]
    between = (value + low) / 2
    assert result({"measure": AUROC, "at_least": between}).passed
    held = result({"measure": AUROC, "bound": "low", "at_least": between})
    assert not held.passed
    assert held.measured == pytest.approx(low)


def test_a_bound_itself_passes() -> None:
    low = REPORT["test"]["scenarios"]["complete"]["auroc"][1]
    assert result({"measure": AUROC, "bound": "low", "at_least": low}).passed
    assert result({"measure": AUROC, "bound": "low", "at_most": low}).passed


def test_within_asks_for_both_ends() -> None:
    slope = REPORT["test"]["calibration"]["slope"][0]
    measure = {"measure": "test.calibration.slope"}
    assert result({**measure, "within": [slope - 0.1, slope + 0.1]}).passed
    assert not result({**measure, "within": [slope + 0.1, slope + 0.2]}).passed
    assert not result({**measure, "within": [slope - 0.2, slope - 0.1]}).passed


def test_a_plain_number_is_its_own_interval() -> None:
    held = result({"measure": "test.people", "bound": "low", "at_least": 1000})
    assert (held.measured, held.passed) == (REPORT["test"]["people"], True)


def test_the_worst_of_all_groups_decides_and_is_named() -> None:
    report = copy.deepcopy(REPORT)
    report["test"]["groups"]["Age"]["60–69"]["auroc"] = [0.6, 0.5, 0.7]
    gate = {
        "measure": "test.groups.*.*.auroc",
        "bound": "high",
        "minus": AUROC,
        "at_least": -0.05,
    }
    held = result(gate, report)
    overall = report["test"]["scenarios"]["complete"]["auroc"][0]
    assert held.measured == pytest.approx(0.7 - overall, abs=1e-6)
    assert not held.passed
    assert held.note == "Age: 60–69"
    assert "missed by" in held.sentence()


def test_a_group_whose_figure_cannot_be_told_is_left_out_and_named() -> None:
    report = copy.deepcopy(REPORT)
    report["test"]["groups"]["Sex"]["Men"]["auroc"] = [None, None, None]
    held = result({"measure": "test.groups.*.*.auroc", "at_least": 0.1}, report)
    assert held.passed
    assert "no figure for Sex: Men" in held.note


def test_a_key_with_a_dot_is_quoted() -> None:
    path = 'test.sensitivity_at_false_positive_rate."0.1"'
    expected = REPORT["test"]["sensitivity_at_false_positive_rate"]["0.1"][0]
    assert result({"measure": path, "at_least": 0}).measured == pytest.approx(expected)


@pytest.mark.parametrize("measure", ["test.nothing.here", "test.groups.*.nothing", "test"])
def test_a_figure_that_is_not_there_is_no_pass(measure: str) -> None:
    held = result({"measure": measure, "at_least": 0})
    assert (held.measured, held.passed) == (None, False)
    assert measure in held.note


def test_a_figure_without_an_interval_passes_no_gate_on_its_bound() -> None:
    report = copy.deepcopy(REPORT)
    report["test"]["scenarios"]["complete"]["auroc"] = [0.99, None, None]
    assert result({"measure": AUROC, "at_least": 0.9}, report).passed
    assert not result({"measure": AUROC, "bound": "low", "at_least": 0.9}, report).passed


# --------------------------------------------------------------------------- the published version
AGAINST = {"measure": AUROC, "against": "published", "bound": "high", "at_least": 0.0}


def test_a_first_version_has_nothing_to_be_held_against() -> None:
    held = result(AGAINST)
    assert held.passed
    assert "nothing is published" in held.note


def test_a_version_is_no_worse_than_itself() -> None:
    held = result(AGAINST, published=PublishedVersion())
    assert held.passed
    assert held.note == "against test-model/1.0.0, each by itself"


def test_stored_predictions_of_the_same_people_are_compared_in_pairs() -> None:
    """Where the intervals of either version by itself would let a loss pass."""
    better, worse = people(), people(chance=0.6)
    held = result(AGAINST, published=PublishedVersion(predictions=better), predictions=worse)
    assert held.note == "against test-model/1.0.0, on the same people"
    assert not held.passed
    apart = result(AGAINST, published=PublishedVersion())
    assert apart.passed


def test_predictions_of_other_people_make_no_pairs() -> None:
    published = PublishedVersion(predictions=people(count=1999))
    held = result(AGAINST, published=published, predictions=people())
    assert held.note.endswith("each by itself")


def test_a_figure_that_the_published_version_lacks_is_no_pass() -> None:
    held = result(AGAINST, published=PublishedVersion(report={}))
    assert (held.measured, held.passed) == (None, False)


# ----------------------------------------------------------------------------------------- the TOML
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at_least": 0.5, "at_most": 0.6}, "exactly one"),
        ({}, "exactly one"),
        ({"at_least": 0.5, "bound": "lower"}, "bound"),
        ({"at_least": 0.5, "against": "1.0.0"}, "published only"),
        ({"at_least": 0.5, "minus": "test.*.auroc"}, "several"),
        ({"at_least": 0.5, "minus": AUROC, "against": "published"}, "both"),
        ({"at_least": 0.5, "on": "low"}, "unknown entries: on"),
        ({"within": 0.5}, "cannot be used"),
        ({"within": [0.5]}, "cannot be used"),
        ({"at_least": "much"}, "cannot be used"),
    ],
)
def test_a_gate_that_cannot_be_used_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match="gate g") as caught:
        parse_gates([{"id": "g", "title": "Gate", "measure": AUROC, **change}])
    assert words in str(caught.value)


def test_what_a_gate_lacks_is_named() -> None:
    with pytest.raises(DatasetError, match="gate a cannot be used: KeyError\\('title'\\)"):
        parse_gates([{"id": "a", "measure": AUROC, "at_least": 0.5}])


def test_two_gates_of_one_id_are_refused() -> None:
    gate = {"id": "g", "title": "Gate", "measure": AUROC, "at_least": 0.5}
    with pytest.raises(DatasetError, match="several gates of one id: g"):
        parse_gates([gate, gate])


def test_a_result_says_in_json_what_was_asked_and_measured() -> None:
    raw = tomllib.loads(
        f'id = "slope"\ntitle = "Slope"\nmeasure = "{AUROC}"\nwithin = [0.8, 1.2]\n'
    )
    value = REPORT["test"]["scenarios"]["complete"]["auroc"][0]
    assert judge(parse_gates([raw]), REPORT, None)[0].as_json() == {
        "id": "slope",
        "title": "Slope",
        "measured": pytest.approx(value),
        "rule": "within",
        "required": [0.8, 1.2],
        "passed": True,
        "note": None,
    }


# ------------------------------------------------------------------------------- the same people
def test_auroc_counts_pairs_with_ties_half() -> None:
    assert auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])) == pytest.approx(3.5 / 4)


def test_de_longs_interval_is_that_of_a_bootstrap_of_people() -> None:
    """As wide as what drawing people with replacement gives, within a tenth."""
    before, after = people(chance=0.5, seed=2), people(chance=0.4, seed=3)
    events = before.events
    was, now = before.scenarios["complete"], after.scenarios["complete"]
    difference, low, high = auroc_difference(now, was, events)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(events), len(events)) for _ in range(400)]
    drawn = [auroc(now[d], events[d]) - auroc(was[d], events[d]) for d in draws]
    assert difference == pytest.approx(auroc(now, events) - auroc(was, events), abs=1e-12)
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(drawn), rel=0.1)


def test_reclassification_counts_who_moved_which_way() -> None:
    manifest = parse_manifest(raw_manifest())  # moderate from 0.05, high from 0.15
    before = Predictions(
        records=("a", "b", "c", "d", "e"),
        events=np.array([1, 1, 0, 0, 0]),
        scenarios={"complete": np.array([0.04, 0.05, 0.2, 0.01, np.nan])},
        comparators={},
    )
    after = Predictions(
        records=before.records,
        events=before.events,
        scenarios={"complete": np.array([0.16, 0.04, 0.1, 0.02, 0.5])},
        comparators={},
    )
    compared = compare_people(before, after, (manifest, manifest), scenario="complete", seed=1)
    moved = compared.reclassified
    assert moved is not None
    assert (compared.people, compared.events) == (4, 2)
    assert (moved.events_up, moved.events_down, moved.others_up, moved.others_down) == (1, 1, 0, 1)
    assert (moved.events[0], moved.others[0], moved.total[0]) == (0.0, 0.5, 0.5)
    cells = {(cell.before, cell.after): (cell.people, cell.events) for cell in compared.cells}
    assert cells["low", "high"] == (1, 1)
    assert cells["moderate", "low"] == (1, 1)
    assert cells["high", "moderate"] == (1, 0)
    assert sum(count for count, _ in cells.values()) == 4
    assert [mover.record for mover in compared.movers] == ["a", "c", "b", "d"]
    assert (compared.movers[0].level_before, compared.movers[0].level_after) == ("low", "high")


def test_levels_of_other_names_are_not_ranked_against_each_other() -> None:
    renamed = raw_manifest(levels=[{"level": "green", "below": 0.1}, {"level": "red"}])
    manifests = (parse_manifest(raw_manifest()), parse_manifest(renamed))
    compared = compare_people(people(), people(0.2), manifests, scenario="complete", seed=1)
    assert compared.reclassified is None
    assert len(compared.cells) == 6


def test_the_interval_of_reclassification_is_the_same_every_time() -> None:
    manifests = (parse_manifest(raw_manifest()),) * 2
    compared = [
        compare_people(people(), people(0.3), manifests, scenario="complete", seed=1)
        for _ in range(2)
    ]
    assert compared[0] == compared[1]
    moved = compared[0].reclassified
    assert moved is not None
    assert moved.total[1] < moved.total[0] < moved.total[2]


def test_people_who_are_not_the_same_are_not_compared() -> None:
    manifests = (parse_manifest(raw_manifest()),) * 2
    with pytest.raises(DatasetError, match="different people: give --data"):
        compare_people(people(), people(count=50), manifests, scenario="complete", seed=1)
    with pytest.raises(DatasetError, match="no scenario no_labs"):
        compare_people(people(), people(), manifests, scenario="no_labs", seed=1)
