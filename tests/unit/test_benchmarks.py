"""The benchmarks' own arithmetic: a harness that is wrong is worse than none."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from pathlib import Path

import orjson
import pytest

from benchmarks import calls, report, synthea
from benchmarks.measures import percentile, ratios, spread
from benchmarks.stages import REST, STAGES, TOTAL, StageIsGone, medians, owner_of
from cds_service.parts import Parts

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.95) == percentile(values, 1.0) == 5.0
    assert percentile(values, 0.0) == 1.0
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_a_busy_round_does_not_move_a_ratio() -> None:
    calm_floor, busy_floor = [100.0, 100.0, 100.0], [100.0, 20.0, 100.0]
    assert ratios([50.0, 50.0, 50.0], calm_floor).median == 0.5
    slowed = ratios([50.0, 10.0, 50.0], busy_floor)
    assert (slowed.least, slowed.median, slowed.most) == (0.5, 0.5, 0.5)


def test_rounds_must_pair_up() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize("observations", [20, 100])
def test_a_third_of_the_observations_matter(parts: Parts, observations: int) -> None:
    (loaded,) = parts.models.values()
    chance = random.Random(1)  # noqa: S311 (not a secret)
    call = calls.call(chance, observations=observations, now=NOW)
    resources = [entry["resource"] for entry in call["prefetch"]["observations"]["entry"]]
    codes = [found["code"]["coding"][0] for found in resources]
    panels = {calls.BLOOD_PRESSURE}
    matter = [
        coding["code"]
        for coding in codes
        if (coding["system"], coding["code"]) in loaded.mapping.concept_of
        or coding["code"] in panels
    ]
    assert len(resources) == observations
    assert len(matter) == -(-observations // 3)


def test_every_patient_differs_and_the_same_seed_gives_the_same_calls() -> None:
    made = list(calls.bodies(5, observations=20, seed="a", now=NOW))
    assert made == list(calls.bodies(5, observations=20, seed="a", now=NOW))
    read = [orjson.loads(body) for body in made]
    assert len({one["context"]["patientId"] for one in read}) == 5
    values = [
        [
            entry["resource"].get("valueQuantity")
            for entry in one["prefetch"]["observations"]["entry"]
        ]
        for one in read
    ]
    assert all(one != values[0] for one in values[1:])


def test_a_record_is_moved_in_whole_days_and_nothing_else_changes() -> None:
    body = b'{"birthDate":"1960-02-29","at":"2021-07-14T09:30:00-04:00","no":"x 2021-07-14"}'
    assert synthea.moved(body, 2) == (
        b'{"birthDate":"1960-03-02","at":"2021-07-16T09:30:00-04:00","no":"x 2021-07-14"}'
    )
    assert synthea.days_until(date(2021, 7, 25)) == 10


def test_every_stage_is_a_function_of_the_service() -> None:
    for _, place, name in STAGES:
        assert callable(getattr(owner_of(place, name), name)), f"{place}.{name}"


@pytest.mark.parametrize("place", ["cds_service.gone", "cds_service.body", "cds_service.body.Gone"])
def test_a_stage_that_is_gone_is_named(place: str) -> None:
    with pytest.raises(StageIsGone, match=rf"{place}\.not_there .* up to date"):
        owner_of(place, "not_there")


def test_the_rest_is_what_no_stage_accounts_for() -> None:
    taken = {title: [0.001, 0.001] for title, _, _ in STAGES}
    found = medians(taken, [0.020, 0.020])
    assert found[TOTAL] == pytest.approx(20)
    assert found[REST] == pytest.approx(20 - len(STAGES))


def test_a_call_that_skipped_a_stage_is_no_measurement() -> None:
    taken = {title: [0.001, 0.001] for title, _, _ in STAGES}
    first, second, *_ = taken
    taken[first] = [0.001]
    del taken[second]
    with pytest.raises(StageIsGone, match=f"once through: {first}; {second}. "):
        medians(taken, [0.020, 0.020])


def test_tables_are_written_between_their_marks(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("a\n<!-- bench:summary -->\nold\n<!-- /bench:summary -->\nb\n")
    report.publish(document, {"summary": "| new |", "report": "| other |"})
    assert document.read_text() == (
        "a\n<!-- bench:summary -->\n| new |\n<!-- /bench:summary -->\nb\n"
    )


def test_a_document_without_a_place_for_figures_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("nothing here\n")
    with pytest.raises(ValueError, match="no place"):
        report.publish(document, {"summary": "| new |"})
