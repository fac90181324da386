"""A model's files to a versioned folder: whole or not at all, past its gates or with a trace.

Bytes depend on what is given only: no clock, no machine, fixed order of keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import risk_model
from model_training.dataset import DatasetError
from model_training.gates import GateResult
from model_training.staging import require_writable, staged
from risk_model.manifest import MANIFEST

DRAFTS = Path("var") / "models"

# What a probability and its level depend on. Once published under a version these stay: an
# assessment in somebody's record names the version and must remain explicable. Reports and model
# cards may be made again.
_SCORING_FILES = ("model.ubj", "calibration.json", "preprocessing.json")
_SCORING_ENTRIES = ("features", "sufficiency", "domain", "settled_by", "levels", "prevalence")
_TAKEN = (
    "{folder} holds another model, and a published version stays what it is: give the recipe a new "
    "version (--replace gives up the one that was published)."
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The folder that the service may now serve. `forced` names the gates that it failed."""

    folder: Path
    model: risk_model.Model
    forced: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Not published; the same files lie as a draft in `folder`. `reasons` are sentences."""

    folder: Path
    reasons: tuple[str, ...]


def publish(
    files: Mapping[str, bytes],
    out: Path,
    name: str,
    version: str,
    *,
    results: Sequence[GateResult],
    force: str | None = None,
    replace: bool = False,
    drafts: Path = DRAFTS,
) -> Published | Held:
    """Writes <out>/<name>/<version>, or where a gate fails, or where another model has been
    published under that version, <drafts>/<name>/<version>.

    `files` as `seal` gives them. `force` is the reason for publishing against the gates: it goes
    into the manifest with the gates that failed. `replace` lets go of the model that was published
    under this version. Raises ArtifactError where the service would refuse the files, and
    DatasetError where the folder cannot be written; both leave everything as it was.
    """
    _require_plain(name, version)
    folder = out / name / version
    trace = forced_trace(results, force)
    reasons = () if trace else tuple(r.sentence() for r in results if not r.passed)
    if not replace and _is_another_model(files, folder):
        reasons = (*reasons, _TAKEN.format(folder=folder))
    if reasons:
        draft = drafts / name / version
        _write(files, draft)
        return Held(folder=draft, reasons=reasons)
    model = _write(files if trace is None else _with_trace(files, trace), folder)
    failed = () if trace is None else tuple(trace["failed"])
    return Published(folder=folder, model=model, forced=failed)


def require_places(out: Path, drafts: Path, name: str, version: str) -> None:
    """What publish asks of its folders, before there is anything to publish; raises DatasetError.
    Whether it will be a draft is not known by then, so there has to be a place for one."""
    _require_plain(name, version)
    require_writable(out / name / version, "--out")
    require_writable(drafts / name / version, "--drafts")


def seal(files: Mapping[str, bytes], described: Mapping[str, Any]) -> dict[str, bytes]:
    """The files and their manifest: `described` with everybody's digest and size."""
    digests = {path: _digest(files[path]) for path in sorted(files)}
    return {**files, MANIFEST: json_bytes({**described, "files": digests})}


def forced_trace(results: Sequence[GateResult], force: str | None) -> Json | None:
    """The manifest's and the model card's account of gates that were overruled: None where there
    was nothing to overrule, or nobody did."""
    failed = [result.gate.id for result in results if not result.passed]
    if force is None or not failed:
        return None
    if not force.strip():
        raise DatasetError("Publishing against the gates needs a reason: --force REASON.")
    return {"reason": force.strip(), "failed": failed}


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _require_plain(*parts: str) -> None:
    for part in parts:
        if not _NAME.fullmatch(part):
            raise DatasetError(f"{part!r} cannot name a folder: use letters, digits, . _ + and -.")


def _with_trace(files: Mapping[str, bytes], trace: Json) -> dict[str, bytes]:
    """No digest covers the manifest itself, so that this one alone changes."""
    return {**files, MANIFEST: json_bytes(json.loads(files[MANIFEST]) | {"forced": trace})}


def _is_another_model(files: Mapping[str, bytes], folder: Path) -> bool:
    """Whether something is published there that gives, or may give, other answers."""
    if not folder.exists():
        return False
    try:
        there = {path: (folder / path).read_bytes() for path in _present(folder)}
        return _scoring(there) != _scoring(files)
    except (OSError, ValueError):
        return True  # what cannot be read cannot be known to be the same


def _present(folder: Path) -> list[str]:
    return [path for path in (*_SCORING_FILES, MANIFEST) if (folder / path).is_file()]


def _scoring(files: Mapping[str, bytes]) -> list[Any]:
    manifest = json.loads(files.get(MANIFEST, b"{}"))
    return [
        *(files.get(path) for path in _SCORING_FILES),
        *(manifest.get(entry) for entry in _SCORING_ENTRIES),
    ]


def _write(files: Mapping[str, bytes], folder: Path) -> risk_model.Model:
    try:
        with staged(folder) as aside:
            for path, content in files.items():
                target = aside / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            risk_model.load_model(aside)
            _swap(aside, folder)
    except OSError as fault:
        raise DatasetError(f"{folder} cannot be written: {fault.strerror}.") from fault
    return risk_model.load_model(folder)


def _swap(aside: Path, folder: Path) -> None:
    """The new folder in the old one's place; the old one comes back if that fails."""
    old = aside.with_name("old")
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(aside, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise


def _digest(content: bytes) -> Json:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
