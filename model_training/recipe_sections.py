"""Which sections a recipe has and what stands in them, asked for when it is read: a recipe that
lacks one would otherwise fail late in a run of hours.

What a section means is said by the module that reads it. Entries that nobody reads are let be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from model_training.dataset import DatasetError

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
ShareOrNone = Annotated[float, Field(ge=0, le=1)]
ShareOrAll = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]
Some = Field(min_length=1)

Imputation = Literal["native", "median", "mice"]
ClassWeighting = Literal["none", "balanced"]
CalibrationMethod = Literal["none", "sigmoid", "beta", "isotonic"]
CutRule = Literal["f1", "alert_budget", "predictive_value", "net_benefit"]
ComparatorName = Literal["glucose", "logistic_regression", "ada_risk_test", "findrisc"]

_ARRAYS = ("features", "gates", "outcomes", "scenarios", "settled_by")
_TABLES_OF_TEXT = ("name", "question", "title", "version")
_WORDS = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "string_type": "a text in quotes",
}
_SHOWN = 40


class _Section(BaseModel, strict=True, allow_inf_nan=False):
    """Whole numbers, fractions and texts stay apart, as in TOML; but 1 will do for 1.0."""


class _Outcome(_Section):
    text: Text
    coding: list[dict[str, str]]


class _Cohort(_Section):
    """Which of the rules are needed depends on the source, which asks for them."""

    outcome_definition: Text
    minimum_age: Count | None = None
    outcome_concept: Text | None = None
    outcome_at_least: float | None = None
    outcome_icd9: Annotated[list[Text], Some] | None = None


class _Split(_Section):
    kind: Literal["period", "person"]
    development: Annotated[list[Text], Some] | None = None
    test: Annotated[list[Text], Some] | None = None
    test_share: Share | None = None
    seed: Seed | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = ("development", "test") if self.kind == "period" else ("test_share", "seed")
        lacking = [name for name in needed if getattr(self, name) is None]
        if lacking:
            raise ValueError(f'of kind "{self.kind}" lacks {", ".join(lacking)}')
        twice = sorted(set(self.development or ()) & set(self.test or ()))
        if twice:
            raise ValueError(f"has {', '.join(twice)} in development and in test")
        return self


class _JudgedOutcome(_Section):
    id: Text
    title: Text
    column: Text
    weight: Text


class _Feature(_Section):
    name: Text
    plausible: Bounds
    concept: Text | None = None
    title: Text | None = None
    statistic: Literal["latest", "min", "max", "mean", "count", "slope"] = "latest"
    clip_above: float | None = None
    required: bool = False
    monotone: Literal[-1, 0, 1] = 0
    categories: Annotated[dict[str, int], Some] | None = None
    look_back_days: Positive | None = None
    stale_after_days: Positive | None = None

    @model_validator(mode="after")
    def _upright(self) -> Self:
        low, high = self.plausible
        if low > high:
            raise ValueError("has a plausible range that is upside down")
        return self


class _Panel(_Section):
    title: Text
    features: Annotated[list[Text], Some]


class _Scenario(_Section):
    id: Text
    title: Text
    absent: list[Text]


class _Sufficiency(_Section):
    at_least_one_of: list[list[Text]] = []


class _Settling(_Section):
    concept: Text
    unit: Text
    look_back_days: Positive
    bands: Annotated[list[dict[str, Any]], Some]


class _Domain(_Section):
    minimum_age: Count | None = None
    exclude: list[Text] = []


class _Masking(_Section):
    copies: Count
    share: ShareOrNone
    seed: Seed
    chance: dict[str, ShareOrNone] = {}
    calibration_share: ShareOrNone
    calibration_seed: Seed


class _CrossValidation(_Section):
    folds: Annotated[int, Field(ge=2)]
    seed: Seed


class _Preprocessing(_Section):
    imputation: Imputation
    compared: list[Imputation]
    seed: Seed
    draws: Count
    rounds: Count


class _Parameters(_Section):
    """Of XGBoost; others of its own are handed on as they are."""

    max_depth: Count
    tree_method: Text | None = None
    max_bin: Count | None = None
    learning_rate: Positive | None = None
    subsample: ShareOrAll | None = None
    colsample_bytree: ShareOrAll | None = None
    min_child_weight: Annotated[float, Field(ge=0)] | None = None
    reg_lambda: Annotated[float, Field(ge=0)] | None = None


class _StudyParameters(_Parameters):
    rounds: Count


class _Fit(_Section):
    seed: Seed
    rounds: Count
    early_stopping: Count
    weighting: Literal["equal", "survey"]
    class_weighting: ClassWeighting
    class_weightings_compared: list[ClassWeighting]
    masked_shares_compared: list[ShareOrNone]
    parameters: _Parameters


class _Range(_Section):
    kind: Literal["int", "float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.low > self.high:
            raise ValueError("has low above high")
        if self.log and self.low <= 0:
            raise ValueError("is searched by its logarithm and has low at or below 0")
        if self.kind == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError('of kind "int" has bounds that are no whole numbers')
        return self


class _Search(_Section):
    trials: Count
    seed: Seed
    space: Annotated[dict[str, _Range], Some]


class _Calibration(_Section):
    in_the_large: Positive
    methods: Annotated[list[CalibrationMethod], Some]


class _Used(_Section):
    moderate: CutRule
    high: CutRule


class _Thresholds(_Section):
    step: Annotated[float, Field(gt=0, le=0.25)]
    alert_budget: Share
    predictive_value: Share
    needless_tests_per_case: Positive
    used: _Used
    why: Text


class _Candidate(_Section):
    id: Text
    title: Text
    inputs: list[Text]
    columns: Annotated[list[Text], Some]


class _Studies(_Section):
    seed: Seed
    replicates: Count
    permutations: Count
    learning_shares: Annotated[list[ShareOrAll], Some]
    core: Annotated[list[Text], Some]
    parameters: _StudyParameters
    explained_people: Count
    panels: list[_Candidate] = []


class _Axis(_Section):
    axis: Text
    feature: Text | None = None
    column: Text | None = None
    groups: Annotated[dict[str, list[float]], Some]

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.feature is None) == (self.column is None):
            raise ValueError("needs either a feature or a column")
        if self.feature and any(len(bounds) != 2 for bounds in self.groups.values()):
            raise ValueError("needs two bounds for each group of a feature")
        return self


class _Evaluation(_Section):
    replicates: Count
    fitted_replicates: Count
    seed: Seed
    comparators: list[ComparatorName] = []
    decision_thresholds: Annotated[list[Share], Some]
    false_positive_rates: Annotated[list[Share], Some]
    sensitivities: Annotated[list[Share], Some]
    groups: list[_Axis]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(low >= high for low, high in pairwise(self.decision_thresholds)):
            raise ValueError("has decision_thresholds that do not rise")
        return self


class _Outliers(_Section):
    method: Text
    concept: Text
    above: float
    reach: Positive


class _Mimic3(_Section):
    direction: Text
    outliers: _Outliers


class _Recipe(_Section):
    name: Text
    version: Text
    title: Text
    question: Text
    outcome: _Outcome
    cohort: _Cohort
    split: _Split
    mimic3: _Mimic3 | None = None
    outcomes: Annotated[list[_JudgedOutcome], Some]
    features: Annotated[list[_Feature], Some]
    sufficiency: _Sufficiency = _Sufficiency()
    domain: _Domain = _Domain()
    settled_by: list[_Settling] = []
    panels: dict[str, _Panel]
    masking: _Masking
    scenarios: Annotated[list[_Scenario], Some]
    cross_validation: _CrossValidation
    preprocessing: _Preprocessing
    fit: _Fit
    search: _Search
    calibration: _Calibration
    thresholds: _Thresholds
    studies: _Studies
    evaluation: _Evaluation
    gates: list[dict[str, Any]] = []


def require_sections(raw: Mapping[str, Any], file: str) -> None:
    """Raises DatasetError that names the file, the section and what is missing or wrong there."""
    try:
        _Recipe.model_validate(raw)
    except ValidationError as fault:
        raise DatasetError(f"{file}{_sentence(fault.errors()[0], raw)}.") from fault


def _sentence(fault: ErrorDetails, raw: Mapping[str, Any]) -> str:
    *within, last = fault["loc"]
    if fault["type"] == "missing":
        place = _place(tuple(within), raw)
        return f": {place} lacks {last}" if within else f" lacks {_section(str(last))}"
    place, given = _place(fault["loc"], raw), repr(fault["input"])
    if fault["type"] == "value_error":
        return f": {place} {fault['ctx']['error']}"
    if fault["type"] in _WORDS:
        wanted = f"should be {_WORDS[fault['type']]}"
    else:
        wanted = re.sub(r"^(Input|List|Dictionary|String) | after validation", "", fault["msg"])
    shown = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}…"
    return f": {place} {wanted}, and is {shown}"


def _place(path: tuple[int | str, ...], raw: Mapping[str, Any]) -> str:
    """`[fit] parameters max_depth`, `[[features]] glucose`."""
    inside: Any = raw
    words = []
    for depth, part in enumerate(path):
        inside = inside[part]
        words.append(_named(part, inside) if depth else _section(str(part)))
    return " ".join(words)


def _named(part: int | str, entry: Any) -> str:
    """A table in a list by its own name, where it has one."""
    if isinstance(part, str):
        return part
    names = (entry.get(key) for key in ("name", "id", "axis")) if isinstance(entry, dict) else ()
    return next((str(name) for name in names if name), f"number {part + 1}")


def _section(name: str) -> str:
    if name in _TABLES_OF_TEXT:
        return name
    return f"[[{name}]]" if name in _ARRAYS else f"[{name}]"
