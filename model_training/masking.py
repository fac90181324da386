"""Records with holes: panels blanked out as they are in EHRs, to fit, calibrate and report on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from model_training.recipe import Recipe
from model_training.sample import Floats, Ints, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedRows:
    """Rows to fit on; a person's weight is shared among their rows."""

    values: Values
    events: Ints
    weights: Floats


def without_panels(values: Values, absent: Iterable[str], recipe: Recipe) -> Values:
    masked = values.copy()
    for panel in absent:
        masked[:, _positions(recipe, panel)] = np.nan
    return masked


def with_holes(
    values: Values, events: Ints, weights: Floats, recipe: Recipe, *, share: float, seed: int
) -> WeightedRows:
    """Everybody as recorded, with 1 − share of their weight, and the recipe's masked copies."""
    if share == 0:
        return WeightedRows(values=values, events=events, weights=weights)
    copies = recipe.raw["masking"]["copies"]
    rng = np.random.default_rng(seed)
    masked = [_masked(values, recipe, rng) for _ in range(copies)]
    return WeightedRows(
        values=np.vstack([values, *masked]),
        events=np.tile(events, copies + 1),
        weights=np.concatenate([weights * (1 - share)] + [weights * share / copies] * copies),
    )


def _masked(values: Values, recipe: Recipe, rng: np.random.Generator) -> Values:
    masked = values.copy()
    chance = recipe.raw["masking"].get("chance", {})
    sparseness = rng.random(len(values))
    for panel in recipe.panels:
        lost = rng.random(len(values)) < chance.get(panel, sparseness)
        masked[np.ix_(lost, _positions(recipe, panel))] = np.nan
    return masked


def _positions(recipe: Recipe, panel: str) -> list[int]:
    return [recipe.columns.index(name) for name in recipe.panels[panel].features]
