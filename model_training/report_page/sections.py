"""The report as sections of words, pictures and tables: everything but the HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_training.report_page.calibration import calibration_finding
from model_training.report_page.decisions import alerts_finding
from model_training.report_page.discrimination import auroc_said, pairs_ranked_rightly
from model_training.report_page.figures import (
    Json,
    count,
    found,
    number,
    percent,
    percent_with_interval,
    sentence,
    significant,
    significant_with_interval,
    value_of,
    with_interval,
    with_readable_unit,
)
from model_training.report_page.groups import comparators_finding
from model_training.report_page.parts import group_parts
from model_training.report_page.picture import Picture, Table
from model_training.report_page.robustness import permutation_finding, race_finding

Pictures = Mapping[str, Sequence[Picture]]
_IN_BRACKETS = "In brackets: how many people of the group have the outcome."


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a section; with a heading of its own where it has one."""

    heading: str | None = None
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`lead` is for the reader who reads nothing else here; no blocks: it was not done."""

    id: str
    title: str
    lead: Sequence[str]
    blocks: Sequence[Block]


def sections(report: Json, manifest: Json, pictures: Pictures) -> list[Section]:
    """All sections in their order; those without figures say so."""
    return [
        _data(report, pictures),
        _choices(report, pictures),
        _discrimination(report, pictures),
        _calibration(report, pictures),
        _decisions(report, pictures),
        _groups(report, pictures),
        _records(pictures),
        _comparators(report, pictures),
        _explanation(report, pictures),
        _robustness(report, pictures),
        _reproducibility(report, manifest),
    ]


def _data(report: Json, pictures: Pictures) -> Section:
    data = found(report, "data") or {}
    parts = {name: part for name, part in (data.get("parts") or {}).items() if part}
    lead = [sentence(data["description"])] if data.get("description") else []
    lead += [
        f"{name.capitalize()}: {count(part.get('people'))} people, {count(part.get('events'))} "
        f"with the outcome ({', '.join(map(str, part.get('periods') or ())) or 'one period'})."
        for name, part in parts.items()
    ]
    blocks = []
    if pictures["data"]:
        text = ["Who was kept at each step, and how many of them have the outcome (cases)."]
        blocks.append(Block(heading="Who is in it", text=text, pictures=pictures["data"]))
    if data.get("characteristics"):
        table = _characteristics(data["characteristics"], list(parts))
        blocks.append(Block(heading="What they are like", tables=[table]))
    if data.get("notes"):
        notes = [sentence(note) for note in data["notes"]]
        blocks.append(Block(heading="Notes on the data", text=notes))
    return Section(id="people", title="People", lead=lead, blocks=blocks)


def _characteristics(characteristics: Sequence[Json], parts: Sequence[str]) -> Table:
    rows = [
        [
            with_readable_unit(entry["title"]),
            *(_characteristic(entry["kind"], entry.get(part)) for part in parts),
        ]
        for entry in characteristics
    ]
    return Table(
        caption="Median with quartiles, or count with share",
        columns=["Characteristic", *(part.capitalize() for part in parts)],
        rows=rows,
    )


def _characteristic(kind: str, values: Sequence[float | None] | None) -> str:
    if not values:
        return number(None)
    if kind == "share":
        return f"{count(values[0])} ({percent(values[1])})"
    median, low, high, missing = values
    absent = f"; {percent(missing)} not measured" if missing else ""
    return f"{significant(median)} ({significant(low)} to {significant(high)}){absent}"


def _choices(report: Json, pictures: Pictures) -> Section:
    choices = found(report, "choices") or {}
    criterion = found(choices, "cross_validation", "criterion")
    folds = found(choices, "cross_validation", "folds") or []
    lead = []
    if choices:
        lead.append(
            "Everything below was decided on development people alone; the test people were "
            "measured once, afterwards."
        )
    if folds:
        said = "; ".join(", ".join(map(str, fold)) for fold in folds)
        lead.append(f"Cross-validated on {count(len(folds))} folds: {said}.")
    if criterion:
        lead.append(f"Criterion: {sentence(criterion)}")
    study = choices.get("panels") or {}
    blocks = [
        _search(choices.get("search")),
        _methods("Absent values", choices.get("imputation")),
        _methods("Class weights", choices.get("class_weighting")),
        _methods("Values hidden in training", choices.get("masking")),
        _methods("Calibration method", choices.get("calibration")),
        _thresholds(choices.get("thresholds")),
        Block(
            heading="Which panels earn their place",
            text=[sentence(study["rule"])] if study.get("rule") else [],
            pictures=pictures["panels"],
        )
        if pictures["panels"]
        else None,
    ]
    return Section(
        id="choices",
        title="Choices",
        lead=lead,
        blocks=[block for block in blocks if block is not None],
    )


def _search(search: Json | None) -> Block | None:
    if not search:
        return None
    chosen = ", ".join(
        f"{_words(key)} {_cell(v)}" for key, v in (search.get("chosen") or {}).items()
    )
    text = [f"{count(search.get('trials'))} trials ({search.get('sampler')}). Chosen: {chosen}."]
    table = search.get("table")
    tables = [_table_of("The best trials", table)] if table else []
    return Block(heading="Hyperparameters", text=text, tables=tables)


def _methods(heading: str, choice: Json | None) -> Block | None:
    """One choice among methods; which measures stand beside each is the report's to say."""
    if not choice:
        return None
    chosen = choice.get("chosen", choice.get("chosen_share"))
    text = [] if chosen is None else [f"Chosen: {_cell(chosen)}."]
    methods = choice.get("methods")
    table = [_table_of("On development people, cross-validated", methods)] if methods else []
    return Block(heading=heading, text=text, tables=table)


