"""Figures with their intervals, one row each: the shape of every comparison in the report."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes

from model_training.report_page.drawing import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    WIDTH,
    Margins,
    add_axes,
    new_figure,
    plain_ticks,
    svg_text,
)
from model_training.report_page.figures import Figure, bounds_of, number, value_of
from model_training.report_page.picture import Picture, Table

SERIES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "D"))
_ROW, _SERIES_STEP, _LABEL_CHARACTERS = 25, 13, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A label with one figure for each series; a row without figures is a heading."""

    label: str
    figures: Sequence[Figure] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The axis: what it counts, the value to compare with, and how its numbers are written."""

    label: str
    reference: float | None = None
    reference_label: str = ""
    logarithmic: bool = False
    highest: float | None = None
    lowest: float | None = None
    write: Callable[[Figure], str] = field(default=number)


def forest_picture(
    name: str,
    title: str,
    finding: str,
    rows: Sequence[Row],
    scale: Scale,
    table: Table,
    series: Sequence[str] = (),
) -> Picture:
    """`series` names the figures of a row, in their order; none where a row has one figure."""
    heights = [_height(row) for row in rows]
    above = 30 + 18 * len(series)
    height = above + sum(heights) + 46
    figure = new_figure(height)
    notes = any(row.note for row in rows)
    axes = add_axes(figure, Margins(left=168, right=62 if notes else 16, top=above, bottom=46))
    low, high = _limits(rows, scale)
    if scale.logarithmic:
        axes.set_xscale("log")
    axes.set(xlim=(low, high), ylim=(sum(heights), 0), xlabel=scale.label)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if scale.reference is not None:
        axes.axvline(scale.reference, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.annotate(
            scale.reference_label,
            (scale.reference, 1),
            (0, 5),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            size=11,
        )
    plain_ticks(axes.xaxis, _ticks(low, high, logarithmic=scale.logarithmic))
    top = 0.0
    for row, tall in zip(rows, heights, strict=True):
        _draw(axes, row, top + tall / 2, scale)
        top += tall
    for place, ((ink, marker), text) in enumerate(zip(SERIES, series, strict=False)):
        across, down = 14 / WIDTH, 1 - (14 + 18 * place) / height
        axes.plot(
            [across],
            [down],
            marker=marker,
            color=ink,
            markersize=6,
            clip_on=False,
            transform=figure.transFigure,
        )
        figure.text(across + 12 / WIDTH, down, text, color=ink, va="center_baseline")
    return Picture(
        name=name,
        title=title,
        finding=finding,
        svg=svg_text(figure, name=name, title=title, finding=finding),
        table=table,
    )


def _height(row: Row) -> float:
    if not row.figures:
        return _ROW + 3
    return max(_ROW, _SERIES_STEP * len(row.figures) + 12, 15.0 * len(_lines(row)) + 8)


def _lines(row: Row) -> list[str]:
    width = _LABEL_CHARACTERS if row.figures else 2 * _LABEL_CHARACTERS
    return textwrap.wrap(row.label, width, max_lines=3 if row.figures else 1, placeholder="…") or [
        ""
    ]


def _draw(axes: Axes, row: Row, middle: float, scale: Scale) -> None:
    heading = not row.figures
    lines = _lines(row)
    for place, line in enumerate(lines):
        axes.annotate(
            line,
            (0, middle + (place - (len(lines) - 1) / 2) * 15 + (4 if heading else 0)),
            (-160 if heading else -152, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center_baseline",
            weight="bold" if heading else "normal",
            color=INK,
        )
    for place, ((ink, marker), figure) in enumerate(zip(SERIES, row.figures, strict=False)):
        value, bounds = value_of(figure), bounds_of(figure)
        at = middle + (place - (len(row.figures) - 1) / 2) * _SERIES_STEP
        if bounds is not None:
            axes.plot(bounds, [at, at], color=ink, linewidth=1.8)
        if value is not None:
            axes.plot([value], [at], marker=marker, color=ink, markersize=6, linestyle="none")
    if row.note is not None:
        axes.annotate(
            row.note,
            (1, middle),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center_baseline",
            size=11.5,
            color=INK,
        )


def _limits(rows: Sequence[Row], scale: Scale) -> tuple[float, float]:
    """Every value and, as far as they do not dwarf the rest, every end of an interval."""
    figures = [figure for row in rows for figure in row.figures]
    values = [value for figure in figures if (value := value_of(figure)) is not None]
    ends = [end for figure in figures for end in bounds_of(figure) or ()]
    if scale.reference is not None:
        values.append(scale.reference)
    if scale.logarithmic:
        positive = [max(value, 0.05) for value in [*values, *ends]] or [1.0]
        return max(0.1, min([*positive, 0.5]) / 1.1), min(10.0, max([*positive, 2.0]) * 1.1)
    low, high = min([*values, *ends], default=0.0), max([*values, *ends], default=1.0)
    room = (high - low or 1.0) * 0.06
    return (
        max(low - room, -math.inf if scale.lowest is None else scale.lowest),
        min(high + room, math.inf if scale.highest is None else scale.highest),
    )


def _ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= tick <= high]
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / 3))
    step = next(power * by for by in (1, 2, 5, 10) if span / (power * by) <= 4.5)
    first = math.ceil(low / step - 1e-9)
    return [round(step * place, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]
