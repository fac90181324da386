"""Made-up NHANES tables in the shape of CDC's, for tests: any cycle, as CSV or transport files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from model_training.sources.nhanes_cycles import Cycle, load_codes, load_cycles

Column = Sequence[float | None]
Write = Callable[[Path, str, Mapping[str, Column]], None]

# Answers that put a person in the cohort, and the names that the variables have in some cycle.
_MEMBER: Mapping[str, float] = {
    "RIDSTATR": 2,
    "RIDAGEYR": 50,
    "RIAGENDR": 1,
    "RIDRETH1": 3,
    "RIDEXPRG": 2,
    "SDMVSTRA": 7,
    "SDMVPSU": 1,
    "DIQ010": 2,
    "DIQ050": 2,
    "DIQ070": 2,
    "DID070": 2,
    "PHAFSTHR": 10,
    "PHAFSTMN": 30,
}
_NO = 2  # to every other question
_WEIGHT = 1000


def cycle(years: str) -> Cycle:
    return next(entry for entry in load_cycles() if entry.years == years)


def write_csv(folder: Path, table: str, columns: Mapping[str, Column]) -> None:
    pd.DataFrame(columns).to_csv(folder / f"{table}.csv", index=False)


def write_xpt(folder: Path, table: str, columns: Mapping[str, Column]) -> None:
    (folder / f"{table}.XPT").write_bytes(transport_file(columns))


def write_cycle(
    folder: Path, years: str, people: int = 3, write: Write = write_csv, /, **values: Column
) -> None:
    """All tables of a cycle for `people`, numbered from 1, men of 50 who belong in the cohort and
    have ordinary values, but for the columns given."""
    for table, columns in cycle(years).columns.items():
        ordinary = {column: [_ordinary(years, column)] * people for column in columns}
        given = {column: row for column, row in values.items() if column in columns}
        write(folder, table, {"SEQN": list(range(1, people + 1)), **ordinary, **given})


def transport_file(columns: Mapping[str, Column]) -> bytes:
    """A SAS version 5 transport file of numbers, as CDC publishes them."""

    def header(kind: str, digits: str = "0" * 30) -> bytes:
        return f"HEADER RECORD*******{kind:<8}HEADER RECORD!!!!!!!{digits}  ".encode()

    stamp = b"01JAN00:00:00:00"
    fields = b"".join(
        struct.pack(
            ">hhhh8s40s8shhh2s8shhl52s",
            *(1, 0, 8, number, name.encode().ljust(8), b"", b"", 0, 0, 0, b"", b"", 0, 0),
            *(number * 8, b""),
        )
        for number, name in enumerate(columns)
    )
    rows = b"".join(
        b"".join(_ibm_float(value) for value in row) for row in zip(*columns.values(), strict=True)
    )
    parts = [
        header("LIBRARY"),
        b"SAS     SAS     SASLIB  ".ljust(64) + stamp,
        stamp,
        header("MEMBER", "000000000000000001600000000140"),
        header("DSCRPTR"),
        b"SAS     DATA    SASDATA ".ljust(64) + stamp,
        stamp,
        header("NAMESTR", f"{len(columns):010d}".ljust(30, "0")),
        fields,
        header("OBS"),
        rows,
    ]
    return b"".join(part.ljust(-(-len(part) // 80) * 80) for part in parts)


def _ordinary(years: str, column: str) -> float:
    variables, medians = cycle(years).variables, load_codes().median
    for name, (_, columns) in variables.items():
        if column in columns and name in medians:
            _, low, high = medians[name]
            return (low + high) / 2
        if column in columns and name in ("survey_weight", "fasting_weight"):
            return _WEIGHT
    return _MEMBER.get(column, _NO)


def _ibm_float(value: float | None) -> bytes:
    """SAS transport's float: sign, excess-64 exponent to base 16, 56 bits; '.' is missing."""
    if value is None:
        return b".\0\0\0\0\0\0\0"
    if value == 0:
        return bytes(8)
    exponent, fraction = 64, abs(value)
    while fraction >= 1:
        exponent, fraction = exponent + 1, fraction / 16
    while fraction < 1 / 16:
        exponent, fraction = exponent - 1, fraction * 16
    return struct.pack(">Q", int(fraction * 2**56) | exponent << 56 | (value < 0) << 63)
