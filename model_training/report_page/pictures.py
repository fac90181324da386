"""Every picture that a report's figures allow."""

from __future__ import annotations

from collections.abc import Callable

from model_training.report_page.calibration import calibration_picture, performance_picture
from model_training.report_page.decisions import alerts_picture, decision_picture
from model_training.report_page.discrimination import precision_recall_picture, roc_picture
from model_training.report_page.drawing import house_style
from model_training.report_page.explanation import beeswarm_picture, dependence_pictures
from model_training.report_page.figures import Json
from model_training.report_page.flow import flow_pictures
from model_training.report_page.groups import (
    comparators_picture,
    group_auroc_picture,
    group_ratio_picture,
    outcomes_picture,
    panel_pictures,
    records_picture,
)
from model_training.report_page.parts import group_parts, part_pictures, record_parts
from model_training.report_page.picture import Picture
from model_training.report_page.robustness import (
    learning_curve_picture,
    permutation_picture,
    race_pictures,
)

# A section of the page → what draws its pictures, in the order in which they stand there.
_ONE: dict[str, tuple[Callable[[Json], Picture | None], ...]] = {
    "card": (performance_picture,),
    "discrimination": (roc_picture, precision_recall_picture, outcomes_picture),
    "calibration": (calibration_picture,),
    "decisions": (decision_picture, alerts_picture),
    "groups": (group_auroc_picture, group_ratio_picture),
    "records": (records_picture,),
    "comparators": (comparators_picture,),
    "explanation": (beeswarm_picture,),
    "robustness": (learning_curve_picture, permutation_picture),
}


def _group_part_pictures(report: Json) -> list[Picture]:
    return [picture for parts in group_parts(report) for picture in part_pictures(parts)]


def _record_part_pictures(report: Json) -> list[Picture]:
    parts = record_parts(report)
    return part_pictures(parts) if parts else []


_SEVERAL: dict[str, Callable[[Json], list[Picture]]] = {
    "data": flow_pictures,
    "panels": panel_pictures,
    "group_parts": _group_part_pictures,
    "record_parts": _record_part_pictures,
    "dependence": dependence_pictures,
    "race": race_pictures,
}


def drawn(report: Json) -> dict[str, list[Picture]]:
    """Section → its pictures; a picture whose figures the report lacks is left out."""
    with house_style():
        pictures = {
            section: [picture for draw in drawers if (picture := draw(report)) is not None]
            for section, drawers in _ONE.items()
        }
        return pictures | {section: draw(report) for section, draw in _SEVERAL.items()}


def report_pictures(report: Json) -> dict[str, bytes]:
    """Path inside the artifact → SVG. The same report gives the same bytes."""
    pictures = [picture for section in drawn(report).values() for picture in section]
    return {f"report/{picture.name}.svg": picture.svg.encode() for picture in pictures}
