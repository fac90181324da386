"""Whose data the model was made from and measured on, and what it looks at."""

from __future__ import annotations

from typing import Any

from model_training.model_card.evidence import Evidence, Json
from model_training.model_card.wording import (
    UNKNOWN,
    count,
    ended,
    section,
    share,
    table,
    years,
)

_MONOTONE = {1: "rises", -1: "falls", 0: "free"}


def people_section(known: Evidence) -> str:
    data = known.find("data")
    if not data:
        return ""
    outcome = (known.manifest.get("cohort") or {}).get("outcome")
    return section(
        "Data",
        ended(data["description"]) if data.get("description") else None,
        f"**Outcome.** {ended(outcome)}" if isinstance(outcome, str) else None,
        known.said("data_note"),
        _who_was_kept(known),
        characteristics(known),
    )


def characteristics(known: Evidence) -> str | None:
    """Table 1: the people of each part; numbers as median (quartiles), shares as count (share)."""
    rows = known.find("data", "characteristics")
    if not rows:
        return None
    parts = list(known.parts)
    lines = [[row["title"], *(cell(row, part) for part in parts)] for row in rows]
    return (
        "Who they are. Numbers: median (quartiles), share unknown. Shares: people (share).\n\n"
        + table(["", *(heading(known, part) for part in parts)], lines)
    )


def cell(row: Json, part: str) -> str:
    """One person's trait in one part of the people."""
    values = row.get(part)
    if not values:
        return UNKNOWN
    if row["kind"] == "share":
        return f"{count(values[0])} ({share(values[1])})"
    median, low, high, missing = values
    if median is None:
        return UNKNOWN
    unknown = f", {share(missing)} unknown" if missing else ""
    return f"{median:g} ({low:g} to {high:g}){unknown}"


def heading(known: Evidence, part: str) -> str:
    """development: 1999–2014"""
    periods = known.parts[part].get("periods")
    return f"{part}: {years(periods)}" if periods else part


def inputs_section(known: Evidence) -> str:
    features = known.manifest.get("features", [])
    rows = [
        [
            f"{entry['title']}{' (required)' if entry.get('required') else ''}",
            UNKNOWN if entry.get("categories") else entry["unit"],
            _value(entry),
            _plausible(entry),
            _MONOTONE.get(entry.get("monotone"), UNKNOWN),
        ]
        for entry in features
    ]
    headings = ["input", "unit", "value used", "plausible", "risk"]
    return section("Inputs", _rules(known), table(headings, rows) if rows else None)


def _rules(known: Evidence) -> str:
    required = [entry["title"] for entry in known.manifest.get("features", []) if entry["required"]]
    needs = [f"{', '.join(required)}: required"] if required else []
    groups = known.manifest.get("sufficiency", {}).get("at_least_one_of", [])
    titles = {entry["name"]: entry["title"] for entry in known.manifest.get("features", [])}
    needs += [
        f"at least one of: {' or '.join(titles.get(name, name) for name in group)}"
        for group in groups
    ]
    opening = f"{'; '.join(needs)}. " if needs else ""
    return (
        f"{opening}Everything else may be absent, and stays absent. A value outside its plausible "
        'range counts as absent. "Rises": the risk can only rise with the value, whatever else is '
        "known."
    )


def _plausible(entry: Json) -> str:
    """20–1500, or the categories by name: their codes say nothing to a reader."""
    if entry.get("categories"):
        return ", ".join(entry["categories"])
    return "–".join(f"{bound:g}" for bound in entry["plausible"])


def _value(entry: Json) -> str:
    days = entry.get("look_back_days")
    window = f" of {days:g} days" if days is not None else ""
    return f"{entry.get('statistic', 'latest')}{window}"


def _who_was_kept(known: Evidence) -> str | None:
    parts = {part: entry.get("flow") or [] for part, entry in known.parts.items()}
    held = {part: flow for part, flow in parts.items() if flow}
    if not held:
        return None
    intro = "Who was kept, step by step. In brackets: people with the outcome."
    steps = [[step["kept"] for step in flow] for flow in held.values()]
    if all(titles == steps[0] for titles in steps):
        return f"{intro}\n\n{_flow_table(known, held)}"
    tables = [_flow_table(known, {part: flow}) for part, flow in held.items()]
    return "\n\n".join([intro, *tables])


def _flow_table(known: Evidence, flows: dict[str, Any]) -> str:
    rows = [
        [row[0]["kept"], *(f"{count(step['people'])} ({count(step['events'])})" for step in row)]
        for row in zip(*flows.values(), strict=True)
    ]
    return table(["kept", *(heading(known, part) for part in flows)], rows)
