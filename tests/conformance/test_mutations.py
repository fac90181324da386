"""Damaged requests are answered in JSON and never with a 5xx; 100,000 of them outside of CI."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.conformance.mutations import CONTENT_TYPES, Request, check, mutation, send
from tests.service import HOOK_URL

SEED = 1
PARTS = 4


@pytest.mark.proves(1, 46)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_thousand_damaged_requests_are_answered(part: int, tmp_path: Path) -> None:
    outcome = asyncio.run(send(tmp_path, SEED, range(part, 2000, PARTS)))
    assert [(finding.number, finding.fault) for finding in outcome.findings] == []
    assert outcome.sent == 2000 // PARTS
    assert {200, 400, 412, 415} <= set(outcome.statuses), "both good and bad ones were among them"


def test_a_number_is_always_the_same_request() -> None:
    assert mutation(3, 14) == mutation(3, 14)
    assert len({mutation(3, number).body for number in range(50)}) > 40
    assert mutation(3, 14) != mutation(4, 14)


def test_every_kind_of_damage_is_done() -> None:
    done = Counter(name for number in range(2000) for name in mutation(SEED, number).how.split())
    assert len(done) == 9 + 6 + 1
    assert min(done.values()) > 20


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (500, "application/fhir+json", b'{"resourceType":"OperationOutcome"}'),
        (422, "application/json", b"{}"),
        (200, "application/json", b'{"cards":[{}]}'),
        (200, "application/json", b"<html>"),
        (400, "text/plain", b"bad"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_a_finding(status: int, kind: str, body: bytes) -> None:
    request = Request(url=HOOK_URL, body=b"", content_type=CONTENT_TYPES[0], how="")
    answer = httpx.Response(status, headers={"Content-Type": kind}, content=body)
    with pytest.raises((AssertionError, ValueError)):
        check(request, answer)
