"""Conditional create on every FHIR server that the crash suites deliver to: real ones, and ours.

FHIR R4, http.html#ccreate. What ours does otherwise than HAPI would be counted, and mean nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.reliability.fhir_server import SYSTEM, CountingServer
from tests.servers import HapiServer, MedplumServer


@dataclass(frozen=True, slots=True)
class Server:
    base: str
    whole: bool  # it has more of FHIR than a run needs

    def create(self, value: str, only_if_none: bool = True) -> httpx.Response:
        resource = {
            "resourceType": "RiskAssessment",
            "identifier": [{"system": SYSTEM, "value": value}],
            "status": "final",
            "subject": {"display": "Ann"},
        }
        condition = {"If-None-Exist": f"identifier={SYSTEM}|{value}"} if only_if_none else {}
        headers = {"Content-Type": "application/fhir+json", **condition}
        return httpx.post(f"{self.base}/RiskAssessment", json=resource, headers=headers, timeout=60)

    def search(self, value: str) -> list[dict[str, Any]]:
        query = {"identifier": f"{SYSTEM}|{value}"}
        found = httpx.get(f"{self.base}/RiskAssessment", params=query, timeout=60).json()
        return [entry["resource"] for entry in found.get("entry", ())]


@pytest.fixture
def counting() -> Iterator[Server]:
    with CountingServer() as server:
        yield Server(server.base, whole=False)


@pytest.fixture
def value() -> str:
    return str(uuid.uuid4())


def takes_one_of_a_repeat(server: Server, value: str) -> None:
    first, second = server.create(value), server.create(value)
    assert (first.status_code, second.status_code) == (201, 200)
    (held,) = server.search(value)
    assert held["identifier"] == [{"system": SYSTEM, "value": value}]
    assert f"/RiskAssessment/{held['id']}/_history/" in first.headers["location"]
    assert first.headers["etag"].startswith('W/"')
    assert server.create(str(uuid.uuid4())).status_code == 201
    assert server.search(str(uuid.uuid4())) == []


def takes_as_many_as_come_unconditionally(server: Server, value: str) -> None:
    """So that one of each is the condition's doing, and a double would be seen."""
    for _ in range(2):
        assert server.create(value, only_if_none=False).status_code == 201
    if server.whole:
        assert len(server.search(value)) == 2
        assert server.create(value).status_code == 412


def test_ours(counting: Server, value: str) -> None:
    takes_one_of_a_repeat(counting, value)
    takes_as_many_as_come_unconditionally(counting, str(uuid.uuid4()))


def test_hapi(hapi: HapiServer, value: str) -> None:
    server = Server(hapi.base, whole=True)
    takes_one_of_a_repeat(server, value)
    takes_as_many_as_come_unconditionally(server, str(uuid.uuid4()))


def test_medplum(medplum: MedplumServer, value: str) -> None:
    server = Server(medplum.base, whole=True)
    takes_one_of_a_repeat(server, value)
    takes_as_many_as_come_unconditionally(server, str(uuid.uuid4()))


def test_ours_keeps_one_of_many_at_once(counting: Server, value: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: counting.create(value).status_code, range(24)))
    assert sorted(answers) == [200] * 23 + [201]
