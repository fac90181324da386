"""`cds-service models list`: every version, its AUROC, its gates, and whether it is served."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from model_training.artifact import Artifact, Damaged
from model_training.commands.figures import NONE, figure
from model_training.commands.layout import plain_table
from model_training.commands.versions import Served, auroc_of, gates_of, reference_of, services_of


def overview(found: Sequence[Artifact | Damaged], served: Served) -> RenderableType:
    parts: list[RenderableType] = []
    for name in dict.fromkeys(reference_of(entry).partition("/")[0] for entry in found):
        entries = [entry for entry in found if reference_of(entry).startswith(f"{name}/")]
        title = next((e.manifest.title for e in entries if isinstance(e, Artifact)), "")
        parts.append(Text.assemble((name, "bold"), f"  {title}"))
        parts.append(Padding(_versions(entries, served), (0, 0, 1, 2), expand=False))
        for entry in entries:
            if isinstance(entry, Damaged):
                sentence = Text(f"{entry.reference}: {entry.fault}", style="red")
                parts.append(Padding(sentence, (0, 0, 1, 2), expand=False))
    return Group(*parts)


def _versions(entries: Sequence[Artifact | Damaged], served: Served) -> Table:
    table = plain_table(
        "Version", "AUROC (95 % interval)", ("Inputs", "right"), "Gates", "Served as"
    )
    for entry in entries:
        version = reference_of(entry).partition("/")[2]
        table.add_row(version, *_known(entry), ", ".join(services_of(entry, served)) or NONE)
    return table


def _known(entry: Artifact | Damaged) -> tuple[str | Text, ...]:
    if isinstance(entry, Damaged):
        return Text("damaged", style="red"), NONE, NONE
    inputs = str(len(entry.manifest.features))
    return figure(auroc_of(entry)), inputs, _gates_in_short(entry)


def _gates_in_short(artifact: Artifact) -> Text:
    gates = gates_of(artifact)
    passed = sum(bool(gate["passed"]) for gate in gates)
    if artifact.forced is not None:
        return Text(f"{passed} of {len(gates)}, forced", style="yellow")
    return Text(f"{passed} of {len(gates)} passed" if gates else "none set", style="")
