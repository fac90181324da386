"""Does the model rank people rightly: ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from model_training.report_page.drawing import (
    BLUE,
    GREEN,
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
    count,
    found,
    number,
    percent,
    percent_with_interval,
    value_of,
    with_interval,
)
from model_training.report_page.picture import Picture, Table

FIFTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)
_RIVALS = ((ORANGE, (0, (5, 2))), (GREEN, (0, (2, 2))), (PURPLE, (0, (7, 2, 2, 2))), (MUTED, "-."))
_ROWS_OF_TABLE = 25


def roc_picture(report: Json) -> Picture | None:
    test = found(report, "test")
    if not found(report, "test", "roc"):
        return None
    figure = new_figure(430)
    draw_roc(add_axes(figure, Margins()), test)
    finding = _roc_finding(test)
    return Picture(
        name="roc",
        title="ROC curve",
        finding=finding,
        svg=svg_text(figure, name="roc", title="ROC curve", finding=finding),
        table=Table(
            caption="ROC curve",
            columns=["False-positive rate", "Sensitivity"],
            rows=[[percent(across), percent(up)] for across, up in thinned(test["roc"])],
        ),
    )


def draw_roc(axes: Axes, test: Json) -> None:
    """The curve, those of comparators where the report has them, and their AUROC beside."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    rivals = [
        (title, rival)
        for title, rival in (found(test, "comparators") or {}).items()
        if rival.get("roc")
    ]
    lines: list[tuple[str, str, str]] = []
    for (title, rival), (ink, dashes) in zip(rivals, _RIVALS, strict=False):
        axes.plot(*_columns(rival["roc"]), color=ink, linestyle=dashes, linewidth=1.6)
        lines.append((title, number(rival.get("auroc_weighted", rival["auroc"])), ink))
    axes.plot(*_columns(test["roc"]), color=BLUE, linewidth=2.4)
    lines.insert(0, ("This model", with_interval(_drawn(test, "auroc")), BLUE))
    for place, (title, auroc, ink) in enumerate(reversed(lines)):
        axes.text(0.98, 0.05 + place * 0.065, f"{title}  {auroc}", color=ink, ha="right")
    axes.text(0.98, 0.05 + len(lines) * 0.065, "AUROC", color=MUTED, ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="False-positive rate (1 − specificity)")
    up_label(axes, "Sensitivity")
    percent_ticks(axes.xaxis, FIFTHS)
    percent_ticks(axes.yaxis, FIFTHS)


def precision_recall_picture(report: Json) -> Picture | None:
    test = found(report, "test")
    points = found(report, "test", "precision_recall")
    if not points:
        return None
    figure = new_figure(430)
    axes = add_axes(figure, Margins())
    prevalence = value_of(found(test, "prevalence") or found(test, "prevalence_unweighted")) or 0
    axes.plot([0, 1], [prevalence] * 2, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.text(0.02, prevalence + 0.02, f"by chance {percent(prevalence)}", color=MUTED)
    recall, precision = _columns(points)
    axes.plot(recall, precision, color=BLUE, linewidth=2.4)
    average = with_interval(_drawn(test, "average_precision"))
    axes.text(0.98, 0.94, f"average precision  {average}", color=BLUE, ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="Recall (sensitivity)")
    up_label(axes, "Precision (positive predictive value)")
    percent_ticks(axes.xaxis, FIFTHS)
    percent_ticks(axes.yaxis, FIFTHS)
    finding = (
        f"Average precision {average}; marking people at random would give the prevalence, "
        f"{percent(prevalence)}. {_half_found(points)}"
    )
    title = "Precision and recall"
    return Picture(
        name="precision-recall",
        title=title,
        finding=finding,
        svg=svg_text(figure, name="precision-recall", title=title, finding=finding),
        table=Table(
            caption=title,
            columns=["Recall", "Precision"],
            rows=[[percent(across), percent(up)] for across, up in thinned(points)],
        ),
    )


def thinned(points: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """At most a few dozen of the points, evenly spaced, both ends among them."""
    steps = min(len(points), _ROWS_OF_TABLE) - 1
    if steps < 1:
        return list(points)
    return [points[round(place * (len(points) - 1) / steps)] for place in range(steps + 1)]


def pairs_ranked_rightly(test: Json) -> str:
    """AUROC as a natural frequency: what it is, in words."""
    value = value_of(_auroc(test))
    if value is None:
        return ""
    return (
        f"Of 100 pairs of one person with and one without the outcome, the one with it gets "
        f"the higher risk in {count(value * 100)}."
    )


def auroc_said(test: Json) -> str:
    """AUROC as examined and, where that differs, weighted to the population."""
    examined, weighted = _auroc(test), _complete(test, "auroc_weighted")
    if not weighted or weighted == examined:
        return f"AUROC {with_interval(examined)}."
    return (
        f"AUROC {with_interval(examined)} in the people as examined, {with_interval(weighted)} "
        "weighted to the population."
    )


def _roc_finding(test: Json) -> str:
    rates = found(test, "sensitivity_at_false_positive_rate") or {}
    found_at = [
        f"{percent_with_interval(sensitivity)} where {percent(float(rate))} of those without it "
        "are flagged"
        for rate, sensitivity in rates.items()
        if value_of(sensitivity) is not None
    ]
    finds = f" Of those with the outcome it finds {'; '.join(found_at)}." if found_at else ""
    return f"{auroc_said(test)} {pairs_ranked_rightly(test)}{finds}"


def _half_found(points: Sequence[Sequence[float]]) -> str:
    recall, precision = min(points, key=lambda point: abs(point[0] - 0.5))
    return (
        f"Where {percent(recall)} of those with the outcome are found, {percent(precision)} of the "
        "people marked have it."
    )


def _auroc(test: Json) -> list[float | None]:
    return _complete(test, "auroc")


def _complete(test: Json, measure: str) -> list[float | None]:
    figure: list[float | None] = found(test, "scenarios", "complete", measure) or []
    return figure


def _drawn(test: Json, measure: str) -> list[float | None]:
    """The figure that belongs to a curve: curves are drawn with the survey's weights."""
    return _complete(test, f"{measure}_weighted") or _complete(test, measure)


def _columns(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [point[1] for point in points]
