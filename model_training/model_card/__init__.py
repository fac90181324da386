"""The model card: what a clinician or an auditor reads. Every figure is the manifest's or the
report's; what no measurement can say comes from the recipe's <recipe>.card.toml."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from model_training.model_card.attributes import attributes_section, source_attributes
from model_training.model_card.evidence import REPORT_FIGURES, Evidence, Json, evidence
from model_training.model_card.limits import (
    known_limits,
    limits_section,
    maintenance_section,
    warnings,
)
from model_training.model_card.making import (
    checks_section,
    gates_section,
    inputs_judged_section,
    making_section,
    race_section,
)
from model_training.model_card.opening import opening, use_section
from model_training.model_card.people import inputs_section, people_section
from model_training.model_card.performance import (
    calibration_section,
    comparators_section,
    groups_section,
    levels_section,
    outcomes_section,
    performance_section,
    records_section,
)
from model_training.model_card.tripod import tripod_items, tripod_section

_SECTIONS = (
    opening,
    use_section,
    performance_section,
    groups_section,
    race_section,
    levels_section,
    records_section,
    calibration_section,
    outcomes_section,
    comparators_section,
    limits_section,
    people_section,
    inputs_section,
    inputs_judged_section,
    making_section,
    checks_section,
    gates_section,
    maintenance_section,
    attributes_section,
    tripod_section,
)
# Of the test figures, what a reader of the card asks for; curves and rows stay in the report.
_MEASURED = (
    "people",
    "events",
    "prevalence",
    "prevalence_unweighted",
    "design",
    "scenarios",
    "outcomes",
    "alerts",
    "levels",
    "groups",
    "comparators",
    "with_treated",
    "sensitivity_at_false_positive_rate",
    "specificity_at_sensitivity",
)
_CALIBRATION = ("slope", "intercept_in_the_large", "observed_to_expected", "ici", "brier")


def model_card(
    manifest: Json, report: Json, statements: Json, *, pictures: Collection[str] | None = None
) -> str:
    """MODEL_CARD.md. A part that the report lacks is left out.

    `pictures`: paths inside the artifact that may be shown; by default what the manifest lists.
    """
    known = evidence(manifest, report, statements, pictures)
    return "\n\n".join(text for section in _SECTIONS if (text := section(known))) + "\n"


def model_card_json(manifest: Json, report: Json, statements: Json) -> dict[str, Any]:
    """model_card.json: the manifest's members but for its digests, and the card under `card`.

    So whoever read the manifest at /model-card before finds it where it was.
    """
    known = evidence(manifest, report, statements, ())
    described = {key: value for key, value in manifest.items() if key != "files"}
    return described | {"card": _card(known)}


def _card(known: Evidence) -> dict[str, Any]:
    return {
        "warnings": warnings(known),
        "statements": dict(known.statements),
        "data": known.report.get("data"),
        "performance": _measured(known),
        "race": known.report.get("race"),
        "gates": known.report.get("gates"),
        "forced": known.report.get("forced"),
        "limits": [{"title": limit.title, "text": limit.text} for limit in known_limits(known)],
        "source_attributes": [attribute.json() for attribute in source_attributes(known)],
        "tripod_ai": [item.json() for item in tripod_items(known)],
        "report": REPORT_FIGURES,
    }


def _measured(known: Evidence) -> dict[str, Any]:
    calibration = known.find("test", "calibration") or {}
    measured = {key: known.test.get(key) for key in _MEASURED}
    return measured | {
        "calibration": {key: calibration.get(key) for key in _CALIBRATION},
        "scenarios": {
            id_: _part(entry) for id_, entry in (known.test.get("scenarios") or {}).items()
        },
        "groups": {
            axis: {title: _part(entry) for title, entry in entries.items()}
            for axis, entries in (known.test.get("groups") or {}).items()
        },
    }


def _part(entry: Json) -> dict[str, Any]:
    """A group or a kind of record without its curves."""
    calibration = entry.get("calibration") or {}
    kept = {key: value for key, value in entry.items() if key != "decision_curve"}
    return kept | {"calibration": {key: calibration.get(key) for key in _CALIBRATION}}
