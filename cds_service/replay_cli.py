"""`cds-service replay`: past assessments computed again, each of them on record as looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console, RenderableType
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from cds_service.app import utc_now
from cds_service.audit_cli import DAY, opened, operator
from cds_service.errors import RowUnreadable
from cds_service.inputs import TitlesOf
from cds_service.replay import Cannot, Difference, Differs, Nothing, Replayed, Same, titles_of
from cds_service.replay import replay as replay_record
from cds_service.store import AssessmentRecord, AuditEntry, Store, assessment_ids
from risk_model import ArtifactError, Model, load_model

ACTION = "replay"
SAME, DIFFERS, CANNOT = range(3)


def replay(
    id: Annotated[str | None, typer.Argument(help="Id of a RiskAssessment.")] = None,
    hook_instance: Annotated[
        str | None, typer.Option(help="Every assessment of this hookInstance.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every assessment.")] = False,
    since: Annotated[
        datetime | None, typer.Option(help="With --all: first day, UTC.", formats=DAY)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on a line for each assessment.")
    ] = False,
) -> None:
    """Compute past assessments again, from their stored inputs and their own model version.

    Exit 0: the same bits. 1: something differs, and is named. 2: one cannot be computed again,
    because it, its model or the store is not there or is damaged. Every look is on record.
    """
    if [id is not None, hook_instance is not None, everything].count(True) != 1:
        raise typer.BadParameter("give one of: an id, --hook-instance, --all")
    if since and not everything:
        raise typer.BadParameter("--since goes with --all")
    with opened() as (settings, store):
        session = Session(store=store, models=Models(settings.model_dir), as_json=as_json)
        if everything:
            session.replay_all(None if since is None else since.replace(tzinfo=UTC))
        elif hook_instance is not None:
            session.replay_call(hook_instance)
        else:
            session.replay_one(id or "")
    raise typer.Exit(session.exit_code())


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVersion:
    """A verified model, and what its results are called."""

    model: Model
    titles: TitlesOf


class Models:
    """Every version that assessments name, whether it is served or not; each is loaded once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loaded: dict[tuple[str, str], LoadedVersion | Cannot] = {}

    def of(self, record: AssessmentRecord) -> LoadedVersion | Cannot:
        key = (record.model, record.model_version)
        if key not in self._loaded:
            self._loaded[key] = self._load(*key)
        return self._loaded[key]

    def _load(self, name: str, version: str) -> LoadedVersion | Cannot:
        folder = self._directory / name / version
        # A row that was tampered with must not lead to a model that lies elsewhere.
        if {name, version} & {"", ".", ".."} or folder.parts[-2:] != (name, version):
            return Cannot(reason=f"Its model is called {name!r} {version!r}, which is no folder.")
        if not folder.is_dir():
            return Cannot(reason=f"Model {name} {version} is not there: {folder} is missing.")
        try:
            model = load_model(folder)
        except (ArtifactError, OSError) as fault:
            return Cannot(reason=f"Model {name} {version} cannot be used: {folder}: {fault}")
        found = (model.manifest.name, model.manifest.version)
        if found != (name, version):
            return Cannot(reason=f"{folder} holds the model {found[0]} {found[1]}.")
        return LoadedVersion(model=model, titles=titles_of(model))


