"""Reading NHANES and choosing people, on small made-up tables; no data set is needed."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fhir_mapping import load_catalog
from model_training.cohort import select_cohort, select_treated
from model_training.features import as_values, sample_from
from model_training.sources.nhanes import Cycle, DatasetError, load_cycles, read_cycle, read_table
from model_training.recipe import load_recipe

RECIPE = load_recipe()
RULES = RECIPE.raw["cohort"]


def cycle(years: str) -> Cycle:
    return next(entry for entry in load_cycles() if entry.years == years)


def write_cycle(folder: Path, years: str, **values: Sequence[float | None]) -> None:
    """All tables of a cycle for three people; columns not named in `values` are 1."""
    tables: dict[str, dict[str, Sequence[float | None]]] = {}
    for table, columns in cycle(years).variables.values():
        tables.setdefault(table, {"SEQN": [1, 2, 3]}).update({c: [1, 1, 1] for c in columns})
    for table in tables.values():
        table.update({column: row for column, row in values.items() if column in table})
    for name, table in tables.items():
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)


def ibm_float(value: float | None) -> bytes:
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


def write_xpt(path: Path, table: Mapping[str, Sequence[float | None]]) -> None:
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
        for number, name in enumerate(table)
    )
    rows = b"".join(
        b"".join(ibm_float(value) for value in row) for row in zip(*table.values(), strict=True)
    )
    parts = [
        header("LIBRARY"),
        b"SAS     SAS     SASLIB  ".ljust(64) + stamp,
        stamp,
        header("MEMBER", "000000000000000001600000000140"),
        header("DSCRPTR"),
        b"SAS     DATA    SASDATA ".ljust(64) + stamp,
        stamp,
        header("NAMESTR", f"{len(table):010d}".rjust(10, "0").ljust(30, "0")),
        fields,
        header("OBS"),
        rows,
    ]
    path.write_bytes(b"".join(part.ljust(-(-len(part) // 80) * 80) for part in parts))


def test_cdc_transport_files_and_csv_read_alike(tmp_path: Path) -> None:
    table = {"SEQN": [1, 2, 3], "BPXDI1": [71.5, 0, None]}
    for suffix in ("xpt", "csv", "xz"):
        (tmp_path / suffix).mkdir()
    write_xpt(tmp_path / "xpt" / "BPX.XPT", table)
    pd.DataFrame(table).to_csv(tmp_path / "csv" / "BPX.csv", index=False)
    packed = lzma.compress((tmp_path / "csv" / "BPX.csv").read_bytes())
    (tmp_path / "xz" / "BPX.csv.xz").write_bytes(packed)
    for suffix in ("xpt", "csv", "xz"):
        frame = read_table(tmp_path / suffix, "BPX")
        assert frame["SEQN"].tolist() == [1, 2, 3]
        assert frame["BPXDI1"].tolist()[:2] == [71.5, 0.0]
        assert np.isnan(frame["BPXDI1"][2])


def test_a_missing_table_says_which_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no DEMO_I\.XPT.*cdc\.gov"):
        read_table(tmp_path, "DEMO_I")


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    write_cycle(tmp_path, "2015-2016")
    pd.DataFrame({"SEQN": [1]}).to_csv(tmp_path / "GHB_I.csv", index=False)
    with pytest.raises(DatasetError, match="GHB_I lacks the columns"):
        read_cycle(tmp_path, cycle("2015-2016"))


def test_a_diastolic_reading_of_0_is_not_a_pressure(tmp_path: Path) -> None:
    write_cycle(
        tmp_path,
        "2015-2016",
        BPXDI1=[0, 0, 60],
        BPXDI2=[80, 0, 70],
        BPXDI3=[84, None, None],
        BPXDI4=[None, None, None],
        BPXSY1=[120, None, 110],
        BPXSY2=[130, None, None],
        BPXSY3=[None, None, None],
        BPXSY4=[None, None, None],
    )
    people = read_cycle(tmp_path, cycle("2015-2016"))
    assert people["diastolic_blood_pressure"].tolist()[::2] == [82, 65]
    assert np.isnan(people["diastolic_blood_pressure"][1])
    assert people["systolic_blood_pressure"].tolist()[::2] == [125, 110]


@pytest.mark.parametrize(
    ("years", "column", "expected"),
    [
        ("1999-2000", "LBXSCR", 1.013 * 2 + 0.147),
        ("2001-2002", "LBDSCR", 2),
        ("2003-2004", "LBXSCR", 2),
        ("2005-2006", "LBXSCR", 0.978 * 2 - 0.016),
        ("2007-2008", "LBXSCR", 2),
        ("2015-2016", "LBXSCR", 2),
    ],
)
def test_creatinine_is_corrected_where_cdc_says_so(
    tmp_path: Path, years: str, column: str, expected: float
) -> None:
    write_cycle(tmp_path, years, **{column: [2, 2, 2]})
    assert read_cycle(tmp_path, cycle(years))["creatinine"].tolist() == pytest.approx(
        [expected] * 3
    )


@pytest.mark.parametrize(
    ("years", "hdl", "pills"),
    [
        ("1999-2000", "LBDHDL", "DIQ070"),
        ("2001-2002", "LBDHDL", "DIQ070"),
        ("2003-2004", "LBXHDD", "DIQ070"),
        ("2005-2006", "LBDHDD", "DID070"),
        ("2007-2008", "LBDHDD", "DID070"),
        ("2009-2010", "LBDHDD", "DIQ070"),
    ],
)
def test_variables_are_found_where_they_moved_to(years: str, hdl: str, pills: str) -> None:
    variables = cycle(years).variables
    assert variables["hdl_cholesterol"][1] == [hdl]
    assert variables["takes_pills"][1] == [pills]


def people(**change: Sequence[float | None]) -> pd.DataFrame:
    """Four people who all belong in the cohort, unless changed."""
    columns: dict[str, Sequence[float | None]] = {
        "examined": [2, 2, 2, 2],
        "age": [18, 40, 60, 85],
        "hba1c": [5.4, 6.5, 6.4, 9.0],
        "pregnant": [2, None, 3, None],
        "told_diabetes": [2, 3, 9, None],
        "takes_insulin": [2, 2, None, 2],
        "takes_pills": [None, 2, None, None],
        "gender": [2, 1, 2, 1],
        "survey_weight": [1.0, 2.0, 3.0, 4.0],
        "stratum": [1, 1, 2, 2],
        "sampling_unit": [1, 2, 1, 2],
        "ethnicity": [1, 2, 3, 4],
        **{name: [None] * 4 for name in RECIPE.columns if name not in ("age", "sex")},
    }
    return pd.DataFrame({**columns, **change}).astype(float)


def test_borderline_and_unknown_answers_stay_in_the_cohort() -> None:
    cohort = select_cohort(people(), RULES)
    assert cohort.people["event"].tolist() == [0, 1, 0, 1]
    assert {count for _, count, _ in cohort.flow} == {4}


@pytest.mark.parametrize(
    "change",
    [
        {"examined": [1, 2, 2, 2]},
        {"age": [17, 40, 60, 85]},
        {"hba1c": [None, 6.5, 6.4, 9.0]},
        {"pregnant": [1, None, 3, None]},
        {"told_diabetes": [1, 3, 9, None]},
        {"takes_insulin": [1, 2, None, 2]},
        {"takes_pills": [1, 2, None, None]},
    ],
)
def test_each_rule_leaves_out_whom_it_names(change: dict[str, list[float | None]]) -> None:
    cohort = select_cohort(people(**change), RULES)
    assert len(cohort.people) == 3
    assert [count for _, count, _ in cohort.flow][-1] == 3


def test_the_treated_are_those_whom_only_the_last_rule_left_out() -> None:
    changed = people(takes_pills=[1, 2, 1, None], told_diabetes=[1, 3, 9, None])
    assert select_treated(changed, RULES)["hba1c"].tolist() == [6.4]


def test_values_enter_rounded_plausible_and_clipped() -> None:
    frame = people(
        glucose=[99.6, 19.4, None, 1501], body_mass_index=[27.349, 9.9, 120.2, 31.0]
    ).assign(event=0)
    sample = sample_from(frame, RECIPE)
    first, second, third, last = (as_values(row, RECIPE) for row in sample.values)
    assert first == {"age": 18, "sex": 1, "glucose": 100, "body_mass_index": 27.3}
    assert second == {"age": 40, "sex": 0}
    assert third == {"age": 60, "sex": 1}
    assert last == {"age": 80, "sex": 0, "body_mass_index": 31.0}


def test_the_recipe_speaks_of_concepts_within_their_bounds() -> None:
    concepts = load_catalog().concepts
    for feature in RECIPE.features:
        low, high = concepts[feature.name].plausible
        assert low <= feature.plausible[0] < feature.plausible[1] <= high, feature.name
        assert (feature.unit, feature.decimals) == (
            concepts[feature.name].unit,
            concepts[feature.name].decimals,
        )


def test_panels_cover_every_input_but_age_once() -> None:
    paneled = [name for names in RECIPE.panels.values() for name in names]
    assert sorted([*paneled, "age"]) == sorted(RECIPE.columns)


def test_no_cycle_serves_two_purposes() -> None:
    used = [years for part in ("fit", "tune", "test") for years in RULES[part]]
    assert used == [entry.years for entry in load_cycles()]
