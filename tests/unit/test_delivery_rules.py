"""The pure rules of delivery: which way, what a scope allows, when to try again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.clients import Client
from cds_service.delivery import Way, WriteBackPlan, write_back_plan
from cds_service.delivery.destinations import ENOUGH, Destinations, Outage
from cds_service.delivery.failure import LONGEST_REASON, failure_of
from cds_service.delivery.retry import RetryPolicy
from cds_service.delivery.scopes import may_create
from cds_service.delivery.send import if_none_exist, outgoing
from cds_service.delivery.tokens import TokenUnavailable
from cds_service.fhir_client import FetchRefused, FetchUnavailable
from cds_service.store import Destination

BASE = "https://ehr.example.org/fhir"
EHR = Client(name="x", issuer="i", fhir_servers=(BASE,), write_back="backend")
NOWHERE = WriteBackPlan(way=Way.NONE)
OUTBOX = WriteBackPlan(way=Way.OUTBOX, base=BASE)


def plan(client: Client | None, fhir_server: str | None, profile: str = "production") -> Any:
    return write_back_plan(client, profile=profile, fhir_server=fhir_server)


def with_servers(*servers: str) -> Client:
    return replace(EHR, fhir_servers=servers)


@pytest.mark.parametrize(
    ("client", "fhir_server", "expected"),
    [
        (None, BASE, NOWHERE),
        (EHR, BASE, OUTBOX),
        (EHR, "https://EHR.example.org:443/fhir/", OUTBOX),
        (EHR, None, OUTBOX),
        (EHR, "https://other.example.org/fhir", NOWHERE),
        (EHR, "http://ehr.example.org/fhir", NOWHERE),
        (with_servers(BASE, "https://two.example.org"), None, NOWHERE),
        (
            with_servers(BASE, "https://two.example.org"),
            "https://two.example.org",
            WriteBackPlan(way=Way.OUTBOX, base="https://two.example.org"),
        ),
        (replace(EHR, write_back="inline"), BASE, WriteBackPlan(way=Way.INLINE, base=BASE)),
        (replace(EHR, write_back="system-action"), None, WriteBackPlan(way=Way.SYSTEM_ACTION)),
        (replace(EHR, write_back="off"), BASE, NOWHERE),
    ],
)
def test_each_call_has_exactly_one_way(
    client: Client | None, fhir_server: str | None, expected: WriteBackPlan
) -> None:
    assert plan(client, fhir_server) == expected


def test_loopback_is_written_to_when_it_is_listed_and_in_the_demo_only() -> None:
    listed = with_servers("http://127.0.0.1:8080/fhir")
    assert plan(listed, "http://127.0.0.1:8080/fhir", "demo").way is Way.OUTBOX
    assert plan(listed, "http://127.0.0.1:8080/fhir") == NOWHERE
    assert plan(EHR, "http://127.0.0.1:8080/fhir", "demo") == NOWHERE


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("user/RiskAssessment.write", True),
        ("user/RiskAssessment.*", True),
        ("patient/*.write", True),
        ("system/*.*", True),
        ("user/RiskAssessment.c", True),
        ("user/RiskAssessment.cruds", True),
        ("launch openid patient/*.cs user/Patient.rs", True),
        ("user/RiskAssessment.read", False),
        ("user/RiskAssessment.rus", False),
        ("user/RiskAssessment.", False),
        ("user/RiskAssessment.sc", False),
        ("user/RiskAssessment.c?status=final", False),
        ("user/Observation.cruds", False),
        ("user/RiskAssessmentX.c", False),
        ("RiskAssessment.c", False),
        ("*", False),
        ("", False),
    ],
)
def test_scopes_of_both_smart_versions_are_read(scope: str, allowed: bool) -> None:
    assert may_create(scope, "RiskAssessment") is allowed


JITTER = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 99), JITTER)
def test_waits_double_up_to_an_hour_and_jitter_takes_half_at_most(
    attempts: int, jitter: float
) -> None:
    wait = RetryPolicy().wait_after(attempts, jitter=jitter)
    assert wait is not None
    full = min(timedelta(seconds=2 ** min(attempts, 12)), timedelta(hours=1))
    assert full / 2 <= wait <= full


@given(st.integers(1, 99), JITTER, st.floats(0, 1e12))
def test_a_server_is_never_asked_sooner_than_it_wishes_within_a_day(
    attempts: int, jitter: float, asked: float
) -> None:
    wait = RetryPolicy().wait_after(attempts, jitter=jitter, retry_after=asked)
    assert wait is not None
    assert wait >= timedelta(seconds=min(asked, 86_400))
    assert wait <= timedelta(days=1)


def test_there_is_an_end_and_it_is_days_away() -> None:
    policy = RetryPolicy()
    waits = [policy.wait_after(attempts, jitter=0.999) for attempts in range(1, 200)]
    assert waits.index(None) == policy.most_attempts - 1
    assert sum((wait for wait in waits if wait), timedelta()) > timedelta(hours=40)
    assert not any(waits[policy.most_attempts :])


def test_a_resource_is_found_again_by_its_own_identifier_only() -> None:
    ours = {"system": "urn:cds-service:risk-assessment", "value": "a&b|c"}
    resource = {"id": "1", "identifier": [{"value": "x"}, {"system": "y", "value": "z"}, ours]}
    assert if_none_exist(resource) == "identifier=urn:cds-service:risk-assessment|a%26b%7Cc"
    assert "id" not in outgoing(resource)
    with pytest.raises(ValueError, match="no identifier"):
        if_none_exist({"identifier": [{"value": "x"}]})


# What a failure means ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "may_retry", "outage"),
    [
        (TimeoutError(), True, True),
        (TokenUnavailable("token endpoint: HTTP 400 invalid_client"), True, True),
        (FetchUnavailable("no answer (ConnectError)"), True, True),
        (FetchUnavailable("HTTP 503", status=503), True, True),
        (FetchUnavailable("HTTP 429", status=429), True, True),
        (FetchRefused("HTTP 401", status=401), True, True),
        # About this one message, for all that can be told.
        (FetchUnavailable("HTTP 500", status=500), True, False),
        (FetchUnavailable("HTTP 409", status=409), True, False),
        (FetchUnavailable("HTTP 412", status=412), True, False),
        (FetchRefused("HTTP 422", status=422), False, False),
        (FetchRefused("the access token is not usable"), False, False),
    ],
)
def test_what_is_tried_again_and_what_stops_the_others_too(
    fault: Any, may_retry: bool, outage: bool
) -> None:
    failure = failure_of(fault)
    assert (failure.may_retry, failure.outage is not None) == (may_retry, outage)


def test_the_words_of_an_outcome_are_kept_below_the_line_that_may_be_logged() -> None:
    issues = [
        {
            "severity": "error",
            "code": "not-found",
            "diagnostics": "Observation/o1\n not found",
            "details": {"text": "unknown reference"},
            "expression": ["RiskAssessment.basis[0]"],
        },
        {"severity": "warning", "code": "informational", "location": ["x", 7]},
        "not an issue",
        {},
        {"details": "no object", "diagnostics": 7, "expression": "no list"},
    ]
    outcome = {"resourceType": "OperationOutcome", "issue": issues}
    failure = failure_of(FetchRefused("HTTP 422", status=422, outcome=outcome))
    assert failure.reason.split("\n") == [
        "HTTP 422",
        "error not-found Observation/o1 not found unknown reference (RiskAssessment.basis[0])",
        "warning informational (x)",
    ]
    assert failure.public_reason == "HTTP 422"


@pytest.mark.parametrize("issue", [None, "x", {}, [["x"]], [{"diagnostics": "x" * 10_000}]])
def test_an_outcome_of_any_shape_gives_a_reason(issue: Any) -> None:
    fault = FetchRefused("HTTP 400", status=400, outcome={"issue": issue})
    assert failure_of(fault).reason.startswith("HTTP 400")
    assert len(failure_of(fault).reason) <= LONGEST_REASON


# Destinations -----------------------------------------------------------------------------------

HERE = Destination(client="A", fhir_base=BASE)
THERE = Destination(client="B", fhir_base=BASE)


def fails(
    destinations: Destinations, *, at: float, began: float | None = None, **asked: float
) -> float | None:
    """One that fails at a time; the pause that follows."""
    destinations.set_out(HERE)
    start = at if began is None else began
    return destinations.came_back(HERE, Outage(**asked), began=start, now=at, jitter=0)


def arrives(destinations: Destinations, *, at: float) -> None:
    destinations.set_out(HERE)
    assert destinations.came_back(HERE, None, began=at, now=at, jitter=0) is None


def test_a_destination_with_enough_under_way_gets_no_more() -> None:
    destinations = Destinations()
    for _ in range(ENOUGH):
        assert destinations.closed(0) == frozenset()
        destinations.set_out(HERE)
    destinations.set_out(THERE)
    assert destinations.closed(0) == {HERE}
    destinations.came_back(HERE, None, began=0, now=0, jitter=0)
    assert destinations.closed(0) == frozenset()


def test_pauses_double_to_a_minute_and_end_when_something_arrives() -> None:
    destinations, now, pauses = Destinations(), 0.0, []
    for _ in range(9):
        pause = fails(destinations, at=now)
        assert pause is not None
        pauses.append(pause)
        assert destinations.closed(now + pause - 0.1) == {HERE}
        assert destinations.closed(now + pause) == frozenset()
        now += pause
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    arrives(destinations, at=now)
    assert fails(destinations, at=now) == 1


def test_those_that_fail_together_are_one_outage() -> None:
    destinations = Destinations()
    for _ in range(8):
        fails(destinations, at=20, began=0)
    assert destinations.closed(20.9) == {HERE}
    assert destinations.closed(21) == frozenset()


def test_after_an_outage_one_claim_tries_alone() -> None:
    destinations = Destinations()
    fails(destinations, at=0)
    assert destinations.closed(2) == frozenset()
    destinations.set_out(HERE)
    assert destinations.closed(2) == {HERE}


def test_a_destination_pauses_for_as_long_as_it_asks_up_to_an_hour() -> None:
    destinations = Destinations()
    assert fails(destinations, at=0, retry_after=300) == 300
    assert fails(destinations, at=1, began=0, retry_after=100) is None
    assert destinations.closed(299) == {HERE}
    assert fails(destinations, at=300, retry_after=1e9) == 3600


def test_destinations_that_are_at_rest_are_forgotten() -> None:
    destinations = Destinations()
    arrives(destinations, at=0)
    assert destinations._traffic == {}
