"""What every source of people is read to: one table per part, one row per person or admission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

# Columns of every table of people, whatever its source. Beside them: one column per feature of the
# recipe (its name, canonical unit, NaN where absent), and whatever further columns the recipe's
# evaluation names (groups, other outcomes, items of risk scores).
RECORD = "record"  # str, unique: whom a stored prediction belongs to
PERSON = "person"  # str: rows of one person never lie on both sides of a split
PERIOD = "period"  # str: survey cycle or calendar years; validation goes from period to period
EVENT = "event"  # int, 0 or 1: the recipe's outcome
WEIGHT = "weight"  # float > 0: how many people the row stands for, 1 without a survey design
STRATUM = "stratum"  # int: survey stratum; one for all without a design
SAMPLING_UNIT = "sampling_unit"  # int: survey PSU inside the stratum; without a design, the person

DEVELOPMENT = "development"
TEST = "test"
# People of the test periods whom only the cohort's rule on treatment left out.
TREATED = "treated"


class DatasetError(Exception):
    """A source does not hold what the recipe needs: one sentence that says what, where, and what
    to do. Nothing has been written when it is raised."""


class Reporter(Protocol):
    """Where a long run says what it is doing."""

    def step(self, title: str) -> None:
        """A step of the run begins."""

    def detail(self, text: str) -> None:
        """Progress inside a step, such as a count of rows; replaces the detail before it."""


class Silent:
    """A Reporter for tests and for callers that do not watch."""

    def step(self, title: str) -> None:
        del title

    def detail(self, text: str) -> None:
        del text


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStep:
    """One line of the cohort flow: what was asked of people, and how many were left."""

    kept: str
    people: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The people of one part of a data set after the cohort's rules, in a fixed order."""

    periods: tuple[str, ...]
    people: pd.DataFrame
    flow: tuple[FlowStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A source, read. `parts` holds DEVELOPMENT and TEST, or TEST alone for an outside evaluation.

    `description` is one sentence for the model card. `notes` are things the reader of a report must
    know about this source, a sentence each.
    """

    source: str
    description: str
    parts: Mapping[str, Part]
    notes: tuple[str, ...] = ()
