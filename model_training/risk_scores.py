"""Published questionnaires on the same people: the ADA risk test and FINDRISC, as far as they go.

Columns as the sources give them: age (years), sex (0 male, 1 female), body_mass_index (kg/m2),
waist (cm), and 0/1 for family_history, hypertension, antihypertensives, gestational_diabetes and
physically_active. NaN is an item that is missing: it counts 0 points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

_FEMALE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskScore:
    """Points per person, in the rows' order.

    `most` is the sum that can be reached with the items asked here; `left_out` names the items of
    the published form that are not. `missing` is, by item, the share of people in whom it is
    missing, and `incomplete` the share in whom any is.
    """

    title: str
    points: Floats
    most: int
    left_out: tuple[str, ...]
    missing: Mapping[str, float]
    incomplete: float


def ada_risk_test(people: pd.DataFrame) -> RiskScore:
    """The ADA/CDC prediabetes risk test, 0 to 10 points (5 or more: "high risk").

    Bang et al., Ann Intern Med 2009;151:775-783, doi:10.7326/0003-4819-151-11-200912010-00005, with
    the point for diabetes in pregnancy of the form that ADA and CDC publish:
    https://www.cdc.gov/diabetes/widgets/risktest/how-your-test-is-scored.html
    Of the form, the lower BMI limits for Asian Americans are left out: groups are never an input.
    """
    men = _sex(people, female=False)
    return _score(
        "ADA risk test",
        most=10,  # the points for being a man and for diabetes in pregnancy exclude each other
        left_out=("BMI limits for Asian Americans",),
        items={
            "age": _from(people["age"], {40: 1, 50: 2, 60: 3}),
            "sex": men,
            # A man's answer is known, whatever the column says.
            "gestational_diabetes": people["gestational_diabetes"].mask(men == 1, 0.0),
            "family_history": people["family_history"],
            "hypertension": people["hypertension"],
            "physically_active": 1 - people["physically_active"],
            "body_mass_index": _from(people["body_mass_index"], {25: 1, 30: 2, 40: 3}),
        },
    )


def findrisc(people: pd.DataFrame) -> RiskScore:
    """The Finnish Diabetes Risk Score without diet and former high glucose: 0 to 20 points of 26.

    Lindström & Tuomilehto, Diabetes Care 2003;26:725-731, doi:10.2337/diacare.26.3.725; items,
    limits and points of the form in use, which adds ages over 64 and family history to the paper's.
    Relatives of the second degree (3 points) are not known: only a parent, a brother or a
    sister counts (5).
    """
    waist_of_men = _over(people["waist"], 94, 102)
    waist_of_women = _over(people["waist"], 80, 88)
    women = _sex(people, female=True)
    return _score(
        "FINDRISC (without diet and former high glucose)",
        most=20,
        left_out=(
            "vegetables, fruit or berries every day (1)",
            "ever high blood glucose (5)",
            "relatives of the second degree (3)",
        ),
        items={
            "age": _from(people["age"], {45: 2, 55: 3, 65: 4}),
            # "25–30" is 1 and "higher than 30" is 3: 30 itself is still 1.
            "body_mass_index": _from(people["body_mass_index"], {25: 1}).mask(
                people["body_mass_index"] > 30, 3.0
            ),
            "waist": waist_of_men.where(women == 0, waist_of_women).where(women.notna()),
            "physically_active": 2 * (1 - people["physically_active"]),
            "antihypertensives": 2 * people["antihypertensives"],
            "family_history": 5 * people["family_history"],
        },
    )


def _score(
    title: str, *, most: int, left_out: tuple[str, ...], items: Mapping[str, pd.Series[float]]
) -> RiskScore:
    table = pd.DataFrame(items)
    missing = table.isna()
    return RiskScore(
        title=title,
        points=table.fillna(0.0).sum(axis=1).to_numpy(dtype=np.float64),
        most=most,
        left_out=left_out,
        missing={str(name): float(share) for name, share in missing.mean().items()},
        incomplete=float(missing.any(axis=1).mean()),
    )


def _from(values: pd.Series[float], points: Mapping[float, float]) -> pd.Series[float]:
    """Limit → the points from that limit on; below the lowest 0, NaN where the value is."""
    scored = pd.Series(0.0, index=values.index)
    for limit in sorted(points):
        scored = scored.mask(values >= limit, points[limit])
    return scored.where(values.notna())


def _over(waist: pd.Series[float], low: float, high: float) -> pd.Series[float]:
    """Below the low limit 0, up to and with the high one 3, over it 4."""
    return _from(waist, {low: 3}).mask(waist > high, 4.0)


def _sex(people: pd.DataFrame, *, female: bool) -> pd.Series[float]:
    """1 for those of the sex, 0 for the others, NaN where it is not recorded."""
    return ((people["sex"] == _FEMALE) == female).astype(float).where(people["sex"].notna())
