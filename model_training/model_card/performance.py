"""How good the model is: overall, by group, by record, by level, and beside simpler means."""

# ruff: noqa: E501 - one Markdown paragraph is one line, as the reader's window breaks it

from __future__ import annotations

from typing import Any

from model_training.model_card.evidence import Evidence, Json
from model_training.model_card.limits import misjudged_groups
from model_training.model_card.opening import measured_on
from model_training.model_card.wording import (
    bullets,
    count,
    ended,
    interval,
    number,
    percent,
    section,
    share,
    signed,
    table,
)


def performance_section(known: Evidence) -> str:
    complete = known.complete
    if not complete:
        return ""
    whose = "data that it was not made from" if known.is_external else "people set apart for it"
    return section(
        "Performance",
        f"Measured once, on {whose}: {measured_on(known)}. Intervals are 95 %. {_design(known)}",
        bullets(_figures(known, complete)),
        picture(known, "report/performance.svg", f"ROC curve and calibration, {_auroc(complete)}"),
        picture(
            known, "report/decision-curve.svg", "Net benefit by threshold, beside simpler means"
        ),
    )


def picture(known: Evidence, path: str, alternative: str) -> str | None:
    """A picture, where the artifact will hold it."""
    return f"![{alternative}]({path})" if path in known.pictures else None


def outcomes_section(known: Evidence) -> str:
    outcomes = list((known.test.get("outcomes") or {}).values())
    if not outcomes:
        return ""
    records = _named(outcomes, "scenarios")
    rivals = _named(outcomes, "comparators")
    rows = [
        [
            entry["title"],
            count(entry["people"]),
            count(entry["events"]),
            number(entry["auroc"], 3),
            *(_auroc_in(entry, "scenarios", record) for record in records),
            number(entry.get("average_precision"), 3),
            *(_auroc_in(entry, "comparators", rival) for rival in rivals),
        ]
        for entry in outcomes
    ]
    titles = {id_: entry["title"] for id_, entry in (known.test.get("scenarios") or {}).items()}
    headings = ["outcome", "people", "with outcome", "AUROC"]
    headings += [f"AUROC, {_lower(titles.get(record, record))}" for record in records]
    headings += ["average precision", *(f"AUROC of {_lower(rival)}" for rival in rivals)]
    return section(
        "Other outcomes",
        "The same estimate against other ways to tell the disease, on those of the test people for whom they are known.",
        known.said("outcomes_note"),
        table(headings, rows),
    )


def records_section(known: Evidence) -> str:
    rows = [
        [
            entry["title"],
            number(entry["auroc"], 3),
            number(entry.get("auroc_weighted"), 3),
            number(entry.get("observed_to_expected"), 2),
            *_calibrated(entry),
            percent(entry["at_moderate"]["flagged"]),
            percent(entry["at_moderate"]["sensitivity"]),
        ]
        for entry in (known.test.get("scenarios") or {}).values()
    ]
    if not rows:
        return ""
    headings = ["record", "AUROC", "AUROC, weighted", "observed / expected", *_CALIBRATED]
    headings += ["alerted (moderate or high)", "sensitivity there"]
    return section(
        "What an incomplete record costs",
        "The same people with whole panels taken away. Below 1, observed / expected means that risks are overstated; above 1, understated.",
        table(headings, rows),
    )


def calibration_section(known: Evidence) -> str:
    calibration = known.find("test", "calibration")
    if not calibration:
        return ""
    rows = [
        [
            str(place),
            count(group["people"]),
            count(group["events"]),
            share(group["predicted"], 2),
            share(group["observed"], 2),
        ]
        for place, group in enumerate(calibration.get("groups") or [], start=1)
    ]
    headings = ["tenth", "people", "with outcome", "predicted", "observed"]
    return section(
        "Calibration",
        ended(calibration_figures(calibration)),
        "By predicted risk, complete records:" if rows else None,
        table(headings, rows) if rows else None,
    )


