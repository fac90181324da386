"""Folders that are written whole or not at all, and asked for before hours of work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_training.dataset import DatasetError

# A version with its report takes about a third of this.
_ROOM_BYTES = 8 * 1024 * 1024


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """An empty folder beside the path to be, on the same file system; gone afterwards, and with it
    whatever folder had to be made for it and is empty."""
    made = [parent for parent in path.parents if not parent.exists()]
    aside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".staged-", dir=path.parent))
        inner = aside / "new"
        inner.mkdir()
        yield inner
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def require_writable(path: Path, option: str) -> None:
    """Raises DatasetError that names the option where nothing could be put beside `path`, or too
    little; leaves everything as it was."""
    try:
        with staged(path) as aside:
            (aside / "room").write_bytes(bytes(_ROOM_BYTES))
    except OSError as fault:
        raise DatasetError(
            f"{path.parent} cannot be written: {fault.strerror}. Give another {option}."
        ) from fault
