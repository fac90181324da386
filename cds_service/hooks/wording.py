"""The wording of a service's cards, as data in hooks.json (`serving.cards`).

Texts hold `{placeholders}`; which ones exist is said in `cards.py`, and an unknown one is refused
when the service starts, not when a clinician looks.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from cds_service.hooks.primitives import FilledText

Indicator = Literal["info", "warning", "critical"]
PLACEHOLDERS = frozenset(
    {
        "percent", "frequency", "relative", "level", "outcome", "drivers", "gaps", "result", "date",
        "missing", "unread",
    }
)  # fmt: skip


def _known_placeholders(text: str) -> str:
    names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    if names - PLACEHOLDERS:
        raise ValueError(f"unknown placeholders {sorted(names - PLACEHOLDERS)}")
    return text


Template = Annotated[FilledText, AfterValidator(_known_placeholders)]


class _Wording(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class Coding(_Wording):
    """A FHIR Coding as CDS Hooks wants it: with a system and a code."""

    system: FilledText
    code: FilledText
    display: FilledText


class CardText(_Wording):
    """One card: `detail` is GitHub-flavoured Markdown; `order` offers the service's order, and is
    the reason that goes with it."""

    indicator: Indicator
    summary: Template
    detail: Template
    order: FilledText | None = None


class Order(_Wording):
    """What the suggestion creates: a draft ServiceRequest."""

    label: FilledText
    description: FilledText
    code: Coding


class CardSource(_Wording):
    """`source` of every card; Inferno asks for a topic on each."""

    label: FilledText
    topic: Coding


class Wording(_Wording):
    """All cards of a service. A level, band or situation without an entry shows no card."""

    source: CardSource
    levels: dict[str, CardText] = Field(default_factory=dict)
    settled: dict[str, CardText] = Field(default_factory=dict)
    insufficient_data: CardText | None = None
    unusable_result: CardText | None = None
    order: Order | None = None
    override_reasons: tuple[Coding, ...] = ()
    link_label: FilledText
    unread: dict[str, FilledText] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _orders_what_is_defined(self) -> Self:
        if self.order is None and any(text.order for text in self._texts()):
            raise ValueError("a card offers an order, and there is no `order`")
        return self

    def _texts(self) -> Iterator[CardText]:
        yield from self.levels.values()
        yield from self.settled.values()
        yield from (text for text in (self.insufficient_data, self.unusable_result) if text)
