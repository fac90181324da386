"""What a picture and a table of the report are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text; the first cell of a row is its heading. `caption` names the table."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An SVG, what it shows in words, and the same data as a table.

    `name` is the file's name without `.svg` and the prefix of every id inside; `finding` is the
    text alternative: what a reader who sees the picture learns from it.
    """

    name: str
    title: str
    finding: str
    svg: str
    table: Table
