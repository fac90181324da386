"""What a CDS Hooks answer must look like on the wire, for every 200 body that a test sees.

The rules are those of CDS Hooks 2.0.1 and of the 3.0 ballot's logical model; Inferno asks besides
for `source.topic` on every card and a `description` on every action.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def check_hook_answer(body: Any) -> None:
    """Raises AssertionError naming the rule that `body` breaks."""
    assert isinstance(body, dict)
    assert isinstance(body["cards"], list), "cards is an array"
    assert set(body) <= {"cards", "systemActions", "extension"}, "no member is made up"
    for card in body["cards"]:
        check_no_empties(card)
        _check_card(card)
    uuids = [card["uuid"] for card in body["cards"] if "uuid" in card]
    assert len(set(uuids)) == len(uuids), "card uuids are unique"


def check_discovery(body: Any) -> None:
    """Raises AssertionError naming the rule that `body` breaks."""
    assert set(body) == {"services"}
    for service in body["services"]:
        check_no_empties(service)
        for name in ("hook", "title", "description", "id"):
            _check_text(service[name], name)
        optional = {"prefetch", "usageRequirements", "version", "hookVersion", "extension"}
        assert set(service) <= {"hook", "title", "description", "id"} | optional
        assert re.fullmatch(r"\d+\.\d+\.\d+", service["version"]), "version is semver"
        for template in service["prefetch"].values():
            tokens = re.findall(r"{{(.*?)}}", template)
            assert set(tokens) <= {"context.patientId", "context.userId", "context.encounterId"}


def check_operation_outcome(body: Any) -> None:
    """An OperationOutcome with at least one issue that a person can read."""
    assert body["resourceType"] == "OperationOutcome"
    assert body["issue"]
    check_no_empties(body)
    for issue in body["issue"]:
        assert issue["severity"] == "error"
        _check_text(issue["code"], "code")
        _check_text(issue["diagnostics"], "diagnostics")


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


def _check_card(card: dict[str, Any]) -> None:
    _check_text(card["summary"], "summary")
    assert len(card["summary"]) < 140, "summary is under 140 characters"
    assert "\n" not in card["summary"], "summary is one sentence"
    assert card["indicator"] in ("info", "warning", "critical")
    assert UUID.fullmatch(card["uuid"]), "without a uuid there is no feedback"
    _check_text(card.get("detail", "none"), "detail")
    _check_source(card["source"])
    _check_suggestions(card)
    for reason in card.get("overrideReasons", ()):
        _check_coding(reason)
        _check_text(reason["display"], "display")
    for link in card.get("links", ()):
        _check_link(link)


def _check_source(source: dict[str, Any]) -> None:
    _check_text(source["label"], "source.label")
    _check_coding(source["topic"])
    for name in ("url", "icon"):
        assert name not in source or _is_absolute(source[name]), f"source.{name} is absolute"


def _check_suggestions(card: dict[str, Any]) -> None:
    suggestions = card.get("suggestions", [])
    assert "suggestions" not in card or card["selectionBehavior"] in ("at-most-one", "any")
    if card.get("selectionBehavior") == "at-most-one":
        assert sum(bool(each.get("isRecommended")) for each in suggestions) <= 1
    for suggestion in suggestions:
        _check_text(suggestion["label"], "label")
        assert UUID.fullmatch(suggestion["uuid"])
        assert "actionSelectionBehavior" not in suggestion, "only where the client knows it"
        for action in suggestion.get("actions", ()):
            _check_action(action)


def _check_action(action: dict[str, Any]) -> None:
    assert action["type"] in ("create", "update", "delete")
    _check_text(action["description"], "description")
    if action["type"] == "create":
        assert "id" not in action["resource"], "a resource to be created has no id yet"
    if action["type"] != "delete":
        _check_text(action["resource"]["resourceType"], "resourceType")


def _check_link(link: dict[str, Any]) -> None:
    _check_text(link["label"], "label")
    assert link["type"] in ("absolute", "smart")
    assert link["type"] == "smart" or "appContext" not in link
    assert _is_absolute(link["url"])


def _check_coding(coding: dict[str, Any]) -> None:
    _check_text(coding["code"], "code")
    _check_text(coding["system"], "system")


def _check_text(text: Any, what: str) -> None:
    assert isinstance(text, str), f"{what} is a string"
    assert text.strip(), f"{what} is not blank"


def _is_absolute(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.netloc)
