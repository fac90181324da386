"""NHANES, as CDC publishes it or as compressed CSV, to tables of people.

Which table and variable holds what is data, in `nhanes.toml`.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model_training.dataset import (
    DEVELOPMENT,
    EVENT,
    PERIOD,
    RECORD,
    SAMPLING_UNIT,
    STRATUM,
    TEST,
    WEIGHT,
    Dataset,
    DatasetError,
    FlowStep,
    Part,
    Reporter,
)
from model_training.dataset import PERSON as PERSON_COLUMN
from model_training.recipe import Recipe, required
from model_training.sources.csv_end import ends_inside_a_line
from model_training.sources.nhanes_cohort import select_cohort, select_treated
from model_training.sources.nhanes_cycles import (
    NHANES_FILE,
    Answer,
    Codes,
    Cycle,
    Piece,
    WeeklyMinutes,
    load_codes,
    load_cycles,
)
from model_training.sources.sas_transport import read_transport

__all__ = [
    "NHANES_FILE",
    "TREATED",
    "Cycle",
    "DatasetError",
    "load_cycles",
    "read_cycle",
    "read_nhanes",
    "read_table",
]

PERSON = "SEQN"
# The part of the test periods' people whom only the rule against treatment left out.
TREATED = "treated"

# CDC's files name people, codes and numbers only, but comments in a few tables are not UTF-8.
_ENCODING = "latin-1"
_SUFFIXES = (".csv.xz", ".XPT", ".xpt", ".csv")
_UG_PER_ML_OVER_MG_PER_DL = 100  # (µg/mL) / (mg/dL) → mg/g
_NO = 2
_YES = 1
_SEQN_DIGITS = 6  # so that people sort as strings as they do as numbers; 2021-2023 ends at 142310

_SOURCE = "nhanes"
_DESCRIPTION = (
    "National Health and Nutrition Examination Survey (NHANES), United States, CDC/NCHS: "
    "public-use files of a stratified, multistage sample of the civilian population that does not "
    "live in institutions"
)


def read_nhanes(
    folder: Path,
    recipe: Recipe,
    reporter: Reporter,
    *,
    parts: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """The people of the recipe's cohort, from CDC's tables in `folder`.

    `parts`: part → cycles ("2015-2016", …); absent, those of the recipe's split. With a TEST part
    comes a TREATED one, if there is anybody in it. Raises DatasetError.
    """
    _rules(recipe)
    chosen = _parts_of(recipe) if parts is None else parts
    known = {cycle.years: cycle for cycle in load_cycles()}
    unknown = sorted({years for part in chosen.values() for years in part} - set(known))
    if unknown:
        raise DatasetError(
            f"NHANES has no cycle {', '.join(unknown)}: those known are {', '.join(known)}."
        )
    read: dict[str, Part] = {}
    for name, periods in chosen.items():
        cycles = [known[years] for years in periods]
        read[name], treated = _read_part(folder, recipe, cycles, reporter)
        _check_outcome(name, read[name], folder)
        if name == TEST and len(treated.people):
            read[TREATED] = treated
    read_cycles = [known[years] for periods in chosen.values() for years in periods]
    notes = tuple(dict.fromkeys(note for cycle in read_cycles for note in cycle.notes))
    return Dataset(source=_SOURCE, description=_DESCRIPTION, parts=read, notes=notes)


def read_cycle(
    folder: Path, cycle: Cycle, *, detail: Callable[[str], None] = lambda text: None
) -> pd.DataFrame:
    """One row per interviewed person; columns named as in `nhanes.toml`, values as CDC coded them.

    Blood pressures are the mean of the readings obtained; creatinine, in serum and in urine, is on
    the newer methods' scale. Answers are coded as `nhanes.toml` says. NaN where absent, and
    throughout for what this cycle does not have.
    """
    raw = _join(folder, cycle, detail)
    taken = {
        name: _mean(raw[[_at(table, column) for column in columns]], name)
        for name, (table, columns) in cycle.variables.items()
    }
    taken |= {name: _coded(raw, answers) for name, answers in cycle.answers.items()}
    taken |= {name: _reached(raw, minutes) for name, minutes in cycle.weekly_minutes.items()}
    taken |= {name: pd.Series(np.nan, index=raw.index) for name in sorted(cycle.absent)}
    people = pd.DataFrame({PERSON: raw[PERSON], **taken})
    return people.assign(
        creatinine=cycle.creatinine_slope * people["creatinine"] + cycle.creatinine_intercept,
        urine_creatinine=_enzymatic(people["urine_creatinine"], cycle.urine_creatinine),
        cycle=cycle.years,
    )


def read_table(folder: Path, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """TABLE.csv.xz, TABLE.XPT or TABLE.csv, whichever the folder holds; names in capitals.

    `columns`: those wanted (and SEQN), of which some may be missing. Raises DatasetError where
    there is no such file, or none that is whole.
    """
    found = [folder / f"{table}{suffix}" for suffix in _SUFFIXES]
    path = next((candidate for candidate in found if candidate.is_file()), None)
    if path is None:
        raise DatasetError(
            f"{folder} holds no {table}.XPT (nor {table}.csv.xz, {table}.csv). CDC's tables are "
            f"fetched by: cds-service data nhanes --to {folder}"
        )
    read = _read_xpt if path.suffix.lower() == ".xpt" else _read_csv
    wanted = None if columns is None else {PERSON, *columns}
    try:
        frame = read(path, wanted)
    # What pandas, its XPT reader and lzma raise for bytes that end early or are something else.
    except (EOFError, ValueError, lzma.LZMAError, zlib.error, struct.error, IndexError) as error:
        raise DatasetError(
            f"{path} cannot be read as an NHANES table; half of a download looks so. Fetch it "
            "again."
        ) from error
    return frame


def _read_csv(path: Path, wanted: set[str] | None) -> pd.DataFrame:
    if path.suffix == ".csv" and ends_inside_a_line(path):
        raise ValueError("cut off")
    # CDC's codebooks spell MCQ300c where the tables of other years have MCQ300C.
    frame = pd.read_csv(
        path,
        encoding=_ENCODING,
        low_memory=False,
        usecols=None if wanted is None else lambda column: column.upper() in wanted,
    )
    return frame.rename(columns=str.upper)


def _read_xpt(path: Path, wanted: set[str] | None) -> pd.DataFrame:
    frame = read_transport(path, _ENCODING).rename(columns=str.upper)
    return frame if wanted is None else frame[[name for name in frame if name in wanted]]


def _at(table: str, column: str) -> str:
    return f"{table}.{column}"


def _join(folder: Path, cycle: Cycle, detail: Callable[[str], None]) -> pd.DataFrame:
    """Everybody of the cycle, with the columns TABLE.COLUMN of all tables."""
    frames = []
    for table, columns in cycle.columns.items():
        detail(table)
        frames.append(_columns(read_table(folder, table, columns), cycle, table, columns))
    return reduce(lambda left, right: left.merge(right, on=PERSON, how="left"), frames)


def _columns(frame: pd.DataFrame, cycle: Cycle, table: str, columns: Sequence[str]) -> pd.DataFrame:
    where = f"The table {table} of NHANES {cycle.years}"
    lacking = sorted({PERSON, *columns} - set(frame))
    if lacking:
        raise DatasetError(f"{where} lacks the columns {', '.join(lacking)}: is it CDC's table?")
    texts = [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    if texts:
        raise DatasetError(f"{where} holds something else than numbers in {', '.join(texts)}.")
    if frame[PERSON].isna().any() or frame[PERSON].duplicated().any():
        raise DatasetError(f"{where} does not hold each person ({PERSON}) once.")
    renamed = frame[[PERSON, *columns]].rename(columns={name: _at(table, name) for name in columns})
    return renamed.astype({PERSON: int})


def _mean(readings: pd.DataFrame, name: str) -> pd.Series[float]:
    """The mean of what was obtained; NaN where nothing was.

    A diastolic reading of 0 means that no sound was heard (BPX documentation): not a pressure.
    """
    if name == "diastolic_blood_pressure":
        readings = readings.mask(readings == 0)
    return readings.mean(axis=1)


def _coded(raw: pd.DataFrame, answers: Sequence[Answer]) -> pd.Series[float]:
    applies = [raw[_at(answer.table, answer.column)].isin(answer.codes) for answer in answers]
    values = np.select(applies, [answer.value for answer in answers], default=np.nan)
    return pd.Series(values, index=raw.index)


def _reached(raw: pd.DataFrame, rule: WeeklyMinutes) -> pd.Series[float]:
    """1 if what is known reaches the rule's minutes, else 0, or NaN if something is unknown."""
    known = pd.Series(0.0, index=raw.index)
    unknown = pd.Series(False, index=raw.index)
    for columns in rule.kinds:
        asked, days, minutes = (raw[_at(rule.table, column)] for column in columns)
        days = days.where(days <= rule.most_days)
        week = days * minutes.where(minutes <= rule.most_minutes)
        week = week.where(asked == _YES).mask(asked == _NO, 0.0)
        known += week.fillna(0.0)
        unknown |= week.isna()
    return pd.Series(np.where(known >= rule.at_least, 1.0, np.where(unknown, np.nan, 0.0)))


