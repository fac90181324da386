"""Artifacts that load, made from the shipped one, for tests of what is done with artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_training.publish import seal

SHIPPED = Path(__file__).parents[1] / "model_artifacts" / "diabetes-undiagnosed" / "1.0.0"
_SCORING = ("model.ubj", "calibration.json", "golden_scores.json")


def artifact_files(*, more: Mapping[str, bytes] | None = None, **entries: Any) -> dict[str, bytes]:
    """The shipped model's bytes with further files and with manifest entries of their own."""
    manifest = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))
    files = {name: (SHIPPED / name).read_bytes() for name in _SCORING}
    return seal({**files, **(more or {})}, {**manifest, **entries})


def write_artifact(models: Path, files: Mapping[str, bytes]) -> Path:
    """Where the manifest says: <models>/<name>/<version>."""
    manifest = json.loads(files["manifest.json"])
    folder = models / manifest["name"] / manifest["version"]
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder
