"""`cds-service models diff`: two versions side by side, and the people whose level changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from model_training.artifact import Artifact
from model_training.commands.figures import NONE, count, figure, number
from model_training.commands.layout import plain_table, section, two_columns
from model_training.commands.scoring import Pair, score_both
from model_training.comparison import Described, FigureRow, PeopleCompared, compare_people
from model_training.dataset import DatasetError

# NRI's interval: any seed does; the same command says the same twice.
_SEED = 1


def compared(pair: Pair, data: Path | None, scenario: str, movers: int) -> PeopleCompared | None:
    """None where neither stored predictions nor data are there to compare people by."""
    if data is not None:
        both = score_both(pair, _tables(data), scenario)
    else:
        was, now = pair[0].predictions, pair[1].predictions
        if was is None or now is None or not was.same_people(now):
            return None
        both = (was, now)
    manifests = (pair[0].manifest, pair[1].manifest)
    return compare_people(*both, manifests, scenario=scenario, seed=_SEED, movers=movers)


def _tables(data: Path) -> Path:
    """The folder itself, or the one called nhanes in a folder of data sets."""
    inner = data / "nhanes"
    folder = inner if inner.is_dir() else data
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder. Give --data DIR with NHANES tables.")
    return folder


def side_by_side(pair: Pair, described: Described) -> RenderableType:
    before, after = pair
    return Group(
        Text.assemble((before.reference, "bold"), " → ", (after.reference, "bold")),
        *section("Inputs", _changed_inputs(described)),
        *section("Levels, from", _changed_levels(pair, described)),
        *section("Measured, each on its own test people", _rows(pair, described.figures)),
        *section("AUROC by group", _rows(pair, described.groups)),
    )


def _changed_inputs(described: Described) -> RenderableType:
    if not described.features_added and not described.features_removed:
        return Text("The same.")
    changes = (("Added", described.features_added), ("Removed", described.features_removed))
    return Group(*(Text(f"{word}: {', '.join(names)}") for word, names in changes if names))


def _changed_levels(pair: Pair, described: Described) -> Table:
    table = plain_table("", *((_heading(artifact, pair), "right") for artifact in pair))
    floors = [_floors(levels) for levels in (described.levels_before, described.levels_after)]
    for level in dict.fromkeys([*floors[0], *floors[1]]):
        table.add_row(level.capitalize(), *(_floor(entry.get(level)) for entry in floors))
    return table


def _floor(probability: float | None) -> str:
    return NONE if probability is None else f"{probability:.3g}"


def _floors(levels: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Level → the lowest probability that has it."""
    names = [level for level, _ in levels]
    return dict(zip(names, [0.0, *(below for _, below in levels[:-1])], strict=True))


def _rows(pair: Pair, rows: Sequence[FigureRow]) -> Table | None:
    if not rows:
        return None
    table = plain_table("", *((_heading(artifact, pair), "right") for artifact in pair))
    for row in rows:
        table.add_row(row.title, figure(row.before), figure(row.after))
    return table


def _heading(artifact: Artifact, pair: Pair) -> str:
    same = pair[0].manifest.name == pair[1].manifest.name
    return artifact.manifest.version if same else artifact.reference


def not_compared(pair: Pair) -> Text:
    without = [artifact.reference for artifact in pair if artifact.predictions is None]
    why = (
        f"{' and '.join(without)} stored no predictions"
        if without
        else "their stored predictions are of different people"
    )
    return Text(f"\nNo person was compared: {why}. Give --data DIR to score both.", style="yellow")


def moved(pair: Pair, people: PeopleCompared) -> RenderableType:
    title = f"The same {people.people:,} people ({people.events:,} with the outcome)"
    return Group(
        *section(f"{title}, records: {people.scenario}", _together(people)),
        *section(
            f"People by level (with the outcome): {_heading(pair[0], pair)} down, "
            f"{_heading(pair[1], pair)} across",
            _cross_table(people),
        ),
        *section("Changes of level", _reclassified(people)),
        *section("Largest changes", _movers(pair, people)),
        Text("\nEach person counts once: survey weights are not stored.", style="dim"),
    )


def _together(people: PeopleCompared) -> Table:
    return two_columns(
        [
            ("AUROC", f"{number(people.auroc_before)} → {number(people.auroc_after)}"),
            ("AUROC, difference", figure(people.auroc_difference, 4, signed=True)),
            ("Mean probability", f"{number(people.mean_before)} → {number(people.mean_after)}"),
            ("Correlation", number(people.correlation)),
            ("Rank correlation", number(people.rank_correlation)),
        ]
    )


def _cross_table(people: PeopleCompared) -> Table:
    columns = dict.fromkeys(cell.after for cell in people.cells)
    table = plain_table("", *((level.capitalize(), "right") for level in columns))
    for level in dict.fromkeys(cell.before for cell in people.cells):
        cells = [cell for cell in people.cells if cell.before == level]
        table.add_row(
            level.capitalize(),
            *(
                Text(count(cell.people, cell.events), style="" if cell.after != level else "dim")
                for cell in cells
            ),
        )
    return table


def _reclassified(people: PeopleCompared) -> RenderableType:
    moved = people.reclassified
    if moved is None:
        return Text("Not counted: the two versions name their levels differently.")
    table = plain_table("", ("Up", "right"), ("Down", "right"), "Net improvement (95 % interval)")
    table.add_row(
        "With the outcome", str(moved.events_up), str(moved.events_down), _net(moved.events)
    )
    table.add_row("Without", str(moved.others_up), str(moved.others_down), _net(moved.others))
    table.add_row("Sum (NRI)", "", "", _net(moved.total))
    return table


def _net(entry: tuple[float, float, float]) -> str:
    return figure(entry, 4, signed=True)


def _movers(pair: Pair, people: PeopleCompared) -> Table | None:
    if not people.movers:
        return None
    headings = ((_heading(artifact, pair), "right") for artifact in pair)
    table = plain_table("Record", "Outcome", *headings, "Level")
    for mover in people.movers:
        levels = dict.fromkeys([mover.level_before, mover.level_after])
        table.add_row(
            mover.record,
            "yes" if mover.event else "no",
            number(mover.before),
            number(mover.after),
            " → ".join(levels),
        )
    return table


def differences(pair: Pair, described: Described, people: PeopleCompared | None) -> dict[str, Any]:
    return {
        "before": pair[0].reference,
        "after": pair[1].reference,
        **asdict(described),
        "people": None if people is None else asdict(people),
    }
