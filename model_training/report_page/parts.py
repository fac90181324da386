"""Each group of people, and each kind of record, measured as everybody is: calibration, decisions,
alerts and all other figures, part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes

from model_training.report_page.calibration import lowest_shown
from model_training.report_page.decisions import EVERYBODY, MODEL, STYLES
from model_training.report_page.drawing import BLUE, GREEN, INK, MUTED, ORANGE, percent_ticks
from model_training.report_page.figures import (
    Json,
    count,
    finite,
    found,
    leaves_out,
    listed,
    mid_sentence,
    number,
    percent,
    percent_with_interval,
    signed,
    value_of,
    with_interval,
)
from model_training.report_page.multiples import Chart, Line, multiples_picture
from model_training.report_page.picture import Picture, Table

_DECADES = (0.001, 0.01, 0.1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An axis of groups, or the kinds of record: title → figures, in the report's order.

    `id` is the end of the pictures' names, `by` goes into their titles.
    """

    id: str
    by: str
    entries: Mapping[str, Json]


def group_parts(report: Json) -> list[Parts]:
    """One for each axis whose groups were measured whole."""
    return [
        Parts(id=_file_name(axis), by=mid_sentence(axis), entries=measured)
        for axis, entries in (found(report, "test", "groups") or {}).items()
        if (measured := _measured(entries))
    ]


def record_parts(report: Json) -> Parts | None:
    scenarios = found(report, "test", "scenarios") or {}
    entries = _measured({entry["title"]: entry for entry in scenarios.values()})
    return Parts(id="record", by="record", entries=entries) if len(entries) > 1 else None


def part_pictures(parts: Parts) -> list[Picture]:
    return [_calibration(parts), _decisions(parts), _alerts(parts)]


def parts_table(parts: Parts) -> Table:
    """Every measure that a part has, one column for each part."""
    entries = list(parts.entries.values())
    first = entries[0]
    rows = [
        [title, *(show(found(entry, *path)) for entry in entries)]
        for title, path, show in (*_counts(first), *_MEASURES, *_fixed(first))
    ]
    return Table(
        caption=f"All measures by {parts.by}",
        columns=["Measure", *parts.entries],
        rows=rows,
    )


_Show = Callable[..., str]
_COUNTS: tuple[tuple[str, tuple[str, ...], _Show], ...] = (
    ("People", ("people",), count),
    ("With the outcome", ("events",), count),
)
_MEASURES: tuple[tuple[str, tuple[str, ...], _Show], ...] = (
    ("AUROC", ("auroc",), with_interval),
    ("AUROC, weighted", ("auroc_weighted",), with_interval),
    ("Average precision", ("average_precision",), with_interval),
    ("Average precision, weighted", ("average_precision_weighted",), with_interval),
    ("Brier score", ("brier",), partial(with_interval, digits=4)),
    ("Brier score, weighted", ("brier_weighted",), partial(with_interval, digits=4)),
    ("Observed / expected, weighted", ("observed_to_expected",), partial(with_interval, digits=2)),
    (
        "Observed / expected",
        ("calibration", "unweighted", "observed_to_expected"),
        partial(with_interval, digits=2),
    ),
    ("Calibration slope, weighted", ("calibration", "slope"), partial(with_interval, digits=2)),
    (
        "Calibration slope",
        ("calibration", "unweighted", "slope"),
        partial(with_interval, digits=2),
    ),
    (
        "Intercept in the large, weighted",
        ("calibration", "intercept_in_the_large"),
        partial(signed, digits=2),
    ),
    (
        "Intercept in the large",
        ("calibration", "unweighted", "intercept_in_the_large"),
        partial(signed, digits=2),
    ),
    ("ICI, weighted", ("calibration", "ici"), partial(with_interval, digits=4)),
    ("ICI", ("calibration", "unweighted", "ici"), partial(with_interval, digits=4)),
    ("Alerted at moderate", ("at_moderate", "flagged"), percent_with_interval),
    ("Sensitivity there", ("at_moderate", "sensitivity"), percent_with_interval),
    ("Specificity there", ("at_moderate", "specificity"), percent_with_interval),
    ("PPV there", ("at_moderate", "ppv"), percent_with_interval),
)


def _counts(entry: Json) -> tuple[tuple[str, tuple[str, ...], _Show], ...]:
    """A kind of record has everybody in it: nothing to count."""
    return _COUNTS if "people" in entry else ()


def _fixed(entry: Json) -> list[tuple[str, tuple[str, ...], _Show]]:
    kinds = (
        ("Sensitivity at a false-positive rate of", "sensitivity_at_false_positive_rate"),
        ("Specificity at a sensitivity of", "specificity_at_sensitivity"),
    )
    return [
        (f"{words} {percent(float(rate))}", (key, rate), percent_with_interval)
        for words, key in kinds
        for rate in found(entry, key) or ()
    ]


