"""The same model fitted otherwise: what imputation, class weighting and records with holes do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model_training import measures
from model_training.dataset import Reporter
from model_training.fitting import OutOfFold, Settings, out_of_fold
from model_training.recipe import Recipe
from model_training.sample import Sample
from model_training.search import mean_loss

Json = dict[str, Any]
_IMPUTATIONS = {
    "native": "Left absent; the trees learn which way absence goes",
    "median": "Median of the people fitted on",
    "mice": "Chained equations, several draws pooled",
}
_CLASS_WEIGHTINGS = {"none": "Every person alike", "balanced": "Both classes the same in sum"}


def compare_alternatives(
    development: Sample, settings: Settings, unseen: OutOfFold, recipe: Recipe, reporter: Reporter
) -> Json:
    """The report's choices.imputation, class_weighting and masking; `unseen` is of `settings`."""
    raw = recipe.raw

    def entry(change: Mapping[str, Any]) -> Json:
        changed = settings.changed(**change)
        if changed == settings:
            return _entry(unseen, development, recipe)
        reporter.detail(", ".join(f"{key} {value}" for key, value in change.items()))
        return _entry(out_of_fold(development, changed, recipe), development, recipe)

    return {
        "imputation": {
            "chosen": settings.imputation,
            "methods": [
                {"id": method, "title": _IMPUTATIONS[method], **entry({"imputation": method})}
                for method in raw["preprocessing"]["compared"]
            ],
        },
        "class_weighting": {
            "chosen": settings.class_weighting,
            "methods": [
                {
                    "id": method,
                    "title": _CLASS_WEIGHTINGS[method],
                    **entry({"class_weighting": method}),
                }
                for method in raw["fit"]["class_weightings_compared"]
            ],
        },
        "masking": {
            "chosen_share": settings.masked_share,
            "methods": [
                {
                    "id": f"share-{share:g}",
                    "title": "Records as they are"
                    if share == 0
                    else f"{share:.0%} of the weight on copies with panels blanked out",
                    **entry({"masked_share": share}),
                }
                for share in raw["fit"]["masked_shares_compared"]
            ],
        },
    }


def _entry(unseen: OutOfFold, development: Sample, recipe: Recipe) -> Json:
    ones = np.ones((1, len(development)))
    return {
        "log_loss": round(mean_loss(unseen, development, recipe), 6),
        "auroc": {
            scenario.id: round(
                float(measures.auroc(unseen.margins[scenario.id], development.events, ones)[0]),
                4,
            )
            for scenario in recipe.scenarios
        },
    }
