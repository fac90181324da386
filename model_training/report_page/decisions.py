"""Is acting on the model worth it: decision curve, alerts and their yield."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.typing import LineStyleType

from model_training.report_page.drawing import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    Margins,
    add_axes,
    new_figure,
    percent_ticks,
    svg_text,
    up_label,
)
from model_training.report_page.figures import (
    Json,
    bounds_of,
    count,
    finite,
    found,
    number,
    percent,
    percent_with_interval,
    value_of,
    with_interval,
)
from model_training.report_page.picture import Picture, Table

# Title, colour, dashes and width of a line.
_Line = tuple[str, str, LineStyleType, float]

MODEL, EVERYBODY = "This model", "Test everybody"
STYLES: tuple[tuple[str, LineStyleType], ...] = (
    (ORANGE, (0, (5, 2))),
    (GREEN, (0, (2, 2))),
    (PURPLE, (0, (7, 2, 2, 2))),
    (INK, "-."),
)
_CUT_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6)


def decision_picture(report: Json) -> Picture | None:
    curve = found(report, "test", "decision_curve")
    if not found(report, "test", "decision_curve", "curves", MODEL):
        return None
    figure = new_figure(430)
    axes = add_axes(figure, Margins(right=16))
    thresholds, curves = curve["thresholds"], curve["curves"]
    per_1000 = {title: [1000 * net for net in nets] for title, nets in curves.items()}
    top = max(finite([net for nets in per_1000.values() for net in nets]), default=0.0)
    top = top if top > 0 else 1.0
    axes.plot(thresholds, [0] * len(thresholds), color=MUTED, linewidth=1)
    lines: list[_Line] = [(MODEL, BLUE, "-", 2.4)]
    rivals = [title for title in per_1000 if title not in (MODEL, EVERYBODY)]
    for title, (ink, dashes) in zip(rivals, STYLES, strict=False):
        lines.append((title, ink, dashes, 1.6))
    if EVERYBODY in per_1000:
        lines.append((EVERYBODY, MUTED, ":", 1.6))
    for title, ink, dashes, wide in reversed(lines):
        axes.plot(thresholds, per_1000[title], color=ink, linestyle=dashes, linewidth=wide)
    axes.set(xlim=(0, max(thresholds)), ylim=(-0.12 * top, top * 1.04))
    for place, line in enumerate([*lines, ("Test nobody", MUTED, "-", 1)]):
        _key(axes, 0.96 - place * 0.06, line)
    axes.set_xlabel("Risk from which one would act")
    up_label(axes, "Net benefit: true cases per 1,000 people")
    percent_ticks(axes.xaxis, _even_ticks(max(thresholds)))
    for title, cut in _used_cuts(report):
        axes.axvline(cut, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.text(cut, -0.11 * top, f" {title}", color=MUTED, size=11.5)
    finding = _decision_finding(report, thresholds, curves)
    title = "Decision curve"
    return Picture(
        name="decision-curve",
        title=title,
        finding=finding,
        svg=svg_text(figure, name="decision-curve", title=title, finding=finding),
        table=Table(
            caption="Net benefit per 1,000 people",
            columns=["Threshold", *curves],
            rows=[
                [percent(at), *(number(per_1000[title][place], 2) for title in curves)]
                for place, at in _some(thresholds)
            ],
        ),
    )


def alerts_picture(report: Json) -> Picture | None:
    alerts = [
        alert
        for alert in found(report, "test", "alerts") or ()
        if value_of(alert["alerts_per_1000"]) is not None
    ]
    if len(alerts) < 2:
        return None
    alerts.sort(key=lambda alert: float(alert["cut"]))
    figure = new_figure(520)
    above = add_axes(figure, Margins(bottom=286))
    below = add_axes(figure, Margins(top=270))
    _line(above, alerts, "alerts_per_1000", ORANGE)
    up_label(above, "Alerts per 1,000 people")
    above.set_ylim(bottom=0)
    _line(below, alerts, "sensitivity", GREEN)
    _line(below, alerts, "ppv", BLUE)
    _label_above(below, "Sensitivity: cases that are found", GREEN, side="left")
    _label_above(below, "PPV: alerts that are right", BLUE, side="right")
    percent_ticks(below.yaxis, (0, 0.2, 0.4, 0.6, 0.8, 1))
    below.set(ylim=(0, 1.02), xlabel="Alert from this risk on")
    for axes in (above, below):
        axes.set_xscale("log")
        axes.set_xlim(alerts[0]["cut"], alerts[-1]["cut"])
        percent_ticks(
            axes.xaxis, [t for t in _CUT_TICKS if alerts[0]["cut"] <= t <= alerts[-1]["cut"]]
        )
        axes.tick_params(labelbottom=axes is below)
        for title, cut in _used_cuts(report):
            axes.axvline(cut, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            if axes is above:
                text = f"{title}\nfrom {cut * 100:g} %"
                axes.annotate(
                    text,
                    (cut, 1),
                    (4, -4),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    va="top",
                    size=11.5,
                )
    finding = alerts_finding(report)
    title = "Alerts, and how many are right"
    return Picture(
        name="alerts",
        title=title,
        finding=finding,
        svg=svg_text(figure, name="alerts", title=title, finding=finding),
        table=Table(
            caption=title,
            columns=["Alert from", "Alerts per 1,000", "PPV", "Sensitivity"],
            rows=[
                [
                    percent(alert["cut"]),
                    with_interval(alert["alerts_per_1000"], 0),
                    percent_with_interval(alert["ppv"]),
                    percent_with_interval(alert["sensitivity"]),
                ]
                for alert in alerts
            ],
        ),
    )


def alerts_finding(report: Json) -> str:
    """What each of the two cuts in use does, in natural frequencies."""
    levels = found(report, "test", "levels") or {}
    parts = [
        _at_cut(title, levels[key])
        for title, key in (("moderate", "at_moderate"), ("high", "at_high"))
        if levels.get(key)
    ]
    return " ".join(parts) or "The cuts in use were not measured."


def _at_cut(title: str, at: Json) -> str:
    flagged = value_of(at["flagged"])
    alerts = "–" if flagged is None else count(flagged * 1000)
    return (
        f"From {percent(at['cut'])} ({title}) on, {alerts} of 1,000 people are alerted; "
        f"{percent_with_interval(at['ppv'])} of the alerts are right and "
        f"{percent_with_interval(at['sensitivity'])} of the cases are found."
    )


def _line(axes: Axes, alerts: Sequence[Json], measure: str, ink: str) -> None:
    known = [alert for alert in alerts if value_of(alert[measure]) is not None]
    cuts = [alert["cut"] for alert in known]
    values = [value_of(alert[measure]) or 0.0 for alert in known]
    bounds = [
        bounds_of(alert[measure]) or (value, value)
        for alert, value in zip(known, values, strict=True)
    ]
    axes.fill_between(
        cuts,
        [low for low, _ in bounds],
        [high for _, high in bounds],
        color=ink,
        alpha=0.16,
        linewidth=0,
    )
    axes.plot(cuts, values, color=ink, marker="o", markersize=4)


def _key(axes: Axes, height: float, line: _Line) -> None:
    """A line's name beside a piece of it, in the corner that net benefit leaves empty."""
    title, ink, dashes, wide = line
    place = axes.transAxes
    axes.text(0.86, height, title, transform=place, color=ink, ha="right", va="center_baseline")
    ends, heights = [0.88, 0.99], [height, height]
    axes.plot(ends, heights, transform=place, color=ink, linestyle=dashes, linewidth=wide)


