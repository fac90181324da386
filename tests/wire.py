"""What CDS Hooks and FHIR answers must look like on the wire, for every one that a test receives.

`check_answer` is called for each HTTP answer that reaches a test (`tests/conformance/listen.py`),
and raises AssertionError naming the rule that is broken. The rules are those of CDS Hooks 2.0.1
and of the 3.0 ballot's logical model, named by its invariants (cds-resp-1 …) where it has one;
Inferno asks besides for `source.topic` on every card and a `description` on every action. Our own:
every card and every suggestion has a uuid, for without one there is no feedback.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
# What a template may name: CDS Hooks 2.0.1, "Prefetch tokens"; root fields of patient-view only.
TOKENS = frozenset(
    {
        "context.patientId", "context.userId", "context.encounterId",
        "userPractitionerId", "userPractitionerRoleId", "userPatientId", "userRelatedPersonId",
    }
)  # fmt: skip
# Not in the subset that every client supports: "Prefetch query restrictions".
UNSUPPORTED = re.compile(r"_include|_revinclude|_has|:not|:missing|[?&=](ne|sa|eb)\d|[?&]\w+\.\w+=")

JSON = "application/json"
FHIR_JSON = "application/fhir+json"
DISCOVERY = "/cds-services"
_HOOK = re.compile(r"/cds-services/[^/]+")
_FEEDBACK = re.compile(r"/cds-services/[^/]+/feedback")

SERVICE_MEMBERS = frozenset(
    {"hook", "title", "description", "id", "prefetch", "usageRequirements", "version"}
    | {"hookVersion", "extension"}
)
CARD_MEMBERS = frozenset(
    {"uuid", "summary", "detail", "indicator", "source", "suggestions", "selectionBehavior"}
    | {"overrideReasons", "links", "extension"}
)


def check_answer(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """The answer to one request of a CDS Hooks or FHIR route; raises AssertionError."""
    if method in ("HEAD", "OPTIONS") and status < 400:
        return
    if not path.startswith(("/cds-services", "/fhir")):
        return
    assert status not in (301, 302, 307, 308), "no redirect: the JWT is for the URL that was called"
    if method == "HEAD":
        return
    if status >= 400:
        assert content_type == FHIR_JSON, "an OperationOutcome is application/fhir+json"
        check_operation_outcome(read_json(body))
    elif path.startswith("/fhir"):
        assert content_type == FHIR_JSON, "a FHIR resource is application/fhir+json"
        assert isinstance(read_json(body)["resourceType"], str)
    else:
        assert status == 200, "the specification knows one success, 200"
        assert content_type == JSON, "the answer is application/json"
        check_success(path, read_json(body))


def check_success(path: str, body: Any) -> None:
    """The body of a 200 of a CDS Hooks route."""
    if path == DISCOVERY:
        check_discovery(body)
    elif _FEEDBACK.fullmatch(path):
        assert isinstance(body["stored"], int), "how many items were new"
    elif _HOOK.fullmatch(path):
        check_hook_answer(body)
    else:
        raise AssertionError("a success at a path that is no route")


def read_json(body: bytes) -> Any:
    """`body` as strict JSON: UTF-8, no NaN or Infinity, no member twice."""
    return json.loads(body.decode(), parse_constant=_no_constant, object_pairs_hook=_object)


def check_hook_answer(body: Any) -> None:
    """The answer of a hook: cards, and system actions where there are any."""
    assert isinstance(body, dict), "the answer is an object"
    assert isinstance(body.get("cards"), list), "cards is an array"
    assert set(body) <= {"cards", "systemActions", "extension"}, "no member is made up"
    for name in body.keys() - {"cards"}:
        check_no_empties(body[name], name)
    for card in body["cards"]:
        check_no_empties(card, "card")
        _check_card(card)
    for action in body.get("systemActions", ()):
        _check_action(action)
    _check_distinct([card["uuid"] for card in body["cards"]], "card uuids are unique")


def check_discovery(body: Any) -> None:
    """The answer of `GET /cds-services`."""
    assert set(body) == {"services"}, "one array, services"
    assert isinstance(body["services"], list), "services is an array"
    for service in body["services"]:
        check_no_empties(service, "service")
        _check_service(service)
    pairs = [(service["id"], service["hook"]) for service in body["services"]]
    _check_distinct(pairs, "id and hook name one service")


def check_operation_outcome(body: Any) -> None:
    """An OperationOutcome with at least one issue that a person can read."""
    assert body.get("resourceType") == "OperationOutcome", "a fault is an OperationOutcome"
    assert isinstance(body.get("issue"), list), "issue is an array"
    check_no_empties(body, "OperationOutcome")
    for issue in body["issue"]:
        assert issue["severity"] in ("fatal", "error"), "a fault is an error"
        _check_text(issue["code"], "issue.code")
        _check_text(issue["diagnostics"], "issue.diagnostics")
        assert all(isinstance(each, str) for each in issue.get("expression", ())), "expression"


def check_no_empties(value: Any, where: str = "") -> None:
    """ "Use of JSON": elements SHALL NOT be null, "", [] or {}."""
    assert value is not None, f"{where} is null"
    assert value not in ("", [], {}), f"{where} is empty"
    if isinstance(value, dict):
        for name, member in value.items():
            check_no_empties(member, f"{where}.{name}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            check_no_empties(item, f"{where}[{number}]")


def _check_service(service: dict[str, Any]) -> None:
    for name in ("hook", "title", "description", "id"):
        _check_text(service.get(name), f"service.{name}")
    assert set(service) <= SERVICE_MEMBERS, "no member is made up"
    _check_text(service.get("usageRequirements", "none"), "usageRequirements")
    assert SEMVER.fullmatch(service.get("version", "0.0.0")), "version is semver"
    assert service.get("hookVersion", "1.0") == "1.0", "patient-view is at 1.0"
    assert isinstance(service.get("extension", {}), dict), "extension is an object"
    for template in service.get("prefetch", {}).values():
        _check_template(template)


def _check_template(template: Any) -> None:
    _check_text(template, "a prefetch template")
    assert not template.startswith("/"), "a template is a relative URL"
    assert "://" not in template.split("?")[0], "a template is a relative URL"
    assert set(re.findall(r"{{(.*?)}}", template)) <= TOKENS, "only tokens of the context"
    assert not UNSUPPORTED.search(template), "only what every client supports"
    names = [part.split("=")[0] for part in template.partition("?")[2].split("&")]
    _check_distinct(names, "a query parameter appears once")


def _check_card(card: dict[str, Any]) -> None:
    assert set(card) <= CARD_MEMBERS, "no member is made up"
    _check_text(card.get("summary"), "summary")
    assert len(card["summary"]) < 140, "summary is under 140 characters"
    assert "\n" not in card["summary"], "summary is one sentence"
    assert card.get("indicator") in ("info", "warning", "critical"), "indicator"
    _check_uuid(card.get("uuid"), "card")
    _check_text(card.get("detail", "none"), "detail")
    _check_source(card.get("source"))
    _check_suggestions(card)
    for reason in card.get("overrideReasons", ()):
        _check_coding(reason, "overrideReason")
        _check_text(reason.get("display"), "overrideReason.display (cds-resp-4)")
    for link in card.get("links", ()):
        _check_link(link)


def _check_source(source: Any) -> None:
    assert isinstance(source, dict), "source is an object"
    _check_text(source.get("label"), "source.label")
    _check_coding(source.get("topic"), "source.topic")
    for name in ("url", "icon"):
        assert name not in source or _is_absolute(source[name]), f"source.{name} is absolute"


def _check_suggestions(card: dict[str, Any]) -> None:
    suggestions = card.get("suggestions", [])
    behaviour = card.get("selectionBehavior")
    if "suggestions" in card or "selectionBehavior" in card:
        assert behaviour in ("at-most-one", "any"), "suggestions => selectionBehavior (cds-resp-6)"
    for suggestion in suggestions:
        _check_suggestion(suggestion)
    if behaviour == "at-most-one":
        recommended = sum(bool(each.get("isRecommended")) for each in suggestions)
        assert recommended <= 1, "at most one is recommended (cds-resp-1)"
    _check_distinct([each["uuid"] for each in suggestions], "suggestion uuids are unique")


def _check_suggestion(suggestion: dict[str, Any]) -> None:
    _check_text(suggestion.get("label"), "suggestion.label")
    _check_uuid(suggestion.get("uuid"), "suggestion")
    assert isinstance(suggestion.get("isRecommended", True), bool), "isRecommended is a boolean"
    assert "actionSelectionBehavior" not in suggestion, "only where the client knows it"
    for action in suggestion.get("actions", ()):
        _check_action(action)


def _check_action(action: dict[str, Any]) -> None:
    assert action.get("type") in ("create", "update", "delete"), "action.type"
    _check_text(action.get("description"), "action.description (cds-resp-5)")
    if action["type"] == "delete":
        _check_text(action.get("resourceId"), "delete => resourceId (cds-resp-2)")
        assert "resource" not in action, "delete => no resource (cds-resp-2)"
        return
    resource = action.get("resource")
    assert isinstance(resource, dict), "create and update hold a resource"
    _check_text(resource.get("resourceType"), "resourceType")
    if action["type"] == "create":
        assert "id" not in resource, "a resource to be created has no id yet"


def _check_link(link: dict[str, Any]) -> None:
    _check_text(link.get("label"), "link.label")
    assert link.get("type") in ("absolute", "smart"), "link.type"
    assert link["type"] == "smart" or "appContext" not in link, "appContext: smart (cds-resp-3)"
    _check_text(link.get("appContext", "none"), "link.appContext")
    assert isinstance(link.get("autolaunchable", True), bool), "autolaunchable is a boolean"
    assert _is_absolute(link.get("url")), "link.url is absolute"


def _check_coding(coding: Any, what: str) -> None:
    assert isinstance(coding, dict), f"{what} is a Coding"
    _check_text(coding.get("code"), f"{what}.code")
    _check_text(coding.get("system"), f"{what}.system")


def _check_uuid(text: Any, what: str) -> None:
    assert isinstance(text, str), f"{what} has a uuid"
    assert UUID.fullmatch(text), f"the uuid of a {what} is bare and lower-case"


def _check_text(text: Any, what: str) -> None:
    assert isinstance(text, str), f"{what} is a string"
    assert text.strip(), f"{what} is not blank"


def _check_distinct(values: list[Any], rule: str) -> None:
    assert len(set(values)) == len(values), rule


def _is_absolute(url: Any) -> bool:
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_distinct([name for name, _ in pairs], "no member appears twice")
    return dict(pairs)
