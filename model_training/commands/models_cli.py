"""`cds-service models`: which versions there are, what one of them is, how two of them differ."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from model_training.artifact import (
    Artifact,
    Damaged,
    UnknownModel,
    every_artifact,
    find,
    read_artifact,
)
from model_training.commands.figures import NONE, count, figure, number, percent
from model_training.commands.refusals import refusals
from model_training.commands.scoring import score_both
from model_training.comparison import (
    Described,
    FigureRow,
    PeopleCompared,
    compare_people,
    describe,
)
from model_training.dataset import DatasetError
from model_training.gates import requirement, said
from risk_model import load_model

models = typer.Typer(
    help="The published models: list them, show one, compare two.", no_args_is_help=True
)

# NRI's interval: any seed does; the same command says the same twice.
_SEED = 1

Models = Annotated[
    Path,
    typer.Option("--models", help="Folder with <model>/<version>/.", envvar="CDS_MODEL_DIR"),
]
Hooks = Annotated[
    Path,
    typer.Option("--hooks", help="Which versions are served.", envvar="CDS_HOOKS_FILE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
MODELS = Path("model_artifacts")
HOOKS = Path("hooks.json")

Served = Mapping[str, Sequence[str]]


@models.command("list", epilog="Example: cds-service models list")
def list_(models: Models = MODELS, hooks: Hooks = HOOKS, as_json: AsJson = False) -> None:
    """Every version there is, its AUROC, its gates, and which one is served."""
    with refusals():
        served = _served(hooks)
        found = list(every_artifact(models))
    if as_json:
        _print_json([_listed(entry, served) for entry in found])
    elif not found:
        Console().print(f"No models in {models}.", highlight=False)
    else:
        Console(highlight=False).print(_overview(found, served))


@models.command(epilog="Example: cds-service models show diabetes-undiagnosed/1.0.0")
def show(
    model: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="Newest if only a name.")],
    models: Models = MODELS,
    hooks: Hooks = HOOKS,
    as_json: AsJson = False,
) -> None:
    """What it asks, on whom it was made, how it measured up; every digest is checked."""
    with refusals():
        artifact = read_artifact(find(models, model))
        load_model(artifact.directory)
        served = _served(hooks)
    if as_json:
        _print_json(_shown(artifact, served))
    else:
        Console(highlight=False).print(_account(artifact, served))


@models.command(
    epilog="Example: cds-service models diff diabetes-undiagnosed/1.0.0 "
    "diabetes-undiagnosed/2.0.0 --data nhanes"
)
def diff(
    before: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="The older one.")],
    after: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="The newer one.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="NHANES tables to score both on. Not needed where both versions have stored "
            "predictions of the same people.",
            show_default=False,
        ),
    ] = None,
    scenario: Annotated[str, typer.Option(help="Kind of record, by its id.")] = "complete",
    movers: Annotated[int, typer.Option(help="How many of the largest changes.", min=0)] = 10,
    models: Models = MODELS,
    as_json: AsJson = False,
) -> None:
    """Two versions side by side, and the people whose level changes."""
    console = Console(highlight=False)
    with refusals():
        pair = (read_artifact(find(models, before)), read_artifact(find(models, after)))
        described = describe(*pair)
        people = _people(pair, data, scenario, movers)
    if as_json:
        _print_json(_differences(pair, described, people))
        return
    console.print(_side_by_side(pair, described))
    if people is None:
        console.print(_not_compared(pair))
    else:
        console.print(_moved(pair, people))


def _people(
    pair: tuple[Artifact, Artifact], data: Path | None, scenario: str, movers: int
) -> PeopleCompared | None:
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


# ------------------------------------------------------------------------------------------- list
def _overview(found: Sequence[Artifact | Damaged], served: Served) -> RenderableType:
    parts: list[RenderableType] = []
    for name in dict.fromkeys(_reference(entry).partition("/")[0] for entry in found):
        entries = [entry for entry in found if _reference(entry).startswith(f"{name}/")]
        title = next((e.manifest.title for e in entries if isinstance(e, Artifact)), "")
        parts.append(Text.assemble((name, "bold"), f"  {title}"))
        parts.append(Padding(_versions(entries, served), (0, 0, 1, 2), expand=False))
        for entry in entries:
            if isinstance(entry, Damaged):
                sentence = Text(f"{entry.reference}: {entry.fault}", style="red")
                parts.append(Padding(sentence, (0, 0, 1, 2), expand=False))
    return Group(*parts)


def _versions(entries: Sequence[Artifact | Damaged], served: Served) -> Table:
    table = _table("Version", "AUROC (95 % interval)", ("Inputs", "right"), "Gates", "Served as")
    for entry in entries:
        version = _reference(entry).partition("/")[2]
        table.add_row(version, *_known(entry), ", ".join(_serving(entry, served)) or NONE)
    return table


def _known(entry: Artifact | Damaged) -> tuple[str | Text, ...]:
    if isinstance(entry, Damaged):
        return Text("damaged", style="red"), NONE, NONE
    inputs = str(len(entry.manifest.features))
    return figure(_auroc(entry)), inputs, _gates_in_short(entry)


def _gates_in_short(artifact: Artifact) -> Text:
    gates = _gates(artifact)
    passed = sum(bool(gate["passed"]) for gate in gates)
    if artifact.forced is not None:
        return Text(f"{passed} of {len(gates)}, forced", style="yellow")
    return Text(f"{passed} of {len(gates)} passed" if gates else "none set", style="")


def _serving(entry: Artifact | Damaged, served: Served) -> list[str]:
    return list(served.get(_reference(entry), ()))


def _listed(entry: Artifact | Damaged, served: Served) -> dict[str, Any]:
    name, _, version = _reference(entry).partition("/")
    head = {"name": name, "version": version, "served_as": _serving(entry, served)}
    if isinstance(entry, Damaged):
        return head | {"damaged": str(entry.fault)}
    return head | {
        "title": entry.manifest.title,
        "auroc": _auroc(entry),
        "features": len(entry.manifest.features),
        "gates": _gates(entry),
        "forced": entry.forced,
    }


# ------------------------------------------------------------------------------------------- show
def _account(artifact: Artifact, served: Served) -> RenderableType:
    manifest = artifact.manifest
    serving = _serving(artifact, served)
    return Group(
        Text.assemble((artifact.reference, "bold"), f"  {manifest.title}"),
        Text(str(manifest.raw.get("question", "")), style="italic"),
        Text(f"Served as {', '.join(serving)}." if serving else "Not served by hooks.json."),
        *_forced(artifact),
        *_section("People (with the outcome)", _cohort(artifact)),
        *_section("Measured on people it had not seen", _figures(artifact)),
        *_section("Levels", _levels(artifact)),
        *_section("Inputs", _inputs(artifact)),
        *_section("Gates", _gate_table(artifact)),
        *_section("Files", _files(artifact)),
    )


def _section(title: str, body: RenderableType | None) -> Iterator[RenderableType]:
    if body is not None:
        yield Text(f"\n{title}", style="bold")
        yield Padding(body, (0, 0, 0, 2), expand=False)


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
    table = _table("Part", ("People", "right"), "Periods")
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
    return _two_columns(rows)


def _levels(artifact: Artifact) -> RenderableType:
    bands = (artifact.report.get("test") or {}).get("levels", {}).get("bands", {})
    table = _table(
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
    gates = _gates(artifact)
    if not gates:
        return Text("None were set for this version.")
    table = _table("", "Gate", ("Measured", "right"), "Asked")
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
    return Group(Text(checked, style="green"), _two_columns(rows))


def _shown(artifact: Artifact, served: Served) -> dict[str, Any]:
    raw = artifact.manifest.raw
    return {
        **_listed(artifact, served),
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


# ------------------------------------------------------------------------------------------- diff
def _side_by_side(pair: tuple[Artifact, Artifact], described: Described) -> RenderableType:
    before, after = pair
    return Group(
        Text.assemble((before.reference, "bold"), " → ", (after.reference, "bold")),
        *_section("Inputs", _changed_inputs(described)),
        *_section("Levels, from", _changed_levels(pair, described)),
        *_section("Measured, each on its own test people", _rows(pair, described.figures)),
        *_section("AUROC by group", _rows(pair, described.groups)),
    )


def _changed_inputs(described: Described) -> RenderableType:
    if not described.features_added and not described.features_removed:
        return Text("The same.")
    changes = (("Added", described.features_added), ("Removed", described.features_removed))
    return Group(*(Text(f"{word}: {', '.join(names)}") for word, names in changes if names))


def _changed_levels(pair: tuple[Artifact, Artifact], described: Described) -> Table:
    table = _table("", *((_heading(artifact, pair), "right") for artifact in pair))
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


def _rows(pair: tuple[Artifact, Artifact], rows: Sequence[FigureRow]) -> Table | None:
    if not rows:
        return None
    table = _table("", *((_heading(artifact, pair), "right") for artifact in pair))
    for row in rows:
        table.add_row(row.title, figure(row.before), figure(row.after))
    return table


def _heading(artifact: Artifact, pair: tuple[Artifact, Artifact]) -> str:
    same = pair[0].manifest.name == pair[1].manifest.name
    return artifact.manifest.version if same else artifact.reference


def _not_compared(pair: tuple[Artifact, Artifact]) -> Text:
    without = [artifact.reference for artifact in pair if artifact.predictions is None]
    why = (
        f"{' and '.join(without)} stored no predictions"
        if without
        else "their stored predictions are of different people"
    )
    return Text(f"\nNo person was compared: {why}. Give --data DIR to score both.", style="yellow")


def _moved(pair: tuple[Artifact, Artifact], people: PeopleCompared) -> RenderableType:
    title = f"The same {people.people:,} people ({people.events:,} with the outcome)"
    return Group(
        *_section(f"{title}, records: {people.scenario}", _together(people)),
        *_section(
            f"People by level (with the outcome): {_heading(pair[0], pair)} down, "
            f"{_heading(pair[1], pair)} across",
            _cross_table(people),
        ),
        *_section("Changes of level", _reclassified(people)),
        *_section("Largest changes", _movers(pair, people)),
        Text("\nEach person counts once: survey weights are not stored.", style="dim"),
    )


def _together(people: PeopleCompared) -> Table:
    return _two_columns(
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
    table = _table("", *((level.capitalize(), "right") for level in columns))
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
    table = _table("", ("Up", "right"), ("Down", "right"), "Net improvement (95 % interval)")
    table.add_row(
        "With the outcome", str(moved.events_up), str(moved.events_down), _net(moved.events)
    )
    table.add_row("Without", str(moved.others_up), str(moved.others_down), _net(moved.others))
    table.add_row("Sum (NRI)", "", "", _net(moved.total))
    return table


def _net(entry: tuple[float, float, float]) -> str:
    return figure(entry, 4, signed=True)


def _movers(pair: tuple[Artifact, Artifact], people: PeopleCompared) -> Table | None:
    if not people.movers:
        return None
    headings = ((_heading(artifact, pair), "right") for artifact in pair)
    table = _table("Record", "Outcome", *headings, "Level")
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


def _differences(
    pair: tuple[Artifact, Artifact], described: Described, people: PeopleCompared | None
) -> dict[str, Any]:
    return {
        "before": pair[0].reference,
        "after": pair[1].reference,
        **asdict(described),
        "people": None if people is None else asdict(people),
    }


# ---------------------------------------------------------------------------------------- together
def _served(hooks: Path) -> dict[str, list[str]]:
    """NAME/VERSION → the services of hooks.json that answer with it; nothing without the file."""
    if not hooks.is_file():
        return {}
    served: dict[str, list[str]] = {}
    try:
        for service in json.loads(hooks.read_text(encoding="utf-8"))["services"]:
            serving = service["serving"]
            reference = f"{serving['model']}/{serving['modelVersion']}"
            served.setdefault(reference, []).append(service["id"])
    except (KeyError, TypeError, ValueError) as fault:
        raise UnknownModel(f"{hooks} does not say what is served: {fault!r}.") from fault
    return served


def _reference(entry: Artifact | Damaged) -> str:
    """By its folder: a manifest may say something else."""
    if isinstance(entry, Damaged):
        return entry.reference
    return f"{entry.directory.parent.name}/{entry.directory.name}"


def _auroc(artifact: Artifact) -> Any:
    test = artifact.report.get("test") or {}
    return test.get("scenarios", {}).get("complete", {}).get("auroc")


def _gates(artifact: Artifact) -> list[dict[str, Any]]:
    return list(artifact.report.get("gates") or ())


def _table(*columns: str | tuple[str, str]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        title, justify = column if isinstance(column, tuple) else (column, "left")
        table.add_column(title, justify="right" if justify == "right" else "left")
    return table


def _two_columns(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    return table


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
