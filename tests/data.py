"""Where public data sets are, for the tests that need them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_folder(name: str) -> Path:
    """The folder of one data set; skips the test, with the reason, where it is not there."""
    root = Path(__file__).parents[1]
    given = os.environ.get("CDS_DATA_DIR")
    folder = (Path(given) if given else root.parent / "shared" / "data") / name
    if not folder.is_dir():
        pytest.skip(f"data set {name} not found: set CDS_DATA_DIR to the folder that holds it")
    return folder
