"""How figures are said in a terminal: `0.915 (0.890 to 0.942)`, and a dash for none."""

from __future__ import annotations

import math
from collections.abc import Sequence

NONE = "–"

Figure = Sequence[float | None] | float | None


def figure(entry: Figure, digits: int = 3, *, signed: bool = False) -> str:
    """[value, low, high] with its interval, a number by itself."""
    if not isinstance(entry, Sequence):
        return number(entry, digits, signed=signed)
    value, low, high = (number(part, digits, signed=signed) for part in entry)
    return value if NONE in (low, high) else f"{value} ({low} to {high})"


def number(entry: float | None, digits: int = 3, *, signed: bool = False) -> str:
    if entry is None or math.isnan(entry):
        return NONE
    if isinstance(entry, int) or abs(entry) >= 1000:
        return f"{entry:+,.0f}" if signed else f"{entry:,.0f}"
    text = f"{entry:+.{digits}f}" if signed else f"{entry:.{digits}f}"
    return text.replace("-", "−")


def percent(share: float | None, digits: int = 1) -> str:
    known = share is not None and not math.isnan(share)
    return f"{share:.{digits}%}" if known else NONE


def count(people: int, events: int) -> str:
    """People, and how many of them had the outcome."""
    return f"{people:,} ({events:,})"
