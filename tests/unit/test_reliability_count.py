"""The count finds what it is there for: a count that cannot fail proves nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.reliability.calls import Answered, Chart
from tests.reliability.count import Account, Stored, account, forks, twice_within
from tests.reliability.fhir_server import SYSTEM, Attempt, Fault

LEASE = 60.0
CHARTS = tuple(Chart(patient_id="p1", version=version) for version in (1, 2, 3))
ANSWERED = [Answered(hook_instance=f"h{chart.version}", chart=chart) for chart in CHARTS]


def written(version: int, *, after: int | None, patient_id: str = "p1") -> dict[str, Any]:
    """As the FHIR server has it; `after`: the version of the chart that the parent is about."""
    resource = {
        "subject": {"reference": f"Patient/{patient_id}"},
        "identifier": [{"system": SYSTEM, "value": f"{patient_id}-{version}"}],
        "basis": [
            {"reference": f"Observation/b-{patient_id}"},
            {"reference": f"Observation/g-{patient_id}-{version}"},
        ],
    }
    if after is None:
        return resource
    return resource | {
        "parent": {"identifier": {"system": SYSTEM, "value": f"{patient_id}-{after}"}}
    }


WRITTEN = [written(2, after=1), written(1, after=None), written(3, after=2)]
STORED = Stored(
    identifiers=frozenset({"p1-1", "p1-2", "p1-3"}),
    audited=Counter({"h1": 1, "h2": 2, "h3": 1}),
    messages={"delivered": 3},
    followed_twice=0,
)


def attempt(received: float, *, worker: str = "a", **change: Any) -> Attempt:
    given = {"identifier": "p1-1", "fault": None, "ended": received + 0.01, **change}
    return Attempt(worker=worker, received=received, **given)


def counted(
    answered: list[Answered] = ANSWERED,
    store: Stored = STORED,
    resources: list[dict[str, Any]] = WRITTEN,
    attempts: tuple[Attempt, ...] = (),
) -> Account:
    return account(answered, store, resources, attempts, LEASE)


def test_where_everything_is_there_once_nothing_is_found() -> None:
    assert counted().faults == {}


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        (
            counted(resources=WRITTEN[:2]),
            {"lost": 1, "not_delivered": 1},
        ),
        (counted(resources=[*WRITTEN, WRITTEN[2]]), {"doubled": 2}),
        (
            counted(store=replace(STORED, identifiers=frozenset({"p1-1", "p1-2"}))),
            {"not_stored": 1},
        ),
        (counted(store=replace(STORED, messages={"dead": 2})), {"dead": 2}),
        (counted(answered=[*ANSWERED, ANSWERED[0]]), {"not_audited": 1}),
        (counted(store=replace(STORED, followed_twice=1)), {"chains_that_fork": 1}),
        (
            counted(resources=[written(1, after=None), written(2, after=1), written(3, after=1)]),
            {"chains_that_fork": 1},
        ),
        (
            counted(attempts=(attempt(0), attempt(29, worker="b"))),
            {"twice_within_a_lease": 1},
        ),
    ],
    ids=["lost", "doubled", "not stored", "dead", "audit", "followed twice", "fork", "lease"],
)  # fmt: skip
def test_what_is_wrong_is_counted(found: Account, faults: dict[str, int]) -> None:
    assert found.faults == faults


@pytest.mark.parametrize(
    ("chain", "broken"),
    [
        ([written(1, after=None)], 0),
        ([written(1, after=None), written(2, after=None)], 1),
        ([written(1, after=None), written(3, after=2)], 1),
        ([written(1, after=2), written(2, after=1)], 1),
        ([written(1, after=None), written(2, after=None, patient_id="p2")], 0),
    ],
    ids=["one", "two firsts", "a gap", "a circle", "two patients"],
)
def test_a_chain_has_one_first_and_no_gap(chain: list[dict[str, Any]], broken: int) -> None:
    assert forks(chain) == broken


@pytest.mark.parametrize(
    ("tries", "number"),
    [
        ([attempt(0), attempt(61, worker="b")], 0),
        # Refused, given back, and taken by another: nobody held it.
        ([attempt(0, fault=Fault.ERROR), attempt(2, worker="b")], 0),
        ([attempt(0, fault=Fault.STALLED, ended=20.0), attempt(21, worker="b")], 0),
        # Still in flight when another sends it.
        ([attempt(0, fault=Fault.STALLED, ended=20.0), attempt(10, worker="b")], 1),
        ([attempt(0, fault=Fault.STALLED, ended=None), attempt(10, worker="b")], 1),
        ([attempt(0), attempt(1, identifier="p1-2")], 0),
    ],
)
def test_twice_is_what_another_sends_while_it_is_held(tries: list[Attempt], number: int) -> None:
    assert twice_within(tries, LEASE) == number
