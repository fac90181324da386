"""Each rule of the checker in `tests/wire.py` can fail, and no test can get around the checker."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from tests.service import HOOK_URL, Service, patient_view
from tests.wire import (
    check_answer,
    check_discovery,
    check_hook_answer,
    check_operation_outcome,
    read_json,
)

Change = Callable[[Any], Any]
ID, OTHER = "1c7e8b4e-6c46-4a79-8ef8-0b7a87a0f7a3", "f6b95768-b1c8-40b9-8e58-11f7e8ac3b4b"
CODING = {"system": "http://snomed.info/sct", "code": "44054006", "display": "Diabetes"}
CREATE = {
    "type": "create",
    "description": "Order a test",
    "resource": {"resourceType": "ServiceRequest"},
}
DELETE = {"type": "delete", "description": "Remove it", "resourceId": "ServiceRequest/1"}


def an_answer() -> dict[str, Any]:
    """One with everything that an answer may have."""
    card = {
        "uuid": ID,
        "summary": "s" * 139,
        "detail": "**text**",
        "indicator": "info",
        "source": {"label": "x", "url": "https://a.org", "icon": "https://a.org", "topic": CODING},
        "suggestions": [
            {"label": "x", "uuid": ID, "isRecommended": True, "actions": [CREATE, DELETE]},
            {"label": "y", "uuid": OTHER},
        ],
        "selectionBehavior": "at-most-one",
        "overrideReasons": [CODING],
        "links": [
            {"label": "x", "url": "https://a.org/x", "type": "absolute"},
            {"label": "x", "url": "https://a.org/x", "type": "smart", "appContext": "x"},
        ],
    }
    return dict(_apart({"cards": [card, {**card, "uuid": OTHER}], "systemActions": [CREATE]}))


def _apart(document: Any) -> Any:
    """A copy in which no two places are one object."""
    return json.loads(json.dumps(document))


def put(path: str, value: Any) -> Change:
    """Set the value at a dotted path; `...` removes it."""

    def change(document: Any) -> Any:
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        holder = document
        for step in way:
            holder = holder[step]
        if value is ...:
            del holder[last]
        else:
            holder[last] = value
        return document

    return change


def fails(check: Callable[[Any], None], good: Any, change: Change, rule: str) -> None:
    """`check` passes what is good, and names `rule` when it is changed."""
    check(good)
    with pytest.raises(AssertionError) as broken:
        check(change(_apart(good)))
    assert rule in str(broken.value)


CARD, SUGGESTION, ACTION = (
    "cards.0",
    "cards.0.suggestions.0",
    "cards.0.suggestions.0.actions.0",
)


@pytest.mark.proves(3)
@pytest.mark.parametrize("empty", [None, "", [], {}])
@pytest.mark.parametrize(
    "path", [f"{CARD}.detail", f"{CARD}.links.0.x", f"{ACTION}.resource.note", "systemActions"]
)
def test_nothing_null_or_empty_passes(path: str, empty: Any) -> None:
    fails(check_hook_answer, an_answer(), put(path, empty), "is null" if empty is None else "empty")


@pytest.mark.proves(45)
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (put("cards", ...), "cards is an array"),
        (put("cards", {}), "cards is an array"),
        (lambda answer: answer["cards"], "is an object"),
        (put("decisions", [1]), "no member is made up"),
        (put(f"{CARD}.priority", "high"), "no member is made up"),
    ],
)
def test_an_answer_is_an_object_with_cards(change: Change, rule: str) -> None:
    fails(check_hook_answer, an_answer(), change, rule)


def test_an_empty_list_of_cards_passes() -> None:
    check_hook_answer({"cards": []})


@pytest.mark.proves(47)
@pytest.mark.parametrize("summary", ["s" * 140, "é" * 140, "one\ntwo", " ", 1, ...])
def test_a_summary_is_a_sentence_of_fewer_than_140_characters(summary: Any) -> None:
    fails(check_hook_answer, an_answer(), put(f"{CARD}.summary", summary), "summary")


@pytest.mark.proves(48)
@pytest.mark.parametrize("indicator", ["hard-stop", "INFO", 1, ...])
def test_an_indicator_is_one_of_three(indicator: Any) -> None:
    fails(check_hook_answer, an_answer(), put(f"{CARD}.indicator", indicator), "indicator")


@pytest.mark.proves(49, 59)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("label", ...), ("label", " "), ("topic", ...), ("topic", "x"), ("topic.code", ...),
        ("topic.system", ...), ("url", "/x"), ("icon", "icon.png"),
    ],
)  # fmt: skip
def test_a_source_has_a_label_and_a_topic(path: str, value: Any) -> None:
    fails(check_hook_answer, an_answer(), put(f"{CARD}.source.{path}", value), "source.")


def test_a_card_without_a_source_fails() -> None:
    fails(check_hook_answer, an_answer(), put(f"{CARD}.source", ...), "source is an object")


def test_detail_is_text() -> None:
    fails(check_hook_answer, an_answer(), put(f"{CARD}.detail", 5), "detail is a string")


@pytest.mark.proves(51)
@pytest.mark.parametrize("uuid", [ID.upper(), f"urn:uuid:{ID}", "x", 1, ...])
def test_a_uuid_is_bare_and_in_lower_case(uuid: Any) -> None:
    fails(check_hook_answer, an_answer(), put(f"{CARD}.uuid", uuid), "uuid")
    fails(check_hook_answer, an_answer(), put(f"{SUGGESTION}.uuid", uuid), "uuid")


@pytest.mark.proves(51)
def test_no_uuid_appears_twice() -> None:
    fails(check_hook_answer, an_answer(), put(f"{CARD}.uuid", OTHER), "card uuids are unique")
    fails(check_hook_answer, an_answer(), put(f"{SUGGESTION}.uuid", OTHER), "uuids are unique")


@pytest.mark.proves(52)
@pytest.mark.parametrize("behaviour", ["all", "", ...])
def test_suggestions_need_a_selection_behaviour(behaviour: Any) -> None:
    with pytest.raises(AssertionError, match=r"cds-resp-6|empty"):
        check_hook_answer(put(f"{CARD}.selectionBehavior", behaviour)(an_answer()))


@pytest.mark.proves(53)
@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (f"{CARD}.suggestions.1.isRecommended", True, "cds-resp-1"),
        (f"{SUGGESTION}.isRecommended", "true", "isRecommended"),
        (f"{SUGGESTION}.label", ..., "suggestion.label"),
    ],
)
def test_a_suggestion_has_a_label_and_one_is_recommended(path: str, value: Any, rule: str) -> None:
    fails(check_hook_answer, an_answer(), put(path, value), rule)


@pytest.mark.proves(54)
@pytest.mark.parametrize("where", [ACTION, "systemActions.0"])
@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("type", "replace", "action.type"),
        ("type", ..., "action.type"),
        ("description", ..., "cds-resp-5"),
        ("resource", ..., "hold a resource"),
        ("resource.resourceType", ..., "hold a resource"),
        ("resource.id", "1", "has no id yet"),
    ],
)
def test_an_action_has_type_description_and_resource(
    where: str, path: str, value: Any, rule: str
) -> None:
    if path == "resource.resourceType":
        value, path = "x", "resource"
    fails(check_hook_answer, an_answer(), put(f"{where}.{path}", value), rule)


@pytest.mark.proves(54)
def test_a_deletion_names_its_resource_and_holds_none() -> None:
    deletion = f"{SUGGESTION}.actions.1"
    fails(check_hook_answer, an_answer(), put(f"{deletion}.resourceId", ...), "cds-resp-2")
    held = put(f"{deletion}.resource", {"resourceType": "ServiceRequest"})
    fails(check_hook_answer, an_answer(), held, "cds-resp-2")


@pytest.mark.proves(55)
def test_action_selection_behaviour_is_not_used() -> None:
    change = put(f"{SUGGESTION}.actionSelectionBehavior", "all")
    fails(check_hook_answer, an_answer(), change, "only where the client knows it")


@pytest.mark.proves(56, 59)
@pytest.mark.parametrize("name", ["code", "system", "display"])
def test_an_override_reason_has_code_system_and_display(name: str) -> None:
    change = put(f"{CARD}.overrideReasons.0.{name}", ...)
    fails(check_hook_answer, an_answer(), change, f"overrideReason.{name}")


@pytest.mark.proves(57)
@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("label", ..., "link.label"),
        ("type", "relative", "link.type"),
        ("url", "/x", "link.url"),
        ("url", "javascript:alert(1)", "link.url"),
        ("appContext", "x", "cds-resp-3"),
        ("autolaunchable", "yes", "autolaunchable"),
    ],
)
def test_a_link_has_label_type_and_absolute_address(path: str, value: Any, rule: str) -> None:
    fails(check_hook_answer, an_answer(), put(f"{CARD}.links.0.{path}", value), rule)


@pytest.mark.proves(58)
def test_system_actions_are_left_out_when_there_are_none() -> None:
    fails(check_hook_answer, an_answer(), put("systemActions", []), "systemActions is empty")


def a_discovery() -> dict[str, Any]:
    service = {
        "hook": "patient-view",
        "id": "x",
        "title": "x",
        "description": "x",
        "usageRequirements": "x",
        "version": "2.0.1",
        "hookVersion": "1.0",
        "extension": {"org.example": 1},
        "prefetch": {"a": "Patient/{{context.patientId}}", "b": "Observation?code=x&_count=5"},
    }
    return {"services": [service, {**service, "id": "y"}]}


SERVICE = "services.0"


@pytest.mark.proves(9, 10, 11, 12, 13, 14, 15, 16, 17)
@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("services", {}, "services is an array"),
        ("more", 1, "one array"),
        (f"{SERVICE}.hook", ..., "service.hook"),
        (f"{SERVICE}.id", ..., "service.id"),
        (f"{SERVICE}.description", " ", "service.description"),
        (f"{SERVICE}.title", ..., "service.title"),
        (f"{SERVICE}.usageRequirements", 1, "usageRequirements"),
        (f"{SERVICE}.prefetch", {}, "prefetch is empty"),
        (f"{SERVICE}.version", "2.0", "semver"),
        (f"{SERVICE}.hookVersion", "2.0", "1.0"),
        (f"{SERVICE}.extension", "x", "extension is an object"),
        (f"{SERVICE}.serving", {"model": "x"}, "no member is made up"),
        (f"{SERVICE}.id", "y", "id and hook name one service"),
    ],
)
def test_discovery_says_what_it_must_and_nothing_else(path: str, value: Any, rule: str) -> None:
    fails(check_discovery, a_discovery(), put(path, value), rule)


@pytest.mark.proves(20, 21, 22, 23, 24)
@pytest.mark.parametrize(
    ("template", "rule"),
    [
        ("/Patient/{{context.patientId}}", "relative"),
        ("https://a.org/Patient/1", "relative"),
        ("Patient/{{context.patient.id}}", "only tokens"),
        ("Patient/{{patientId}}", "only tokens"),
        ("Observation?date=ge{{today()}}", "only tokens"),
        ("Patient?_revinclude=Observation:subject", "every client"),
        ("Patient?_include=Patient:link", "every client"),
        ("Observation?subject.name=x", "every client"),
        ("Observation?code:not=x", "every client"),
        ("Observation?date=sa2020-01-01", "every client"),
        ("Observation?date=ge2020-01-01&date=lt2021-01-01", "once"),
        (1, "template"),
    ],
)
def test_a_template_is_what_every_client_can_fill_in(template: Any, rule: str) -> None:
    fails(check_discovery, a_discovery(), put(f"{SERVICE}.prefetch.a", template), rule)


def an_outcome() -> dict[str, Any]:
    issue = {"severity": "error", "code": "invalid", "diagnostics": "x", "expression": ["hook"]}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


@pytest.mark.proves(46)
@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("resourceType", "Bundle", "OperationOutcome"),
        ("issue", ..., "issue is an array"),
        ("issue", [], "empty"),
        ("issue.0.severity", "information", "a fault is an error"),
        ("issue.0.code", " ", "issue.code"),
        ("issue.0.diagnostics", 1, "issue.diagnostics"),
        ("issue.0.expression", [1], "expression"),
        ("issue.0.location", None, "null"),
    ],
)
def test_an_operation_outcome_says_what_is_wrong(path: str, value: Any, rule: str) -> None:
    fails(check_operation_outcome, an_outcome(), put(path, value), rule)


GOOD, BAD = json.dumps(an_answer()).encode(), json.dumps(an_outcome()).encode()
JSON, FHIR = "application/json", "application/fhir+json"


@pytest.mark.proves(1, 18, 46)
@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "body", "rule"),
    [
        ("POST", HOOK_URL, 200, "text/html", GOOD, "application/json"),
        ("POST", HOOK_URL, 200, FHIR, GOOD, "application/json"),
        ("POST", HOOK_URL, 201, JSON, GOOD, "one success"),
        ("POST", HOOK_URL, 400, JSON, BAD, "fhir"),
        ("POST", HOOK_URL, 400, FHIR, b'{"cards":[]}', "OperationOutcome"),
        ("GET", "/cds-services/", 307, JSON, b"", "no redirect"),
        ("GET", "/cds-services", 200, JSON, GOOD, "services"),
        ("POST", f"{HOOK_URL}/feedback", 200, JSON, b'{"stored":null}', "new"),
        ("GET", "/cds-services/a/b/c", 200, JSON, GOOD, "no route"),
        ("GET", "/fhir/metadata", 200, JSON, b'{"resourceType":"x"}', "fhir"),
        ("GET", "/fhir/RiskAssessment/1", 404, FHIR, b"{}", "OperationOutcome"),
    ],
)  # fmt: skip
def test_status_type_and_body_belong_together(
    method: str, path: str, status: int, kind: str, body: bytes, rule: str
) -> None:
    with pytest.raises(AssertionError, match=rule):
        check_answer(method, path, status, kind, body)


@pytest.mark.proves(5)
@pytest.mark.parametrize("body", [b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1,"a":2}'])
def test_an_answer_is_strict_json(body: bytes) -> None:
    with pytest.raises(AssertionError):
        read_json(body)


def test_pages_of_other_routes_are_not_looked_at() -> None:
    check_answer("GET", "/model-card", 200, "text/html", b"<html>")
    check_answer("OPTIONS", HOOK_URL, 204, "", b"")


# No way around it ---------------------------------------------------------------------------------


async def broken_app(_scope: Any, _receive: Any, send: Any) -> None:
    """An application whose cards have no source."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"cards":[{"summary":"x"}]}'})


def test_a_broken_answer_fails_whichever_test_asks_for_it() -> None:
    async def ask() -> None:
        transport = httpx.ASGITransport(broken_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            await client.post(HOOK_URL, json=patient_view())

    with pytest.raises(AssertionError, match="indicator"):
        asyncio.run(ask())


class _Broken(BaseHTTPRequestHandler):
    server_version, sys_version = "uvicorn", ""

    def version_string(self) -> str:
        return "uvicorn"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


@pytest.fixture
def broken_process() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Broken) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_broken_answer_of_another_process_fails_too(broken_process: str) -> None:
    with pytest.raises(AssertionError, match="services"):
        httpx.get(f"{broken_process}/cds-services")


def test_a_good_answer_arrives_as_it_was(app_client: Service) -> None:
    answer = app_client.call(patient_view())
    assert answer.json()["cards"]
    assert answer.headers["content-length"] == str(len(answer.content))
