"""Would more data help, does the procedure leak, what would race add."""

from __future__ import annotations

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from model_training.report_page.drawing import (
    BLUE,
    MUTED,
    ORANGE,
    Margins,
    add_axes,
    new_figure,
    plain_ticks,
    svg_text,
    up_label,
)
from model_training.report_page.figures import (
    Json,
    bounds_of,
    count,
    found,
    leaves_out,
    number,
    percent_with_interval,
    signed,
    value_of,
    with_interval,
)
from model_training.report_page.forest import Row, Scale, forest_picture
from model_training.report_page.picture import Picture, Table


def learning_curve_picture(report: Json) -> Picture | None:
    points = [p for p in report.get("learning_curve") or () if value_of(p["auroc"]) is not None]
    if len(points) < 2:
        return None
    figure = new_figure(340)
    axes = add_axes(figure, Margins(right=22))
    people = [point["people"] for point in points]
    values = [value_of(point["auroc"]) or 0.0 for point in points]
    spans = [bounds_of(point["auroc"]) for point in points]
    known = [(at, span) for at, span in zip(people, spans, strict=True) if span]
    lows, highs = [span[0] for _, span in known], [span[1] for _, span in known]
    axes.fill_between([at for at, _ in known], lows, highs, color=BLUE, alpha=0.16, linewidth=0)
    axes.plot(people, values, color=BLUE, marker="o", markersize=6)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(people))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: _thousands(at)))
    axes.set_xlabel("People trained on")
    up_label(axes, "AUROC, cross-validated")
    first, before, last = points[0], points[-2], points[-1]
    step = (value_of(last["auroc"]) or 0) - (value_of(before["auroc"]) or 0)
    finding = (
        f"From {count(first['people'])} to {count(last['people'])} people the cross-validated "
        f"AUROC goes from {number(first['auroc'])} to {with_interval(last['auroc'])}; the last "
        f"{count(last['people'] - before['people'])} people changed it by {signed(step)}."
    )
    title = "Learning curve"
    return Picture(
        name="learning-curve",
        title=title,
        finding=finding,
        svg=svg_text(figure, name="learning-curve", title=title, finding=finding),
        table=Table(
            caption=title,
            columns=["People", "With the outcome", "AUROC", "Log loss"],
            rows=[
                [
                    count(point["people"]),
                    count(point["events"]),
                    with_interval(point["auroc"]),
                    number(point["log_loss"], 5),
                ]
                for point in points
            ],
        ),
    )


def permutation_picture(report: Json) -> Picture | None:
    shuffled = found(report, "permutation", "auroc")
    if not shuffled:
        return None
    model = value_of(found(report, "test", "scenarios", "complete", "auroc"))
    figure = new_figure(230)
    axes = add_axes(figure, Margins(left=20, right=20, top=48))
    # Spread over the height in a fixed pattern, so that dots at one place stay apart.
    heights = [0.2 + 0.6 * ((place * 0.382) % 1) for place in range(len(shuffled))]
    axes.plot(shuffled, heights, marker="o", linestyle="none", color=ORANGE, markersize=5.5)
    axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    far = max(shuffled) + 0.02
    axes.text(far, 0.5, "labels shuffled", color=ORANGE, va="center")
    if model is not None:
        axes.axvline(model, color=BLUE, linewidth=2.4)
        axes.annotate(
            f"this model {model:.3f}",
            (model, 1),
            (0, 5),
            color=BLUE,
            ha="right",
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
        )
    axes.annotate(
        "chance 0.5",
        (0.5, 1),
        (0, 5),
        color=MUTED,
        ha="center",
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
    )
    low = min(0.42, min(shuffled) - 0.02)
    axes.set(xlim=(low, 1), ylim=(0, 1), xlabel="AUROC")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    plain_ticks(axes.xaxis, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    finding = permutation_finding(report)
    title = "Labels shuffled"
    return Picture(
        name="permutation",
        title=title,
        finding=finding,
        svg=svg_text(figure, name="permutation", title=title, finding=finding),
        table=Table(
            caption="AUROC with labels shuffled",
            columns=["Repeat", "AUROC"],
            rows=[[str(place), number(auroc)] for place, auroc in enumerate(shuffled, start=1)],
        ),
    )


def permutation_finding(report: Json) -> str:
    check = report["permutation"]
    mean, shuffled = check["mean"], check["auroc"]
    surrounds = min(shuffled) <= 0.5 <= max(shuffled)
    verdict = (
        "no better than chance, as it must be: the procedure does not see the answers"
        if surrounds
        else "away from 0.5: the procedure may see the answers, look for a leak"
    )
    return (
        f"Trained {count(check['repeats'])} times on shuffled labels, the AUROC is "
        f"{number(mean)} on average "
        f"({number(min(shuffled))} to {number(max(shuffled))}): {verdict}."
    )


def race_pictures(report: Json) -> list[Picture]:
    """Observed over expected with and without race as an input, by HbA1c and by fasting glucose."""
    pictures = [
        _race_ratio("race", "Calibration with and without race", report, "groups"),
        _race_ratio("race-fasting", "The same, by fasting glucose", report, "fasting"),
    ]
    return [picture for picture in pictures if picture is not None]


def race_finding(report: Json) -> str:
    difference = found(report, "race", "difference")
    verdict = "" if leaves_out(difference, 0) else ": not told from nothing"
    return f"With race as an input the AUROC would change by {signed(difference, 4)}{verdict}."


def _race_ratio(name: str, title: str, report: Json, part: str) -> Picture | None:
    groups = found(report, "race", part)
    if not groups:
        return None
    rows, table = [], []
    for group, entry in groups.items():
        ratio = entry["observed_to_expected"]
        sensitivity = entry.get("sensitivity_at_moderate") or {}
        rows.append(Row(label=group, figures=[ratio.get("without"), ratio.get("with")]))
        table.append(
            [
                group,
                with_interval(ratio.get("without"), 2),
                with_interval(ratio.get("with"), 2),
                percent_with_interval(sensitivity.get("without")),
                percent_with_interval(sensitivity.get("with")),
            ]
        )
    columns = ["Group", "Observed / expected, without", "with race", "Sensitivity, without", "with"]
    return forest_picture(
        name,
        title,
        _race_spread(groups, race_finding(report) if part == "groups" else ""),
        rows,
        Scale(
            label="Observed / expected (95 % interval)",
            reference=1.0,
            reference_label="as expected",
            logarithmic=True,
        ),
        Table(caption=title, columns=columns, rows=table),
        series=["race is no input (as published)", "race as an input"],
    )


def _race_spread(groups: Json, opening: str) -> str:
    parts = [opening] if opening else []
    for key, said in (("without", "Without race"), ("with", "With it")):
        known = [
            (value, group)
            for group, entry in groups.items()
            if (value := value_of(entry["observed_to_expected"].get(key))) is not None
        ]
        if known:
            (low, lowest), (high, highest) = min(known), max(known)
            parts.append(
                f"{said}, observed over expected lies between {number(low, 2)} ({lowest}) and "
                f"{number(high, 2)} ({highest})."
            )
    return " ".join(parts)


def _thousands(people: float) -> str:
    return f"{people / 1000:.3g}k" if people >= 1000 else f"{people:g}"