def _enzymatic(values: pd.Series[float], pieces: Sequence[Piece]) -> pd.Series[float]:
    if not pieces:
        return values
    adjusted = [(piece.scale * np.sqrt(values) - piece.shift) ** 2 for piece in pieces]
    below = [values < piece.below for piece in pieces]
    return pd.Series(np.select(below, adjusted, default=np.nan), index=values.index)


def _read_part(
    folder: Path, recipe: Recipe, cycles: Sequence[Cycle], reporter: Reporter
) -> tuple[Part, Part]:
    """The cohort, and the people whom only its last rule left out."""
    codes, rules = load_codes(), _rules(recipe)
    cohorts, treated = [], []
    for cycle in cycles:
        reporter.step(f"Reading NHANES {cycle.years}")
        everybody = read_cycle(folder, cycle, detail=reporter.detail)
        cohort = select_cohort(everybody, rules)
        _check_units(cohort.people, cycle, codes)
        cohorts.append((_people(cohort.people, recipe, codes), cohort.flow))
        treated.append((_people(select_treated(everybody, rules), recipe, codes), ()))
    periods = [cycle.years for cycle in cycles]
    return _part(periods, cohorts), _part(periods, treated)


def _people(people: pd.DataFrame, recipe: Recipe, codes: Codes) -> pd.DataFrame:
    """The columns of `dataset.py`, and every variable under the name that recipes use."""
    person = people[PERSON].astype(str).str.zfill(_SEQN_DIGITS)
    titles = people["ethnicity"].map(codes.ethnicity)
    named = people.drop(columns=[PERSON, "survey_weight", "gender", "cycle"]).assign(
        **{
            RECORD: person,
            PERSON_COLUMN: person,
            PERIOD: people["cycle"],
            EVENT: people[EVENT].astype(int),
            WEIGHT: people["survey_weight"].astype(float),
            STRATUM: people["stratum"].astype(int),
            SAMPLING_UNIT: people["sampling_unit"].astype(int),
        },
        ethnicity=titles.astype(object).where(titles.notna(), None),
        sex=people["gender"].map(codes.sex).map(_sex_codes(recipe)).astype(float),
        urine_albumin_creatinine_ratio=_UG_PER_ML_OVER_MG_PER_DL
        * people["urine_albumin"]
        / people["urine_creatinine"],
        **_fasting(people, codes),
    )
    lacking = [feature.name for feature in recipe.features if feature.name not in named]
    if lacking:
        raise DatasetError(f"NHANES, as nhanes.toml describes it, lacks {', '.join(lacking)}.")
    return named