def _thresholds(thresholds: Json | None) -> Block | None:
    if not thresholds:
        return None
    used = thresholds.get("used") or {}
    text = ["; ".join(f"{level.capitalize()}: {rule}" for level, rule in used.items()) + "."]
    rows = [
        [
            entry["rule"],
            percent(entry["cut"]),
            percent(entry["sensitivity"]),
            percent(entry["ppv"]),
            number(entry["alerts_per_1000"], 0),
        ]
        for entry in thresholds.get("candidates") or ()
    ]
    columns = ["Rule", "Cut", "Sensitivity", "PPV", "Alerts per 1,000"]
    table = Table(caption="Cuts that each rule gives", columns=columns, rows=rows)
    return Block(heading="Cuts", text=text if used else [], tables=[table] if rows else [])


def _discrimination(report: Json, pictures: Pictures) -> Section:
    test = found(report, "test") or {}
    auroc = found(test, "scenarios", "complete", "auroc")
    lead = []
    if value_of(auroc) is not None:
        lead = [pairs_ranked_rightly(test), auroc_said(test)]
    blocks = [Block(pictures=pictures["discrimination"])] if pictures["discrimination"] else []
    measures = _measures(test)
    if measures.rows:
        blocks.append(Block(heading="All measures", tables=[measures]))
    return Section(
        id="discrimination", title="Does it rank people rightly?", lead=lead, blocks=blocks
    )


def _measures(test: Json) -> Table:
    complete = found(test, "scenarios", "complete") or {}
    rows = [
        [
            title,
            with_interval(complete[key], digits),
            with_interval(complete.get(f"{key}_weighted"), digits),
        ]
        for title, key, digits in (
            ("AUROC", "auroc", 3),
            ("Average precision", "average_precision", 3),
            ("Brier score", "brier", 4),
        )
        if key in complete
    ]
    rows += [
        [
            f"Sensitivity at a false-positive rate of {percent(float(rate))}",
            percent_with_interval(figure),
            "",
        ]
        for rate, figure in (found(test, "sensitivity_at_false_positive_rate") or {}).items()
    ]
    rows += [
        [
            f"Specificity at a sensitivity of {percent(float(aim))}",
            percent_with_interval(figure),
            "",
        ]
        for aim, figure in (found(test, "specificity_at_sensitivity") or {}).items()
    ]
    treated = found(test, "with_treated")
    if treated:
        title = f"AUROC, treated people counted in ({count(treated['people'])} people)"
        rows.append(
            [title, with_interval(treated["auroc"]), with_interval(treated["auroc_weighted"])]
        )
    columns = ["Measure", "People as examined", "Weighted to the population"]
    return Table(caption="Measures on the test people", columns=columns, rows=rows)


