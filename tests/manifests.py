"""A small manifest for tests of everything around a model; figures here mean nothing clinically."""

from __future__ import annotations

from typing import Any


def feature(name: str, title: str, unit: str, **change: Any) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "concept": name,
        "unit": unit,
        "statistic": "latest",
        "look_back_days": 730,
        "plausible": [0, 5000],
        "required": False,
        "stale_after_days": 365,
        **change,
    }


def raw_manifest(**change: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "test-model",
        "version": "1.2.3",
        "title": "Test model",
        "outcome": {"text": "Undiagnosed type 2 diabetes"},
        "files": {
            name: {"sha256": "0" * 64, "bytes": 1}
            for name in ("model.ubj", "calibration.json", "golden_scores.json")
        },
        "features": [
            feature(
                "age",
                "Age",
                "a",
                plausible=[18, 120],
                required=True,
                look_back_days=None,
                stale_after_days=None,
            ),
            feature(
                "sex",
                "Sex",
                "1",
                categories={"male": 0, "female": 1},
                look_back_days=None,
                stale_after_days=None,
            ),
            feature("body_mass_index", "BMI", "kg/m2"),
            feature("glucose", "Glucose", "mg/dL"),
            feature("hdl_cholesterol", "HDL cholesterol", "mg/dL"),
        ],
        "sufficiency": {"at_least_one_of": [["glucose", "body_mass_index"]]},
        "domain": {"minimum_age": 18, "exclude": ["deceased", "known_diabetes", "pregnancy"]},
        "settled_by": [
            {
                "concept": "hba1c",
                "unit": "%",
                "look_back_days": 3650,
                "bands": [
                    {"id": "hba1c-diabetic", "at_least": 6.5, "within_days": 3650},
                    {"id": "hba1c-intermediate", "at_least": 5.7, "within_days": 365},
                    {"id": "hba1c-normal", "within_days": 365},
                ],
            }
        ],
        "levels": [
            {"level": "low", "below": 0.05},
            {"level": "moderate", "below": 0.15},
            {"level": "high"},
        ],
        "prevalence": 0.03,
        **change,
    }
