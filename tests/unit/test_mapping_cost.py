"""What a record costs, counted in calls, as clocks of shared machines tell nothing."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from benchmarks.calls import call
from fhir_mapping import compile_mapping, load_catalog, map_features, reads
from fhir_mapping.relevance import hits
from fhir_mapping.version_marks import VersionMarks, version_of
from tests.fhir import observation

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CONCEPTS = ("glucose", "hba1c", "body_mass_index", "systolic_blood_pressure", "creatinine")
FEATURES = [
    {
        "name": id_,
        "concept": id_,
        "unit": load_catalog().concepts[id_].unit,
        "look_back_days": 730,
    }
    for id_ in CONCEPTS
]
MAPPING = compile_mapping(load_catalog(), {"features": FEATURES})


def calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls, those of the interpreter included."""
    count = 0

    def seen(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def mapped(resources: list[Any]) -> int:
    return calls(lambda: map_features(MAPPING, resources, as_of=NOW, patient_id="p1"))


def each(work: Callable[[list[Any]], int], kind: Callable[[int], Any], *, size: int = 200) -> float:
    """Calls for one resource more, once there are some."""
    few = [kind(n) for n in range(size)]
    many = [kind(n) for n in range(2 * size)]
    return (work(many) - work(few)) / size


def sodium(n: int) -> dict[str, Any]:
    return observation("2951-2", 140, "mmol/L", id=str(n))


def glucose(n: int, *, later: bool) -> dict[str, Any]:
    when = NOW - timedelta(hours=1000 - n if later else n)
    return observation("2345-7", 90 + n % 7, "mg/dL", id=str(n), effectiveDateTime=when.isoformat())


def test_what_nobody_asks_for_costs_a_few_look_ups() -> None:
    assert each(mapped, sodium) <= 20
    assert each(lambda few: calls(lambda: [reads(MAPPING, one) for one in few]), sodium) <= 20


def test_what_an_earlier_result_has_settled_is_not_read_further() -> None:
    assert each(mapped, lambda n: glucose(n, later=False)) <= 60


def test_what_may_decide_is_read_once() -> None:
    assert each(mapped, lambda n: glucose(n, later=True)) <= 110


def test_a_mark_of_the_version_is_looked_for_once() -> None:
    def marks(resources: list[Any]) -> int:
        looking = VersionMarks()
        return calls(lambda: [looking.look_at(one) for one in resources])

    assert each(marks, sodium) <= 12
    assert each(lambda few: calls(lambda: version_of(few)), sodium) <= 12


@pytest.mark.parametrize("size", [50, 200, 800])
def test_a_record_twice_as_long_costs_twice_as_much(size: int) -> None:
    """Of the calls that the benchmarks make, and of one result repeated: no tie costs more."""

    def chart(observations: int) -> list[Any]:
        chance = random.Random(7)  # noqa: S311 (not a secret)
        made = call(chance, observations=observations, now=NOW)
        return [entry["resource"] for entry in made["prefetch"]["observations"]["entry"]]

    for record in (chart, lambda n: [glucose(1, later=True) for _ in range(n)]):
        assert mapped(record(2 * size)) <= 2 * mapped(record(size)) + 500


def test_of_codes_that_disagree_each_concept_is_kept_once() -> None:
    """However often a code stands in one Observation, what is kept of it does not grow."""
    one = observation("2345-7", 99, "mg/dL")
    one["code"]["coding"] += [{"system": "http://loinc.org", "code": "4548-4"}] * 200_000
    ((_, conflict),) = hits(one, MAPPING.wanted)
    assert conflict == {"glucose", "hba1c"}
