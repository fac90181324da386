"""People scored by a published model: the steps of risk_model.score, for many rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fhir_mapping import load_catalog
from model_training.dataset import DatasetError
from model_training.logistic import logistic
from model_training.recipe import FeatureSpec, Recipe
from model_training.sample import as_values
from risk_model import Manifest, Model, preprocess_rows
from risk_model.booster import margins_and_shap_values
from risk_model.scoring import feature_row, insufficiency

Values = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Predict = Callable[[Values], Floats]


def recipe_of(manifest: Manifest, recipe: Recipe) -> Recipe:
    """`recipe` with the inputs that the manifest asks for: the same people, another model's eyes.

    Raises DatasetError for a concept that the catalog does not have (any more).
    """
    decimals = {feature.name: feature.decimals for feature in recipe.features}
    features = tuple(_feature(entry, decimals) for entry in manifest.raw["features"])
    names = {feature.name for feature in features}
    panels = {
        id_: replace(panel, features=tuple(name for name in panel.features if name in names))
        for id_, panel in recipe.panels.items()
    }
    return replace(recipe, features=features, panels=panels)


def service_predict(model: Model, recipe: Recipe) -> Predict:
    """Rows in the recipe's feature order, NaN where absent → the service's probabilities.

    Also for records on which the service gives no figure because too little is known: how those
    would have fared is part of what is measured, and `without_figure` counts them. Raises
    DatasetError for a value that the service would refuse.
    """

    def predict(rows: Values) -> Floats:
        try:
            entered = [feature_row(model.manifest, as_values(row, recipe)) for row in rows]
        except ValueError as fault:
            name = f"{model.manifest.name}/{model.manifest.version}"
            raise DatasetError(f"{name} cannot score these data: {fault}.") from fault
        table = np.vstack(entered)
        columns = preprocess_rows(model.preprocessing, table) if model.preprocessing else table
        margins, _ = margins_and_shap_values(model.booster, columns.astype(np.float32))
        return logistic(np.asarray(model.calibration.log_odds(margins), dtype=np.float64))

    return predict


def without_figure(model: Model, rows: Values, recipe: Recipe) -> int:
    """How many of these records the service answers with "not enough data"."""
    found = (insufficiency(model.manifest, as_values(row, recipe)) for row in rows)
    return sum(lacking is not None for lacking in found)


def _feature(entry: Mapping[str, Any], decimals: Mapping[str, int]) -> FeatureSpec:
    concept = load_catalog().concepts.get(entry["concept"])
    if concept is None:
        raise DatasetError(f"The concept {entry['concept']} is not in the catalog (any more).")
    low, high = entry["plausible"]
    return FeatureSpec(
        name=entry["name"],
        concept=entry["concept"],
        title=entry["title"],
        unit=entry["unit"],
        decimals=decimals.get(entry["name"], concept.decimals),
        statistic=entry["statistic"],
        plausible=(low, high),
        clip_above=(entry.get("clip") or (None, None))[1],
        required=entry["required"],
        monotone=entry.get("monotone", 0),
        categories=entry.get("categories"),
        look_back_days=entry.get("look_back_days"),
        stale_after_days=entry.get("stale_after_days"),
    )