def calibration_figures(calibration: Json) -> str:
    """Slope, intercept, observed / expected, ICI and Brier score in one sentence."""
    return (
        f"Slope {number(calibration.get('slope'), 2)} (1 is ideal), "
        f"intercept in the large {signed(calibration.get('intercept_in_the_large'), 2)} (0 is ideal), "
        f"observed / expected {number(calibration.get('observed_to_expected'), 2)}, "
        f"mean distance of predicted and observed risk (ICI) {percent(calibration.get('ici'), 2)}, "
        f"Brier score {number(calibration.get('brier'), 4)}"
    )


def groups_section(known: Evidence) -> str:
    axes = known.test.get("groups") or {}
    if not axes:
        return ""
    blocks = [
        text for axis, titles in axes.items() for text in (f"### {axis}", _group_table(titles))
    ]
    return section(
        "By group",
        "Small groups have wide intervals. Above 1, observed / expected means that the figure is too low for the group. Below 1, a calibration slope means that risks are told too far apart. The report has every other measure of each group too: sensitivity at fixed false-positive rates, specificity at fixed sensitivities, calibration and decision curves, alerts at every threshold.",
        misjudged_groups(known),
        picture(known, "report/groups-auroc.svg", "AUROC by group"),
        picture(known, "report/groups-observed-expected.svg", "Observed / expected by group"),
        *blocks,
    )


def comparators_section(known: Evidence) -> str:
    comparators = known.test.get("comparators") or {}
    if not comparators:
        return ""
    rows = [
        [
            title,
            number(entry["auroc"], 3),
            number(entry.get("auroc_weighted"), 3),
            number(entry.get("average_precision"), 3),
            signed(entry.get("model_minus_comparator"), 3),
            entry.get("note") or "",
        ]
        for title, entry in comparators.items()
    ]
    headings = ["means", "AUROC", "AUROC, weighted", "average precision"]
    headings += ["AUROC of this model minus it", "note"]
    return section("Against simpler means", "On the same people.", table(headings, rows))


def levels_section(known: Evidence) -> str:
    levels = known.test.get("levels") or {}
    rationale = known.manifest.get("levels_rationale")
    baseline = known.manifest.get("prevalence")
    return section(
        "Levels",
        f"{cuts(known).capitalize()}. {rationale or ''}".strip(),
        _levels_table(levels),
        _bands_table(levels.get("bands") or {}),
        _alerts_table(known.test.get("alerts") or []),
        None
        if baseline is None
        else f"The baseline of a relative risk is {baseline:.2%}. {known.manifest.get('prevalence_rationale', '')}".strip(),
    )


def cuts(known: Evidence) -> str:
    """low below 0.035, moderate below 0.12, high from there"""
    said = [
        f"{entry['level']} below {entry['below']:g}"
        if "below" in entry
        else f"{entry['level']} above"
        for entry in known.manifest.get("levels", [])
    ]
    return ", ".join(said) or "no levels"


def _design(known: Evidence) -> str:
    design = known.test.get("design")
    weighted = (known.complete or {}).get("auroc_weighted")
    said = [ended(design)] if design else []
    if weighted:
        said.append(
            "Weighted figures speak for the population that was sampled, unweighted ones for the people measured."
        )
    return " ".join(said)


def _auroc(entry: Json) -> str:
    return f"AUROC {number(entry['auroc'], 3)}"


def _figures(known: Evidence, complete: Json) -> list[str]:
    test = known.test
    said = [
        f"{_auroc(complete)} unweighted{_weighted(complete, 'auroc')}.",
        f"Average precision {number(complete.get('average_precision'), 3)} unweighted{_weighted(complete, 'average_precision')}; the share with the outcome, which chance would give, is {percent(test.get('prevalence'))} weighted and {share(test.get('prevalence_unweighted'))} of those measured.",
        f"Brier score {number(complete.get('brier'), 4)} unweighted{_weighted(complete, 'brier', 4)}.",
        *_at_rates(test.get("sensitivity_at_false_positive_rate"), _SENSITIVITY),
        *_at_rates(test.get("specificity_at_sensitivity"), _SPECIFICITY),
    ]
    treated = test.get("with_treated")
    if treated:
        said.append(
            f"Counting also people who take glucose-lowering drugs without saying that they have diabetes ({count(treated['people'])} people, {count(treated['events'])} with the outcome): {_auroc(treated)}."
        )
    return said


