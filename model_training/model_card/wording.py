"""How the card says numbers, and how it lays them out in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

# [value, low, high] of a 95 % interval, a bare value, or nothing.
Figure = Sequence[float | None] | float | None

UNKNOWN = "–"


def interval(figure: Figure) -> tuple[float | None, float | None, float | None]:
    """Value, low and high; a bare value has no interval."""
    if figure is None:
        return None, None, None
    if isinstance(figure, int | float):
        return float(figure), None, None
    value, low, high = figure
    return value, low, high


def number(figure: Figure, digits: int) -> str:
    """0.915 (0.890 to 0.942)"""
    return _said(figure, lambda value: f"{value:,.{digits}f}")


def signed(figure: Figure, digits: int) -> str:
    """+0.05 (-0.02 to +0.12)"""
    # + 0.0 turns the negative zero into zero.
    return _said(figure, lambda value: f"{round(value, digits) + 0.0:+.{digits}f}")


def percent(figure: Figure, digits: int = 1) -> str:
    """9.2% (7.7% to 10.8%)"""
    return _said(figure, lambda value: f"{value:.{digits}%}")


def count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def share(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}%}"


def years(periods: Sequence[str]) -> str:
    """1999–2014 of ["1999-2000", …, "2013-2014"]; a period that is no pair of years as it is."""
    if not periods:
        return UNKNOWN
    first, last = periods[0], periods[-1]
    if not (first[:4].isdigit() and last[-4:].isdigit()):
        return first if len(periods) == 1 else f"{first} to {last}"
    return f"{first[:4]}–{last[-4:]}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """a, b and c"""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def ended(sentence: str) -> str:
    """The text with a full stop, whether it came with one or not."""
    return sentence if sentence.endswith((".", "!", "?", ":")) else f"{sentence}."


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a column that no row fills is left out."""
    cells = [list(row) for row in rows]
    kept = [
        column
        for column in range(len(headings))
        if column == 0 or any(row[column] not in ("", UNKNOWN) for row in cells)
    ]
    lines = [[headings[column] for column in kept], ["---"] * len(kept)]
    lines += [[_cell(row[column]) for column in kept] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def section(title: str, *blocks: str | None) -> str:
    """A second-level section of the blocks that hold text; nothing where none does."""
    held = [block for block in blocks if block]
    return "\n\n".join([f"## {title}", *held]) if held else ""


def _said(figure: Figure, say: Callable[[float], str]) -> str:
    value, low, high = interval(figure)
    if value is None:
        return UNKNOWN
    if low is None or high is None:
        return say(value)
    return f"{say(value)} ({say(low)} to {say(high)})"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
