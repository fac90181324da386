"""What must be true at the end, counted on the FHIR server, in the store and among the answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from cds_service.store.engine import open_engine
from cds_service.store.schema import assessment, audit, outbox
from tests.reliability.calls import Answered
from tests.reliability.fhir_server import SYSTEM, Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the store holds. `audited`: hook instance -> audit rows; `messages`: by state."""

    identifiers: frozenset[str]
    audited: Counter[str]
    messages: dict[str, int]
    followed_twice: int


def messages(database_url: str) -> dict[str, int]:
    """The outbox: state -> how many."""
    engine = open_engine(database_url)
    try:
        with engine.connect() as connection:
            return _messages(connection)
    finally:
        engine.dispose()


def _messages(connection: sa.Connection) -> dict[str, int]:
    states = sa.select(outbox.c.state, sa.func.count()).group_by(outbox.c.state)
    return {row.state: row[1] for row in connection.execute(states)}


def stored(database_url: str) -> Stored:
    """Read with SQL of our own: the count does not lean on the code that it counts for."""
    engine = open_engine(database_url)
    try:
        with engine.connect() as connection:
            identifiers = connection.execute(sa.select(assessment.c.identifier)).scalars()
            instances = connection.execute(sa.select(audit.c.hook_instance)).scalars()
            follows = connection.execute(sa.select(assessment.c.follows)).scalars()
            return Stored(
                identifiers=frozenset(identifiers),
                audited=Counter(each for each in instances if each),
                messages=_messages(connection),
                followed_twice=_more_than_once(each for each in follows if each),
            )
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Faults by kind; all are 0 where nothing was lost and nothing doubled."""

    lost: int
    doubled: int
    not_delivered: int
    not_stored: int
    dead: int
    not_audited: int
    chains_that_fork: int
    twice_within_a_lease: int

    @property
    def faults(self) -> dict[str, int]:
        """Those that there are."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {name: number for name, number in named.items() if number}


def account(
    answered: Sequence[Answered],
    store: Stored,
    resources: Sequence[Mapping[str, Any]],
    attempts: Iterable[Attempt],
    lease: float,
) -> Account:
    """Hold what was answered, what is stored and what the FHIR server has against each other."""
    there = Counter(_identifier(each) for each in resources)
    bases = Counter(_glucose(each) for each in resources)
    wanted = {call.chart.glucose_id for call in answered}
    calls = Counter(call.hook_instance for call in answered)
    return Account(
        lost=sum(1 for glucose_id in wanted if not bases[glucose_id]),
        doubled=_above_one(there) + _above_one(bases),
        not_delivered=len(store.identifiers - there.keys()),
        not_stored=len(there.keys() - store.identifiers),
        dead=store.messages.get("dead", 0),
        not_audited=sum((calls - store.audited).values()),
        chains_that_fork=store.followed_twice + forks(resources),
        twice_within_a_lease=twice_within(attempts, lease),
    )


def forks(resources: Iterable[Mapping[str, Any]]) -> int:
    """Patients whose RiskAssessments are not one chain: one without a parent, each other one after
    one that is there, none followed twice, none in a circle."""
    of_patient: dict[str, dict[str, str | None]] = defaultdict(dict)
    for each in resources:
        of_patient[each["subject"]["reference"]][_identifier(each)] = _parent(each)
    return sum(1 for chain in of_patient.values() if not _is_one_chain(chain))


def _is_one_chain(parents: Mapping[str, str | None]) -> bool:
    next_one = {parent: identifier for identifier, parent in parents.items()}
    seen = 0
    at: str | None = None
    while (at := next_one.get(at)) is not None and seen <= len(parents):
        seen += 1
    return seen == len(parents)


def twice_within(attempts: Iterable[Attempt], lease: float) -> int:
    """Messages that were sent again while another worker held them.

    A try begins within half of its lease (`Dispatch`), so that for the other half nobody else can
    send: unless the server refused it, when the worker gives it back by itself.
    """
    of_message: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        of_message[attempt.identifier].append(attempt)
    return sum(
        1
        for tries in of_message.values()
        for first, second in pairwise(sorted(tries, key=lambda each: each.received))
        if second.received - first.received < lease / 2 and _was_held(first, second)
    )


def _was_held(first: Attempt, second: Attempt) -> bool:
    in_flight = first.ended is None or first.ended > second.received
    return first.fault is None or in_flight


def _above_one(counts: Counter[str]) -> int:
    return sum(number - 1 for number in counts.values())


def _more_than_once(values: Iterable[str]) -> int:
    return _above_one(Counter(values))


def _identifier(resource: Mapping[str, Any]) -> str:
    (value,) = [each["value"] for each in resource["identifier"] if each["system"] == SYSTEM]
    return str(value)


def _parent(resource: Mapping[str, Any]) -> str | None:
    parent = resource.get("parent")
    return None if parent is None else str(parent["identifier"]["value"])


def _glucose(resource: Mapping[str, Any]) -> str:
    """The Observation that only this version of the chart has (`Chart.glucose_id`)."""
    (found,) = [
        reference
        for each in resource["basis"]
        if (reference := each["reference"].rpartition("/")[2]).startswith("g-")
    ]
    return str(found)