@dataclass(slots=True, kw_only=True)
class Session:
    """One run of the command. What it gives is on record before it is given."""

    store: Store
    models: Models
    as_json: bool
    counts: Counter[type] = field(default_factory=Counter)
    console: Console = field(default_factory=Console)
    progress: Console = field(default_factory=lambda: Console(stderr=True))

    def exit_code(self) -> int:
        """A difference weighs more than one that could not be told."""
        if self.counts[Differs]:
            return DIFFERS
        return CANNOT if self.counts[Cannot] else SAME

    def replay_one(self, id: str) -> None:
        record, replayed = self._replayed(id)
        self._on_record(id, record, replayed)
        self._give(id, record, replayed)

    def replay_call(self, hook_instance: str) -> None:
        try:
            found = self.store.assessment_of_call(hook_instance)
            cannot = Cannot(reason="There is no assessment of this hookInstance in the store.")
        except (ValueError, RowUnreadable) as fault:
            found, cannot = [], _damaged(fault)
        for record in found:
            self.replay_one(record.id)
        if not found:
            self._append(outcome="not-found", status=404, hook_instance=hook_instance)
            self._give(f"hookInstance {hook_instance}", None, cannot)

    def replay_all(self, since: datetime | None) -> None:
        """One row says that all were looked at; those that are shown have rows of their own."""
        asked = {"all": True, "since": since and since.date().isoformat()}
        self._append(outcome="replayed", status=200, detail=orjson.dumps(asked).decode())
        for id in self._followed(since):
            record, replayed = self._replayed(id)
            if not isinstance(replayed, Same):
                self._on_record(id, record, replayed)
            if self.as_json or not isinstance(replayed, Same):
                self._give(id, record, replayed)
            else:
                self.counts[Same] += 1
        said = Text.assemble((f"{self.counts.total()} assessments", "bold"), f": {self._summary()}")
        (self.progress if self.as_json else self.console).print(said)

    def _followed(self, since: datetime | None) -> Iterator[str]:
        total = assessment_ids.number(self.store, since=since)
        # A bar and lines on one terminal must come from one console; lines that a program reads
        # must never go through it, which rich does unless it is told.
        lines_here = self.console.is_terminal
        bar = self.console if lines_here and not self.as_json else self.progress
        with Progress(
            console=bar,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=self.as_json and lines_here,
        ) as progress:
            task = progress.add_task("Replaying", total=total)
            for id in assessment_ids.oldest_first(self.store, since=since):
                yield id
                progress.advance(task)

    def _summary(self) -> str:
        same, differ, cannot = (self.counts[kind] for kind in (Same, Differs, Cannot))
        return f"{same} the same, {differ} differ, {cannot} cannot be computed again."

    def _replayed(self, id: str) -> tuple[AssessmentRecord | None, Replayed]:
        try:
            record = self.store.risk_assessment(id)
        except (ValueError, RowUnreadable) as fault:
            return None, _damaged(fault)
        if record is None:
            return None, Cannot(reason="There is no such assessment in the store.")
        version = self.models.of(record)
        if isinstance(version, Cannot):
            return record, version
        return record, replay_record(record, version.model, version.titles)

    def _on_record(self, id: str, record: AssessmentRecord | None, replayed: Replayed) -> None:
        status = 500 if record else 404
        self._append(
            outcome=f"replayed:{type(replayed).__name__.lower()}",
            status=status if isinstance(replayed, Cannot) else 200,
            resource_id=record.id if record else id,
            patient_id=record.patient_id if record else None,
            model=record.model if record else None,
            model_version=record.model_version if record else None,
        )

    def _append(self, **said: Any) -> None:
        entry = AuditEntry(recorded_at=utc_now(), action=ACTION, user=operator(), **said)
        self.store.append_audit([entry])

    def _give(self, id: str, record: AssessmentRecord | None, replayed: Replayed) -> None:
        self.counts[type(replayed)] += 1
        if self.as_json:
            typer.echo(orjson.dumps(as_object(id, record, replayed)).decode())
            return
        for part in shown(id, record, replayed):
            self.console.print(part)


def _damaged(fault: ValueError | RowUnreadable) -> Cannot:
    """JSON, or a time, that the service has never written; or what no key opens."""
    if isinstance(fault, RowUnreadable):
        return Cannot(reason=f"Its row cannot be opened: {fault.reason}.")
    return Cannot(reason=f"Its row is damaged: {type(fault).__name__}: {fault}.")


def as_object(id: str, record: AssessmentRecord | None, replayed: Replayed) -> dict[str, Any]:
    """For a program. A member that is missing on one side is missing in the difference too."""
    known = {"id": id, "outcome": type(replayed).__name__.lower()}
    if record is not None:
        known |= {"model": record.model, "model_version": record.model_version}
    if isinstance(replayed, Cannot):
        return {**known, "reason": replayed.reason}
    left_out = {"left_out": list(replayed.left_out)} if replayed.left_out else {}
    if isinstance(replayed, Same):
        return {**known, **left_out}
    named = {"inputs_as_named": replayed.is_named_so}
    return {
        **known,
        **named,
        **left_out,
        "differences": [_members(d) for d in replayed.differences],
    }


def _members(difference: Difference) -> dict[str, Any]:
    sides = {"stored": difference.stored, "now": difference.now}
    there = {side: value for side, value in sides.items() if value is not Nothing.THERE}
    return {"path": difference.path, **there}


def shown(id: str, record: AssessmentRecord | None, replayed: Replayed) -> Iterator[RenderableType]:
    """For a person at a terminal."""
    about = Text(_printable(id), style="bold")
    if record is not None:
        about.append(
            _printable(
                f"  {record.as_of:%Y-%m-%d %H:%M} UTC, {record.model} {record.model_version}, "
                f"probability {said(record.probability)}, {record.level}"
            ),
            style="not bold",
        )
    yield about
    match replayed:
        case Same():
            yield Text("The same, bit for bit.", style="green")
        case Cannot(reason=reason):
            yield Text(_printable(reason), style="yellow")
        case Differs():
            yield Text(_blame(replayed), style="red")
            yield _table(replayed)
    if not isinstance(replayed, Cannot) and replayed.left_out:
        left_out = ", ".join(replayed.left_out)
        yield Text(f"Not compared, because the row does not say: {left_out}.", style="dim")


def _blame(differs: Differs) -> str:
    if differs.is_named_so:
        return "Differs. Inputs, patient and model are those that the identifier was made from."
    return "Differs. Inputs, patient or model are not those that the identifier was made from."


def _table(differs: Differs) -> Table:
    table = Table("Where", "Stored", "Computed now", box=None, header_style="bold")
    for difference in differs.differences:
        sides = (said(difference.stored), said(difference.now))
        table.add_row(*(Text(text, overflow="fold") for text in (difference.path, *sides)))
    return table


def said(value: object) -> str:
    """JSON, and of a number that is no integer its bits as well."""
    if value is Nothing.THERE:
        return Nothing.THERE.value
    if isinstance(value, float):
        return f"{value!r} ({value.hex()})"
    return _printable(value if isinstance(value, str) else orjson.dumps(value).decode())


def _printable(text: str) -> str:
    """What comes from records must not steer a terminal."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
