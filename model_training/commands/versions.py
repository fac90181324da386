"""What `cds-service models` says of any version: what it is called, how it did, where it serves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_training.artifact import Artifact, Damaged, UnknownModel

Served = Mapping[str, Sequence[str]]


def served_by(hooks: Path) -> dict[str, list[str]]:
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


def services_of(entry: Artifact | Damaged, served: Served) -> list[str]:
    return list(served.get(reference_of(entry), ()))


def reference_of(entry: Artifact | Damaged) -> str:
    """By its folder: a manifest may say something else."""
    if isinstance(entry, Damaged):
        return entry.reference
    return f"{entry.directory.parent.name}/{entry.directory.name}"


def auroc_of(artifact: Artifact) -> Any:
    test = artifact.report.get("test") or {}
    return test.get("scenarios", {}).get("complete", {}).get("auroc")


def gates_of(artifact: Artifact) -> list[dict[str, Any]]:
    return list(artifact.report.get("gates") or ())


def listed(entry: Artifact | Damaged, served: Served) -> dict[str, Any]:
    name, _, version = reference_of(entry).partition("/")
    head = {"name": name, "version": version, "served_as": services_of(entry, served)}
    if isinstance(entry, Damaged):
        return head | {"damaged": str(entry.fault)}
    return head | {
        "title": entry.manifest.title,
        "auroc": auroc_of(entry),
        "features": len(entry.manifest.features),
        "gates": gates_of(entry),
        "forced": entry.forced,
    }
