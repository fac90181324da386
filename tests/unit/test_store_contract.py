"""What every store promises, the one of the tests in memory, SQLite's and PostgreSQL's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cds_service.store import (
    AssessmentRecord,
    Destination,
    InlineWriteBack,
    MessageState,
    MessageStatus,
    Store,
)
from cds_service.store.sealing import Sealing
from fhir_mapping.versions import FhirVersion, rendered
from tests.fakes.databases import POSTGRESQL, a_database
from tests.fakes.memory_store import MemoryStore
from tests.fakes.records import (
    FHIR_BASE,
    NOON,
    a_card,
    a_feedback_item,
    a_message,
    an_assessment,
    an_audit_entry,
    an_id,
)

LEASE = timedelta(minutes=1)


class Awaited:
    """A store whose calls are recorded from an event loop."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def record(self, *call: Any) -> AssessmentRecord | None:
        return asyncio.run(self._store.recorded(*call))


@pytest.fixture(params=["called", "awaited"])
def store(database: Any, request: pytest.FixtureRequest) -> Any:
    return database if request.param == "called" else Awaited(database)


@pytest.fixture(params=["memory", "sqlite", "sealed", POSTGRESQL])
def database(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Any]:
    match request.param:
        case "memory":
            store: Any = MemoryStore()
        case "sqlite":
            store = Store.open(f"sqlite:///{tmp_path}/cds.db")
        case "sealed":
            store = Store.open(f"sqlite:///{tmp_path}/cds.db", Sealing([bytes(range(32))]))
        case _:
            store = Store.open(a_database(request.getfixturevalue("cluster")))
    yield store
    store.close()


def keep(store: Store, assessment: AssessmentRecord | None = None, **audit: Any) -> str:
    """Store one call with a card and a message; the card's uuid."""
    assessment = assessment or an_assessment(patient_id=an_id())
    card = a_card(assessment)
    store.record(assessment, [card], an_audit_entry(**audit), a_message(assessment))
    return card.uuid


# The call ------------------------------------------------------------------------------------


def test_an_assessment_comes_back_bit_for_bit(store: Store) -> None:
    assessment = an_assessment(as_of=NOON.replace(microsecond=1), inputs={"x": 0.1 + 0.2, "n": {}})
    assert store.record(assessment, [], an_audit_entry(), None) == assessment
    assert store.risk_assessment(assessment.id) == assessment


def test_an_unknown_id_is_none(store: Store) -> None:
    assert store.risk_assessment("nobody") is None


def test_feedback_on_a_repeats_card_still_finds_the_model_version(store: Store) -> None:
    first = an_assessment()
    keep(store, first)
    again = an_assessment(identifier=first.identifier)
    card = a_card(again)
    store.record(again, [card], an_audit_entry(), None)
    store.add_feedback([a_feedback_item(card.uuid)], an_audit_entry())
    assert store.feedback(count=1)[0].assessment_id == first.id


def test_a_refused_call_leaves_only_its_audit_row(store: Store) -> None:
    refused = an_audit_entry(outcome="bad-request", status=400, user="Practitioner/1")
    assert store.record(None, [], refused, None) is None
    assert store.audit_trail(count=9) == [refused]


def test_a_message_without_its_assessment_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="belongs to"):
        store.record(None, [], an_audit_entry(), a_message(an_assessment()))


def test_a_repeat_is_told_what_is_stored_and_sends_nothing_new(store: Store) -> None:
    first = an_assessment()
    keep(store, first)
    again = an_assessment(identifier=first.identifier, probability=0.9)
    assert store.record(again, [a_card(again)], an_audit_entry(), a_message(again)) == first
    assert len(store.messages(count=9)) == 1
    assert len(store.audit_trail(count=9)) == 2


def test_a_call_is_found_by_its_hook_instance_also_when_it_repeated_another(store: Store) -> None:
    first = an_assessment(hook_instance="first")
    keep(store, first)
    again = an_assessment(identifier=first.identifier, hook_instance="again")
    store.record(again, [a_card(again, hook_instance="again")], an_audit_entry(), None)
    assert store.assessment_of_call("first") == [first]
    assert store.assessment_of_call("again") == [first]
    assert store.assessment_of_call("never") == []


# One after the other -------------------------------------------------------------------------


def stored(store: Store, **changed: Any) -> AssessmentRecord:
    assessment = an_assessment(**changed)
    kept = store.record(assessment, [], an_audit_entry(), a_message(assessment))
    assert kept is not None
    assert store.risk_assessment(kept.id) == kept
    return kept


