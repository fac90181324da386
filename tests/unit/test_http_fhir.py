"""The read-only FHIR endpoint: capability, read, search and pages."""

from __future__ import annotations

import copy
from typing import Any
from urllib.parse import urlsplit

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement

from cds_service.store import AssessmentRecord
from tests.fakes.records import an_assessment, an_audit_entry
from tests.service import Service, patient_view

SEARCH = "/fhir/RiskAssessment"
SYSTEM = "urn:cds-service:risk-assessment"


def keep(service: Service, **changed: Any) -> AssessmentRecord:
    record = service.parts.store.record(an_assessment(**changed), [], an_audit_entry(), None)
    assert record is not None
    return record


def found(answer: Any) -> list[str]:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/fhir+json"
    return [entry["resource"]["id"] for entry in answer.json().get("entry", [])]


def test_the_capability_statement_is_valid_r4(app_client: Service) -> None:
    answer = app_client.request("GET", "/fhir/metadata")
    assert answer.headers["content-type"] == "application/fhir+json"
    statement = CapabilityStatement.model_validate(answer.json())
    assert statement.fhirVersion == "4.0.1"
    interactions = answer.json()["rest"][0]["resource"][0]["interaction"]
    assert [each["code"] for each in interactions] == ["read", "search-type"]


def test_what_a_call_stored_is_read_and_found(app_client: Service) -> None:
    app_client.call(patient_view())
    bundle = app_client.request("GET", f"{SEARCH}?patient=p1")
    Bundle.model_validate(bundle.json())
    entry = bundle.json()["entry"][0]
    read = app_client.request("GET", urlsplit(entry["fullUrl"]).path)
    assert read.json() == entry["resource"]
    assert read.json()["resourceType"] == "RiskAssessment"
    assert entry["fullUrl"].endswith(f"{SEARCH}/{read.json()['id']}")


def test_a_later_call_with_other_values_is_read_with_the_one_before_as_parent(
    app_client: Service,
) -> None:
    first = patient_view()
    later = copy.deepcopy(first)
    for entry in later["prefetch"]["observations"]["entry"]:
        if quantity := entry["resource"].get("valueQuantity"):
            quantity["value"] += 1
    for body in (first, later, first):
        assert app_client.call(body).status_code == 200
    bundle = app_client.request("GET", f"{SEARCH}?patient=p1").json()
    Bundle.model_validate(bundle)
    one, another = (entry["resource"] for entry in bundle["entry"])
    if "parent" in one:
        one, another = another, one
    assert "parent" not in one
    assert another["parent"]["identifier"] == one["identifier"][0]


@pytest.mark.parametrize("id_", ["nope", "..", "x" * 5000, "%00", "' OR 1=1 --"])
def test_an_unknown_id_is_404(app_client: Service, id_: str) -> None:
    keep(app_client)
    assert app_client.request("GET", f"{SEARCH}/{id_}").status_code == 404


@pytest.mark.parametrize("value", ["7", "Patient/7"])
def test_a_patient_is_found_by_id_or_reference(app_client: Service, value: str) -> None:
    one = keep(app_client, patient_id="7")
    keep(app_client, patient_id="8")
    assert found(app_client.request("GET", f"{SEARCH}?patient={value}")) == [one.id]


@pytest.mark.parametrize(
    ("query", "finds"),
    [
        ("abc", True),
        (f"{SYSTEM}|abc", True),
        (f"{SYSTEM}%7Cabc", True),
        ("urn:other|abc", False),
        ("|abc", False),
        (f"{SYSTEM}|ab", False),
    ],
)
def test_an_identifier_is_a_value_or_system_and_value(
    app_client: Service, query: str, finds: bool
) -> None:
    one = keep(app_client, identifier="abc")
    keep(app_client)
    expected = [one.id] if finds else []
    assert found(app_client.request("GET", f"{SEARCH}?identifier={query}")) == expected


def test_patient_and_identifier_must_both_match(app_client: Service) -> None:
    keep(app_client, patient_id="7", identifier="abc")
    assert found(app_client.request("GET", f"{SEARCH}?patient=8&identifier=abc")) == []


def test_nothing_found_is_a_bundle_without_entries(app_client: Service) -> None:
    answer = app_client.request("GET", f"{SEARCH}?patient=nobody")
    assert found(answer) == []
    assert answer.json()["total"] == 0
    assert "entry" not in answer.json()
    Bundle.model_validate(answer.json())