_SENSITIVITY = "Sensitivity where the false-positive rate is"
_SPECIFICITY = "Specificity where the sensitivity is"


def _at_rates(figures: Any, opening: str) -> list[str]:
    said = [f"{float(rate):.0%}: {percent(figure)}" for rate, figure in (figures or {}).items()]
    return [f"{opening} {'; '.join(said)}."] if said else []


def _weighted(entry: Json, measure: str, digits: int = 3) -> str:
    weighted = entry.get(f"{measure}_weighted")
    return f", {number(weighted, digits)} weighted" if interval(weighted)[0] is not None else ""


def _named(outcomes: list[Json], kind: str) -> list[str]:
    """Records or comparators that any of the outcomes was measured with, in their order."""
    return list(dict.fromkeys(name for entry in outcomes for name in entry.get(kind) or {}))


def _auroc_in(entry: Json, kind: str, name: str) -> str:
    return number(((entry.get(kind) or {}).get(name) or {}).get("auroc"), 3)


def _lower(title: str) -> str:
    """A title inside a sentence: "No glucose" → "no glucose", "ADA risk test" as it is."""
    return title if title[1:2].isupper() else f"{title[:1].lower()}{title[1:]}"


def _group_table(titles: Json) -> str:
    rows = [
        [
            title,
            count(entry["people"]),
            count(entry["events"]),
            number(entry["auroc"], 3),
            number(entry.get("observed_to_expected"), 2),
            *_calibrated(entry),
            *(percent(entry["at_moderate"][key]) for key in ("flagged", "sensitivity", "ppv")),
        ]
        for title, entry in titles.items()
    ]
    headings = ["group", "people", "with outcome", "AUROC", "observed / expected", *_CALIBRATED]
    headings += [
        "alerted (moderate or high)",
        "sensitivity there",
        "of those alerted, with outcome",
    ]
    return table(headings, rows)


_CALIBRATED = ("calibration slope", "ICI")


def _calibrated(entry: Json) -> list[str]:
    calibration = entry.get("calibration") or {}
    return [number(calibration.get("slope"), 2), percent(calibration.get("ici"), 2)]


def _levels_table(levels: Json) -> str | None:
    titles = {"at_moderate": "moderate or high", "at_high": "high"}
    keys = ("flagged", "sensitivity", "specificity", "ppv")
    rows = [
        [title, f"{levels[at]['cut']:g}", *(percent(levels[at][key]) for key in keys)]
        for at, title in titles.items()
        if levels.get(at)
    ]
    headings = ["alerted at", "from", "share of people", "sensitivity", "specificity"]
    return table([*headings, "of those alerted, with outcome"], rows) if rows else None


def _bands_table(bands: Json) -> str | None:
    rows = [
        [
            level,
            count(entry.get("people")),
            share(entry["share"]),
            count(entry["events"]),
            percent(entry["observed"]),
        ]
        for level, entry in bands.items()
    ]
    headings = ["level", "people", "share of people", "with outcome", "observed risk"]
    return table(headings, rows) if rows else None


def _alerts_table(alerts: list[Json]) -> str | None:
    rows = [
        [
            f"{entry['cut']:g}",
            number(entry["alerts_per_1000"], 0),
            percent(entry["ppv"]),
            percent(entry["sensitivity"]),
        ]
        for entry in alerts
    ]
    headings = ["alerted from", "alerts per 1,000 people", "of those alerted, with outcome"]
    return table([*headings, "sensitivity"], rows) if rows else None
