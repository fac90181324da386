"""The answer of a CDS Hooks service, as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson


def hook_response(
    cards: Sequence[dict[str, Any]], system_actions: Sequence[dict[str, Any]] = ()
) -> bytes:
    """`{"cards": […]}` in which nothing but `cards` itself is null or empty.

    CDS Hooks, "Use of JSON": elements SHALL NOT be null, "", [] or {} unless stated otherwise.
    """
    body: dict[str, Any] = {"cards": list(cards)}
    if system_actions:
        body["systemActions"] = list(system_actions)
    if holds_empties(body):
        body = {name: [without_empties(item) for item in items] for name, items in body.items()}
    return orjson.dumps(body)


def holds_empties(body: dict[str, Any]) -> bool:
    """False for nearly every answer, which then need not be made again to be without them."""
    held: list[Any] = [body]
    for value in held:  # and what each of them holds, which is added meanwhile
        if isinstance(value, str):
            if not value:
                return True
        elif isinstance(value, dict):
            if not value:
                return True
            held += value.values()
        elif isinstance(value, (list, tuple)):
            if not value:
                return True
            held += value
        elif value is None:
            return True
    return False


def without_empties(value: Any) -> Any:
    """`value` without the members and items that are null, or empty, or become empty."""
    if isinstance(value, dict):
        kept = {name: without_empties(member) for name, member in value.items()}
        return {name: member for name, member in kept.items() if not _empty(member)}
    if isinstance(value, list | tuple):
        return [item for item in map(without_empties, value) if not _empty(item)]
    return value


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | dict | list) and not value)
