"""Made-up people and a small recipe, for tests of training: no data set, seconds in all."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from joblib import parallel_config

from model_training.logistic import logistic
from model_training.recipe import Recipe, parse_recipe
from model_training.sample import Floats, Ints, Sample, sample_from

PERIODS = ("2001-2002", "2003-2004", "2005-2006", "2007-2008")

_ADMISSION = """
[[features]]
name = "admission_type"
plausible = [0, 2]
categories = { ELECTIVE = 0, URGENT = 1, EMERGENCY = 2 }
"""

_TEXT = """
name = "made-up"
version = "1.0.0"
title = "Made-up disease"
question = "Would this person have it?"
outcome = { text = "Made-up disease", coding = [] }

[cohort]
outcome_definition = "drawn at random"

[split]
kind = "period"
development = ["2001-2002", "2003-2004", "2005-2006"]
test = ["2007-2008"]

[[outcomes]]
id = "hba1c"
title = "HbA1c"
column = "event"
weight = "weight"
[[outcomes]]
id = "fasting_glucose"
title = "Fasting glucose"
column = "event_fasting_glucose"
weight = "fasting_weight"
[[outcomes]]
id = "both"
title = "Both"
column = "event_both"
weight = "fasting_weight"

[[features]]
name = "age"
plausible = [18, 120]
clip_above = 80
required = true
monotone = 1
[[features]]
name = "sex"
plausible = [0, 1]
categories = { male = 0, female = 1 }
{admission}
[[features]]
name = "glucose"
plausible = [20, 1500]
monotone = 1
[[features]]
name = "body_mass_index"
plausible = [10, 120]
monotone = 1
[[features]]
name = "creatinine"
plausible = [0.1, 30]

[panels]
glucose = { title = "Glucose", features = ["glucose"] }
body_mass_index = { title = "BMI", features = ["body_mass_index"] }
kidney = { title = "Creatinine", features = ["creatinine"] }

[sufficiency]
at_least_one_of = [["glucose", "body_mass_index"]]

[masking]
copies = 2
share = 0.5
seed = 7
calibration_share = 0.5
calibration_seed = 9

[[scenarios]]
id = "complete"
title = "Complete record"
absent = []
[[scenarios]]
id = "no_glucose"
title = "No glucose"
absent = ["glucose"]

[cross_validation]
folds = 4
seed = 3

[preprocessing]
imputation = "native"
compared = ["native", "median", "mice"]
seed = 5
draws = 2
rounds = 2

[fit]
seed = 1
rounds = 12
early_stopping = 3
weighting = "equal"
class_weighting = "none"
class_weightings_compared = ["none", "balanced"]
masked_shares_compared = [0.0, 0.5]
[fit.parameters]
tree_method = "hist"
max_bin = 32
max_depth = 2
learning_rate = 0.3
subsample = 0.8
min_child_weight = 1

[search]
trials = 3
seed = 13
[search.space]
max_depth = { kind = "int", low = 1, high = 3 }
learning_rate = { kind = "float", low = 0.1, high = 0.5, log = true }

[calibration]
in_the_large = 0.25
methods = ["none", "sigmoid", "beta", "isotonic"]

[thresholds]
step = 0.01
alert_budget = 0.3
predictive_value = 0.5
needless_tests_per_case = 4
used = { moderate = "alert_budget", high = "predictive_value" }
why = "For tests."

[studies]
seed = 17
replicates = 40
permutations = 3
learning_shares = [0.1, 1.0]
core = ["age", "glucose", "body_mass_index"]
explained_people = 20
[studies.parameters]
tree_method = "hist"
max_bin = 32
max_depth = 2
learning_rate = 0.3
rounds = 12
seed = 1

