"""What moves the estimate: SHAP values of a sample of test people, on the log-odds scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from model_training.report_page.drawing import (
    INK,
    MUTED,
    SCALE,
    WIDTH,
    Margins,
    add_axes,
    new_figure,
    svg_text,
    up_label,
)
from model_training.report_page.figures import (
    Json,
    count,
    found,
    listed,
    number,
    quantity,
    signed,
)
from model_training.report_page.picture import Picture, Table

Floats = npt.NDArray[np.float64]

_SWARM_ROWS, _DEPENDENCE = 12, 6
_ROW, _DOT = 34, 3.6
_COLUMNS = 130  # of the swarm: dots in one column are stacked, so that none hides another


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    """One input's values (NaN where absent) and contributions, person by person."""

    title: str
    unit: str
    values: Floats
    log_odds: Floats
    size: float


def beeswarm_picture(report: Json) -> Picture | None:
    inputs = _inputs(report)[:_SWARM_ROWS]
    if not inputs:
        return None
    height = 62 + _ROW * len(inputs) + 46
    figure = new_figure(height)
    axes = add_axes(figure, Margins(left=150, top=62))
    axes.set(ylim=(len(inputs) - 0.5, -0.5), xlabel="Contribution to the log-odds of the outcome")
    ends = [
        float(np.min([i.log_odds.min() for i in inputs])),
        max(float(i.log_odds.max()) for i in inputs),
    ]
    room = (ends[1] - ends[0] or 1.0) * 0.03
    axes.set_xlim(ends[0] - room, ends[1] + room)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=MUTED, linewidth=1)
    for place, entry in enumerate(inputs):
        _swarm(axes, entry, place)
        axes.annotate(
            entry.title if len(entry.title) < 24 else f"{entry.title[:22]}…",
            (0, place),
            (-142, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center_baseline",
            color=INK,
        )
    _key(axes, height)
    finding = _swarm_finding(inputs)
    title = "What moves the estimate"
    return Picture(
        name="beeswarm",
        title=title,
        finding=finding,
        svg=svg_text(figure, name="beeswarm", title=title, finding=finding),
        table=_swarm_table(report, _inputs(report)),
    )


def dependence_pictures(report: Json) -> list[Picture]:
    """How the contribution of each of the most important inputs changes with its value."""
    pictures = []
    for place, entry in enumerate(_inputs(report)[:_DEPENDENCE], start=1):
        if np.isfinite(entry.values).any():
            pictures.append(_dependence(f"dependence-{place}", entry))
    return pictures


def swarm_positions(log_odds: Floats, low: float, high: float) -> Floats:
    """A height for each dot, within ±0.42 of its row: dots of one column are stacked."""
    columns = np.floor((log_odds - low) / max(high - low, 1e-9) * _COLUMNS).astype(int)
    heights = np.zeros(len(log_odds))
    for column in np.unique(columns):
        members = np.flatnonzero(columns == column)
        # 0, +1, −1, +2, −2 … from the middle of the row outwards.
        ranks = (np.arange(len(members)) + 1) // 2 * np.where(np.arange(len(members)) % 2, 1, -1)
        heights[members] = ranks
    furthest = float(np.abs(heights).max(initial=0))
    step = min(0.09, 0.42 / furthest) if furthest else 0.0
    return heights * step


def _inputs(report: Json) -> list[_Input]:
    """The explained inputs, that which moves most first."""
    rows = found(report, "explanation", "rows") or ()
    inputs = [
        _Input(
            title=row["title"],
            unit=row["unit"],
            values=np.array([math.nan if v is None else v for v in row["values"]], dtype=float),
            log_odds=np.array(row["log_odds"], dtype=float),
            size=float(np.abs(np.array(row["log_odds"], dtype=float)).mean()),
        )
        for row in rows
        if len(row["log_odds"])
    ]
    ranks = {
        entry["title"]: place
        for place, entry in enumerate(found(report, "explanation", "importance") or ())
    }
    return sorted(inputs, key=lambda entry: (ranks.get(entry.title, len(ranks)), -entry.size))


def _swarm(axes: Axes, entry: _Input, place: int) -> None:
    low, high = axes.get_xlim()
    heights = place + swarm_positions(entry.log_odds, low, high)
    steps = _steps(entry.values)
    absent = np.isnan(entry.values)
    _dots(axes, entry.log_odds[absent], heights[absent], MUTED, _DOT * 0.7)
    for step, ink in enumerate(SCALE):
        here = ~absent & (steps == step)
        _dots(axes, entry.log_odds[here], heights[here], ink, _DOT)


def _steps(values: Floats) -> npt.NDArray[np.int_]:
    """Each value's fifth among the values known; ties share their middle rank."""
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return np.zeros(len(values), dtype=int)
    below = np.searchsorted(known, values, side="left")
    upto = np.searchsorted(known, values, side="right")
    share = (below + upto) / (2 * len(known))
    steps: npt.NDArray[np.int_] = np.clip((share * len(SCALE)).astype(int), 0, len(SCALE) - 1)
    return steps


def _dots(axes: Axes, across: Floats, up: Floats, ink: str, size: float) -> None:
    """Many dots as one path: strokes of no length with round ends, a tenth of the bytes."""
    if not len(across):
        return
    points = np.repeat(np.column_stack([across, up]), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(across))
    axes.add_patch(
        PathPatch(
            Path(points, codes),
            fill=False,
            edgecolor=ink,
            linewidth=size,
            capstyle="round",
            snap=False,
        )
    )


def _key(axes: Axes, height: float) -> None:
    figure = axes.figure
    down = 1 - 18 / height
    figure.text(10 / WIDTH, down, "Value of the input:  low", color=MUTED, va="center_baseline")
    for step, ink in enumerate(SCALE):
        axes.plot(
            [(158 + 13 * step) / WIDTH],
            [down],
            marker="o",
            color=ink,
            markersize=7,
            clip_on=False,
            transform=figure.transFigure,
        )
    figure.text(222 / WIDTH, down, "high", color=MUTED, va="center_baseline")
    axes.plot(
        [274 / WIDTH],
        [down],
        marker="o",
        color=MUTED,
        markersize=4,
        clip_on=False,
        transform=figure.transFigure,
    )
    figure.text(282 / WIDTH, down, "not measured", color=MUTED, va="center_baseline")
    for text, side, at in (("← lowers the risk", "left", 0), ("raises the risk →", "right", 1)):
        axes.annotate(
            text,
            (at, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            ha=side,
            color=MUTED,
            size=11.5,
        )


def _swarm_finding(inputs: Sequence[_Input]) -> str:
    first, others = inputs[0], [entry.title for entry in inputs[1:4]]
    after = f" After it come {listed(others)}." if others else ""
    return (
        f"{first.title} moves the estimate most: on average by {number(first.size, 2)} in the "
        f"log-odds, that is the odds by a factor of {number(math.exp(first.size), 1)}.{after}"
    )


def _swarm_table(report: Json, inputs: Sequence[_Input]) -> Table:
    rows = [
        [
            entry.title,
            number(entry.size, 3),
            signed(_mean(entry.log_odds[_steps(entry.values) == 0]), 2),
            signed(_mean(entry.log_odds[_steps(entry.values) == len(SCALE) - 1]), 2),
            count(int(np.isnan(entry.values).sum())),
        ]
        for entry in inputs
    ]
    people = count(found(report, "explanation", "people"))
    columns = ["Input", "Mean size", "Lowest fifth of values", "Highest fifth", "Not measured"]
    return Table(caption=f"Contributions in {people} people", columns=columns, rows=rows)


def _dependence(name: str, entry: _Input) -> Picture:
    figure = new_figure(300)
    axes = add_axes(figure, Margins())
    known = np.isfinite(entry.values)
    values, log_odds = entry.values[known], entry.log_odds[known]
    low, high = _logarithmic(axes, values)
    axes.axhline(0, color=MUTED, linewidth=1)
    _dots(axes, values, log_odds, SCALE[0], 4.2)
    ends = float(entry.log_odds.min()), float(entry.log_odds.max())
    room = (ends[1] - ends[0] or 1.0) * 0.06
    axes.set(xlim=(low, high), ylim=(ends[0] - room, ends[1] + room))
    axes.set_xlabel(quantity(entry.title, entry.unit))
    axes.tick_params(which="minor", size=0)
    axes.grid(visible=False, which="minor")
    up_label(axes, "Contribution to the log-odds")
    rows = _fifths(entry)
    finding = _dependence_finding(entry, rows)
    return Picture(
        name=name,
        title=entry.title,
        finding=finding,
        svg=svg_text(figure, name=name, title=entry.title, finding=finding),
        table=Table(
            caption=f"Contribution of {entry.title} by its value",
            columns=["Value", "People", "Mean contribution"],
            rows=rows,
        ),
    )


def _logarithmic(axes: Axes, values: Floats) -> tuple[float, float]:
    """Limits of the horizontal axis; it becomes logarithmic for values with a long tail."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > 8 * float(np.median(values)):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        return low / 1.1, high * 1.1
    room = (high - low or 1.0) * 0.04
    return low - room, high + room


def _fifths(entry: _Input) -> list[list[str]]:
    steps = np.where(np.isnan(entry.values), -1, _steps(entry.values))
    rows = []
    for step in range(len(SCALE)):
        here = steps == step
        if here.any():
            low, high = entry.values[here].min(), entry.values[here].max()
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            rows.append(
                [
                    span.replace("-", "−"),
                    count(int(here.sum())),
                    signed(_mean(entry.log_odds[here]), 2),
                ]
            )
    absent = steps == -1
    if absent.any():
        mean = signed(_mean(entry.log_odds[absent]), 2)
        rows.append(["not measured", count(int(absent.sum())), mean])
    return rows


def _dependence_finding(entry: _Input, rows: Sequence[Sequence[str]]) -> str:
    known = [row for row in rows if row[0] != "not measured"]
    absent = [row for row in rows if row[0] == "not measured"]
    text = (
        f"The mean contribution is {known[0][2]} in the lowest fifth of values ({known[0][0]}) and "
        f"{known[-1][2]} in the highest ({known[-1][0]})."
    )
    return f"{text} Where it was not measured: {absent[0][2]}." if absent else text


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
