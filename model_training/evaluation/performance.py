"""Everything that one set of people, given one kind of record, says of a model.

The report has it for everybody, for each group of people and for each kind of record: the same
figures, by the same code. Where too few people are left for a figure it is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_training import measures
from model_training.evaluation.calibration import calibration
from model_training.evaluation.decisions import alert, decision_curve, yield_at
from model_training.evaluation.scored import Json, Scored, figure
from model_training.sample import Floats
from model_training.thresholds import Cuts

# What a part of the people shows less finely than everybody: a curve's points.
_PART, _EVERYBODY = 30, 60
# The members that the report's `test` itself has for everybody with complete records.
WHOLE = (
    "calibration",
    "sensitivity_at_false_positive_rate",
    "specificity_at_sensitivity",
    "decision_curve",
    "alerts",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """How to measure: the recipe's [evaluation] and the cuts in use."""

    rule: Mapping[str, Any]
    cuts: Cuts

    def of(self, scored: Scored, rivals: Mapping[str, Floats], *, everybody: bool = False) -> Json:
        """`rivals`: the risks that other means gave these people, by title."""
        return {
            **self._overall(scored),
            "calibration": calibration(
                scored,
                replicates=self.rule["fitted_replicates"],
                points=_EVERYBODY if everybody else _PART,
            ),
            **self._at_fixed_rates(scored),
            "decision_curve": decision_curve(scored, rivals, self.rule["decision_thresholds"]),
            "alerts": [alert(scored, cut) for cut in self._alert_cuts()],
        }

    def _overall(self, scored: Scored) -> Json:
        return {
            "auroc": figure(scored.measure(measures.auroc, weighted=False)),
            "auroc_weighted": figure(scored.measure(measures.auroc)),
            "average_precision": figure(scored.measure(measures.average_precision, weighted=False)),
            "average_precision_weighted": figure(scored.measure(measures.average_precision)),
            "brier": figure(scored.measure(measures.brier, weighted=False)),
            "brier_weighted": figure(scored.measure(measures.brier)),
            "observed_to_expected": figure(scored.measure(measures.observed_to_expected)),
            "at_moderate": yield_at(scored, self.cuts.moderate),
        }

    def _at_fixed_rates(self, scored: Scored) -> Json:
        return {
            "sensitivity_at_false_positive_rate": {
                f"{rate:g}": figure(
                    scored.measure(
                        measures.sensitivity_at_false_positive_rate(rate), weighted=False
                    )
                )
                for rate in self.rule["false_positive_rates"]
            },
            "specificity_at_sensitivity": {
                f"{wanted:g}": figure(
                    scored.measure(measures.specificity_at_sensitivity(wanted), weighted=False)
                )
                for wanted in self.rule["sensitivities"]
            },
        }

    def _alert_cuts(self) -> list[float]:
        return sorted({*self.rule["decision_thresholds"], self.cuts.moderate, self.cuts.high})
