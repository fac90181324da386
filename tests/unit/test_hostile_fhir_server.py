"""Prefetch completed from FHIR servers that misbehave: 412, or a card that says what is lacking."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs

from cds_service.clients.addresses import Reach
from cds_service.fhir_client import (
    LARGEST_ANSWER_BYTES,
    LARGEST_SEARCH_BYTES,
    MOST_PAGES,
    FhirClient,
)
from cds_service.figures import escape
from cds_service.parts import Parts
from tests.fakes.hostile_fhir_server import (
    BEHAVIOURS,
    IN_PART,
    PLANTED,
    HostileFhirServer,
    outcome,
)
from tests.fhir import observation, searchset
from tests.service import ABSENT, HOOK_URL, Service, patient_view, prefetch

TOKEN = "secret-token-of-the-call"
SCOPE = "patient/*.read"
LONG = 30_000
# Whoever waits for these is freed by the deadline alone, so that a short one will do.
WAITING = ("slow first byte", "stalls mid-body", "endless 100 continue")
MISBEHAVIOURS = sorted(set(BEHAVIOURS) - {"well", "next as told"})
# What the sockets of both sides may hold beyond what was read.
IN_FLIGHT = 16 * 1024 * 1024


@pytest.fixture
def hostile() -> Iterator[HostileFhirServer]:
    with HostileFhirServer() as elsewhere, HostileFhirServer() as server:
        server.elsewhere = elsewhere.url
        yield server
        assert elsewhere.heard == [], "somebody was sent away, and went"


def service_of(parts: Parts, *, deadline_ms: int = LONG) -> Service:
    """A service with connections of its own."""
    settings = replace(parts.settings, deadline_ms=deadline_ms)
    return Service.of(replace(parts, settings=settings, fhir=FhirClient(reach=Reach(demo=True))))


def call_of(server: HostileFhirServer, *lacking: str, **granted: Any) -> dict[str, Any]:
    sent = {key: value for key, value in prefetch().items() if key not in lacking}
    authorization = {
        "access_token": TOKEN,
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": SCOPE,
        "subject": "cds-service",
    }
    return patient_view(
        prefetch=sent or ABSENT,
        fhirServer=server.base,
        fhirAuthorization=authorization | granted,
    )


def deadline_for(behaviour: str) -> int:
    return 200 if behaviour in WAITING else LONG


def issues_of(answer: Any) -> dict[str, str]:
    return {issue["expression"][0]: issue["diagnostics"] for issue in answer.json()["issue"]}


# Misbehaviour -------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", MISBEHAVIOURS)
def test_a_required_key_that_cannot_be_read_is_a_412_that_names_it(
    behaviour: str,
    hostile: HostileFhirServer,
    parts: Parts,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hostile.misbehaves = {"Condition": behaviour}
    service = service_of(parts, deadline_ms=deadline_for(behaviour))
    with capture_logs() as logged, caplog.at_level(logging.DEBUG):
        answer = service.call(call_of(hostile, "conditions"))
    assert answer.status_code == 412
    assert list(issues_of(answer)) == ["prefetch.conditions"]
    assert service.stored() == 0
    told = (answer.text, json.dumps(logged, default=str), caplog.text, *capfd.readouterr())
    assert not [where for where in told if PLANTED in where or TOKEN in where]
    most = LARGEST_SEARCH_BYTES if behaviour in IN_PART else LARGEST_ANSWER_BYTES
    assert hostile.bytes_sent <= most + IN_FLIGHT


@pytest.mark.parametrize("behaviour", MISBEHAVIOURS)
def test_an_optional_key_that_cannot_be_read_is_said_on_the_card(
    behaviour: str, hostile: HostileFhirServer, parts: Parts
) -> None:
    hostile.misbehaves = {"MedicationRequest": behaviour}
    service = service_of(parts, deadline_ms=deadline_for(behaviour))
    answer = service.call(call_of(hostile, "medications"))
    assert answer.status_code == 200
    (card,) = answer.json()["cards"]
    wording = parts.services["diabetes-risk"].wording
    assert escape(wording.unread["medications"]) in card["detail"]
    assert PLANTED not in answer.text
    assert TOKEN not in answer.text
    assert service.stored() == 1


def test_every_required_key_is_named_when_nobody_answers(
    hostile: HostileFhirServer, parts: Parts
) -> None:
    body = call_of(hostile, "patient", "observations", "conditions", "medications")
    answer = service_of(parts).call(body | {"fhirServer": "http://127.0.0.1:1/fhir"})
    required = parts.services["diabetes-risk"].required_prefetch
    assert answer.status_code == 412
    assert set(issues_of(answer)) == {f"prefetch.{key}" for key in required}


def test_pages_are_bounded(hostile: HostileFhirServer, parts: Parts) -> None:
    hostile.misbehaves = {"Condition": "endless next"}
    service_of(parts).call(call_of(hostile, "conditions"))
    assert len(hostile.heard) == MOST_PAGES


def test_a_page_that_leads_to_itself_is_read_once(hostile: HostileFhirServer, parts: Parts) -> None:
    hostile.misbehaves = {"Condition": "next is itself"}
    service_of(parts).call(call_of(hostile, "conditions"))
    assert len(hostile.heard) == 1


# Completion ---------------------------------------------------------------------------------


def test_without_prefetch_everything_is_read_with_the_token(
    hostile: HostileFhirServer, parts: Parts
) -> None:
    whole = service_of(parts).call(patient_view())
    answer = service_of(parts).call(
        call_of(hostile, "patient", "observations", "conditions", "medications")
    )
    assert answer.status_code == 200
    assert answer.json()["cards"][0]["summary"] == whole.json()["cards"][0]["summary"]
    assert hostile.types_asked() == ["Condition", "MedicationRequest", "Observation", "Patient"]
    assert {heard.headers["authorization"] for heard in hostile.heard} == {f"Bearer {TOKEN}"}
    assert not [heard for heard in hostile.heard if TOKEN in heard.target]


@pytest.mark.proves(37)
def test_keys_are_read_side_by_side_within_one_deadline(
    hostile: HostileFhirServer, parts: Parts
) -> None:
    keys = ("patient", "observations", "conditions", "medications")
    types = ("Patient", "Observation", "Condition", "MedicationRequest")
    hostile.misbehaves = dict.fromkeys(types, "slow first byte")
    answer = service_of(parts, deadline_ms=400).call(call_of(hostile, *keys))
    assert answer.status_code == 412
    # One after the other the first would have used up the time of them all.
    assert hostile.types_asked() == sorted(types)
    assert set(issues_of(answer).values()) == {
        f"Prefetch key '{key}': was not sent, and could not be read: the deadline has passed"
        for key in parts.services["diabetes-risk"].required_prefetch
    }


@pytest.mark.proves(33)
@pytest.mark.parametrize(
    "sent",
    [None, outcome(), searchset(outcome()), searchset(observation("2345-7", 1, "x"), outcome())],
    ids=["null", "outcome", "bundle of an outcome", "matches and an outcome"],
)
def test_what_the_ehr_has_tried_is_not_asked_for_again(
    sent: Any, hostile: HostileFhirServer, parts: Parts
) -> None:
    body = call_of(hostile, "observations")
    body["prefetch"]["observations"] = sent
    answer = service_of(parts).call(body)
    assert answer.status_code in (200, 412)
    assert hostile.heard == []


def test_null_for_the_patient_is_a_412_and_no_request(
    hostile: HostileFhirServer, parts: Parts
) -> None:
    body = call_of(hostile, "patient")
    body["prefetch"]["patient"] = None
    answer = service_of(parts).call(body)
    assert issues_of(answer) == {"prefetch.patient": "Prefetch key 'patient': is null"}
    assert hostile.heard == []


@pytest.mark.proves(35)
@pytest.mark.parametrize(
    ("link", "asked"),
    [
        ("{base}/Condition?page=2", "/fhir/Condition?page=2"),
        ("Condition?page=2", "/fhir/Condition?page=2"),
        ("http://169.254.169.254/fhir/Condition?page=2", "/fhir/Condition?patient=p1"),
        ("https://127.0.0.1:1/fhir/Condition?page=2", "/fhir/Condition?patient=p1"),
        ("//169.254.169.254/fhir", "/fhir/Condition?patient=p1"),
        ("http://[", "/fhir/Condition?patient=p1"),
        ("{base}/../admin", "/fhir/Condition?patient=p1"),
    ],
)
def test_a_next_link_is_followed_on_the_server_itself_and_else_the_query_is_asked_anew(
    link: str, asked: str, hostile: HostileFhirServer, parts: Parts
) -> None:
    following = {"relation": "next", "url": link.format(base=hostile.base)}
    body = call_of(hostile)
    body["prefetch"]["conditions"] = searchset() | {"link": [following]}
    answer = service_of(parts).call(body)
    assert answer.status_code == 200
    assert [heard.target for heard in hostile.heard] == [asked]


# Tokens -------------------------------------------------------------------------------------


@pytest.mark.proves(38, 42)
@pytest.mark.parametrize(
    ("granted", "status"),
    [
        ({"patient": "p2"}, 400),
        ({"patient": "p1"}, 200),
        ({"expires_in": 0}, 412),
        ({"expires_in": -1}, 412),
        ({"expires_in": "300"}, 400),
        ({"expires_in": 1}, 200),
        ({"token_type": "DPoP"}, 400),
        ({"token_type": "bearer"}, 200),
        ({"scope": "patient/Observation.rs launch"}, 412),
        ({"scope": "patient/Condition.write"}, 412),
        ({"scope": "user/Condition.cruds"}, 200),
        ({"scope": "system/*.*"}, 200),
        ({"scope": "patient/Condition.rs"}, 200),
        ({"access_token": "a b"}, 412),
        ({"access_token": "a\r\nHost: evil.example"}, 412),
    ],
)
def test_a_token_is_used_for_what_it_was_given_for(
    granted: dict[str, Any], status: int, hostile: HostileFhirServer, parts: Parts
) -> None:
    answer = service_of(parts).call(call_of(hostile, "conditions", **granted))
    assert answer.status_code == status
    assert hostile.types_asked() == (["Condition"] if status == 200 else [])


def test_a_scope_with_a_query_leaves_the_diagnoses_in_doubt(
    hostile: HostileFhirServer, parts: Parts
) -> None:
    scope = "patient/Condition.rs?category=encounter-diagnosis"
    answer = service_of(parts).call(call_of(hostile, "conditions", scope=scope))
    assert issues_of(answer) == {
        "prefetch.conditions": "Prefetch key 'conditions': is not complete"
    }


@pytest.mark.proves(43)
@pytest.mark.parametrize(("registered", "status"), [("cds-service", 200), ("another", 400)])
def test_a_token_for_another_oauth_client_is_refused_with_no_request(
    registered: str, status: int, hostile: HostileFhirServer, parts: Parts, tmp_path: Path
) -> None:
    file = tmp_path / "clients.toml"
    file.write_text(
        f'[[client]]\nname = "Here"\nfhir_servers = ["{hostile.base}"]\n'
        f'oauth_client_id = "{registered}"\n'
    )
    clients = parts.clients.from_file(file, "demo")
    answer = service_of(replace(parts, clients=clients)).call(call_of(hostile, "conditions"))
    assert answer.status_code == status
    assert hostile.types_asked() == (["Condition"] if status == 200 else [])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"fhirAuthorization": ABSENT}, "cannot be read without fhirAuthorization"),
        ({"fhirServer": "http://10.0.0.1/fhir"}, "fhirServer is not one that this service may"),
    ],
)
def test_a_412_says_why_the_server_was_not_asked(
    change: dict[str, Any], why: str, hostile: HostileFhirServer, parts: Parts
) -> None:
    body = {n: v for n, v in (call_of(hostile, "conditions") | change).items() if v is not ABSENT}
    assert why in issues_of(service_of(parts).call(body))["prefetch.conditions"]
    assert hostile.heard == []


# A caller who leaves ------------------------------------------------------------------------


@contextmanager
def on_a_socket(service: Service) -> Iterator[tuple[str, int]]:
    """`service` behind a real server, in a thread of this process."""
    config = uvicorn.Config(service.app, port=0, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def test_a_caller_who_leaves_takes_the_reading_along(
    hostile: HostileFhirServer, parts: Parts
) -> None:
    hostile.misbehaves = {"Condition": "slow first byte"}
    service = service_of(parts)
    body = json.dumps(call_of(hostile, "conditions")).encode()
    head = (
        f"POST {HOOK_URL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with on_a_socket(service) as address:
        with socket.create_connection(address) as caller:
            caller.sendall(head.encode() + body)
            assert hostile.asked.wait(30)
            assert not hostile.hung_up.is_set()
        # Long before the deadline of the call, and with nothing else to end it.
        assert hostile.hung_up.wait(20)
    assert service.stored() == 0
