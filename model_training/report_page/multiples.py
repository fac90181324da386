"""Small charts side by side, one for each part of the people: the shape in which parts compare."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from model_training.report_page.drawing import (
    INK,
    WIDTH,
    Margins,
    add_axes,
    new_figure,
    svg_text,
)
from model_training.report_page.picture import Picture, Table

_ACROSS, _TALL, _TITLE = 2, 148, 40
_LEFT, _GAP, _RIGHT, _BOTTOM, _KEY = 46, 56, 22, 30, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One small chart: whom it shows, a line about them, and what draws it into its axes."""

    title: str
    note: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An entry of the key that all charts share."""

    title: str
    ink: str
    dashes: LineStyleType = "-"


def multiples_picture(
    name: str,
    title: str,
    finding: str,
    charts: Sequence[Chart],
    key: Sequence[Line],
    table: Table,
) -> Picture:
    rows = math.ceil(len(charts) / _ACROSS)
    above = _KEY * len(key) + 6
    height = above + rows * (_TITLE + _TALL + _BOTTOM)
    wide = (WIDTH - _LEFT - _RIGHT - _GAP * (_ACROSS - 1)) / _ACROSS
    figure = new_figure(height)
    for place, line in enumerate(key):
        down = 1 - (_KEY * place + 10) / height
        ends = [4 / WIDTH, 34 / WIDTH]
        figure.add_artist(_stroke(ends, down, line))
        figure.text(42 / WIDTH, down, line.title, color=line.ink, va="center_baseline")
    for place, chart in enumerate(charts):
        row, column = divmod(place, _ACROSS)
        left = _LEFT + column * (wide + _GAP)
        top = above + row * (_TITLE + _TALL + _BOTTOM) + _TITLE
        axes = add_axes(
            figure,
            Margins(left=left, right=WIDTH - left - wide, top=top, bottom=height - top - _TALL),
        )
        chart.draw(axes)
        at = (left - 34) / WIDTH
        words = textwrap.shorten(chart.title, 30, placeholder="…")
        figure.text(at, 1 - (top - 28) / height, words, color=INK, weight="bold")
        figure.text(at, 1 - (top - 12) / height, chart.note, color=INK, size=11)
    return Picture(
        name=name,
        title=title,
        finding=finding,
        svg=svg_text(figure, name=name, title=title, finding=finding),
        table=table,
    )


def _stroke(ends: Sequence[float], down: float, line: Line) -> Line2D:
    return Line2D(ends, [down, down], color=line.ink, linestyle=line.dashes, linewidth=2)
