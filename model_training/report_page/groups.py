"""The same measures in every group of people, in every kind of record, and beside other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from model_training.report_page.figures import (
    Figure,
    Json,
    bounds_of,
    count,
    found,
    leaves_out,
    listed,
    mid_sentence,
    number,
    percent_with_interval,
    signed,
    value_of,
    with_interval,
)
from model_training.report_page.forest import Row, Scale, forest_picture
from model_training.report_page.picture import Picture, Table


def group_auroc_picture(report: Json) -> Picture | None:
    groups = found(report, "test", "groups")
    if not groups:
        return None
    overall = found(report, "test", "scenarios", "complete", "auroc")
    return forest_picture(
        "groups-auroc",
        "AUROC by group",
        _auroc_finding(groups, overall),
        list(_rows(groups, "auroc", 3)),
        Scale(
            label="AUROC (95 % interval)",
            reference=value_of(overall),
            reference_label="everybody",
            highest=1.0,
        ),
        _table("Measures by group", groups),
    )


def group_ratio_picture(report: Json) -> Picture | None:
    groups = found(report, "test", "groups")
    if not groups:
        return None
    return forest_picture(
        "groups-observed-expected",
        "Observed over expected by group",
        _ratio_finding(groups),
        list(_rows(groups, "observed_to_expected", 2)),
        Scale(
            label="Observed / expected (95 % interval)",
            reference=1.0,
            reference_label="as expected",
            logarithmic=True,
        ),
        _table("Calibration by group", groups),
    )


def records_picture(report: Json) -> Picture | None:
    scenarios = found(report, "test", "scenarios") or {}
    if len(scenarios) < 2:
        return None
    first, *others = scenarios.values()
    rows = [
        Row(label=entry["title"], figures=[entry["auroc"]], note=number(entry["auroc"]))
        for entry in scenarios.values()
    ]
    return forest_picture(
        "records",
        "AUROC by record",
        _records_finding(first, others),
        rows,
        Scale(
            label="AUROC (95 % interval)",
            reference=value_of(first["auroc"]),
            reference_label=mid_sentence(first["title"]),
            highest=1.0,
        ),
        _records_table(first, scenarios.values()),
    )


def comparators_picture(report: Json) -> Picture | None:
    comparators = found(report, "test", "comparators")
    if not comparators:
        return None
    model = found(report, "test", "scenarios", "complete", "auroc")
    entries = {"This model": model} | {t: entry["auroc"] for t, entry in comparators.items()}
    rows = [Row(label=t, figures=[auroc], note=number(auroc)) for t, auroc in entries.items()]
    return forest_picture(
        "comparators",
        "This model beside simpler tools",
        comparators_finding(comparators),
        rows,
        Scale(
            label="AUROC (95 % interval)",
            reference=value_of(model),
            reference_label="this model",
            highest=1.0,
        ),
        Table(
            caption="Comparators, on the same people",
            columns=[
                "Tool",
                "AUROC",
                "AUROC, weighted",
                "Model minus tool",
                "Average precision",
                "Note",
            ],
            rows=[
                [
                    title,
                    with_interval(entry["auroc"]),
                    with_interval(entry.get("auroc_weighted")),
                    signed(entry.get("model_minus_comparator")),
                    with_interval(entry.get("average_precision")),
                    entry.get("note") or "",
                ]
                for title, entry in comparators.items()
            ],
        ),
    )


def outcomes_picture(report: Json) -> Picture | None:
    """The model on other definitions of the outcome than the one that it was trained on."""
    outcomes = found(report, "test", "outcomes") or {}
    if len(outcomes) < 2:
        return None
    rows: list[Row] = []
    for outcome in outcomes.values():
        rows.append(Row(label=f"{outcome['title']} ({count(outcome['events'])})"))
        entries = {"This model": outcome["auroc"]} | _poorer_records(report, outcome)
        entries |= {t: entry["auroc"] for t, entry in (outcome.get("comparators") or {}).items()}
        rows += [Row(label=t, figures=[a], note=number(a)) for t, a in entries.items()]
    said = [
        f"{outcome['title']}: {with_interval(outcome['auroc'])}" for outcome in outcomes.values()
    ]
    return forest_picture(
        "outcomes",
        "AUROC by definition of the outcome",
        f"AUROC of this model by definition: {'; '.join(said)}.",
        rows,
        Scale(label="AUROC (95 % interval)", highest=1.0),
        Table(
            caption="Definitions of the outcome",
            columns=[
                "Outcome",
                "People",
                "With the outcome",
                "AUROC",
                "Average precision",
                "With less",
            ],
            rows=[
                [
                    outcome["title"],
                    count(outcome["people"]),
                    count(outcome["events"]),
                    with_interval(outcome["auroc"]),
                    with_interval(outcome.get("average_precision")),
                    "; ".join(
                        f"{title.removeprefix('This model: ')}, AUROC {with_interval(auroc)}"
                        for title, auroc in _poorer_records(report, outcome).items()
                    ),
                ]
                for outcome in outcomes.values()
            ],
        ),
    )


def _poorer_records(report: Json, outcome: Json) -> dict[str, Figure]:
    """The model's AUROC for this outcome where panels are missing from the record."""
    titles = found(report, "test", "scenarios") or {}
    return {
        f"This model: {mid_sentence(found(titles, name, 'title') or name)}": entry["auroc"]
        for name, entry in (outcome.get("scenarios") or {}).items()
    }


