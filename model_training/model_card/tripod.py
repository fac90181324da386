"""TRIPOD+AI: where each item of the reporting guideline is answered, or why it is not."""

# ruff: noqa: E501 - one Markdown paragraph is one line, as the reader's window breaks it

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_training.model_card.evidence import Evidence, Json
from model_training.model_card.wording import section, table

ANSWERED, NOT_DONE, NOT_APPLICABLE = "answered", "not done", "not applicable"

_ITEMS = tomllib.loads(Path(__file__).with_name("tripod_ai.toml").read_text("utf-8"))["items"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item. `where`: the part of the card or the file that answers it, the answer itself, or
    the reason why there is none."""

    number: str
    phase: str
    asks: str
    status: str
    where: str

    def json(self) -> dict[str, str]:
        return {
            "item": self.number,
            "phase": self.phase,
            "asks": self.asks,
            "status": self.status,
            "where": self.where,
        }


def tripod_items(known: Evidence) -> list[Item]:
    return [_item(entry, known) for entry in _ITEMS]


def tripod_section(known: Evidence) -> str:
    rows = [
        [item.number, item.asks, f"{_prefix(item)}{item.where}"] for item in tripod_items(known)
    ]
    return section(
        "TRIPOD+AI",
        "Where each item of the reporting guideline (Collins et al., BMJ 2024;385:e078378) is answered; the items in short words of our own. A part named in quotation marks is a part of this card.",
        table(["item", "asks for", "answer"], rows),
    )


def _prefix(item: Item) -> str:
    return "" if item.status == ANSWERED else f"*{item.status.capitalize()}:* "


def _item(entry: Json, known: Evidence) -> Item:
    status, where = _answer(entry, known)
    return Item(
        number=entry["item"],
        phase=entry["phase"],
        asks=entry["asks"],
        status=status,
        where=where,
    )


def _answer(entry: Json, known: Evidence) -> tuple[str, str]:
    """The recipe's sentence, else the place named; neither where what it needs was not measured."""
    said = known.said("tripod", entry["item"])
    if isinstance(said, Mapping):
        return NOT_APPLICABLE, str(said["not_applicable"])
    if said:
        return ANSWERED, _joined(entry.get("where"), said)
    if "not_applicable" in entry:
        return NOT_APPLICABLE, entry["not_applicable"]
    needs = entry.get("needs")
    if needs and _lacks(known, needs):
        return NOT_DONE, f"the report has no part `{needs}`."
    if "where" in entry:
        return ANSWERED, entry["where"]
    return NOT_DONE, f"the recipe's card file does not state `tripod.{entry['item']}`."


def _joined(*texts: Any) -> str:
    return " ".join(str(text) for text in texts if text)


def _lacks(known: Evidence, path: str) -> bool:
    found = known.find(*path.split("."))
    return found is None or found in ({}, [])
