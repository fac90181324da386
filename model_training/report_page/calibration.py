"""Do the percentages mean what they say: predicted against observed risk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from model_training.report_page.discrimination import draw_roc
from model_training.report_page.drawing import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    Margins,
    add_axes,
    new_figure,
    percent_ticks,
    svg_text,
    up_label,
)
from model_training.report_page.figures import (
    Figure,
    Json,
    bounds_of,
    count,
    found,
    leaves_out,
    number,
    percent,
    value_of,
    with_interval,
)
from model_training.report_page.picture import Picture, Table

_TICKS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)
_LEAST, _LOWEST, _HIGHEST = 0.0001, 0.0006, 1.0
_HISTOGRAM_HEIGHT = 62
Bars = list[tuple[float, float, float]]


def calibration_picture(report: Json) -> Picture | None:
    test = found(report, "test")
    if not found(report, "test", "calibration", "groups"):
        return None
    bars = _bars(test)
    figure = new_figure(520 if bars else 440)
    room = Margins(bottom=46 + (_HISTOGRAM_HEIGHT + 16 if bars else 0))
    axes = add_axes(figure, room)
    draw_calibration(axes, test)
    if bars:
        axes.set_xlabel("")
        axes.tick_params(labelbottom=False)
        below = add_axes(figure, Margins(top=520 - 46 - _HISTOGRAM_HEIGHT))
        _draw_bars(below, bars, axes.get_xlim())
    finding = calibration_finding(test)
    return Picture(
        name="calibration",
        title="Calibration",
        finding=finding,
        svg=svg_text(figure, name="calibration", title="Calibration", finding=finding),
        table=_table(test),
    )


def performance_picture(report: Json) -> Picture | None:
    """ROC and calibration side by side: the one picture that the model card shows."""
    test = found(report, "test")
    if not found(report, "test", "roc") or not found(report, "test", "calibration", "groups"):
        return None
    width = 880
    figure = new_figure(430, width)
    draw_roc(add_axes(figure, Margins(right=width / 2 + 24)), test)
    draw_calibration(add_axes(figure, Margins(left=width / 2 + 62)), test)
    auroc = with_interval(found(test, "scenarios", "complete", "auroc"))
    finding = f"Left, ROC curve: AUROC {auroc}. Right, calibration: {calibration_finding(test)}"
    title = "ROC curve and calibration"
    return Picture(
        name="performance",
        title=title,
        finding=finding,
        svg=svg_text(figure, name="performance", title=title, finding=finding),
        table=_table(test),
    )


def draw_calibration(axes: Axes, test: Json) -> None:
    """Both axes logarithmic: risks span three orders of magnitude."""
    calibration = test["calibration"]
    low, high = lowest_shown(calibration["groups"]), _HIGHEST
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    curve = [point for point in calibration.get("curve") or () if None not in point[:2]]
    if curve:
        at = [point[0] for point in curve]
        _band(axes, curve)
        axes.plot(at, [max(point[1], low) for point in curve], color=BLUE)
    groups = calibration["groups"]
    seen = [group for group in groups if group["observed"] > 0]
    unseen = [group for group in groups if group["observed"] <= 0 and group["predicted"] >= low]
    dots: Any = {"linestyle": "none", "color": ORANGE, "markersize": 6.5}
    axes.plot([g["predicted"] for g in seen], [g["observed"] for g in seen], marker="o", **dots)
    # A tenth in which nobody had the outcome has no place on a log axis: it stands at the floor.
    axes.plot(
        [g["predicted"] for g in unseen],
        [low * 1.12] * len(unseen),
        marker="v",
        markerfacecolor="none",
        **dots,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="Predicted risk")
    up_label(axes, "Observed share")
    for axis in (axes.xaxis, axes.yaxis):
        percent_ticks(axis, _ticks(low, high))
    axes.text(low * 1.3, high * 0.6, "risk understated", color=MUTED, size=11.5)
    axes.text(high * 0.93, low * 2.1, "risk overstated", color=MUTED, size=11.5, ha="right")
    axes.text(low * 1.3, high * 0.34, "● tenths of the people", color=ORANGE, size=11.5)
    if curve:
        axes.text(low * 1.3, high * 0.2, "— curve, 95 % interval", color=BLUE, size=11.5)
    if unseen:
        axes.text(low * 1.3, low * 1.35, "▽ nobody observed", color=ORANGE, size=11.5)


def lowest_shown(groups: Sequence[Json]) -> float:
    """Where the axes begin: below the lowest tenth, within reason."""
    predicted = [group["predicted"] for group in groups if group["predicted"] > 0]
    return min(_LOWEST, max(_LEAST, min(predicted, default=_LOWEST) / 1.5))


def calibration_finding(test: Json) -> str:
    calibration = test["calibration"]
    ratio = calibration["observed_to_expected"]
    ici = value_of(calibration.get("ici"))
    distance = (
        f" On average the curve is {number(ici * 100, 2)} percentage points off the diagonal (ICI)."
        if ici is not None
        else ""
    )
    return (
        f"{expected_and_seen(ratio)} Observed / expected {with_interval(ratio, 2)}, "
        f"slope {with_interval(calibration.get('slope'), 2)}, "
        f"intercept {with_interval(calibration.get('intercept_in_the_large'), 2)}.{distance}"
    )


def expected_and_seen(ratio: Figure) -> str:
    """Observed over expected in words, with what its interval allows to be said."""
    value = value_of(ratio)
    if value is None:
        return "Observed over expected could not be told."
    if bounds_of(ratio) is None:
        verdict = "how far chance explains this is not known"
    elif not leaves_out(ratio, 1):
        verdict = "no difference beyond chance"
    else:
        verdict = "risks are overstated" if value < 1 else "risks are understated"
    return f"For every 100 cases that the model expects, {count(value * 100)} were seen: {verdict}."


def _band(axes: Axes, curve: Sequence[Sequence[float]]) -> None:
    inside = [point for point in curve if len(point) >= 4 and None not in point[2:4]]
    lows = [max(point[2], 1e-6) for point in inside]
    highs = [point[3] for point in inside]
    axes.fill_between(
        [point[0] for point in inside], lows, highs, color=BLUE, alpha=0.18, linewidth=0
    )


def _ticks(low: float, high: float) -> list[float]:
    """Threes between the decades where there is room for them."""
    inside = [tick for tick in _TICKS if low <= tick <= high]
    return inside[::2] if len(inside) > 8 else inside


def _bars(test: Json) -> Bars:
    """Low, high and share of people of each band of predicted risk."""
    given = found(test, "calibration", "histogram")
    if given:
        everybody = sum(bar[2] for bar in given) or 1
        return [(low, high, people / everybody) for low, high, people in given]
    return _between_cuts(found(test, "alerts") or ())


def _between_cuts(alerts: Sequence[Json]) -> Bars:
    """Who is flagged from one cut and not from the next has a risk between the two."""
    flagged = [
        (alert["cut"], (value_of(alert["alerts_per_1000"]) or 0) / 1000)
        for alert in sorted(alerts, key=lambda alert: float(alert["cut"]))
        if 0 < alert["cut"] < 1
    ]
    if not flagged:
        return []
    steps = [(0.0, 1.0), *flagged, (1.0, 0.0)]
    return [
        (low, high, max(0.0, share - less))
        for (low, share), (high, less) in itertools.pairwise(steps)
        if high > low
    ]


def _draw_bars(axes: Axes, bars: Bars, ends: tuple[float, float]) -> None:
    """Heights are shares per unit of the log axis, so that unequal bands compare by area."""
    clipped = [
        (max(low, ends[0]), max(min(high, ends[1]), ends[0] * 1.01), s) for low, high, s in bars
    ]
    heights = [share / math.log10(high / low) for low, high, share in clipped]
    axes.bar(
        [low for low, _, _ in clipped],
        heights,
        width=[high - low for low, high, _ in clipped],
        align="edge",
        color=BLUE,
        alpha=0.5,
        linewidth=0,
    )
    axes.set_xscale("log")
    axes.set(xlim=ends, ylim=(0, max([*heights, 1e-9]) * 1.05), xlabel="Predicted risk")
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    percent_ticks(axes.xaxis, _ticks(*ends))
    axes.annotate(
        "people by predicted risk",
        (1, 1),
        xycoords="axes fraction",
        ha="right",
        va="top",
        color=INK,
        size=11.5,
    )


def _table(test: Json) -> Table:
    rows = [
        [
            str(place),
            count(group["people"]),
            count(group["events"]),
            percent(group["predicted"]),
            percent(group["observed"]),
        ]
        for place, group in enumerate(test["calibration"]["groups"], start=1)
    ]
    columns = ["Group by risk", "People", "With the outcome", "Predicted", "Observed"]
    return Table(caption="Calibration", columns=columns, rows=rows)