def parent_of(record: AssessmentRecord) -> str | None:
    parent = record.resource.get("parent")
    return parent and parent["identifier"]["value"]


def test_a_later_assessment_follows_the_one_before_it(store: Store) -> None:
    first = stored(store)
    second = stored(store, model_version="2.0.0")
    third = stored(store, received_at=NOON + timedelta(days=1))
    assert (first.follows, second.follows, third.follows) == (None, first.id, second.id)
    assert (parent_of(first), parent_of(second)) == (None, first.identifier)
    assert second.resource["parent"] == {
        "type": "RiskAssessment",
        "identifier": {"system": "urn:cds-service:risk-assessment", "value": first.identifier},
    }


@pytest.mark.parametrize("other", ["origin", "patient_id", "model"])
def test_it_follows_none_of_another_origin_patient_or_model(store: Store, other: str) -> None:
    stored(store)
    assert stored(store, **{other: "another"}).follows is None


def test_a_repeat_follows_as_it_did_the_first_time(store: Store) -> None:
    stored(store)
    second = stored(store)
    stored(store)
    again = an_assessment(identifier=second.identifier)
    assert store.record(again, [], an_audit_entry(), None) == second


def test_a_clock_that_goes_back_forks_no_chain(store: Store) -> None:
    chain = [stored(store, received_at=NOON + timedelta(hours=hour)) for hour in (0, 5, -3, 2, -9)]
    follows = [record.follows for record in chain]
    assert follows[0] is None
    assert len(set(follows)) == len(follows)
    assert set(follows[1:]) == {record.id for record in chain[:-1]}