[evaluation]
replicates = 30
fitted_replicates = 10
seed = 11
comparators = ["glucose", "logistic_regression"]
decision_thresholds = [0.1, 0.3]
false_positive_rates = [0.1, 0.2]
sensitivities = [0.8]
[[evaluation.groups]]
axis = "Sex"
feature = "sex"
groups = { "Men" = [0, 1], "Women" = [1, 2] }
[[evaluation.groups]]
axis = "Age"
feature = "age"
groups = { "Under 60" = [0, 60], "60 and over" = [60, 200] }
[[evaluation.groups]]
axis = "Race and ethnicity"
column = "ethnicity"
groups = { "Circle" = [], "Square" = [] }
"""


def small_recipe(*, one_hot: bool = False, **sections: Mapping[str, Any]) -> Recipe:
    """Five inputs, with `one_hot` a sixth of three categories; `sections` change entries of theirs:
    small_recipe(fit={"rounds": 3})."""
    recipe = parse_recipe(recipe_text(one_hot=one_hot))
    raw = deepcopy(dict(recipe.raw))
    for name, entries in sections.items():
        raw[name].update(entries)
    return replace(recipe, raw=raw)


def recipe_text(*, one_hot: bool = False) -> str:
    return _TEXT.replace("{admission}", _ADMISSION if one_hot else "")


def completed(text: str) -> str:
    """A recipe with the sections that `text` lacks: for tests of a source, which reads few."""
    given = tomllib.loads(text)
    head, *tables = re.split(r"^(?=\[)", recipe_text(), flags=re.MULTILINE)
    kept = [table for table in tables if re.findall(r"\w+", table)[0] not in given]
    lines = [line for line in head.splitlines() if line.partition(" ")[0] not in given]
    return "\n".join([*lines, text, *kept])


def made_up_people(
    count: int = 400, *, seed: int = 1, missing: float = 0.0, periods: Sequence[str] = PERIODS
) -> pd.DataFrame:
    """Glucose, BMI and age make the disease likelier, at `true_log_odds`; everything else is
    chance. `missing`: share absent of all but age, each value by itself."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, count).astype(float),
            "sex": rng.integers(0, 2, count).astype(float),
            "admission_type": rng.integers(0, 3, count).astype(float),
            "glucose": rng.normal(105, 20, count).round(1),
            "body_mass_index": rng.normal(28, 5, count).clip(15, 60).round(2),
            "creatinine": rng.lognormal(0, 0.3, count).round(3),
        }
    )
    events = _drawn(true_log_odds(table), rng)
    for name in table.columns.drop("age"):
        table.loc[rng.random(count) < missing, name] = np.nan
    return table.assign(
        record=[f"r{n:05}" for n in range(count)],
        person=[f"p{n:05}" for n in range(count)],
        period=[periods[n % len(periods)] for n in range(count)],
        event=events,
        weight=rng.uniform(0.5, 2.0, count),
        stratum=np.arange(count) % 15,
        sampling_unit=np.arange(count) // 15 % 2,
        ethnicity=np.where(rng.random(count) < 0.5, "Circle", "Square"),
    )


def made_up_sample(recipe: Recipe, count: int = 400, **people: Any) -> Sample:
    return sample_from(made_up_people(count, **people), recipe)


def true_log_odds(table: pd.DataFrame) -> Floats:
    return np.asarray(
        -1.5
        + 0.06 * (table["glucose"] - 105)
        + 0.1 * (table["body_mass_index"] - 28)
        + 0.03 * (table["age"] - 50),
        dtype=np.float64,
    )


def drawn(log_odds: Floats, seed: int) -> Floats:
    """0 or 1 per person, at the odds given."""
    return _drawn(log_odds, np.random.default_rng(seed)).astype(np.float64)


def in_this_process() -> AbstractContextManager[Any]:
    """Folds and studies one after the other: starting worker processes takes longer than they."""
    context: AbstractContextManager[Any] = parallel_config(backend="sequential")
    return context


def _drawn(log_odds: Floats, rng: np.random.Generator) -> Ints:
    happened: Ints = (rng.random(len(log_odds)) < logistic(log_odds)).astype(np.int64)
    return happened
