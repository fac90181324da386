"""The FHIR client against a real server on loopback that misbehaves on demand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from cds_service.clients import Client
from cds_service.clients.addresses import Reach
from cds_service.fhir_client import (
    Created,
    FetchError,
    FetchRefused,
    FetchUnavailable,
    FhirClient,
    base_allowed,
    leads_on,
)
from tests.fakes.ehr import FakeEhr, Fault
from tests.fakes.records import an_assessment

IF_NONE_EXIST = "identifier=urn:cds-service:risk-assessment|a1"
RESOURCE = an_assessment(identifier="a1").resource
OBSERVATIONS = [{"resourceType": "Observation", "id": str(n)} for n in range(5)]
EHR = Client(
    name="General Hospital",
    issuer="https://ehr.example.org",
    fhir_servers=("https://ehr.example.org/fhir",),
)


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    with FakeEhr() as ehr:
        yield ehr


@asynccontextmanager
async def a_client(transport: httpx.AsyncBaseTransport | None = None) -> AsyncIterator[FhirClient]:
    client = FhirClient(transport, reach=Reach(demo=True))
    try:
        yield client
    finally:
        await client.close()


def run(work: Callable[[FhirClient], Coroutine[Any, Any, Any]]) -> Any:
    async def whole() -> Any:
        async with a_client() as client:
            return await work(client)

    return asyncio.run(whole())


def fault_of(work: Callable[[FhirClient], Coroutine[Any, Any, Any]]) -> FetchError:
    with pytest.raises(FetchError) as caught:
        run(work)
    return caught.value


# Where it may go -----------------------------------------------------------------------------


@pytest.mark.proves(40)
@pytest.mark.parametrize(
    ("url", "production", "demo"),
    [
        ("https://ehr.example.org/fhir", True, True),
        ("https://EHR.example.org:443/fhir/", True, True),
        ("https://ehr.example.org./fhir", True, True),
        ("http://ehr.example.org/fhir", False, False),
        ("https://ehr.example.org/fhir2", False, False),
        ("https://ehr.example.org/fhir/Patient", False, False),
        ("https://ehr.example.org", False, False),
        ("https://ehr.example.org@127.0.0.1/fhir", False, False),
        ("http://127.0.0.1:8080/fhir", False, True),
        ("http://127.9.9.9/fhir", False, True),
        ("http://[::1]/fhir", False, True),
        ("http://localhost:8080/baseR4", False, True),
        ("https://localhost/fhir", False, True),
        ("http://169.254.169.254/latest", False, False),
        ("http://10.0.0.1/fhir", False, False),
        ("http://2130706433/fhir", False, False),
        ("http://localhost.evil.example/fhir", False, False),
    ],
)
def test_only_the_clients_own_bases_are_allowed(url: str, production: bool, demo: bool) -> None:
    assert (base_allowed(url, EHR, "production") is not None) is production
    assert (base_allowed(url, EHR, "demo") is not None) is demo
    assert base_allowed(url, None, "production") is None


def test_an_allowed_base_is_given_in_normal_form() -> None:
    spelling = "HTTPS://ehr.EXAMPLE.org:443/fhir/"
    assert base_allowed(spelling, EHR, "production") == "https://ehr.example.org/fhir"


@pytest.mark.parametrize(
    "relative",
    ["../admin", "Patient/../../admin", "Patient/%2e%2e/x", "a b", "Patient/1#x", "/x", "a\nb"],
)
def test_an_address_that_leaves_the_base_is_refused_before_it_is_called(
    ehr: FakeEhr, relative: str
) -> None:
    fault = fault_of(lambda client: client.get(ehr.base, relative, "t"))
    assert isinstance(fault, FetchRefused)
    assert ehr.asked == []


def test_a_redirect_is_not_followed(ehr: FakeEhr) -> None:
    ehr.faults.append("redirect")
    fault = fault_of(lambda client: client.get(ehr.base, "Patient/1", "t"))
    assert (fault.status, fault.may_retry) == (302, False)
    assert len(ehr.asked) == 1


# Reading -------------------------------------------------------------------------------------


@pytest.mark.proves(38)
def test_a_resource_is_read_with_the_token_in_its_header(ehr: FakeEhr) -> None:
    ehr.resources = [{"resourceType": "Patient", "id": "p1"}]
    fetched = run(lambda client: client.get(ehr.base, "Patient/p1", "secret"))
    assert fetched.resource == {"resourceType": "Patient", "id": "p1"}
    assert fetched.complete
    (asked,) = ehr.asked
    assert asked.headers["authorization"] == "Bearer secret"
    assert "secret" not in asked.path


def test_a_search_keeps_its_query(ehr: FakeEhr) -> None:
    query = "Observation?patient=p1&code=http://loinc.org|4548-4,http://loinc.org%7C2345-7"
    run(lambda client: client.get(ehr.base, query, None))
    (asked,) = ehr.asked
    assert asked.path.replace("%7C", "|") == "/fhir/" + query.replace("%7C", "|")
    assert "authorization" not in asked.headers


def test_the_pages_of_a_search_are_one_bundle(ehr: FakeEhr) -> None:
    ehr.resources, ehr.page_size = list(OBSERVATIONS), 2
    fetched = run(lambda client: client.get(ehr.base, "Observation", "t"))
    assert [entry["resource"]["id"] for entry in fetched.resource["entry"]] == list("01234")
    assert fetched.complete
    assert "link" not in fetched.resource
    assert all(asked.headers["authorization"] == "Bearer t" for asked in ehr.asked)


def test_the_pages_of_a_prefetched_bundle_are_followed(ehr: FakeEhr) -> None:
    ehr.resources, ehr.page_size = list(OBSERVATIONS), 2
    prefetched = ehr.read("/fhir/Observation", {})
    assert prefetched is not None
    fetched = run(lambda client: client.complete(ehr.base, prefetched, "t"))
    assert len(fetched.resource["entry"]) == 5
    assert len(ehr.asked) == 2
    assert len(prefetched["entry"]) == 2


@pytest.mark.proves(35)
@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://169.254.169.254/fhir",
        "http://127.0.0.1:1/fhir",
        "{url}/other",
        "{url}/fhir/..",
        "{url}/fhirx",
    ],
)
def test_a_next_link_to_elsewhere_never_gets_the_token(ehr: FakeEhr, elsewhere: str) -> None:
    ehr.resources, ehr.page_size = list(OBSERVATIONS), 2
    ehr.next_base = elsewhere.format(url=ehr.url)
    fetched = run(lambda client: client.get(ehr.base, "Observation", "t"))
    assert len(fetched.resource["entry"]) == 2
    assert fetched.lacking == "the next page is on another server"
    assert len(ehr.asked) == 1


@pytest.mark.parametrize(
    "link", ["{base}/Observation", "Observation", "?page=1", "//evil.example/x"]
)
def test_a_next_link_that_never_ends_is_left(ehr: FakeEhr, link: str) -> None:
    link = link.format(base=ehr.base)
    bundle = {"resourceType": "Bundle", "link": [{"relation": "next", "url": link}]}
    answer = httpx.Response(200, json=bundle)

    async def whole() -> Any:
        async with a_client(httpx.MockTransport(lambda request: answer)) as client:
            return await client.get(ehr.base, "Observation?page=1", "t")

    assert not asyncio.run(whole()).complete


@pytest.mark.parametrize("part", ["a/", "../", "?", "%25"])
def test_a_link_of_megabytes_is_neither_followed_nor_looked_at(ehr: FakeEhr, part: str) -> None:
    link = {"relation": "next", "url": f"{ehr.base}/Observation?{part * 6_000_000}"}
    bundle = {"resourceType": "Bundle", "link": [link], "entry": [{}]}
    began = time.process_time()
    fetched = run(lambda client: client.complete(ehr.base, bundle, "t"))
    assert (fetched.complete, len(fetched.resource["entry"])) == (False, 1)
    assert not leads_on(ehr.base, bundle)
    assert time.process_time() - began < 1
    assert ehr.asked == []


def test_a_further_page_that_fails_leaves_the_entries_so_far(ehr: FakeEhr) -> None:
    ehr.resources, ehr.page_size = list(OBSERVATIONS), 2
    ehr.faults.extend([None, 500])
    fetched = run(lambda client: client.get(ehr.base, "Observation", "t"))
    assert len(fetched.resource["entry"]) == 2
    assert fetched.lacking == "a further page could not be read: HTTP 500"


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (401, FetchRefused, "HTTP 401"),
        (403, FetchRefused, "HTTP 403"),
        (404, FetchRefused, "HTTP 404"),
        (410, FetchRefused, "HTTP 410"),
        (501, FetchRefused, "HTTP 501"),
        (204, FetchRefused, "HTTP 204"),
        (429, FetchUnavailable, "HTTP 429"),
        (500, FetchUnavailable, "HTTP 500"),
        (503, FetchUnavailable, "HTTP 503"),
        ("html", FetchRefused, "the answer is not JSON"),
        ("not-json", FetchRefused, "the answer is not JSON"),
        ("endless", FetchRefused, "the answer is too large"),
        ("close", FetchUnavailable, "no answer (RemoteProtocolError)"),
    ],
)
def test_faults_are_split_by_whether_another_try_helps(
    ehr: FakeEhr, fault: Fault, kind: type[FetchError], reason: str
) -> None:
    ehr.faults.append(fault)
    caught = fault_of(lambda client: client.get(ehr.base, "Patient/1", "t"))
    assert (type(caught), caught.reason) == (kind, reason)


@pytest.mark.proves(37)
def test_a_server_that_stalls_costs_no_more_than_the_deadline(ehr: FakeEhr) -> None:
    ehr.faults.append("stall")

    async def work(client: FhirClient) -> Any:
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(FetchUnavailable, match="the deadline has passed"):
            await client.get(ehr.base, "Patient/1", "t", started + 0.1)
        return loop.time() - started

    assert run(work) < 5


def test_a_deadline_that_has_passed_calls_no_one(ehr: FakeEhr) -> None:
    async def work(client: FhirClient) -> Any:
        past = asyncio.get_running_loop().time() - 1
        with pytest.raises(FetchUnavailable):
            await client.get(ehr.base, "Patient/1", "t", past)

    run(work)
    assert ehr.asked == []


def test_a_server_that_is_not_there_may_be_tried_again() -> None:
    fault = fault_of(lambda client: client.get("http://127.0.0.1:1/fhir", "Patient/1", "t"))
    assert fault.reason == "no answer (ConnectError)"
    assert fault.may_retry


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 40}, None),
        (
            {
                "Date": "Sun, 01 Mar 2026 12:00:00 GMT",
                "Retry-After": "Sun, 01 Mar 2026 12:02:00 GMT",
            },
            120,
        ),
        # Zoneless, and past: at once.
        ({"Date": "Sun, 01 Mar 2026 12:00:00", "Retry-After": "Sun, 01 Mar 2026 11:00:00"}, 0),
        # Years, days and zones of no calendar.
        ({"Retry-After": "Sun, 01 Mar 99999 12:02:00 GMT"}, None),
        ({"Retry-After": "Sun, 41 Mar 2026 12:02:00 GMT"}, None),
        ({"Retry-After": "Sun, 01 Mar 2026 12:02:00 +99999999999"}, None),
    ],
)
def test_what_the_server_asks_for_is_kept(headers: dict[str, str], seconds: float | None) -> None:
    answer = httpx.Response(503, headers=headers)

    async def whole() -> float | None:
        async with a_client(httpx.MockTransport(lambda request: answer)) as client:
            with pytest.raises(FetchUnavailable) as caught:
                await client.get("http://127.0.0.1/fhir", "Patient/1", "t")
            return caught.value.retry_after

    assert asyncio.run(whole()) == seconds


def test_a_compressed_answer_is_refused_unread(ehr: FakeEhr) -> None:
    ehr.faults.append((200, {"Content-Encoding": "gzip"}))
    fault = fault_of(lambda client: client.get(ehr.base, "Patient/1", "t"))
    assert fault.reason == "the answer is too large"
    assert ehr.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("token", ["a b", "a\r\nX-Injected: 1", "", "tök", "t" * 40_000])
def test_a_token_that_is_no_token_is_not_sent(ehr: FakeEhr, token: str) -> None:
    fault = fault_of(lambda client: client.get(ehr.base, "Patient/1", token))
    assert token == "" or token not in str(fault)
    assert ehr.asked == []


def test_the_environments_proxies_and_credentials_are_not_used(
    ehr: FakeEhr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    ehr.resources = [{"resourceType": "Patient", "id": "p1"}]
    assert run(lambda client: client.get(ehr.base, "Patient/p1", "t")).complete


# Creating ------------------------------------------------------------------------------------


def create(ehr: FakeEhr, token: str | None = "t") -> Created:  # noqa: S107
    created = run(lambda client: client.create(ehr.base, RESOURCE, IF_NONE_EXIST, token))
    assert isinstance(created, Created)
    return created


def test_a_create_is_conditional_and_a_repeat_creates_nothing(ehr: FakeEhr) -> None:
    first, again = create(ehr), create(ehr)
    location = f"{ehr.base}/RiskAssessment/1/_history/1"
    assert first == Created(existing=False, location=location, id="1", version="1")
    assert again == Created(existing=True, location=location, id="1", version="1")
    assert [resource["identifier"] for resource in ehr.resources] == [RESOURCE["identifier"]]
    assert ehr.asked[0].headers["if-none-exist"] == IF_NONE_EXIST
    assert ehr.asked[0].headers["content-type"] == "application/fhir+json"


def test_a_server_that_closes_after_the_commit_has_it_once(ehr: FakeEhr) -> None:
    ehr.faults.append("close-after-commit")
    fault = fault_of(lambda client: client.create(ehr.base, RESOURCE, IF_NONE_EXIST, "t"))
    assert fault.may_retry
    assert create(ehr).existing
    assert len(ehr.resources) == 1


def test_several_matches_may_be_tried_again(ehr: FakeEhr) -> None:
    ehr.resources = [RESOURCE | {"id": "1"}, RESOURCE | {"id": "2"}]
    fault = fault_of(lambda client: client.create(ehr.base, RESOURCE, IF_NONE_EXIST, "t"))
    assert (fault.status, fault.may_retry) == (412, True)


def test_a_refused_create_keeps_the_servers_own_words(ehr: FakeEhr) -> None:
    ehr.faults.append(422)
    fault = fault_of(lambda client: client.create(ehr.base, RESOURCE, IF_NONE_EXIST, "t"))
    assert (fault.status, fault.may_retry) == (422, False)
    assert fault.outcome is not None
    assert fault.outcome["issue"][0]["diagnostics"] == "because 422"
    assert "because" not in str(fault)


@pytest.mark.parametrize(
    ("answer", "created"),
    [
        (
            httpx.Response(201, headers={"Location": "RiskAssessment/7"}),
            Created(existing=False, location="RiskAssessment/7", id="7"),
        ),
        (
            httpx.Response(200, headers={"Content-Location": "http://x/RiskAssessment/7"}),
            Created(existing=True, location="http://x/RiskAssessment/7", id="7"),
        ),
        (
            httpx.Response(
                200,
                headers={"ETag": '"3"'},
                json={"resourceType": "RiskAssessment", "id": "7"},
            ),
            Created(existing=True, id="7", version="3"),
        ),
        (httpx.Response(201, text="<html>"), Created(existing=False)),
        # Answers that are about something else, such as a page to sign in at.
        (
            httpx.Response(200, headers={"Location": "https://login.example.org/sso/start"}),
            Created(existing=True),
        ),
        (
            httpx.Response(201, headers={"Location": "http://x/Observation/7/_history/1"}),
            Created(existing=False),
        ),
        (
            httpx.Response(200, json={"resourceType": "OperationOutcome", "id": "7"}),
            Created(existing=True),
        ),
    ],
)
def test_each_manner_of_naming_what_was_created_is_read(
    answer: httpx.Response, created: Created
) -> None:
    async def whole() -> Created:
        async with a_client(httpx.MockTransport(lambda request: answer)) as client:
            return await client.create("http://127.0.0.1/fhir", RESOURCE, IF_NONE_EXIST, "t")

    assert asyncio.run(whole()) == created
