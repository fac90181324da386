"""A made-up report.json, complete and consistent with itself; its figures mean nothing clinically.

The figures are measured on simulated people, so that curves, tenths and tables agree with each
other as those of a real report do. Same seed, same report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.manifests import feature, raw_manifest

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Json = dict[str, Any]

MODERATE, HIGH = 0.035, 0.12
QUESTION = (
    "Would this adult, who is not known to have diabetes, show an HbA1c of 6.5 % or more "
    "if it were measured today?"
)
FEATURES = {
    # name: title, unit, mean, deviation, weight in the log-odds
    "glucose": ("Glucose", "mg/dL", 97.0, 13.0, 2.3),
    "age": ("Age", "a", 47.0, 17.0, 0.7),
    "body_mass_index": ("BMI", "kg/m2", 28.5, 6.4, 0.42),
    "triglycerides": ("Triglycerides", "mg/dL", 140.0, 80.0, 0.25),
    "gamma_glutamyl_transferase": ("GGT", "U/L", 26.0, 18.0, 0.2),
    "leukocytes": ("Leukocytes", "10*3/uL", 7.2, 2.0, 0.16),
    "hdl_cholesterol": ("HDL cholesterol", "mg/dL", 53.0, 15.0, -0.14),
    "systolic_blood_pressure": ("Systolic blood pressure", "mm[Hg]", 123.0, 17.0, 0.1),
    "sex": ("Sex", "1", 0.52, 0.5, 0.02),
}
AXES = {
    "Sex": ["Men", "Women"],
    "Age": ["18–39", "40–59", "60–69", "70 and over"],
    "Race and ethnicity": [
        "Mexican American",
        "Other Hispanic",
        "Non-Hispanic White",
        "Non-Hispanic Black",
        "Non-Hispanic Asian",
        "Other or multiple",
    ],
    "BMI": ["Under 25", "25 to 30", "30 and over"],
}
COMPARATORS = {
    "Logistic regression": 0.35,
    "Glucose alone, recalibrated": 0.7,
    "ADA risk test": 2.4,
}


def made_up_report(seed: int = 7) -> Json:
    """Every section of report.json filled; people, events and curves from one simulation."""
    chance = np.random.default_rng(seed)
    people = _People(chance, 4500)
    return {
        "format": 2,
        "model": {
            "name": "test-model",
            "version": "1.2.3",
            "title": "Test model",
            "question": QUESTION,
            "algorithm": "Gradient-boosted trees (XGBoost)",
            "trees": 420,
            "max_depth": 4,
            "imputation": "native",
            "calibration": "sigmoid",
            "features": len(FEATURES),
        },
        "data": _data(people),
        "choices": _choices(),
        "test": _test(people),
        "explanation": _explanation(people, chance),
        "learning_curve": [
            {
                "people": size,
                "events": size // 33,
                "auroc": _figure(0.925 - 1.9 / math.sqrt(size), 0.6 / math.sqrt(size)),
                "log_loss": round(0.062 + 0.9 / size**0.6, 5),
            }
            for size in (1500, 3000, 6000, 12000, 24000, 36697)
        ],
        "permutation": _permutation(chance),
        "race": _race(),
        "gates": [
            _gate("auroc_low", "AUROC, lower bound of its interval", 0.908, "at_least", 0.85, True),
            _gate("slope", "Calibration slope", 0.96, "within", [0.8, 1.2], True),
            _gate("group", "Lowest AUROC of a group", 0.881, "at_least", 0.86, True),
        ],
        "forced": None,
    }


def made_up_manifest(**change: Any) -> Json:
    """A manifest that goes with `made_up_report`: the same model, features and cuts."""
    described: Json = {
        "question": QUESTION,
        "features": [
            feature(name, title, unit, required=name == "age")
            for name, (title, unit, *_) in FEATURES.items()
        ],
        "levels": [
            {"level": "low", "below": MODERATE},
            {"level": "moderate", "below": HIGH},
            {"level": "high"},
        ],
        "levels_rationale": "Moderate from 0.035: at most 10 % of adults are alerted.",
    }
    return raw_manifest(**(described | change))


class _People:
    """Simulated test people: standard normal inputs, true log-odds, predicted risk, outcome."""

    def __init__(self, chance: np.random.Generator, count: int) -> None:
        self.inputs = {name: chance.normal(size=count) for name in FEATURES}
        self.inputs["sex"] = np.where(chance.random(count) < 0.52, 0.96, -1.04)
        drivers = (spec[4] * self.inputs[name] for name, spec in FEATURES.items())
        truth = -6.3 + np.sum(list(drivers), axis=0)
        self.event = chance.random(count) < _expit(truth)
        self.risk = _expit(truth + chance.normal(scale=0.25, size=count))
        self.rivals = {
            title: _expit(
                -6.3 + (truth + 6.3) / (1 + 0.3 * blur) + chance.normal(scale=blur, size=count)
            )
            for title, blur in COMPARATORS.items()
        }
        self.axis = {
            axis: chance.integers(len(titles), size=count) for axis, titles in AXES.items()
        }


def _expit(margin: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-margin)))


def _figure(value: float, error: float) -> list[float | None]:
    return [round(value, 4), round(value - 1.96 * error, 4), round(value + 1.96 * error, 4)]


def _share(part: float, whole: float) -> list[float | None]:
    share = float(part / max(whole, 1))
    error = 1.96 * math.sqrt(share * (1 - share) / max(whole, 1))
    return [round(share, 4), round(max(0, share - error), 4), round(min(1, share + error), 4)]


def _auroc(risk: Floats, event: Flags, error_scale: float = 1.0) -> list[float | None]:
    if event.all() or not event.any():
        return [None, None, None]
    ranks = np.argsort(np.argsort(risk)) + 1.0
    cases, controls = int(event.sum()), int((~event).sum())
    value = float((ranks[event].sum() - cases * (cases + 1) / 2) / (cases * controls))
    error = error_scale * math.sqrt(value * (1 - value) / cases) / 2
    return [
        round(value, 4),
        round(value - 1.96 * error, 4),
        round(min(0.9999, value + 1.96 * error), 4),
    ]


def _average_precision(risk: Floats, event: Flags) -> list[float | None]:
    found = event[np.argsort(-risk)]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return _figure(float(precision[found].mean()) if found.any() else 0.0, 0.04)


def _at(risk: Floats, event: Flags, cut: float) -> Json:
    flagged = risk >= cut
    return {
        "cut": cut,
        "flagged": _share(flagged.sum(), len(risk)),
        "sensitivity": _share((flagged & event).sum(), event.sum()),
        "specificity": _share((~flagged & ~event).sum(), (~event).sum()),
        "ppv": _share((flagged & event).sum(), flagged.sum()),
    }


def _brier(risk: Floats, event: Flags) -> list[float | None]:
    return _figure(float(np.mean((risk - event) ** 2)), 0.0012)


def _measures(risk: Floats, event: Flags, rivals: Mapping[str, Floats]) -> Json:
    expected = float(risk.sum())
    ratio = float(event.sum()) / expected
    return {
        "auroc": _auroc(risk, event),
        "auroc_weighted": _auroc(risk, event, 1.2),
        "average_precision": _average_precision(risk, event),
        "average_precision_weighted": _average_precision(risk, event),
        "brier": _brier(risk, event),
        "brier_weighted": _brier(risk, event),
        "observed_to_expected": _figure(ratio, ratio / math.sqrt(max(event.sum(), 1)) / 1.2),
        "at_moderate": _at(risk, event, MODERATE),
        "calibration": _calibration(risk, event),
        **_at_fixed_rates(risk, event),
        "decision_curve": _decision_curve(risk, event, rivals),
        "alerts": [_alert(_at(risk, event, cut)) for cut in _cuts()],
    }


def _at_fixed_rates(risk: Floats, event: Flags) -> Json:
    return {
        "sensitivity_at_false_positive_rate": {
            str(rate): _share(
                (risk[event] >= np.quantile(risk[~event], 1 - rate)).sum(), event.sum()
            )
            for rate in (0.05, 0.1, 0.2)
        },
        "specificity_at_sensitivity": {
            str(aim): _share(
                (risk[~event] < np.quantile(risk[event], 1 - aim)).sum(), (~event).sum()
            )
            for aim in (0.8, 0.9, 0.95)
        },
    }


def _data(people: _People) -> Json:
    kept = ["interviewed", "examined at a mobile centre", "aged 18 or over", "HbA1c measured"]
    kept += ["not pregnant", "never told of diabetes", "takes no drug that lowers blood sugar"]

    def flow(last: int, events: int) -> list[Json]:
        scale = (2.2, 2.1, 1.265, 1.2, 1.187, 1.013, 1.0)
        more = (5.42, 5.42, 5.4, 5.4, 5.38, 1.19, 1.0)
        return [
            {"kept": title, "people": round(last * by), "events": round(events * rise)}
            for title, by, rise in zip(kept, scale, more, strict=True)
        ]

    cycles = [f"{year}-{year + 1}" for year in range(1999, 2014, 2)]
    test_people, test_events = len(people.event), int(people.event.sum())
    numbers = [("Age, years", 47, 34, 60, 0.0), ("BMI, kg/m²", 28, 24.3, 32.6, 0.01)]
    numbers += [("Glucose, mg/dL", 93, 86, 101, 0.06), ("HDL cholesterol, mg/dL", 51, 42, 62, 0.05)]
    return {
        "source": "nhanes",
        "description": "National Health and Nutrition Examination Survey, United States",
        "notes": ["A small sample of one country; HbA1c was measured once."],
        "parts": {
            "development": {
                "periods": cycles,
                "people": 36697,
                "events": 1054,
                "flow": flow(36697, 1054),
            },
            "test": {
                "periods": ["2015-2016"],
                "people": test_people,
                "events": test_events,
                "flow": flow(test_people, test_events),
            },
        },
        "characteristics": [
            {"title": title, "kind": "number", "development": row, "test": row}
            for title, *row in numbers
        ]
        + [
            {"title": "Women", "kind": "share", "development": [19082, 0.52], "test": [2340, 0.52]},
            {
                "title": "Non-Hispanic Black",
                "kind": "share",
                "development": [7700, 0.2098],
                "test": [930, 0.2067],
            },
        ],
    }


def _choices() -> Json:
    methods = [("native", "The trees' own branch for absent values"), ("median", "Median")]
    methods.append(("mice", "Chained equations, 5 imputations pooled"))
    weightings = [("none", "None"), ("balanced", "Classes weighted to equal sums")]
    return {
        "cross_validation": {
            "folds": [
                ["1999-2000", "2007-2008"],
                ["2001-2002", "2009-2010"],
                ["2003-2004", "2011-2012"],
                ["2005-2006", "2013-2014"],
            ],
            "criterion": "Survey-weighted log loss, mean of the folds and of complete and "
            "incomplete records.",
        },
        "search": {
            "trials": 40,
            "sampler": "TPE",
            "chosen": {"max_depth": 4, "eta": 0.0312, "min_child_weight": 22.5, "lambda": 3.1},
            "table": [
                {
                    "number": 31 - 2 * place,
                    "value": round(0.06371 + place * 0.00006, 5),
                    "max_depth": 3 + place % 3,
                    "eta": round(0.03 + place * 0.004, 4),
                    "min_child_weight": 22.5 - place,
                }
                for place in range(10)
            ],
        },
        "imputation": {
            "chosen": "native",
            "methods": [
                {
                    "id": method,
                    "title": title,
                    "log_loss": _figure(0.0637 + 0.0004 * place, 0.0009),
                    "auroc": {
                        "complete": 0.921 - 0.002 * place,
                        "no_glucose": 0.842 - 0.006 * place,
                    },
                }
                for place, (method, title) in enumerate(methods)
            ],
        },
        "class_weighting": {
            "chosen": "none",
            "methods": [
                {
                    "id": method,
                    "title": title,
                    "log_loss": 0.0637 + 0.001 * place,
                    "auroc": 0.921 - 0.001 * place,
                }
                for place, (method, title) in enumerate(weightings)
            ],
        },
        "masking": {
            "chosen_share": 0.8,
            "methods": [
                {"share": share, "log_loss": loss, "auroc": auroc}
                for share, loss, auroc in (
                    (0.0, 0.0653, 0.92),
                    (0.4, 0.064, 0.921),
                    (0.8, 0.0637, 0.921),
                )
            ],
        },
        "calibration": {
            "chosen": "sigmoid",
            "methods": [
                {"id": "identity", "log_loss": 0.0649, "slope": 1.21, "ici": 0.0041},
                {"id": "sigmoid", "log_loss": 0.0637, "slope": 1.01, "ici": 0.0013},
                {"id": "beta", "log_loss": 0.0638, "slope": 1.0, "ici": 0.0014},
                {"id": "isotonic", "log_loss": 0.0641, "slope": 0.93, "ici": 0.0017},
            ],
        },
        "thresholds": {
            "used": {"moderate": "alert budget", "high": "one in three has the outcome"},
            "candidates": [
                {
                    "rule": rule,
                    "cut": cut,
                    "sensitivity": sensitivity,
                    "ppv": ppv,
                    "alerts_per_1000": alerts,
                }
                for rule, cut, sensitivity, ppv, alerts in (
                    ("alert budget", MODERATE, 0.76, 0.16, 92.0),
                    ("one in three has the outcome", HIGH, 0.6, 0.33, 35.0),
                    ("F1", 0.16, 0.52, 0.41, 25.0),
                    ("net benefit", 0.05, 0.7, 0.2, 70.0),
                )
            ],
        },
        "panels": _panels(),
    }


def _panels() -> Json:
    outcomes = ["hba1c", "fasting_glucose", "both"]
    # id, title, inputs, verdict, reason, log-loss gain × 1e4 by outcome when glucose is known
    panels = [
        (
            "metabolic",
            "Kidney and liver values",
            ["Creatinine", "ALT", "AST", "GGT", "Urate", "Albumin"],
            "in",
            "It helps for HbA1c and for both tests together.",
            (9, 4, 8),
        ),
        (
            "lipids",
            "Lipids",
            ["Total cholesterol", "HDL cholesterol", "Triglycerides"],
            "in",
            "It helps when glucose is unknown, for every outcome.",
            (4, 3, 3),
        ),
        (
            "red_cells",
            "Red-cell indices",
            ["MCV", "MCH", "Red-cell width"],
            "out",
            "It helps for HbA1c only: it predicts the assay and not the disease.",
            (11, 0, -1),
        ),
        (
            "family",
            "Family history",
            ["Parent or sibling with diabetes"],
            "out",
            "The gain cannot be told from nothing.",
            (1, 1, 0),
        ),
    ]
    return {
        "rule": "A panel is in when its gain is above zero, with its interval, for HbA1c and "
        "for both tests together, in one setting at least.",
        "outcomes": [
            {"id": "hba1c", "title": "HbA1c ≥ 6.5 %", "people": 36697, "events": 1054},
            {
                "id": "fasting_glucose",
                "title": "Fasting glucose ≥ 126 mg/dL",
                "people": 15302,
                "events": 611,
            },
            {"id": "both", "title": "Both", "people": 15302, "events": 272},
        ],
        "settings": [
            {"id": "complete", "title": "Glucose known"},
            {"id": "no_glucose", "title": "Glucose unknown"},
        ],
        "panels": [
            {
                "id": panel,
                "title": title,
                "inputs": inputs,
                "verdict": verdict,
                "reason": reason,
                "gain": {
                    setting: {
                        outcome: _figure(gain * factor * 1e-4, 1.6e-4 * factor)
                        for outcome, gain in zip(outcomes, gains, strict=True)
                    }
                    for setting, factor in (("complete", 1.0), ("no_glucose", 1.8))
                },
            }
            for panel, title, inputs, verdict, reason, gains in panels
        ],
    }


def _test(people: _People) -> Json:
    risk, event = people.risk, people.event
    at_moderate, at_high = _at(risk, event, MODERATE), _at(risk, event, HIGH)
    return {
        "people": len(event),
        "events": int(event.sum()),
        "prevalence": _share(event.sum(), len(event)),
        "prevalence_unweighted": round(float(event.mean()), 4),
        "replicates": 1000,
        "design": "Bootstrap of the survey's sampling units within strata, 1000 replicates.",
        "scenarios": _scenarios(people),
        "outcomes": _outcomes(people),
        "calibration": _calibration(risk, event),
        "roc": _roc(risk, event),
        "precision_recall": _precision_recall(risk, event),
        **_at_fixed_rates(risk, event),
        "decision_curve": _decision_curve(risk, event, people.rivals),
        "alerts": [_alert(_at(risk, event, cut)) for cut in _cuts()],
        "levels": {
            "at_moderate": at_moderate,
            "at_high": at_high,
            "bands": {
                "low": _band(risk, event, 0, MODERATE),
                "moderate": _band(risk, event, MODERATE, HIGH),
                "high": _band(risk, event, HIGH, 2),
            },
        },
        "groups": {
            axis: {
                title: _group(people, people.axis[axis] == at) for at, title in enumerate(titles)
            }
            for axis, titles in AXES.items()
        },
        "comparators": {title: _comparator(people, title) for title in COMPARATORS},
        "with_treated": {
            "people": 4562,
            "events": 171,
            "auroc": [0.921, 0.9, 0.942],
            "auroc_weighted": [0.93, 0.906, 0.951],
        },
    }


def _cuts() -> list[float]:
    return [0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.05, 0.07, 0.09, 0.12, 0.16, 0.2, 0.3]


def _scenarios(people: _People) -> Json:
    kinds = {
        "complete": ("Complete record", [], 0.0),
        "no_glucose": ("No glucose", ["Glucose"], 1.4),
        "no_lipids": ("No lipids", ["Lipids"], 0.3),
        "no_labs": ("No laboratory values", ["Glucose", "Lipids", "Kidney and liver values"], 2.0),
        "no_body_mass_index": ("No BMI", ["BMI"], 0.5),
    }
    chance = np.random.default_rng(0)

    def blurred(blur: float) -> Floats:
        margin = np.log(people.risk / (1 - people.risk))
        return _expit(-5.6 + (margin + 6.3) / (1 + blur) + blur * chance.normal(size=len(margin)))

    return {
        scenario: {
            "title": title,
            "absent": absent,
            **_measures(
                blurred(blur) if absent else people.risk,
                people.event,
                {"ADA risk test": people.rivals["ADA risk test"]} if absent else people.rivals,
            ),
        }
        for scenario, (title, absent, blur) in kinds.items()
    }


def _outcomes(people: _People) -> Json:
    def outcome(title: str, keep: Flags, event: Flags) -> Json:
        return {
            "title": title,
            "people": int(keep.sum()),
            "events": int(event[keep].sum()),
            "auroc": _auroc(people.risk[keep], event[keep]),
            "average_precision": _average_precision(people.risk[keep], event[keep]),
            "scenarios": {
                "no_glucose": {
                    "auroc": _auroc(people.rivals["ADA risk test"][keep], event[keep]),
                    "average_precision": _figure(0.2, 0.03),
                }
            },
            "comparators": {
                rival: {"auroc": _auroc(risk[keep], event[keep])}
                for rival, risk in people.rivals.items()
            },
        }

    everybody = np.ones(len(people.event), dtype=bool)
    fasting = people.axis["BMI"] < 2
    return {
        "hba1c": outcome("HbA1c ≥ 6.5 %", everybody, people.event),
        "fasting_glucose": outcome("Fasting glucose ≥ 126 mg/dL", fasting, people.event),
        "both": outcome("Both", fasting, people.event & (people.inputs["glucose"] > 0.8)),
    }


def _calibration(risk: Floats, event: Flags) -> Json:
    tenths = np.array_split(np.argsort(risk), 10)
    grid = np.geomspace(0.0006, 0.6, 25)
    groups = [
        {
            "people": len(tenth),
            "events": int(event[tenth].sum()),
            "predicted": round(float(risk[tenth].mean()), 5),
            "observed": round(float(event[tenth].mean()), 5),
        }
        for tenth in tenths
    ]
    ratio = float(event.sum() / risk.sum())
    spread = 0.18 + 0.25 * np.abs(np.log(grid / 0.05)) / 2
    return {
        "slope": _figure(0.96, 0.055),
        "intercept_in_the_large": _figure(math.log(ratio), 0.09),
        "observed_to_expected": _figure(ratio, 0.09),
        "ici": _figure(0.0021, 0.0005),
        "brier": _brier(risk, event),
        "groups": groups,
        "curve": [
            [
                round(float(at), 6),
                round(float(at * ratio), 6),
                round(float(at * ratio * math.exp(-width)), 6),
                round(float(min(0.98, at * ratio * math.exp(width))), 6),
            ]
            for at, width in zip(grid, spread, strict=True)
        ],
        "unweighted": {
            "slope": _figure(0.95, 0.05),
            "intercept_in_the_large": _figure(0.04, 0.08),
            "observed_to_expected": _figure(1.05, 0.08),
            "ici": _figure(0.0024, 0.0005),
        },
    }


def _roc(risk: Floats, event: Flags) -> list[list[float]]:
    rates = np.linspace(0, 1, 101)
    cuts = np.quantile(risk[~event], 1 - rates)
    return [
        [round(float(rate), 4), round(float((risk[event] >= cut).mean()), 4)]
        for rate, cut in zip(rates, cuts, strict=True)
    ]


def _precision_recall(risk: Floats, event: Flags) -> list[list[float]]:
    points = []
    for recall in np.linspace(0.02, 1, 50):
        flagged = risk >= np.quantile(risk[event], 1 - recall)
        points.append([round(float(recall), 4), round(float(event[flagged].mean()), 4)])
    return points


def _net_benefit(risk: Floats, event: Flags, at: float) -> float:
    flagged = risk >= at
    true, false = (flagged & event).mean(), (flagged & ~event).mean()
    return round(float(true - false * at / (1 - at)), 6)


def _decision_curve(risk: Floats, event: Flags, rivals: Mapping[str, Floats]) -> Json:
    thresholds = [round(0.005 * step, 3) for step in range(1, 41)]
    risks = {"This model": risk, "Test everybody": np.ones(len(event)), **rivals}
    return {
        "thresholds": thresholds,
        "curves": {
            title: [_net_benefit(given, event, at) for at in thresholds]
            for title, given in risks.items()
        },
    }


def _alert(at: Json) -> Json:
    alerts = [None if part is None else round(1000 * part, 1) for part in at["flagged"]]
    return {
        "cut": at["cut"],
        "alerts_per_1000": alerts,
        "ppv": at["ppv"],
        "sensitivity": at["sensitivity"],
    }


def _band(risk: Floats, event: Flags, low: float, high: float) -> Json:
    inside = (risk >= low) & (risk < high)
    return {
        "people": int(inside.sum()),
        "events": int(event[inside].sum()),
        "share": round(float(inside.mean()), 4),
        "observed": _share(event[inside].sum(), inside.sum()),
    }


def _group(people: _People, members: Flags) -> Json:
    event = people.event[members]
    counts = {"people": int(members.sum()), "events": int(event.sum())}
    rivals = {title: risk[members] for title, risk in people.rivals.items()}
    return counts | _measures(people.risk[members], event, rivals)


def _comparator(people: _People, title: str) -> Json:
    auroc = _auroc(people.rivals[title], people.event)
    ours = _auroc(people.risk, people.event)
    assert ours[0] is not None
    assert auroc[0] is not None
    note = "family history and activity were not asked of everybody"
    return {
        "auroc": auroc,
        "auroc_weighted": auroc,
        "average_precision": _average_precision(people.rivals[title], people.event),
        "model_minus_comparator": _figure(ours[0] - auroc[0], 0.008),
        "note": note if title == "ADA risk test" else None,
    }


def _explanation(people: _People, chance: np.random.Generator) -> Json:
    shown = chance.choice(len(people.event), size=400, replace=False)
    rows = [_explained(name, people.inputs[name][shown], chance) for name in FEATURES]
    importance = [
        {
            "feature": row["feature"],
            "title": row["title"],
            "mean_abs_log_odds": round(_mean_size(row["log_odds"]), 4),
        }
        for row in rows
    ]
    importance.sort(key=lambda entry: -entry["mean_abs_log_odds"])
    return {"importance": importance, "people": len(shown), "rows": rows}


def _explained(name: str, inputs: Floats, chance: np.random.Generator) -> Json:
    """Contributions that saturate at both ends, as those of trees do; some values absent."""
    title, unit, mean, deviation, weight = FEATURES[name]
    contribution = weight * 1.6 * np.tanh(inputs / 1.6) + chance.normal(
        scale=0.05, size=len(inputs)
    )
    absent = chance.random(len(inputs)) < (0.0 if name in ("age", "sex") else 0.06)
    values = (
        np.round(np.maximum(mean + deviation * inputs, 0.35 * mean), 1)
        if name != "sex"
        else (inputs > 0) * 1.0
    )
    return {
        "feature": name,
        "title": title,
        "unit": unit,
        "values": [
            None if gone else float(value) for value, gone in zip(values, absent, strict=True)
        ],
        "log_odds": [
            round(float(-0.1 if gone else part), 4)
            for part, gone in zip(contribution, absent, strict=True)
        ],
    }


def _mean_size(values: Sequence[float]) -> float:
    return float(np.mean(np.abs(values)))


def _permutation(chance: np.random.Generator) -> Json:
    auroc = [round(float(value), 4) for value in chance.normal(0.5, 0.018, size=20)]
    return {"repeats": len(auroc), "auroc": auroc, "mean": round(float(np.mean(auroc)), 4)}


def _race() -> Json:
    groups = AXES["Race and ethnicity"]
    return {
        "without": {"auroc": 0.9231, "log_loss": 0.0637},
        "with": {"auroc": 0.9254, "log_loss": 0.0634},
        "difference": [0.0023, -0.0011, 0.0058],
        "groups": {
            group: {
                "observed_to_expected": {
                    "without": _figure(0.8 + 0.16 * place, 0.12),
                    "with": _figure(0.95 + 0.03 * place, 0.12),
                },
                "sensitivity_at_moderate": {
                    "without": _figure(0.78 - 0.03 * place, 0.06),
                    "with": _figure(0.77, 0.06),
                },
            }
            for place, group in enumerate(groups)
        },
        "fasting": {
            group: {
                "observed_to_expected": {
                    "without": _figure(1.02 - 0.03 * place, 0.16),
                    "with": _figure(1.2 - 0.1 * place, 0.16),
                }
            }
            for place, group in enumerate(groups)
        },
    }


def _gate(gate: str, title: str, measured: float, rule: str, required: Any, passed: bool) -> Json:
    return {
        "id": gate,
        "title": title,
        "measured": measured,
        "rule": rule,
        "required": required,
        "passed": passed,
        "note": None,
    }