def test_calls_about_one_patient_side_by_side_are_one_chain(store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        chain = list(threads.map(lambda _: stored(store), range(24)))
    after = {record.follows: record.id for record in chain}
    assert len(after) == 24
    at, seen = after[None], 1
    while at in after:
        at, seen = after[at], seen + 1
    assert seen == 24


@pytest.mark.parametrize("version", list(FhirVersion))
def test_the_message_follows_too_in_its_own_version(store: Store, version: FhirVersion) -> None:
    first = stored(store)
    second = an_assessment()
    resource = rendered(second.resource, version)
    message = replace(a_message(second), resource=resource)
    kept = store.record(second, [], an_audit_entry(), message)
    assert kept is not None
    detail = store.message(message.id)
    assert detail is not None
    assert detail.resource == rendered(kept.resource, version)
    parent = detail.resource["parent"]
    assert parent["identifier"]["value"] == first.identifier
    assert ("type" in parent) == (version is not FhirVersion.STU3)


# Inline write-back ---------------------------------------------------------------------------


def test_what_came_of_an_inline_write_back_is_kept(store: Store) -> None:
    about = stored(store)
    failed = InlineWriteBack(
        assessment_id=about.id, fhir_base=FHIR_BASE, attempted_at=NOON, reason="HTTP 500"
    )
    done = InlineWriteBack(
        assessment_id=about.id,
        fhir_base=FHIR_BASE,
        attempted_at=NOON + timedelta(hours=1),
        location="RiskAssessment/1",
        version="1",
    )
    assert store.inline_result(about.id) is None
    for result, expected in ((failed, failed), (done, done), (failed, done), (done, done)):
        store.keep_inline_result(result)
        assert store.inline_result(about.id) == expected


# Tokens --------------------------------------------------------------------------------------


def test_a_token_is_good_once_until_it_has_expired(store: Store) -> None:
    until = NOON + timedelta(minutes=5)
    uses = [store.use_token(b"t" * 16, expires_at=until, now=now) for now in (NOON, NOON, until)]
    assert uses == [True, False, True]
    assert store.forget_tokens(now=NOON) == 0
    assert store.forget_tokens(now=until) == 1


# Search --------------------------------------------------------------------------------------


def test_search_pages_newest_first_without_a_gap_or_a_repeat(store: Store) -> None:
    # Two of each minute: the order must be stable among equals too.
    kept = [an_assessment(received_at=NOON + timedelta(minutes=n // 2)) for n in range(6)]
    for assessment in kept:
        store.record(assessment, [], an_audit_entry(), None)
    pages = [store.search(patient="p1", count=4, offset=offset) for offset in (0, 4, 8)]
    assert [total for total, _ in pages] == [6, 6, 6]
    found = [assessment for _, page in pages for assessment in page]
    assert {assessment.id for assessment in found} == {assessment.id for assessment in kept}
    minutes = [assessment.received_at for assessment in found]
    assert minutes == sorted(minutes, reverse=True)


def test_search_restricts_by_what_is_given(store: Store) -> None:
    here = an_assessment()
    for assessment in (here, an_assessment(origin="elsewhere"), an_assessment(patient_id="p2")):
        store.record(assessment, [], an_audit_entry(), None)
    assert store.search(count=9)[0] == 3
    assert store.search(patient="p1", count=9)[0] == 2
    assert store.search(patient="p1", origin=here.origin, count=9) == (1, [here])
    assert store.search(identifier=here.identifier, count=9) == (1, [here])
    assert store.search(patient="p3", count=9) == (0, [])


def test_an_empty_value_matches_nothing_rather_than_everything(store: Store) -> None:
    keep(store)
    assert store.search(patient="", count=9) == (0, [])
    assert store.search(origin="", count=9) == (0, [])


# Feedback ------------------------------------------------------------------------------------


def test_the_same_feedback_item_is_stored_once(store: Store) -> None:
    item = a_feedback_item(keep(store))
    assert store.add_feedback([item, item], an_audit_entry()) == 1
    assert store.add_feedback([item], an_audit_entry()) == 0
    later = a_feedback_item(item.card, outcome_timestamp=NOON + timedelta(seconds=1))
    assert store.add_feedback([item, later], an_audit_entry()) == 1
    assert len(store.audit_trail(count=9)) == 4


def test_feedback_is_joined_to_the_model_version_it_answers(store: Store) -> None:
    reason = {"code": "patient-refuses", "system": "urn:x"}
    item = a_feedback_item(
        keep(store, an_assessment(model_version="1.2.3")),
        outcome="overridden",
        accepted_suggestions=(),
        override_reason=reason,
        user_comment="seen",
    )
    store.add_feedback([item], an_audit_entry())
    (answered,) = store.feedback(count=9, card=item.card)
    assert (answered.kind, answered.model_version) == ("risk", "1.2.3")
    assert answered.item.override_reason == reason
    assert answered.item.user_comment == "seen"


def test_feedback_on_a_card_of_unknown_origin_is_kept(store: Store) -> None:
    item = a_feedback_item(an_id())
    store.add_feedback([item], an_audit_entry())
    (answered,) = store.feedback(count=9)
    assert answered.item == item
    assert answered.model is None


# Outbox --------------------------------------------------------------------------------------


def claim(store: Store, now: datetime = NOON, *, count: int = 10, claim_id: str = "w1") -> Any:
    return store.claim(now=now, lease=LEASE, count=count, claim_id=claim_id)


def test_a_claimed_message_is_no_one_elses_until_its_lease_ends(store: Store) -> None:
    keep(store)
    (held,) = claim(store)
    assert (held.attempts, held.lease_until) == (1, NOON + LEASE)
    assert claim(store, NOON + LEASE - timedelta(microseconds=1), claim_id="w2") == []
    (taken_over,) = claim(store, NOON + LEASE, claim_id="w2")
    assert taken_over.attempts == 2
    assert not store.settle(held, location="x", version=None, settled_at=NOON)
    assert not store.park(held, reason="x", settled_at=NOON)
    assert store.settle(taken_over, location="RiskAssessment/1", version="1", settled_at=NOON)
    (status,) = store.messages(count=9)
    assert (status.state, status.location) == (MessageState.DELIVERED, "RiskAssessment/1")


def test_the_same_worker_cannot_settle_with_an_older_claim(store: Store) -> None:
    keep(store)
    (older,) = claim(store, claim_id="w1-1")
    (newer,) = claim(store, NOON + LEASE, claim_id="w1-2")
    assert not store.reschedule(older, available_at=NOON, reason="x")
    assert store.reschedule(newer, available_at=NOON, reason="HTTP 500")


def test_a_rescheduled_message_waits_and_a_dead_one_stays(store: Store) -> None:
    keep(store)
    (held,) = claim(store)
    store.reschedule(held, available_at=NOON + timedelta(hours=1), reason="HTTP 500")
    assert claim(store, NOON + timedelta(minutes=59)) == []
    (held,) = claim(store, NOON + timedelta(hours=1))
    assert held.attempts == 2
    store.park(held, reason="HTTP 422", settled_at=NOON)
    assert claim(store, NOON + timedelta(days=99)) == []
    (status,) = store.messages(count=9, state=MessageState.DEAD)
    assert status.reason == "HTTP 422"
    assert store.outbox_figures(now=NOON).depth == {
        "ready": 0,
        "claimed": 0,
        "delivered": 0,
        "dead": 1,
    }


def test_the_longest_waiting_messages_are_claimed_first(store: Store) -> None:
    for minute in (3, 1, 2):
        kept = an_assessment(identifier=str(minute))
        keep(store, kept, recorded_at=NOON + timedelta(minutes=minute))
    claimed = claim(store, NOON + timedelta(hours=1), count=2)
    assert {message.resource["identifier"][0]["value"] for message in claimed} == {"1", "2"}


def test_workers_side_by_side_never_hold_the_same_message(store: Store) -> None:
    for _ in range(40):
        keep(store)

    def work(name: str) -> list[str]:
        held: list[str] = []
        while batch := claim(store, count=3, claim_id=name):
            held += [message.id for message in batch]
        return held

    with ThreadPoolExecutor(4) as threads:
        held = [message for batch in threads.map(work, "abcd") for message in batch]
    assert len(held) == len(set(held)) == 40


# The operator --------------------------------------------------------------------------------


def only(store: Store) -> MessageStatus:
    (status,) = store.messages(count=9)
    return status


def a_dead_one(store: Store) -> str:
    keep(store)
    (held,) = claim(store)
    store.park(held, reason="HTTP 422", settled_at=NOON)
    return str(held.id)


def test_a_message_is_shown_with_its_resource(store: Store) -> None:
    assessment = an_assessment()
    keep(store, assessment)
    status = only(store)
    detail = store.message(status.id)
    assert detail is not None
    assert (detail.status, detail.resource) == (status, assessment.resource)
    assert store.message("nobody") is None


def test_a_dead_message_is_retried_as_if_never_tried(store: Store) -> None:
    dead = a_dead_one(store)
    later = NOON + timedelta(days=1)
    assert store.retry_messages([dead, dead, "nobody"], now=later, by="operator:x") == 1
    status = only(store)
    assert (status.state, status.attempts, status.available_at) == ("ready", 0, later)
    assert (status.settled_at, status.reason) == (None, "HTTP 422")
    (held,) = claim(store, later)
    assert held.attempts == 1
    entry, *_ = store.audit_trail(count=9)
    assert (entry.action, entry.user, entry.recorded_at) == ("outbox-retry", "operator:x", later)
    assert entry.resource_id == status.assessment_id
    about = store.risk_assessment(status.assessment_id)
    assert about is not None
    assert entry.patient_id == about.patient_id


def test_one_that_waits_is_retried_at_once_and_one_that_is_held_or_delivered_is_not(
    store: Store,
) -> None:
    keep(store)
    (held,) = claim(store)
    assert store.retry_messages([held.id], now=NOON, by="operator:x") == 0
    store.reschedule(held, available_at=NOON + timedelta(hours=1), reason="HTTP 500")
    assert store.retry_messages([held.id], now=NOON, by="operator:x") == 1
    assert store.retry_messages([held.id], now=NOON, by="operator:x") == 0, "it is due already"
    (held,) = claim(store)
    store.settle(held, location=None, version=None, settled_at=NOON)
    assert store.retry_messages([held.id], now=NOON, by="operator:x") == 0
    assert len(store.audit_trail(count=9)) == 2


def test_a_dead_message_is_discarded_stays_and_can_be_taken_back(store: Store) -> None:
    dead = a_dead_one(store)
    assert store.discard_messages([dead], now=NOON, by="operator:x") == 1
    assert store.discard_messages([dead], now=NOON, by="operator:y") == 0
    status = only(store)
    assert (status.state, status.discarded_at, status.discarded_by) == ("dead", NOON, "operator:x")
    assert store.messages(count=9, state=MessageState.DEAD, discarded=False) == []
    assert store.messages(count=9, discarded=True) == [status]
    figures = store.outbox_figures(now=NOON)
    assert (figures.depth["dead"], figures.discarded) == (0, 1)  # type: ignore[index]
    assert store.audit_trail(count=1)[0].action == "outbox-discard"
    assert store.retry_messages([dead], now=NOON, by="operator:x") == 1
    assert only(store).discarded_by is None
    assert len(claim(store)) == 1


@pytest.mark.parametrize("state", ["ready", "claimed", "delivered"])
def test_only_the_dead_are_discarded(store: Store, state: str) -> None:
    keep(store)
    if state != "ready":
        (held,) = claim(store)
        if state == "delivered":
            store.settle(held, location=None, version=None, settled_at=NOON)
    assert store.discard_messages([only(store).id], now=NOON, by="operator:x") == 0
    assert only(store).discarded_at is None
    assert len(store.audit_trail(count=9)) == 1


def test_figures_tell_how_long_the_oldest_has_been_waiting(store: Store) -> None:
    assert store.outbox_figures(now=NOON).oldest_ready_seconds == 0
    a_dead_one(store)
    assert store.outbox_figures(now=NOON + LEASE).oldest_ready_seconds == 0
    keep(store, recorded_at=NOON + timedelta(seconds=1))
    keep(store, recorded_at=NOON + timedelta(seconds=2))
    claim(store, NOON + timedelta(hours=1), count=1)
    figures = store.outbox_figures(now=NOON + timedelta(seconds=31))
    assert figures.oldest_ready_seconds == 30
    assert figures.depth == {"ready": 1, "claimed": 1, "delivered": 0, "dead": 1}
    assert store.outbox_figures(now=NOON - LEASE).oldest_ready_seconds == 0, "a clock went back"


# Clocks that jump ----------------------------------------------------------------------------


def test_one_holder_at_most_settles_whatever_the_clock_does(store: Store) -> None:
    keep(store)
    holders = []
    for hours in (0, 5, -5, 48, -48, 0, 30 * 24, 0, -1):
        holders += claim(store, NOON + timedelta(hours=hours), claim_id=an_id())
    assert len(holders) >= 2
    settled = [
        store.settle(held, location="RiskAssessment/1", version="1", settled_at=NOON)
        for held in holders
    ]
    assert settled.count(True) == 1
    assert claim(store, NOON + timedelta(days=999)) == []
    assert claim(store, NOON - timedelta(days=999)) == []
    assert only(store).state == MessageState.DELIVERED


def test_a_clock_that_went_back_within_a_lease_lets_nobody_else_in(store: Store) -> None:
    keep(store)
    (held,) = claim(store)
    for minutes in range(15):
        assert claim(store, NOON - timedelta(minutes=minutes), claim_id="other") == []
    assert store.settle(held, location=None, version=None, settled_at=NOON)


@pytest.mark.parametrize("state", ["ready", "claimed"])
def test_a_time_from_a_clock_that_was_years_ahead_holds_up_nothing(
    store: Store, state: str
) -> None:
    keep(store)
    ahead = NOON + timedelta(days=4 * 365)
    (held,) = claim(store, ahead)
    if state == "ready":
        store.reschedule(held, available_at=ahead + timedelta(seconds=4), reason="HTTP 500")
    (taken_over,) = claim(store, NOON, claim_id="w2")
    assert store.settle(taken_over, location=None, version=None, settled_at=NOON)
    assert not store.settle(held, location=None, version=None, settled_at=NOON)


# Destinations --------------------------------------------------------------------------------


def keep_for(
    store: Store, client: str | None, base: str, number: int = 1, recorded_at: datetime = NOON
) -> None:
    for _ in range(number):
        assessment = an_assessment(patient_id=an_id())
        message = a_message(assessment, client=client, fhir_base=base)
        store.record(assessment, [], an_audit_entry(recorded_at=recorded_at), message)


def claim_without(store: Store, *without: Destination) -> set[Destination]:
    claimed = store.claim(now=NOON, lease=LEASE, count=99, claim_id="w1", without=without)
    return {message.destination for message in claimed}


A, B = "https://a.example.org/fhir", "https://b.example.org/fhir"


def test_a_destination_is_left_out_of_a_claim_and_no_other_is(store: Store) -> None:
    there = [(None, A), ("x", A), ("y", A), ("x", B)]
    for client, base in there:
        keep_for(store, client, base, number=3)
    all_there = {Destination(client=client, fhir_base=base) for client, base in there}
    closed = Destination(client="x", fhir_base=A)
    nobodys = Destination(client=None, fhir_base=A)
    assert claim_without(store, *all_there) == set()
    assert claim_without(store, closed, nobodys) == all_there - {closed, nobodys}
    assert claim_without(store, closed) == {nobodys}
    assert claim_without(store) == {closed}


def test_messages_are_listed_by_client(store: Store) -> None:
    keep_for(store, "x", A, number=2)
    keep_for(store, "y", A)
    keep_for(store, None, A)
    assert len(store.messages(count=9, client="x")) == 2
    assert len(store.messages(count=9, client="x", state=MessageState.DEAD)) == 0
    assert len(store.messages(count=9)) == 4


def test_a_claim_that_has_no_room_for_all_takes_what_a_worker_left_behind_first(
    store: Store,
) -> None:
    keep_for(store, "x", A, number=2)
    left = {message.id for message in claim(store, NOON, count=2)}
    keep_for(store, "x", A, number=8, recorded_at=NOON + timedelta(seconds=1))
    taken = claim(store, NOON + LEASE, count=3, claim_id="w2")
    assert len(taken) == 3
    assert left < {message.id for message in taken}
