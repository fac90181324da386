"""The cycles of NHANES as `nhanes.toml` describes them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

NHANES_FILE = Path(__file__).with_name("nhanes.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The value of those who answered the question with one of the codes."""

    value: float
    table: str
    column: str
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyMinutes:
    """1 if the minutes of a typical week reach `at_least`; `kinds` are columns of one table:
    whether, on how many days, how many minutes a day."""

    table: str
    kinds: tuple[tuple[str, str, str], ...]
    at_least: float
    most_days: float
    most_minutes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """(scale · √x − shift)² for x below `below`."""

    below: float
    scale: float
    shift: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One survey: variable name → (table, the columns that hold it), and how answers are coded.

    `everybody` is the table that has all people interviewed; the others have some of them. `absent`
    are the variables that the survey does not have. `urine_creatinine` brings an older method to
    the newer one; empty where there is nothing to bring. `notes` are what the reader of a report
    must know, a sentence each.
    """

    years: str
    everybody: str
    variables: Mapping[str, tuple[str, Sequence[str]]]
    answers: Mapping[str, tuple[Answer, ...]]
    weekly_minutes: Mapping[str, WeeklyMinutes]
    absent: frozenset[str]
    creatinine_slope: float
    creatinine_intercept: float
    urine_creatinine: tuple[Piece, ...]
    notes: tuple[str, ...]

    @property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """Table → the columns that are read from it, in a fixed order; `everybody` comes first."""
        wanted: dict[str, dict[str, None]] = {self.everybody: {}}
        for table, columns in self.variables.values():
            wanted.setdefault(table, {}).update(dict.fromkeys(columns))
        for answers in self.answers.values():
            for answer in answers:
                wanted.setdefault(answer.table, {})[answer.column] = None
        for minutes in self.weekly_minutes.values():
            for kind in minutes.kinds:
                wanted.setdefault(minutes.table, {}).update(dict.fromkeys(kind))
        return {table: tuple(columns) for table, columns in wanted.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fasting:
    """What makes a plasma glucose a fasting one, and from which it speaks of diabetes, mg/dL."""

    hours_at_least: float
    hours_below: float
    glucose_at_least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """What is the same in every cycle. `median`: variable → (unit, low, high)."""

    ethnicity: Mapping[int, str]
    sex: Mapping[int, str]
    fasting: Fasting
    median: Mapping[str, tuple[str, float, float]]


def load_cycles(path: Path = NHANES_FILE) -> tuple[Cycle, ...]:
    raw = _read(path)
    return tuple(_cycle(raw, entry) for entry in raw["cycle"])


def load_codes(path: Path = NHANES_FILE) -> Codes:
    raw = _read(path)
    return Codes(
        ethnicity={int(code): title for code, title in raw["ethnicity"].items()},
        sex={int(code): title for code, title in raw["sex"].items()},
        fasting=Fasting(**raw["fasting"]),
        median={name: (unit, low, high) for name, (unit, low, high) in raw["median"].items()},
    )


@cache
def _read(path: Path) -> Mapping[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _cycle(raw: Mapping[str, Any], entry: Mapping[str, Any]) -> Cycle:
    tables: Mapping[str, str] = entry["tables"]
    absent = frozenset(entry.get("absent", ()))
    correction = entry.get("creatinine", {"slope": 1.0, "intercept": 0.0})
    answers = _answers(raw, entry, tables, absent)
    pieces = raw["jaffe_to_enzymatic"] if entry.get("urine_creatinine_method") == "jaffe" else ()
    return Cycle(
        years=entry["years"],
        everybody=tables["demographics"],
        variables=_variables(raw, entry, tables, absent),
        answers=answers,
        weekly_minutes={
            name: _weekly_minutes(minutes, tables)
            for name, minutes in raw["weekly_minutes"].items()
            if name not in answers and name not in absent
        },
        absent=absent,
        creatinine_slope=correction["slope"],
        creatinine_intercept=correction["intercept"],
        urine_creatinine=tuple(Piece(**piece) for piece in pieces),
        notes=tuple(raw["notes"])
        + tuple(note for era in entry.get("notes_of", ()) for note in raw["notes_of"][era]),
    )


def _variables(
    raw: Mapping[str, Any],
    entry: Mapping[str, Any],
    tables: Mapping[str, str],
    absent: frozenset[str],
) -> dict[str, tuple[str, Sequence[str]]]:
    single = raw["variables"] | entry.get("variables", {})
    places = {name: (role, [column]) for name, (role, column) in single.items()}
    readings = raw["readings"] | entry.get("readings", {})
    places |= {name: (role, columns) for name, (role, columns) in readings.items()}
    return {
        name: (tables[role], columns)
        for name, (role, columns) in places.items()
        if name not in absent
    }


def _answers(
    raw: Mapping[str, Any],
    entry: Mapping[str, Any],
    tables: Mapping[str, str],
    absent: frozenset[str],
) -> dict[str, tuple[Answer, ...]]:
    coded = dict(raw["answers"])
    for questionnaire in entry.get("answers_of", ()):
        coded |= raw["answers_of"][questionnaire]
    return {
        name: tuple(
            Answer(
                value=float(line["is"]),
                table=tables[line["table"]],
                column=line["column"],
                codes=tuple(line["codes"]),
            )
            for line in lines
        )
        for name, lines in coded.items()
        if name not in absent
    }


def _weekly_minutes(entry: Mapping[str, Any], tables: Mapping[str, str]) -> WeeklyMinutes:
    return WeeklyMinutes(
        table=tables[entry["table"]],
        kinds=tuple((asked, days, minutes) for asked, days, minutes in entry["kinds"]),
        at_least=entry["at_least"],
        most_days=entry["most_days"],
        most_minutes=entry["most_minutes"],
    )
