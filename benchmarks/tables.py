"""Tables, for a terminal and for a document: no figure in a document is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table, before it is known whether a terminal or a document will show it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


WIDE = 170


def console() -> Console:
    """A terminal has its width; into a file or a pipe, tables are as wide as they need."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDE)


def show(grid: Grid, console: Console) -> None:
    """On a terminal."""
    table = Table(title=grid.title, title_justify="left", title_style="bold")
    for place, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if place else "left")
    for row in grid.rows:
        table.add_row(*row)
    console.print(table)


def markdown(grid: Grid) -> str:
    """A Markdown table; figures to the right."""
    rule = ["---", *["---:"] * (len(grid.columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (grid.columns, rule, *grid.rows))


def titled(grid: Grid) -> str:
    """The same with its title above."""
    return f"**{grid.title}**\n\n{markdown(grid)}"


def publish(path: Path, found: dict[str, str]) -> None:
    """Replace what stands between `<!-- bench:name -->` and `<!-- /bench:name -->` in a document.

    Raises ValueError where the document asks for nothing.
    """
    text = path.read_text(encoding="utf-8")
    asked = [name for name in found if f"<!-- bench:{name} -->" in text]
    if not asked:
        raise ValueError(f"{path} has no place for figures, such as <!-- bench:summary -->")
    path.write_text(_filled(text, ((name, found[name]) for name in asked)), encoding="utf-8")


def _filled(text: str, found: Iterable[tuple[str, str]]) -> str:
    for name, block in found:
        before, mark, rest = text.partition(f"<!-- bench:{name} -->\n")
        _, end, after = rest.partition(f"<!-- /bench:{name} -->")
        if not end:
            raise ValueError(f"<!-- bench:{name} --> has no end")
        text = f"{before}{mark}{block}\n{end}{after}"
    return text
