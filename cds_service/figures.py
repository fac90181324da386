"""How figures are said to people: percentages, natural frequencies, quantities, plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping

# What begins markup inside a line (https://github.github.com/gfm/#backslash-escapes); texts never
# stand at the beginning of one.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#!|~&])")
UNIT_LABELS: Mapping[str, str] = {
    "mm[Hg]": "mmHg",
    "kg/m2": "kg/m²",
    "10*3/uL": "×10³/µL",
    "/uL": "/µL",
    "umol/L": "µmol/L",
    "meq/L": "mEq/L",
    "ug/mL": "µg/mL",
    "ukat/L": "µkat/L",
    "[lb_av]": "lb",
    "[oz_av]": "oz",
    "[stone_av]": "st",
    "[in_i]": "in",
    "[ft_i]": "ft",
    "a": "years",
}


def percent(probability: float) -> str:
    """Two significant figures at most: more would claim what no model knows.

    The space is a no-break one: a lone % at the start of a line reads badly in a narrow sidebar.
    """
    share = probability * 100
    if share < 0.1:
        return "less than 0.1\u00a0%"
    if share > 99:
        return "more than 99\u00a0%"
    return f"{share:.1f}\u00a0%" if share < 10 else f"{share:.0f}\u00a0%"


def frequency(probability: float) -> str:
    """The natural frequency: people judge "1 in 8" better than "12.5 %"."""
    if probability < 1 / 1000:
        return "fewer than 1 in 1000"
    if probability <= 0.25:
        return f"about 1 in {round(1 / probability)}"
    return f"about {min(9, round(probability * 10))} in 10"


def number(value: float) -> str:
    """As a person writes it: no trailing zeros, no exponent."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def escape(text: str) -> str:
    """Text as Markdown that shows just this text. Some EHRs render raw HTML in `detail`."""
    # Nearly no text has any, and looking for it is much cheaper than writing the text again.
    return _MARKUP.sub(r"\\\1", text) if _MARKUP.search(text) else text


def with_unit(value: float, unit: str) -> str:
    """`unit` is a UCUM code; people read its label."""
    label = UNIT_LABELS.get(unit, unit)
    return f"{number(value)} {label}".strip()