def _label_above(axes: Axes, text: str, ink: str, *, side: Literal["left", "right"]) -> None:
    """A curve's name in its colour, above the axes, where no curve can cross it."""
    axes.annotate(
        text,
        (0 if side == "left" else 1, 1),
        (-38 if side == "left" else 0, 10),
        xycoords="axes fraction",
        textcoords="offset points",
        color=ink,
        ha=side,
    )


def _used_cuts(report: Json) -> list[tuple[str, float]]:
    levels = found(report, "test", "levels") or {}
    keys = (("moderate", "at_moderate"), ("high", "at_high"))
    return [(title, levels[key]["cut"]) for title, key in keys if levels.get(key)]


def _decision_finding(
    report: Json, thresholds: Sequence[float], curves: dict[str, Sequence[float]]
) -> str:
    cuts = _used_cuts(report)
    cut = cuts[0][1] if cuts else thresholds[len(thresholds) // 2]
    place = min(range(len(thresholds)), key=lambda at: abs(thresholds[at] - cut))
    model = curves[MODEL][place] * 1000
    others = {title: nets[place] * 1000 for title, nets in curves.items() if title != MODEL}
    best = max(others, key=lambda title: others[title]) if others else None
    text = (
        f"For somebody who would act from a risk of {percent(thresholds[place])}, the model is "
        f"worth {number(model, 1)} true cases per 1,000 people more than testing nobody"
    )
    if best is None:
        return f"{text}."
    difference = model - others[best]
    compared = "more" if difference >= 0 else "less"
    return f"{text}, and {number(abs(difference), 1)} {compared} than the next ({best})."


def _even_ticks(highest: float) -> list[float]:
    step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if highest / s <= 6), 0.25)
    return [round(step * place, 4) for place in range(int(highest / step) + 1)]


def _some(thresholds: Sequence[float]) -> list[tuple[int, float]]:
    stride = max(1, len(thresholds) // 20)
    return [(place, at) for place, at in enumerate(thresholds) if place % stride == 0]
