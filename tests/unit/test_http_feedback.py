"""Feedback is stored whole or not at all, once, whatever the order; unknown cards are no fault."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from cds_service.errors import BadRequest
from cds_service.hooks import parse_feedback, primitives
from tests.service import ABSENT, FEEDBACK_URL, Service, patient_view

CARD = "f6b95768-b1c8-40b9-8e58-11f7e8ac3b4b"
SUGGESTION = "1c7e8b4e-6c46-4a79-8ef8-0b7a87a0f7a3"


def item(**change: Any) -> dict[str, Any]:
    values = {
        "card": CARD,
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": SUGGESTION}],
        "outcomeTimestamp": "2026-11-20T11:59:00Z",
        **change,
    }
    return {name: value for name, value in values.items() if value is not ABSENT}


def overridden(reason: Any = ABSENT, **change: Any) -> dict[str, Any]:
    changes = {"outcome": "overridden", "acceptedSuggestions": ABSENT, "overrideReason": reason}
    return item(**changes | change)


def send(service: Service, *items: Any) -> Any:
    return service.request("POST", FEEDBACK_URL, json={"feedback": list(items)})


def stored(service: Service) -> int:
    return len(service.parts.store.feedback(count=100))


CODED = {"reason": {"code": "patient-refuses", "system": "http://example.org/reasons"}}

GOOD: dict[str, dict[str, Any]] = {
    "accepted": item(),
    "card as a URN": item(card=f"urn:uuid:{CARD.upper()}"),
    "offset other than Z": item(outcomeTimestamp="2026-11-20T12:59:00+01:00"),
    "fraction of a second": item(outcomeTimestamp="2026-11-20T11:59:00.123456789Z"),
    "unknown members": item(extension={"a": 1}, x=1),
    "overridden": overridden(),
    "overridden, null reason": overridden(None),
    "reason without display": overridden(CODED),
    "reason without system": overridden({"reason": {"code": "x"}}),
    "comment only": overridden({"userComment": "seen last week"}),
    "empty comment beside a reason": overridden({**CODED, "userComment": ""}),
    "longest comment": overridden({"userComment": "x" * 4000}),
    "longest code": overridden({"reason": {"code": "x" * 1000}}),
    "most suggestions": item(acceptedSuggestions=[{"id": SUGGESTION}] * 100),
}


@pytest.mark.proves(62, 63, 64)
@pytest.mark.parametrize("name", GOOD)
def test_good_feedback_is_stored_once_however_often_it_comes(
    app_client: Service, name: str
) -> None:
    first, second = send(app_client, GOOD[name]), send(app_client, GOOD[name])
    assert (first.status_code, first.json()) == (200, {"stored": 1})
    assert (second.status_code, second.json()) == (200, {"stored": 0})
    assert stored(app_client) == 1


BAD: dict[str, tuple[Any, str]] = {
    "no card": (item(card=ABSENT), "feedback[1].card"),
    "card no uuid": (item(card="x"), "feedback[1].card"),
    "no outcome": (item(outcome=ABSENT), "feedback[1].outcome"),
    "unknown outcome": (item(outcome="ignored"), "feedback[1].outcome"),
    "no timestamp": (item(outcomeTimestamp=ABSENT), "feedback[1].outcomeTimestamp"),
    "no time zone": (item(outcomeTimestamp="2026-11-20T11:59:00"), "feedback[1].outcomeTimestamp"),
    "a date": (item(outcomeTimestamp="2026-11-20"), "feedback[1].outcomeTimestamp"),
    "a number": (item(outcomeTimestamp=1790000000), "feedback[1].outcomeTimestamp"),
    "no such day": (item(outcomeTimestamp="2026-02-30T00:00:00Z"), "feedback[1].outcomeTimestamp"),
    "before time": (
        item(outcomeTimestamp="0001-01-01T00:00:00+05:00"),
        "feedback[1].outcomeTimestamp",
    ),
    "accepted nothing": (item(acceptedSuggestions=[]), "feedback[1]"),
    "accepted not said": (item(acceptedSuggestions=ABSENT), "feedback[1]"),
    "suggestion no uuid": (
        item(acceptedSuggestions=[{"id": 1}]),
        "feedback[1].acceptedSuggestions[0].id",
    ),
    "reason says nothing": (overridden({}), "feedback[1].overrideReason"),
    "reason without code": (
        overridden({"reason": {"display": "x"}}),
        "feedback[1].overrideReason.reason.code",
    ),
    "comment too long": (
        overridden({"userComment": "x" * 4001}),
        "feedback[1].overrideReason.userComment",
    ),
    "comment a number": (
        overridden({"userComment": 5}),
        "feedback[1].overrideReason.userComment",
    ),
    "code too long": (
        overridden({"reason": {"code": "x" * 1001}}),
        "feedback[1].overrideReason.reason.code",
    ),
    "system too long": (
        overridden({"reason": {"code": "x", "system": "x" * 1001}}),
        "feedback[1].overrideReason.reason.system",
    ),
    "display too long": (
        overridden({"reason": {"code": "x", "display": "x" * 1001}}),
        "feedback[1].overrideReason.reason.display",
    ),
    "too many suggestions": (
        item(acceptedSuggestions=[{}] * 101),
        "feedback[1].acceptedSuggestions",
    ),
    "many bad suggestions": (
        item(acceptedSuggestions=[{}] * 100),
        "feedback[1].acceptedSuggestions[0].id",
    ),
    "item a string": ("x", "feedback[1]"),
    "item null": (None, "feedback[1]"),
}


@pytest.mark.proves(62)
@pytest.mark.parametrize("name", BAD)
def test_one_bad_item_is_400_and_nothing_of_the_call_is_stored(
    app_client: Service, name: str
) -> None:
    bad, where = BAD[name]
    answer = send(app_client, item(), bad)
    assert answer.status_code == 400
    assert [issue["expression"] for issue in answer.json()["issue"]] == [[where]]
    assert stored(app_client) == 0
    assert [entry.outcome for entry in app_client.audited()] == ["refused:BadRequest"]


@pytest.mark.proves(61)
@pytest.mark.parametrize(
    "body", [{}, {"feedback": item()}, {"feedback": None}, {"feedback": "x"}, item()]
)
def test_feedback_that_is_no_array_is_400(app_client: Service, body: Any) -> None:
    assert app_client.request("POST", FEEDBACK_URL, json=body).status_code == 400


@pytest.mark.parametrize("each", [{}, item(), None], ids=["empty", "good", "null"])
def test_too_many_items_are_refused_by_their_number_alone(app_client: Service, each: Any) -> None:
    answer = send(app_client, *[each] * 10_000)
    assert answer.status_code == 400
    assert [issue["expression"] for issue in answer.json()["issue"]] == [["feedback"]]
    assert "at most 1000 items" in answer.json()["issue"][0]["diagnostics"]
    assert stored(app_client) == 0


def test_no_item_is_read_before_the_number_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(primitives, "_UUID", Spy(read))
    with pytest.raises(BadRequest):
        parse_feedback({"feedback": [item()] * 1001})
    assert read == []
    parse_feedback({"feedback": [item()]})
    assert read == [CARD, SUGGESTION]


class Spy:
    """A pattern that every text matches, and that keeps the texts."""

    def __init__(self, read: list[str]) -> None:
        self.read = read

    def fullmatch(self, text: str) -> bool:
        self.read.append(text)
        return True


def test_a_thousand_items_are_stored(app_client: Service) -> None:
    cards = [f"00000000-0000-4000-8000-{number:012}" for number in range(1000)]
    assert send(app_client, *(item(card=card) for card in cards)).json() == {"stored": 1000}


def test_no_items_are_no_fault(app_client: Service) -> None:
    assert send(app_client).json() == {"stored": 0}


@pytest.mark.proves(63, 66)
def test_feedback_on_a_card_that_was_given_out_finds_its_model(app_client: Service) -> None:
    card = app_client.call(patient_view()).json()["cards"][0]["uuid"]
    other = "00000000-0000-4000-8000-000000000000"
    assert send(app_client, overridden(CODED, card=card), item(card=other)).json() == {"stored": 2}
    answered = {each.item.card: each for each in app_client.parts.store.feedback(count=10)}
    assert answered[card].model == "diabetes-undiagnosed"
    assert answered[card].item.override_reason == CODED["reason"]
    assert answered[other].model is None


def test_times_are_kept_in_utc(app_client: Service) -> None:
    send(app_client, item(outcomeTimestamp="2026-11-20T12:59:00+01:00"))
    kept = app_client.parts.store.feedback(count=1)[0].item.outcome_timestamp
    assert kept.isoformat() == "2026-11-20T11:59:00+00:00"


@pytest.mark.proves(67)
def test_a_comment_is_never_logged_nor_echoed(app_client: Service) -> None:
    comment = "Mrs Müller refused"
    with capture_logs() as logs:
        good = send(app_client, overridden({"userComment": comment}))
        bad = send(app_client, overridden({"userComment": comment * 1000}))
    assert (good.status_code, bad.status_code) == (200, 400)
    assert "Müller" not in str(logs) + good.text + bad.text


def test_feedback_to_an_unknown_service_is_404(app_client: Service) -> None:
    answer = app_client.request("POST", "/cds-services/nope/feedback", json={"feedback": [item()]})
    assert answer.status_code == 404
    assert stored(app_client) == 0
