"""What is worked out once for each thing that a process loads once, such as a manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Loaded = TypeVar("Loaded")
Made = TypeVar("Made")


def once(make: Callable[[Loaded], Made]) -> Callable[[Loaded], Made]:
    """`make`, called once for each object: what it makes is shared, and not to be changed.

    By identity: what is loaded from JSON holds objects, and has no hash. It is kept with what was
    made of it, so that nothing else gets its identity; a process loads few.
    """
    kept: dict[int, tuple[Loaded, Made]] = {}

    def made_once(loaded: Loaded) -> Made:
        found = kept.get(id(loaded))
        if found is None:
            found = kept[id(loaded)] = (loaded, make(loaded))
        return found[1]

    return made_once