def _calibration(report: Json, pictures: Pictures) -> Section:
    calibration = found(report, "test", "calibration") or {}
    blocks = []
    if pictures["calibration"]:
        blocks.append(
            Block(pictures=pictures["calibration"], tables=[_calibration_table(calibration)])
        )
    return Section(
        id="calibration",
        title="Do its percentages mean what they say?",
        lead=[calibration_finding(report["test"])] if blocks else [],
        blocks=blocks,
    )


def _calibration_table(calibration: Json) -> Table:
    unweighted = calibration.get("unweighted") or {}
    rows = [
        [
            title,
            with_interval(calibration.get(key), digits),
            with_interval(unweighted.get(key), digits),
        ]
        for title, key, digits in (
            ("Slope (1 is right)", "slope", 3),
            ("Intercept in the large (0 is right)", "intercept_in_the_large", 3),
            ("Observed / expected (1 is right)", "observed_to_expected", 3),
            ("Mean distance of the curve (ICI)", "ici", 4),
            ("Brier score", "brier", 4),
        )
    ]
    columns = ["Measure", "Weighted (95 % interval)", "Unweighted"]
    return Table(caption="Calibration in figures", columns=columns, rows=rows)


def _decisions(report: Json, pictures: Pictures) -> Section:
    bands = found(report, "test", "levels", "bands") or {}
    blocks = [Block(pictures=pictures["decisions"])] if pictures["decisions"] else []
    if bands:
        rows = [
            [
                band.capitalize(),
                count(entry["people"]),
                count(entry["events"]),
                percent(entry["share"]),
                percent_with_interval(entry["observed"]),
            ]
            for band, entry in bands.items()
        ]
        columns = ["Level", "People", "With the outcome", "Share of people", "Observed"]
        table = Table(caption="Levels", columns=columns, rows=rows)
        blocks.append(Block(heading="What a level means", tables=[table]))
    lead = [alerts_finding(report)] if found(report, "test", "levels") else []
    return Section(id="decisions", title="Is acting on it worth it?", lead=lead, blocks=blocks)


def _groups(report: Json, pictures: Pictures) -> Section:
    shown = pictures["groups"]
    blocks = [Block(text=[_IN_BRACKETS], pictures=shown)] if shown else []
    blocks += [
        Block(
            heading=f"By {parts.by}",
            pictures=[p for p in pictures["group_parts"] if p.name.endswith(f"-by-{parts.id}")],
        )
        for parts in group_parts(report)
    ]
    return Section(
        id="groups",
        title="Does it serve every group?",
        lead=[picture.finding for picture in shown],
        blocks=blocks,
    )


def _records(pictures: Pictures) -> Section:
    shown = pictures["records"]
    return Section(
        id="missing-data",
        title="What does an incomplete record cost?",
        lead=[picture.finding for picture in shown],
        blocks=[
            Block(
                text=["The same people, with whole panels of their record taken away."],
                pictures=[*shown, *pictures["record_parts"]],
            )
        ]
        if shown
        else [],
    )


def _comparators(report: Json, pictures: Pictures) -> Section:
    shown = pictures["comparators"]
    return Section(
        id="comparators",
        title="Is it better than simpler tools?",
        lead=[comparators_finding(report["test"]["comparators"])] if shown else [],
        blocks=[Block(pictures=shown)] if shown else [],
    )


