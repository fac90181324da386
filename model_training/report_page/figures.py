"""How figures are read out of a report and said to people.

A *figure* is `[value, low, high]` with the bounds of its 95 % interval, or a bare number, or null;
bounds that could not be told are null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
Figure = float | Sequence[float | None] | None

NOT_TOLD = "–"
# UCUM codes as people write them; any other unit is shown as it is.
_UNITS = {
    "1": "",
    "a": "years",
    "mm[Hg]": "mmHg",
    "kg/m2": "kg/m²",
    "10*3/uL": "×10³/µL",
    "umol/L": "µmol/L",
}


def found(report: Json, *path: str) -> Any:
    """The entry at `path`; None where it, or anything on the way to it, is missing or null."""
    entry: Any = report
    for key in path:
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    return entry


def value_of(figure: Figure) -> float | None:
    if figure is None or isinstance(figure, int | float):
        return figure
    return figure[0] if figure else None


def bounds_of(figure: Figure) -> tuple[float, float] | None:
    """The ends of the interval; None where the figure has none."""
    if figure is None or isinstance(figure, int | float) or len(figure) < 3:
        return None
    low, high = figure[1], figure[2]
    return None if low is None or high is None else (low, high)


def count(number: float | None) -> str:
    return NOT_TOLD if number is None else f"{number:,.0f}"


def number(figure: Figure, digits: int = 3) -> str:
    value = value_of(figure)
    return NOT_TOLD if value is None else _minus(f"{value:.{digits}f}")


def with_interval(figure: Figure, digits: int = 3) -> str:
    """`0.935 (0.906 to 0.964)`; the value alone where it has no interval."""
    bounds = bounds_of(figure)
    if bounds is None:
        return number(figure, digits)
    low, high = (_minus(f"{bound:.{digits}f}") for bound in bounds)
    return f"{number(figure, digits)} ({low} to {high})"


def signed(figure: Figure, digits: int = 3) -> str:
    """A difference, with its sign and its interval."""
    value, bounds = value_of(figure), bounds_of(figure)
    if value is None:
        return NOT_TOLD
    if bounds is None:
        return _minus(f"{value:+.{digits}f}")
    low, high = (_minus(f"{bound:+.{digits}f}") for bound in bounds)
    return f"{_minus(f'{value:+.{digits}f}')} ({low} to {high})"


def percent(figure: Figure) -> str:
    value = value_of(figure)
    return NOT_TOLD if value is None else f"{_share(value)} %"


def percent_with_interval(figure: Figure) -> str:
    bounds = bounds_of(figure)
    if bounds is None:
        return percent(figure)
    return f"{percent(figure)} ({_share(bounds[0])} to {_share(bounds[1])} %)"


def significant(figure: Figure) -> str:
    """Three significant digits, for quantities whose scale is not known beforehand."""
    value = value_of(figure)
    return NOT_TOLD if value is None else _minus(f"{value:.3g}")


def significant_with_interval(figure: Figure) -> str:
    bounds = bounds_of(figure)
    if bounds is None:
        return significant(figure)
    return f"{significant(figure)} ({significant(bounds[0])} to {significant(bounds[1])})"


def quantity(title: str, unit: str) -> str:
    """`Glucose, mg/dL`"""
    label = _UNITS.get(unit, unit)
    return f"{title}, {label}" if label else title


def with_readable_unit(title: str) -> str:
    """`Age, a` → `Age, years`; a title that ends in no known unit stays as it is."""
    name, comma, unit = title.rpartition(", ")
    return quantity(name, unit) if comma else title


def mid_sentence(title: str) -> str:
    """A title inside a sentence: its first letter small, unless it begins an abbreviation."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def listed(words: Sequence[str]) -> str:
    """`a, b and c`"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def sentence(text: str) -> str:
    """`text` with a capital at its start and a full stop at its end."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def leaves_out(figure: Figure, reference: float) -> bool:
    """Whether the interval is known and `reference` lies outside it."""
    bounds = bounds_of(figure)
    return bounds is not None and not bounds[0] <= reference <= bounds[1]


def finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _share(share: float) -> str:
    """A percentage without its sign: one decimal below 10 %, two below 1 %."""
    hundredths = share * 100
    digits = 0 if abs(hundredths) >= 10 else 1 if abs(hundredths) >= 1 else 2
    text = f"{hundredths:.{digits}f}"
    return _minus(text.rstrip("0").rstrip(".") if digits else text)


def _minus(text: str) -> str:
    return text.replace("-", "−")
