"""`cds-service models show`: what a version asks, on whom it was made, how it measured up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from model_training.artifact import Artifact
from model_training.commands.figures import NONE, count, figure, percent
from model_training.commands.layout import plain_table, section, two_columns
from model_training.commands.versions import Served, gates_of, listed, services_of
from model_training.comparison import describe
from model_training.gates import requirement, said


def account(artifact: Artifact, served: Served) -> RenderableType:
    manifest = artifact.manifest
    serving = services_of(artifact, served)
    return Group(
        Text.assemble((artifact.reference, "bold"), f"  {manifest.title}"),
        Text(str(manifest.raw.get("question", "")), style="italic"),
        Text(f"Served as {', '.join(serving)}." if serving else "Not served by hooks.json."),
        *_forced(artifact),
        *section("People (with the outcome)", _cohort(artifact)),
        *section("Measured on people it had not seen", _figures(artifact)),
        *section("Levels", _levels(artifact)),
        *section("Inputs", _inputs(artifact)),
        *section("Gates", _gate_table(artifact)),
        *section("Files", _files(artifact)),
    )


def _forced(artifact: Artifact) -> Iterator[RenderableType]:
    if artifact.forced is not None:
        failed = ", ".join(artifact.forced["failed"])
        yield Text(
            f"Published against its gates ({failed}): {artifact.forced['reason']}", style="yellow"
        )


def _cohort(artifact: Artifact) -> RenderableType | None:
    cohort = artifact.manifest.raw.get("cohort", {})
    parts = {key: part for key, part in cohort.items() if isinstance(part, Mapping)}
    if not parts:
        return None
    table = plain_table("Part", ("People", "right"), "Periods")
    for name, part in parts.items():
        periods = part.get("periods") or part.get("cycles") or []
        table.add_row(name.capitalize(), count(part["people"], part["events"]), ", ".join(periods))
    said_of = [str(cohort[key]) for key in ("source", "outcome") if key in cohort]
    return Group(*(Text(f"{sentence}.") for sentence in said_of), table)


def _figures(artifact: Artifact) -> RenderableType | None:
    rows = [
        (row.title, figure(row.after))
        for row in describe(artifact, artifact).figures
        if row.after is not None
    ]
    return two_columns(rows)


def _levels(artifact: Artifact) -> RenderableType:
    bands = (artifact.report.get("test") or {}).get("levels", {}).get("bands", {})
    table = plain_table(
        "Level", "Probability", ("Share", "right"), ("People", "right"), "With the outcome"
    )
    floor = 0.0
    for level in artifact.manifest.levels:
        band = bands.get(level.level, {})
        people = count(band["people"], band["events"]) if band else NONE
        observed = [percent(part) for part in band.get("observed") or [None] * 3]
        table.add_row(
            level.level.capitalize(),
            _range(floor, level.below),
            percent(band.get("share")),
            people,
            f"{observed[0]} ({observed[1]} to {observed[2]})" if band else NONE,
        )
        floor = level.below
    return table


def _range(low: float, high: float) -> str:
    if low == 0:
        return f"below {high:.3g}"
    return f"from {low:.3g}" if math.isinf(high) else f"{low:.3g} to below {high:.3g}"


def _inputs(artifact: Artifact) -> Text:
    return Text(", ".join(feature.title for feature in artifact.manifest.features))


def _gate_table(artifact: Artifact) -> RenderableType:
    gates = gates_of(artifact)
    if not gates:
        return Text("None were set for this version.")
    table = plain_table("", "Gate", ("Measured", "right"), "Asked")
    for gate in gates:
        mark = Text("passed", style="green") if gate["passed"] else Text("failed", style="red")
        measured = NONE if gate["measured"] is None else said(gate["measured"])
        title = Text(gate["title"])
        if gate.get("note"):
            title.append(f"\n{gate['note']}", style="dim")
        table.add_row(mark, title, measured, requirement(gate))
    return table


def _files(artifact: Artifact) -> RenderableType:
    rows = [
        (name, f"{digest.bytes:>9,} bytes  sha256 {digest.sha256[:12]}…")
        for name, digest in artifact.manifest.files.items()
    ]
    checked = f"All {len(rows)} files have their digests; the golden scores were reproduced."
    return Group(Text(checked, style="green"), two_columns(rows))


def shown(artifact: Artifact, served: Served) -> dict[str, Any]:
    raw = artifact.manifest.raw
    return {
        **listed(artifact, served),
        "question": raw.get("question"),
        "cohort": raw.get("cohort"),
        "figures": {
            row.title: row.after
            for row in describe(artifact, artifact).figures
            if row.after is not None
        },
        "levels": raw["levels"],
        "inputs": [feature.name for feature in artifact.manifest.features],
        "files": raw["files"],
        "digests_checked": True,
    }