def _explanation(report: Json, pictures: Pictures) -> Section:
    swarm = pictures["explanation"]
    lead = []
    if swarm:
        people = count(found(report, "explanation", "people"))
        lead = [swarm[0].finding, f"Shown are {people} people drawn from the test people."]
    blocks = [Block(pictures=swarm)] if swarm else []
    if pictures["dependence"]:
        text = ["One dot is one person. The higher it stands, the more the value raised the risk."]
        blocks.append(
            Block(
                heading="How each input acts",
                text=text,
                pictures=pictures["dependence"],
            )
        )
    return Section(id="explanation", title="What moves an estimate?", lead=lead, blocks=blocks)


def _robustness(report: Json, pictures: Pictures) -> Section:
    lead, blocks = [], []
    if pictures["robustness"]:
        blocks.append(Block(pictures=pictures["robustness"]))
    if found(report, "permutation", "auroc"):
        lead.append(permutation_finding(report))
    race = found(report, "race")
    if race:
        lead.append(race_finding(report))
        rows = [
            [title, number(race[key]["auroc"], 4), number(race[key]["log_loss"], 5)]
            for title, key in (("Without race", "without"), ("With race", "with"))
            if race.get(key)
        ]
        table = Table(caption="Race as an input", columns=["Model", "AUROC", "Log loss"], rows=rows)
        blocks.append(
            Block(heading="What race would add", pictures=pictures["race"], tables=[table])
        )
    return Section(id="robustness", title="Does it hold up?", lead=lead, blocks=blocks)


def _reproducibility(report: Json, manifest: Json) -> Section:
    model, test = found(report, "model") or {}, found(report, "test") or {}
    facts = [
        ("Model", f"{model.get('name')} {model.get('version')}"),
        ("Algorithm", model.get("algorithm")),
        *((_heading(key), model.get(key)) for key in ("trees", "max_depth", "features")),
        ("Absent values", model.get("imputation")),
        ("Calibration", model.get("calibration")),
        ("Intervals", test.get("design")),
        ("Bootstrap replicates", test.get("replicates")),
        ("Prevalence, weighted", percent_with_interval(test.get("prevalence"))),
        ("Prevalence, unweighted", percent(test.get("prevalence_unweighted"))),
        *((f"Software: {name}", v) for name, v in (manifest.get("software") or {}).items()),
    ]
    rows = [[title, _cell(value)] for title, value in facts if value is not None]
    table = Table(caption="How it was made", columns=["What", "Value"], rows=rows)
    lead = [
        "Every figure on this page comes from report.json beside it, and those are computed from "
        "predictions.csv.gz; the same data, recipe and seed give the same bytes.",
    ]
    return Section(
        id="reproducibility",
        title="Can it be reproduced?",
        lead=lead,
        blocks=[Block(tables=[table])],
    )


def _table_of(caption: str, entries: Sequence[Json]) -> Table:
    """A table whose columns are the entries' keys, an id giving way to a title."""
    keys = [key for key in entries[0] if key != "id" or "title" not in entries[0]]
    if "title" in keys:
        keys.insert(0, keys.pop(keys.index("title")))
    return Table(
        caption=caption,
        columns=[_heading(key) for key in keys],
        rows=[[_cell(entry.get(key)) for key in keys] for entry in entries],
    )


def _cell(value: Any) -> str:
    """Whatever a report holds, as text: figures with interval, maps as `key value`."""
    if isinstance(value, Mapping):
        return "; ".join(f"{_words(key)} {_cell(entry)}" for key, entry in value.items())
    if isinstance(value, str | bool):
        return str(value)
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.5g}"
    return significant_with_interval(value)


_ABBREVIATIONS = {"auroc": "AUROC", "ici": "ICI", "ppv": "PPV", "title": "method", "id": "method"}


def _words(key: str) -> str:
    return _ABBREVIATIONS.get(key, key.replace("_", " "))


def _heading(key: str) -> str:
    words = _words(key)
    return words[:1].upper() + words[1:]
