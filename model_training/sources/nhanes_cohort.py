"""Who is in: the cohort's rules applied one after the other, with the count after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from model_training.dataset import EVENT, FlowStep

_EXAMINED = 2  # RIDSTATR: interviewed and examined
_YES = 1

# In this order. What is kept, said so that the flow can be read, and the rule.
_RULES: tuple[tuple[str, Callable[[pd.DataFrame, Mapping[str, Any]], pd.Series[bool]]], ...] = (
    ("examined at a mobile centre", lambda p, _: p["examined"] == _EXAMINED),
    ("aged {minimum_age} or over", lambda p, rules: p["age"] >= rules["minimum_age"]),
    # The weight is above 0 for everybody examined; the weight of blood draws, which stands in its
    # place from 2021 on, for everybody whose blood was taken.
    ("HbA1c measured", lambda p, _: p["hba1c"].notna() & (p["survey_weight"] > 0)),
    # RIDEXPRG: 1 pregnant, 2 not, 3 could not be told, absent for men and outside the ages asked.
    ("not pregnant", lambda p, _: p["pregnant"] != _YES),
    # DIQ010: 3 "borderline" is no diagnosis and stays, and so do the very few who do not know (9),
    # refuse (7) or were not asked: the service meets them as people without a recorded diagnosis.
    ("never told of diabetes", lambda p, _: p["told_diabetes"] != _YES),
    # Treated diabetes is known diabetes, whatever the answer to DIQ010 was; and HbA1c under
    # treatment is not what it would be. The pills were asked of few before 2005.
    (
        "takes neither insulin nor pills to lower blood sugar",
        lambda p, _: (p["takes_insulin"] != _YES) & (p["takes_pills"] != _YES),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """The people kept, and how many were left after each rule, from everybody interviewed on."""

    people: pd.DataFrame
    flow: tuple[FlowStep, ...]


def select_cohort(people: pd.DataFrame, rules: Mapping[str, Any]) -> Cohort:
    """Adds the column `event`: the outcome, 0 or 1."""
    people = _with_event(people, rules)
    flow = [_step("interviewed", people)]
    for title, keeps in _RULES:
        people = people[keeps(people, rules)]
        flow.append(_step(title.format(minimum_age=rules["minimum_age"]), people))
    return Cohort(people=people.reset_index(drop=True), flow=tuple(flow))


def select_treated(people: pd.DataFrame, rules: Mapping[str, Any]) -> pd.DataFrame:
    """Those whom only the last rule left out, for the sensitivity analysis."""
    people = _with_event(people, rules)
    for _, keeps in _RULES[:-1]:
        people = people[keeps(people, rules)]
    return people[~_RULES[-1][1](people, rules)].reset_index(drop=True)


def _with_event(people: pd.DataFrame, rules: Mapping[str, Any]) -> pd.DataFrame:
    return people.assign(**{EVENT: (people["hba1c"] >= rules["outcome_at_least"]).astype(int)})


def _step(kept: str, people: pd.DataFrame) -> FlowStep:
    return FlowStep(kept=kept, people=len(people), events=int(people[EVENT].sum()))