def _sex_codes(recipe: Recipe) -> Mapping[str, int]:
    coded = [feature.categories for feature in recipe.features if feature.name == "sex"]
    return (coded[0] if coded else None) or {"male": 0, "female": 1}


def _fasting(people: pd.DataFrame, codes: Codes) -> dict[str, pd.Series[float]]:
    """The fasting subsample: glucose, weight and outcomes; NaN for everybody else."""
    rule = codes.fasting
    hours = people["fasted_hours"] + people["fasted_minutes"].fillna(0) / 60
    fasted = (hours >= rule.hours_at_least) & (hours < rule.hours_below)
    weight = people["fasting_weight"].where(people["fasting_weight"] > 0)
    glucose = people["plasma_glucose"].where(fasted & weight.notna())
    high = (glucose >= rule.glucose_at_least).astype(float).where(glucose.notna())
    return {
        "fasting_glucose": glucose,
        "fasting_weight": weight.where(glucose.notna()),
        "event_fasting_glucose": high,
        "event_both": high * people[EVENT],
    }


def _part(
    periods: Sequence[str], cohorts: Sequence[tuple[pd.DataFrame, Sequence[FlowStep]]]
) -> Part:
    people = pd.concat([people for people, _ in cohorts], ignore_index=True)
    people = people.sort_values([PERIOD, PERSON_COLUMN, RECORD], ignore_index=True)
    steps = zip(*(flow for _, flow in cohorts), strict=True)
    flow = tuple(
        FlowStep(
            kept=step[0].kept,
            people=sum(one.people for one in step),
            events=sum(one.events for one in step),
        )
        for step in steps
    )
    return Part(periods=tuple(periods), people=people, flow=flow)


def _rules(recipe: Recipe) -> Mapping[str, Any]:
    return required(recipe, "cohort", "minimum_age", "outcome_at_least")


def _parts_of(recipe: Recipe) -> Mapping[str, Sequence[str]]:
    split = recipe.raw["split"]
    if split["kind"] != "period":
        raise DatasetError(
            f"{recipe.file}: [split] is by {split['kind']}: NHANES is read by its cycles, and "
            'needs kind = "period" with those of development and test.'
        )
    return {DEVELOPMENT: split[DEVELOPMENT], TEST: split[TEST]}


def _check_units(people: pd.DataFrame, cycle: Cycle, codes: Codes) -> None:
    for name, (unit, low, high) in codes.median.items():
        values = people[name].dropna()
        if len(values) == 0 or low <= values.median() <= high:
            continue
        table, columns = cycle.variables[name]
        raise DatasetError(
            f"{'/'.join(columns)} in {table} of NHANES {cycle.years} is not in {unit}: the median "
            f"of {len(values)} people's {name.replace('_', ' ')} is {values.median():.3g}, and "
            f"should lie between {low:g} and {high:g}. Take CDC's table as it is."
        )


def _check_outcome(name: str, part: Part, folder: Path) -> None:
    where = f"in the {name} part of NHANES ({', '.join(part.periods)}) in {folder}"
    if len(part.people) == 0:
        emptied = next((step.kept for step in part.flow if step.people == 0), "any rule")
        raise DatasetError(f"Nobody is left {where}: the rule “{emptied}” left the last ones out.")
    events = int(part.people[EVENT].sum())
    if events in (0, len(part.people)):
        who = "Everybody" if events else "Nobody"
        raise DatasetError(
            f"{who} of the {len(part.people)} people {where} has the outcome: two classes are "
            "needed."
        )
