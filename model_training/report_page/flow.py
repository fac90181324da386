"""How many people were there, how many were left at each step; cases are those with the outcome."""

from __future__ import annotations

import itertools
import textwrap

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from model_training.report_page.drawing import (
    BLUE,
    INK,
    MUTED,
    PAPER,
    WIDTH,
    Margins,
    add_axes,
    new_figure,
    svg_text,
)
from model_training.report_page.figures import Json, count, found, percent
from model_training.report_page.picture import Picture, Table

_BOX, _GAP = 50, 26
_BOX_WIDTH = 292


def flow_pictures(report: Json) -> list[Picture]:
    """One diagram for each part of the data that kept a record of its steps."""
    parts = found(report, "data", "parts") or {}
    return [_flow(name, part) for name, part in parts.items() if found(part, "flow")]


def _flow(name: str, part: Json) -> Picture:
    steps = part["flow"]
    height = len(steps) * (_BOX + _GAP) - _GAP + 8
    figure = new_figure(height)
    axes = add_axes(figure, Margins(left=0, right=0, top=0, bottom=0))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    for place, step in enumerate(steps):
        top = 4 + place * (_BOX + _GAP)
        _box(axes, top, step, last=place == len(steps) - 1)
    for place, (before, after) in enumerate(itertools.pairwise(steps)):
        _arrow(axes, 4 + place * (_BOX + _GAP) + _BOX, before["people"] - after["people"])
    file, title = f"flow-{name}", f"{name.capitalize()} people"
    finding = _finding(name, part)
    return Picture(
        name=file,
        title=title,
        finding=finding,
        svg=svg_text(figure, name=file, title=title, finding=finding),
        table=_table(title, part),
    )


def _box(axes: Axes, top: float, step: Json, *, last: bool) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (2, top),
            _BOX_WIDTH,
            _BOX,
            boxstyle="round,pad=0,rounding_size=6",
            facecolor=PAPER,
            edgecolor=BLUE if last else MUTED,
            linewidth=2 if last else 0.9,
        )
    )
    lines = textwrap.wrap(step["kept"], 28, max_lines=2, placeholder="…")
    for place, line in enumerate(lines):
        offset = 9 * (2 * place - (len(lines) - 1))
        axes.text(14, top + _BOX / 2 + offset * 0.9, line, va="center", color=INK)
    right = _BOX_WIDTH - 10
    axes.text(right, top + 17, count(step["people"]), ha="right", va="center", weight="bold")
    events = f"{count(step['events'])} cases"
    axes.text(right, top + 35, events, ha="right", va="center", color=MUTED, size=11)


def _arrow(axes: Axes, top: float, lost: int) -> None:
    middle = _BOX_WIDTH / 2
    axes.annotate(
        "",
        (middle, top + _GAP),
        (middle, top),
        arrowprops={"arrowstyle": "-|>", "color": MUTED, "shrinkA": 1, "shrinkB": 1},
    )
    axes.plot([middle, _BOX_WIDTH + 14], [top + _GAP / 2] * 2, color=MUTED, linewidth=0.9)
    text = f"{count(lost)} left out"
    axes.text(_BOX_WIDTH + 20, top + _GAP / 2, text, va="center", color=MUTED)


def _finding(name: str, part: Json) -> str:
    first, last = part["flow"][0], part["flow"][-1]
    return (
        f"Of {count(first['people'])} people ({first['kept']}), {count(last['people'])} remain as "
        f"{name} people; {count(last['events'])} of them have the outcome "
        f"({percent(last['events'] / max(last['people'], 1))})."
    )


def _table(title: str, part: Json) -> Table:
    rows = [[step["kept"], count(step["people"]), count(step["events"])] for step in part["flow"]]
    return Table(caption=title, columns=["Kept", "People", "With the outcome"], rows=rows)
