"""The model that hooks.json serves, for tests that are about that one, whichever version it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model_training.model_card.quote import ARTIFACTS, served_version

NAME = "diabetes-undiagnosed"
VERSION = served_version(NAME)
SHIPPED = ARTIFACTS / NAME / VERSION

# Version 1.0.0 was published before an artifact held its recipe and what each person was given.
needs_recipe = pytest.mark.skipif(
    not (SHIPPED / "recipe.toml").is_file(),
    reason=f"{NAME}/{VERSION}, which hooks.json serves, holds no recipe.toml",
)


def shipped_json(path: str) -> Any:
    """A JSON file of the artifact."""
    return json.loads((SHIPPED / path).read_text("utf-8"))