def _measured(entries: Mapping[str, Json]) -> dict[str, Json]:
    """Those that were measured whole: outside reports of an earlier format were not."""
    needed = ("calibration", "decision_curve", "alerts")
    return {
        title: entry for title, entry in entries.items() if all(found(entry, k) for k in needed)
    }


# ------------------------------------------------------------------------------ calibration


def _calibration(parts: Parts) -> Picture:
    low = min(lowest_shown(entry["calibration"]["groups"]) for entry in parts.entries.values())
    charts = [
        Chart(
            title=title,
            note=f"slope {number(entry['calibration']['slope'], 2)}, "
            f"O/E {number(entry['calibration']['observed_to_expected'], 2)}",
            draw=partial(_draw_calibration, calibration=entry["calibration"], low=low),
        )
        for title, entry in parts.entries.items()
    ]
    return multiples_picture(
        f"calibration-by-{parts.id}",
        f"Calibration by {parts.by}",
        _calibration_finding(parts),
        charts,
        (
            Line(title="observed share by predicted risk, 95 % interval", ink=BLUE),
            Line(title="as predicted", ink=MUTED, dashes=(0, (3, 3))),
        ),
        parts_table(parts),
    )


def _draw_calibration(axes: Axes, *, calibration: Json, low: float) -> None:
    curve = [point for point in calibration["curve"] if None not in point[:2]]
    banded = [point for point in curve if None not in point]
    axes.plot([low, 1], [low, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.fill_between(
        [point[0] for point in banded],
        [max(point[2], low / 10) for point in banded],
        [point[3] for point in banded],
        color=BLUE,
        alpha=0.18,
        linewidth=0,
    )
    axes.plot(
        [point[0] for point in curve], [max(point[1], low / 10) for point in curve], color=BLUE
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlim=(low, 1), ylim=(low, 1))
    for axis in (axes.xaxis, axes.yaxis):
        percent_ticks(axis, [tick for tick in _DECADES if low <= tick])


def _calibration_finding(parts: Parts) -> str:
    """Whose slope cannot be 1 by chance, and whose level cannot be right."""
    steep = _told_from_one(parts, ("calibration", "slope"))
    level = _told_from_one(parts, ("calibration", "observed_to_expected"))
    unknown = [
        title
        for title, entry in parts.entries.items()
        if value_of(entry["calibration"]["slope"]) is None
    ]
    said = []
    if steep:
        said.append(f"Slopes that chance does not explain: {listed(steep)}.")
    if level:
        said.append(f"Observed over expected that chance does not explain: {listed(level)}.")
    if unknown:
        said.append(f"Too few people for a curve: {listed(unknown)}.")
    return " ".join(said) or "Every slope and every level agrees with 1 within its interval."


def _told_from_one(parts: Parts, path: tuple[str, ...]) -> list[str]:
    return [
        f"{title} {with_interval(figure, 2)}"
        for title, entry in parts.entries.items()
        if leaves_out(figure := found(entry, *path), 1)
    ]


# ------------------------------------------------------------------------------ decisions


def _decisions(parts: Parts) -> Picture:
    titles = list(
        dict.fromkeys(t for e in parts.entries.values() for t in e["decision_curve"]["curves"])
    )
    rivals = [title for title in titles if title not in (MODEL, EVERYBODY)]
    key = [
        Line(title=MODEL, ink=BLUE),
        Line(title=EVERYBODY, ink=MUTED, dashes=":"),
        *(
            Line(title=title, ink=ink, dashes=dashes)
            for title, (ink, dashes) in zip(rivals, STYLES, strict=False)
        ),
    ]
    charts = [
        Chart(
            title=title,
            note="net benefit per 1,000",
            draw=partial(_draw_decisions, curve=entry["decision_curve"], key=key),
        )
        for title, entry in parts.entries.items()
    ]
    return multiples_picture(
        f"decision-by-{parts.id}",
        f"Decision curves by {parts.by}",
        _decision_finding(parts),
        charts,
        key,
        _net_benefit_table(parts),
    )


def _draw_decisions(axes: Axes, *, curve: Json, key: Sequence[Line]) -> None:
    thresholds, curves = curve["thresholds"], curve["curves"]
    top = max(finite([1000 * net for nets in curves.values() for net in nets]), default=0.0)
    top = top if top > 0 else 1.0
    axes.axhline(0, color=MUTED, linewidth=1)
    for line in reversed(key):
        if line.title in curves:
            axes.plot(
                thresholds,
                [1000 * net for net in curves[line.title]],
                color=line.ink,
                linestyle=line.dashes,
                linewidth=2 if line.title == MODEL else 1.4,
            )
    axes.set(xlim=(0, max(thresholds)), ylim=(-0.25 * top, top * 1.06))
    axes.locator_params(axis="y", nbins=4)
    percent_ticks(axes.xaxis, [tick for tick in (0, 0.1, 0.2, 0.3) if tick <= max(thresholds)])


def _decision_finding(parts: Parts) -> str:
    """Where another way would be better than the model, at the cut in use."""
    behind = []
    for title, entry in parts.entries.items():
        curve, cut = entry["decision_curve"], entry["at_moderate"]["cut"]
        place = min(
            range(len(curve["thresholds"])), key=lambda at: abs(curve["thresholds"][at] - cut)
        )
        nets = {way: values[place] * 1000 for way, values in curve["curves"].items()}
        own = nets.pop(MODEL)
        best = max([*nets, "Test nobody"], key=lambda way: nets.get(way, 0.0))
        if nets.get(best, 0.0) > own:
            more = number(nets.get(best, 0.0) - own, 1)
            behind.append(f"{title} ({best}, {more} more true cases per 1,000)")
    if behind:
        return f"At the moderate cut another way would be worth more in: {'; '.join(behind)}."
    return "At the moderate cut no other way shown is worth more than the model."


def _net_benefit_table(parts: Parts) -> Table:
    thresholds = next(iter(parts.entries.values()))["decision_curve"]["thresholds"]
    rows = [
        [
            f"{title}: {way}",
            *(number(1000 * net, 2) for net in nets),
        ]
        for title, entry in parts.entries.items()
        for way, nets in entry["decision_curve"]["curves"].items()
    ]
    return Table(
        caption=f"Net benefit per 1,000 people by {parts.by}, at each threshold",
        columns=["Whom, and by what", *(percent(at) for at in thresholds)],
        rows=rows,
    )


# ------------------------------------------------------------------------------ alerts

_ALERT_LINES = (
    ("sensitivity", Line(title="sensitivity: cases that are found", ink=GREEN)),
    ("ppv", Line(title="PPV: alerts that are right", ink=BLUE)),
    ("alerts_per_1000", Line(title="people alerted", ink=ORANGE, dashes=(0, (5, 2)))),
)


def _alerts(parts: Parts) -> Picture:
    charts = [
        Chart(
            title=title,
            note=f"at moderate: PPV {percent(entry['at_moderate']['ppv'])}",
            draw=partial(
                _draw_alerts, alerts=entry["alerts"], moderate=entry["at_moderate"]["cut"]
            ),
        )
        for title, entry in parts.entries.items()
    ]
    return multiples_picture(
        f"alerts-by-{parts.id}",
        f"Alerts and their yield by {parts.by}",
        _alerts_finding(parts),
        charts,
        [line for _, line in _ALERT_LINES],
        _alerts_table(parts),
    )


def _draw_alerts(axes: Axes, *, alerts: Sequence[Json], moderate: float) -> None:
    for measure, line in _ALERT_LINES:
        known = [alert for alert in alerts if value_of(alert[measure]) is not None]
        scale = 1000 if measure == "alerts_per_1000" else 1
        axes.plot(
            [alert["cut"] for alert in known],
            [(value_of(alert[measure]) or 0.0) / scale for alert in known],
            color=line.ink,
            linestyle=line.dashes,
        )
    axes.axvline(moderate, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_xscale("log")
    axes.set(xlim=(alerts[0]["cut"], alerts[-1]["cut"]), ylim=(0, 1.02))
    percent_ticks(axes.xaxis, [t for t in (0.003, 0.01, 0.03, 0.1, 0.3) if t >= alerts[0]["cut"]])
    percent_ticks(axes.yaxis, (0, 0.5, 1))


def _alerts_finding(parts: Parts) -> str:
    known = [
        (value, title, entry["at_moderate"])
        for title, entry in parts.entries.items()
        if (value := value_of(entry["at_moderate"]["sensitivity"])) is not None
    ]
    if not known:
        return "In no part is there anybody to be found."
    (_, fewest, low), (_, most, high) = min(known, key=_first), max(known, key=_first)
    return (
        f"At the moderate cut the fewest cases are found in “{fewest}”, "
        f"{percent_with_interval(low['sensitivity'])}, the most in “{most}”, "
        f"{percent_with_interval(high['sensitivity'])}."
    )


def _first(entry: tuple[float, str, Json]) -> float:
    return entry[0]


def _alerts_table(parts: Parts) -> Table:
    cuts = [alert["cut"] for alert in next(iter(parts.entries.values()))["alerts"]]
    rows = [
        [
            f"{title}: {words}",
            *(show(alert[measure]) for alert in entry["alerts"]),
        ]
        for title, entry in parts.entries.items()
        for words, measure, show in (
            ("alerts per 1,000", "alerts_per_1000", partial(with_interval, digits=0)),
            ("PPV", "ppv", percent_with_interval),
            ("sensitivity", "sensitivity", percent_with_interval),
        )
    ]
    return Table(
        caption=f"Alerts by {parts.by}, from each threshold on",
        columns=["Whom, and what", *(percent(cut) for cut in cuts)],
        rows=rows,
    )


def _file_name(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