def test_pages_follow_one_another_to_the_end(app_client: Service) -> None:
    kept = {keep(app_client, patient_id="7").id for _ in range(5)}
    url, seen, pages = f"{SEARCH}?patient=7&_count=2", [], 0
    while url:
        answer = app_client.request("GET", url)
        seen += found(answer)
        pages += 1
        links = {link["relation"]: link["url"] for link in answer.json()["link"]}
        assert answer.json()["total"] == 5
        assert "self" in links
        assert ("previous" in links) == (pages > 1)
        url = links.get("next", "").removeprefix(app_client.parts.settings.public_url)
    assert pages == 3
    assert len(seen) == 5
    assert set(seen) == kept


def test_a_count_of_zero_gives_the_total_alone(app_client: Service) -> None:
    keep(app_client)
    answer = app_client.request("GET", f"{SEARCH}?_count=0")
    assert found(answer) == []
    assert answer.json()["total"] == 1


def test_a_huge_count_and_offset_are_bounded(app_client: Service) -> None:
    keep(app_client)
    assert len(found(app_client.request("GET", f"{SEARCH}?_count=999999999999999999"))) == 1
    assert found(app_client.request("GET", f"{SEARCH}?_offset=999999999999999999")) == []


@pytest.mark.parametrize(
    "query",
    [
        "_count=-1",
        "_count=x",
        "_count=1.5",
        "_count=" + "9" * 50,
        "_offset=-1",
        "patient=Group/1",
        "patient=a%20b",
        "patient=1,2",
        "patient=1&patient=2",
        f"identifier={SYSTEM}|",
    ],
)
def test_a_parameter_that_cannot_be_read_is_400(app_client: Service, query: str) -> None:
    assert app_client.request("GET", f"{SEARCH}?{query}").status_code == 400


def test_unknown_parameters_are_ignored_unless_the_client_is_strict(app_client: Service) -> None:
    one = keep(app_client, patient_id="7")
    url = f"{SEARCH}?patient=7&risk=high&_format=json&identifier="
    lenient = app_client.request("GET", url)
    assert found(lenient) == [one.id]
    assert lenient.json()["link"][0]["url"].endswith("?patient=7"), "self says what was used"
    strict = app_client.request("GET", url, headers={"Prefer": "handling=strict"})
    assert strict.status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        "patient:identifier=x",
        "patient:Patient=7",
        "patient:missing=false",
        "patient.name=x",
        "patient:Patient.name=x",
        "identifier:not=abc",
        "identifier:of-type=a|b|c",
        "_count:exact=1",
    ],
)
def test_a_modifier_or_chain_is_400_rather_than_ignored(app_client: Service, query: str) -> None:
    keep(app_client, patient_id="7")
    for url in (f"{SEARCH}?{query}", f"{SEARCH}?patient=7&{query}"):
        answer = app_client.request("GET", url)
        assert answer.status_code == 400
        assert [issue["code"] for issue in answer.json()["issue"]] == ["not-supported"]
    posted = app_client.request(
        "POST",
        f"{SEARCH}/_search",
        content=query,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert posted.status_code == 400


@pytest.mark.parametrize(
    "query",
    ["patient=7,8", "patient=7%2C8", "identifier=abc,abd", f"identifier={SYSTEM}|abc,x|y"],
)
def test_one_or_the_other_is_400_that_says_so(app_client: Service, query: str) -> None:
    keep(app_client, patient_id="7", identifier="abc")
    answer = app_client.request("GET", f"{SEARCH}?{query}")
    assert answer.status_code == 400
    assert "comma" in answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    ("query", "status"), [("a\\,b", 200), ("a\\\\\\,b", 200), ("a\\\\,b", 400)]
)
def test_an_escaped_comma_is_part_of_the_value(
    app_client: Service, query: str, status: int
) -> None:
    keep(app_client, identifier="a,b")
    keep(app_client, identifier="a\\,b")
    answer = app_client.request("GET", SEARCH, params={"identifier": query})
    assert answer.status_code == status
    assert answer.json().get("total", 1) == 1


def test_a_search_by_post_is_the_same_search(app_client: Service) -> None:
    one = keep(app_client, patient_id="7")
    keep(app_client, patient_id="8")
    answer = app_client.request("POST", f"{SEARCH}/_search", data={"patient": "Patient/7"})
    assert found(answer) == [one.id]
    refused = app_client.request("POST", f"{SEARCH}/_search", json={"patient": "7"})
    assert refused.status_code == 415


def test_without_restriction_the_demo_shows_everything(app_client: Service) -> None:
    keep(app_client, origin="a")
    keep(app_client, origin="b")
    assert len(found(app_client.request("GET", SEARCH))) == 2