def panel_pictures(report: Json) -> list[Picture]:
    """For each setting, what each candidate panel gains on each outcome."""
    study = found(report, "choices", "panels")
    if not study or not study.get("panels"):
        return []
    return [_panels(study, setting) for setting in study["settings"]]


def comparators_finding(comparators: Json) -> str:
    better: list[str] = []
    same: list[str] = []
    worse: list[str] = []
    for title, entry in comparators.items():
        difference = entry.get("model_minus_comparator")
        value = value_of(difference)
        if value is None:
            continue
        told = leaves_out(difference, 0)
        (same if not told else better if value > 0 else worse).append(
            f"{title}: {signed(difference)}"
        )
    parts = []
    if better:
        parts.append(f"By AUROC the model ranks better than {'; '.join(better)}.")
    if same:
        parts.append(f"No difference beyond chance from {'; '.join(same)}.")
    if worse:
        parts.append(f"It ranks worse than {'; '.join(worse)}.")
    return " ".join(parts) or "The differences were not measured."


def _panels(study: Json, setting: Json) -> Picture:
    outcomes = study["outcomes"]
    rows, table = [], []
    for panel in study["panels"]:
        gains = panel["gain"].get(setting["id"]) or {}
        figures = [gains.get(outcome["id"]) for outcome in outcomes]
        rows.append(Row(label=panel["title"], figures=figures, note=panel["verdict"].upper()))
        table.append(
            [
                panel["title"],
                panel["verdict"],
                *(_gain(figure) for figure in figures),
                ", ".join(panel["inputs"]),
                panel["reason"],
            ]
        )
    title = f"What each panel gains: {mid_sentence(setting['title'])}"
    return forest_picture(
        f"panels-{_file_name(setting['id'])}",
        title,
        _panels_finding(study, setting["id"]),
        rows,
        Scale(
            label="Gain (95 % interval); right of 0 is better",
            reference=0.0,
            reference_label="no gain",
        ),
        Table(
            caption=title,
            columns=["Panel", "Verdict", *(o["title"] for o in outcomes), "Inputs", "Reason"],
            rows=table,
        ),
        series=[f"{o['title']} ({count(o['events'])} of {count(o['people'])})" for o in outcomes],
    )


def _panels_finding(study: Json, setting: str) -> str:
    """Which panels are in, and which gain on the first outcome and on no other."""
    first, *others = (outcome["id"] for outcome in study["outcomes"])
    chosen = [panel["title"] for panel in study["panels"] if panel["verdict"] == "in"]
    alone = [
        f"{panel['title']} {signed(gains[first])}"
        for panel in study["panels"]
        if (gains := panel["gain"].get(setting) or {}).get(first)
        and _above_zero(gains[first])
        and not any(_above_zero(gains.get(other)) for other in others)
    ]
    text = (
        f"{count(len(chosen))} of {count(len(study['panels']))} panels are in: "
        f"{listed(chosen or ['none'])}."
    )
    if not alone:
        return text
    title = study["outcomes"][0]["title"]
    return f"{text} Here these gain on {title} and on no other outcome: {'; '.join(alone)}."


def _above_zero(figure: Figure) -> bool:
    bounds = bounds_of(figure)
    return bounds is not None and bounds[0] > 0


def _gain(figure: Figure) -> str:
    return signed(figure, 5)


