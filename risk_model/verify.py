"""Digests before parsing: the only way in which an artifact's bytes reach the rest.

Order matters and is the order on the page: names, kinds of file, sizes, digests. Nothing but the
manifest is parsed before every file has passed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from risk_model.manifest import MANIFEST, ArtifactError, Digest, Manifest, parse_manifest

_RESTORE = "Restore the folder from a release, or train the model again"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFiles:
    """A manifest and the bytes of every file it names, each checked against its digest."""

    manifest: Manifest
    contents: Mapping[str, bytes]

    def json(self, name: str) -> Any:
        return parse_json(name, self.contents[name])


def read_verified(directory: Path) -> VerifiedFiles:
    """Reads an artifact folder; raises ArtifactError naming the file that is not as promised."""
    manifest = parse_manifest(_manifest_json(directory))
    _refuse_strangers(directory, manifest)
    contents = {
        name: _read_file(directory, name, digest) for name, digest in manifest.files.items()
    }
    return VerifiedFiles(manifest=manifest, contents=contents)


def parse_json(name: str, content: bytes) -> Any:
    """JSON as RFC 8259 has it: Python's own NaN and Infinity are refused."""
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as fault:
        raise ArtifactError(name, f"is not JSON ({fault})", _RESTORE) from fault


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _manifest_json(directory: Path) -> Mapping[str, Any]:
    path = directory / MANIFEST
    _refuse_links(directory, path, MANIFEST)
    if not path.is_file():
        remedy = "Name the folder <model>/<version> of an artifact, or train the model"
        raise ArtifactError(MANIFEST, f"is missing in {directory}", remedy)
    raw = parse_json(MANIFEST, path.read_bytes())
    if not isinstance(raw, dict):
        raise ArtifactError(MANIFEST, "is not a JSON object", _RESTORE)
    return raw


def _refuse_strangers(directory: Path, manifest: Manifest) -> None:
    """A file that no digest covers could be mistaken for part of the model."""
    found = {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    strangers = sorted(found - set(manifest.files) - {MANIFEST})
    if strangers:
        remedy = "Remove it, or publish a new version of the artifact that names it"
        raise ArtifactError(strangers[0], "is not named in the manifest", remedy)


def _read_file(directory: Path, name: str, digest: Digest) -> bytes:
    path = directory / name
    _refuse_links(directory, path, name)
    if not path.is_file():
        raise ArtifactError(name, "is named in the manifest and missing", _RESTORE)
    size = path.stat().st_size
    if size != digest.bytes:
        raise ArtifactError(name, f"has {size} bytes, the manifest says {digest.bytes}", _RESTORE)
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != digest.sha256:
        raise ArtifactError(
            name, f"has sha256 {actual}, the manifest says {digest.sha256}", _RESTORE
        )
    return content


def _refuse_links(directory: Path, path: Path, name: str) -> None:
    """Links may lead out of the folder and may change between the check and the reading."""
    inner = [path, *(parent for parent in path.parents if directory in parent.parents)]
    if any(step.is_symlink() for step in inner):
        raise ArtifactError(name, "is reached through a symbolic link", _RESTORE)
