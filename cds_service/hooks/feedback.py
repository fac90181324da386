"""CDS Hooks feedback: what became of a card."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from cds_service.hooks.faults import bad_request
from cds_service.hooks.primitives import Uuid, read_instant

MOST_ITEMS = 1000
MOST_SUGGESTIONS = 100  # of one card
LONGEST_TEXT = 1000
LONGEST_COMMENT = 4000


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


def _at_most(most: int) -> BeforeValidator:
    """An array is judged by its length before any of it is read.

    pydantic's own `max_length` is judged after the items, and keeps every fault of each.
    """

    def check(value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("must be an array")
        if len(value) > most:
            raise ValueError(f"must have at most {most} items")
        return value

    return BeforeValidator(check)


def _none_if_empty(value: Any) -> Any:
    return None if value in ("", {}) else value


def _instant(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return read_instant(value)


_Text = Annotated[str, StringConstraints(strict=True, max_length=LONGEST_TEXT)]
_FilledText = Annotated[_Text, StringConstraints(min_length=1)]


class ReasonCoding(_Wire):
    """The override reason. Clients leave out `display`, and the public sandbox `system` too."""

    code: _FilledText
    system: _Text | None = None
    display: _Text | None = None


class OverrideReason(_Wire):
    """Why a card was overridden. The comment is free text: it may hold patient data."""

    reason: Annotated[ReasonCoding | None, BeforeValidator(_none_if_empty)] = None
    user_comment: Annotated[
        Annotated[str, StringConstraints(strict=True, max_length=LONGEST_COMMENT)] | None,
        BeforeValidator(_none_if_empty),
    ] = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        # Invariant cds-fb-3 of the CDS Hooks logical model.
        if self.reason is None and self.user_comment is None:
            raise ValueError("must have a reason or a userComment")
        return self


class AcceptedSuggestion(_Wire):
    """One suggestion that the user took."""

    id: Uuid


class CardFeedback(_Wire):
    """What became of one card; `outcome_timestamp` is in UTC whatever offset was sent."""

    card: Uuid
    outcome: Literal["accepted", "overridden"]
    outcome_timestamp: Annotated[datetime, BeforeValidator(_instant)]
    accepted_suggestions: Annotated[
        tuple[AcceptedSuggestion, ...], FailFast(), _at_most(MOST_SUGGESTIONS)
    ] = ()
    override_reason: OverrideReason | None = None

    @model_validator(mode="after")
    def _accepted_names_its_suggestions(self) -> Self:
        # Invariant cds-fb-2 of the CDS Hooks logical model.
        if self.outcome == "accepted" and not self.accepted_suggestions:
            raise ValueError("outcome 'accepted' needs acceptedSuggestions")
        return self


class Feedback(_Wire):
    """The body of a feedback call."""

    feedback: Annotated[tuple[CardFeedback, ...], _at_most(MOST_ITEMS)]


def parse_feedback(body: dict[str, Any]) -> tuple[CardFeedback, ...]:
    """The items in `body`, every one valid; raises BadRequest, so that none is stored by halves."""
    try:
        return Feedback.model_validate(body).feedback
    except ValidationError as fault:
        raise bad_request(fault) from None