def _file_name(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text)


def _members(groups: Json) -> Iterator[tuple[str, str, Json]]:
    for axis, entries in groups.items():
        for title, entry in entries.items():
            yield axis, title, entry


def _rows(groups: Json, measure: str, digits: int) -> Iterator[Row]:
    for axis, entries in groups.items():
        yield Row(label=axis)
        for title, entry in entries.items():
            yield Row(
                label=f"{title} ({count(entry['events'])})",
                figures=[entry[measure]],
                note=number(entry[measure], digits),
            )


def _auroc_finding(groups: Json, overall: Figure) -> str:
    known = [
        (value, axis, title, entry["auroc"])
        for axis, title, entry in _members(groups)
        if (value := value_of(entry["auroc"])) is not None
    ]
    if not known:
        return "No group has enough people for an AUROC."
    _, lowest_axis, lowest, figure = min(known)
    highest_value, highest_axis, highest, _ = max(known)
    text = (
        f"Lowest in {lowest_axis}: {lowest}, {with_interval(figure)}; highest in {highest_axis}: "
        f"{highest}, {number(highest_value)}."
    )
    value = value_of(overall)
    behind = [
        f"{axis}: {title}"
        for _, axis, title, auroc in known
        if value is not None and (bounds := bounds_of(auroc)) and bounds[1] < value
    ]
    if behind:
        return f"{text} Below everybody's with the whole interval: {listed(behind)}."
    return f"{text} No group's interval lies wholly below the figure for everybody."


def _ratio_finding(groups: Json) -> str:
    over: list[str] = []
    under: list[str] = []
    for axis, title, entry in _members(groups):
        ratio = entry["observed_to_expected"]
        if leaves_out(ratio, 1):
            value = value_of(ratio)
            assert value is not None  # noqa: S101 - an interval without a value is no figure
            (over if value < 1 else under).append(f"{axis}, {title}: {with_interval(ratio, 2)}")
    parts = []
    if over:
        parts.append(f"Risk is overstated in: {'; '.join(over)}.")
    if under:
        parts.append(f"Risk is understated in: {'; '.join(under)}.")
    return " ".join(parts) or "In every group, what was seen agrees with what was expected."


def _records_finding(first: Json, others: Sequence[Json]) -> str:
    known = [entry for entry in others if value_of(entry["auroc"]) is not None]
    if value_of(first["auroc"]) is None or not known:
        return "The AUROC could not be told."
    worst = min(known, key=lambda entry: float(value_of(entry["auroc"]) or 0))
    return (
        f"{first['title']}: {with_interval(first['auroc'])}. The costliest gap is "
        f"“{worst['title']}”: {with_interval(worst['auroc'])}."
    )


def _records_table(first: Json, scenarios: Iterable[Json]) -> Table:
    rows = []
    complete = value_of(first["auroc"])
    for entry in scenarios:
        value = value_of(entry["auroc"])
        cost = None if value is None or complete is None else value - complete
        rows.append(
            [
                entry["title"],
                with_interval(entry["auroc"]),
                signed(cost),
                with_interval(entry.get("auroc_weighted")),
                with_interval(entry.get("observed_to_expected"), 2),
                percent_with_interval(found(entry, "at_moderate", "flagged")),
                percent_with_interval(found(entry, "at_moderate", "sensitivity")),
            ]
        )
    columns = ["Record", "AUROC", "Difference", "AUROC, weighted", "Observed / expected"]
    columns += ["Alerted at moderate", "Sensitivity there"]
    return Table(caption="What an incomplete record costs", columns=columns, rows=rows)


def _table(caption: str, groups: Json) -> Table:
    rows = [
        [
            f"{axis}: {title}",
            count(entry["people"]),
            count(entry["events"]),
            with_interval(entry["auroc"]),
            with_interval(entry.get("auroc_weighted")),
            with_interval(entry.get("observed_to_expected"), 2),
            with_interval(entry.get("brier"), 4),
            percent_with_interval(found(entry, "at_moderate", "sensitivity")),
            percent_with_interval(found(entry, "at_moderate", "ppv")),
        ]
        for axis, title, entry in _members(groups)
    ]
    columns = ["Group", "People", "With the outcome", "AUROC", "AUROC, weighted"]
    columns += ["Observed / expected", "Brier", "Sensitivity at moderate", "PPV at moderate"]
    return Table(caption=caption, columns=columns, rows=rows)
