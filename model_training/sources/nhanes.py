"""NHANES tables, as CDC publishes them or as compressed CSV, to one table of people per cycle.

Which table and variable holds what is data, in `nhanes.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd

NHANES_FILE = Path(__file__).with_name("nhanes.toml")
PERSON = "SEQN"
# CDC's files name people, codes and numbers only, but comments in a few tables are not UTF-8.
_ENCODING = "latin-1"
_SUFFIXES = (".csv.xz", ".XPT", ".xpt", ".csv")
# SAS transport files write 0 as the smallest number that their float format has, 5.4e-79.
_XPT_ZERO = 1e-70


class DatasetError(Exception):
    """The data folder does not hold what the recipe needs; says what and where to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One two-year survey: variable name → (table, the columns that hold it)."""

    years: str
    variables: Mapping[str, tuple[str, Sequence[str]]]
    creatinine_slope: float
    creatinine_intercept: float


def load_cycles(path: Path = NHANES_FILE) -> tuple[Cycle, ...]:
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(_cycle(raw, entry) for entry in raw["cycle"])


def read_cycle(folder: Path, cycle: Cycle) -> pd.DataFrame:
    """One row per interviewed person; columns named as in `nhanes.toml`, values as CDC coded them.

    Blood pressures are the mean of the readings obtained; creatinine is on the standardised scale.
    """
    people = reduce(
        lambda left, right: left.merge(right, on=PERSON, how="left", validate="one_to_one"),
        [
            _columns(read_table(folder, table), table, variables)
            for table, variables in _by_table(cycle).items()
        ],
    )
    people["creatinine"] = (
        cycle.creatinine_slope * people["creatinine"] + cycle.creatinine_intercept
    )
    return people.assign(cycle=cycle.years)


def read_table(folder: Path, table: str) -> pd.DataFrame:
    """TABLE.csv.xz, TABLE.XPT or TABLE.csv, whichever the folder holds."""
    found = [folder / f"{table}{suffix}" for suffix in _SUFFIXES]
    path = next((candidate for candidate in found if candidate.is_file()), None)
    if path is None:
        raise DatasetError(
            f"{folder} holds no {table}.XPT (nor {table}.csv.xz, {table}.csv). CDC publishes the "
            "tables cycle by cycle at https://wwwn.cdc.gov/nchs/nhanes/"
        )
    if path.suffix.lower() != ".xpt":
        return pd.read_csv(path, encoding=_ENCODING, low_memory=False)
    frame = pd.read_sas(path, format="xport", encoding=_ENCODING)
    numbers = frame.select_dtypes("number")
    frame[numbers.columns] = numbers.mask(numbers.abs() < _XPT_ZERO, 0.0)
    return frame


def _cycle(raw: Mapping[str, Any], entry: Mapping[str, Any]) -> Cycle:
    single = raw["variables"] | entry.get("variables", {})
    places = {name: (role, [column]) for name, (role, column) in single.items()}
    places |= {name: (role, columns) for name, (role, columns) in raw["readings"].items()}
    tables = entry["tables"]
    correction = entry.get("creatinine", {"slope": 1.0, "intercept": 0.0})
    return Cycle(
        years=entry["years"],
        variables={name: (tables[role], columns) for name, (role, columns) in places.items()},
        creatinine_slope=correction["slope"],
        creatinine_intercept=correction["intercept"],
    )


def _by_table(cycle: Cycle) -> dict[str, dict[str, Sequence[str]]]:
    tables: dict[str, dict[str, Sequence[str]]] = {}
    for name, (table, columns) in cycle.variables.items():
        tables.setdefault(table, {})[name] = columns
    return tables


def _columns(
    frame: pd.DataFrame, table: str, variables: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    lacking = {column for columns in variables.values() for column in columns} - set(frame)
    if lacking:
        raise DatasetError(f"{table} lacks the columns {sorted(lacking)}: is it CDC's table?")
    taken = {name: _mean(frame[list(columns)], name) for name, columns in variables.items()}
    return pd.DataFrame({PERSON: frame[PERSON].astype(int), **taken})


def _mean(readings: pd.DataFrame, name: str) -> pd.Series[float]:
    """The mean of what was obtained; NaN where nothing was.

    A diastolic reading of 0 means that no sound was heard (BPX documentation): not a pressure.
    """
    if name == "diastolic_blood_pressure":
        readings = readings.mask(readings == 0)
    return readings.mean(axis=1)
