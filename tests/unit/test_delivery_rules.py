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
from cds_service.delivery.retry import RetryPolicy
from cds_service.delivery.scopes import may_create
from cds_service.delivery.send import if_none_exist, outgoing

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
