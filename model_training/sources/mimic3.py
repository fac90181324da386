"""MIMIC-III to one row per admission: PhysioNet's files or a PostgreSQL, the same code behind both.

Identifiers, dates and free text end here: what leaves are numbers of admissions and patients that
say nothing, hours since admission summed up to statistics, and categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from fhir_mapping import load_catalog
from model_training.dataset import (
    DEVELOPMENT,
    EVENT,
    PERIOD,
    PERSON,
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
    Silent,
)
from model_training.recipe import FeatureSpec, Recipe, required
from model_training.sources.mimic3_measurements import (
    UNIT_FAULTS,
    Fences,
    Plan,
    Tally,
    feature_columns,
    fence_table,
    fences,
    plan_measurements,
    readings,
)
from model_training.sources.mimic3_tables import (
    Tables,
    load_layout,
    load_statements,
    open_tables,
)

Direction = Literal["first", "before"]
SOURCE = "mimic3"
# Fewer patients than this cannot carry a model that anybody should act on.
LEAST_PATIENTS = 1000
ETHNICITY = "ethnicity"
_SECONDS_AN_HOUR = 3600
_OUTLIERS = ("keep", "winsorize")
# From so many values on, a wrong unit in all of them is no slip of a few.
_MANY = 20
# The tables of values, and what in them says that one was marked as an error.
_RECORDED = {"labevents": "0", "chartevents": "CASE WHEN e.error = 1 THEN 1 ELSE 0 END"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours after admission; `own`: only what was recorded for the admission itself."""

    direction: Direction
    hours: int

    @property
    def opens(self) -> int:
        return 0 if self.direction == "first" else -self.hours

    @property
    def closes(self) -> int:
        return self.hours if self.direction == "first" else 0

    @property
    def seconds(self) -> tuple[int, int]:
        return self.opens * _SECONDS_AN_HOUR, self.closes * _SECONDS_AN_HOUR

    @property
    def text(self) -> str:
        return (
            f"the first {self.hours} hours after admission"
            if self.direction == "first"
            else f"the {self.hours} hours before admission"
        )


def read_mimic3(
    source: str | Path,
    recipe: Recipe,
    reporter: Reporter,
    *,
    direction: Direction | None = None,
    outside: bool = False,
) -> Dataset:
    """One row per admission of an adult whose diagnoses were coded.

    `source`: a folder of PhysioNet's CSV or CSV.gz files, or an SQLAlchemy URL of a PostgreSQL with
    the schema `mimiciii`. `direction` of the window: "first", the hours after admission, or
    "before" it; None: the recipe's. The window's length is the features' look-back. `outside`: the
    data of another place, all of it the test part.

    Raises DatasetError for whatever is missing, damaged, refused, empty or of one class only.
    """
    settings = _settings(recipe)
    window = Window(direction=_direction(direction or settings["direction"]), hours=_hours(recipe))
    statements, layout = load_statements(), load_layout()
    plan = plan_measurements(recipe.features)
    with open_tables(source) as tables:
        reporter.step("Reading MIMIC-III's admissions")
        cohort = _read_cohort(tables, statements, window, recipe, str(source), outside)
        reporter.step("Reading MIMIC-III's measurements")
        tally = _read_measurements(tables, statements, plan, cohort, reporter, str(source))
        reporter.step("Summing up the measurements of each admission")
        outliers = _look_at_outliers(tables, statements, plan, settings["outliers"])
        statistics = tables.fetch(statements["statistics"])
        ingredients = tables.fetch(statements["ingredients"])
    kept = cohort.kept
    measured = feature_columns(
        plan, statistics, ingredients, pd.Index(kept["admission"]), window.seconds
    )
    people, unread = _people(kept, measured, recipe, layout)
    notes = (
        _window_note(window, kept, statistics),
        "Ages above 89 are hidden in MIMIC-III and stand here as 90.",
        *_unread_notes(unread),
        *_tally_notes(plan, tally),
        *_missing_notes(plan),
        *([outliers] if outliers else []),
        *_size_note(kept),
    )
    return Dataset(
        source=SOURCE,
        description=(
            "MIMIC-III, Beth Israel Deaconess Medical Center, Boston, intensive care 2001 to 2012: "
            f"{len(kept):,} admissions of {kept['person'].nunique():,} adults, {window.text}"
        ),
        parts={
            name: Part(
                periods=(layout["period"],),
                people=people[kept["part"] == name].reset_index(drop=True),
                flow=(*cohort.flow, *_drawn_step(name, kept)),
            )
            for name in sorted(set(kept["part"]))
        },
        notes=notes,
    )


# ----------------------------------------------------------------------------- the recipe


def _settings(recipe: Recipe) -> Mapping[str, Any]:
    settings: Mapping[str, Any] | None = recipe.raw.get(SOURCE)
    if settings is None or recipe.raw["split"]["kind"] != "person":
        raise DatasetError(
            f"{recipe.file} is not for MIMIC-III: it needs a table [mimic3] and a [split] of "
            'kind = "person", as diabetes_inpatient.toml has them.'
        )
    required(recipe, "cohort", "minimum_age", "outcome_icd9")
    method, concept = (settings["outliers"][key] for key in ("method", "concept"))
    if method not in _OUTLIERS:
        raise DatasetError(
            f"{recipe.file}: [mimic3] outliers method is {method!r}: one of {', '.join(_OUTLIERS)} "
            "is meant."
        )
    if concept not in load_catalog().concepts:
        raise DatasetError(
            f"{recipe.file}: [mimic3] outliers concept is {concept!r}, not in concepts.toml."
        )
    return settings


def _direction(text: str) -> Direction:
    for known in get_args(Direction):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise DatasetError(
        f'The window\'s direction is {text!r}: "first" (hours after admission) or "before" it.'
    )


def _hours(recipe: Recipe) -> int:
    concepts = load_catalog().concepts
    days = {f.look_back_days for f in recipe.features if concepts[f.concept].element is None}
    if len(days) != 1 or None in days:
        raise DatasetError(
            f"{recipe.file} must give all measured features one look_back_days: it is the window "
            "in which MIMIC-III is read."
        )
    return round(24 * float(days.pop() or 0))


# ----------------------------------------------------------------------------- the cohort


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cohort:
    """`kept`: admission, person, age, gender, ethnicity, admission_type, event, part."""

    kept: pd.DataFrame
    flow: tuple[FlowStep, ...]


def _read_cohort(
    tables: Tables,
    statements: Mapping[str, str],
    window: Window,
    recipe: Recipe,
    source: str,
    outside: bool,
) -> _Cohort:
    rules = recipe.raw["cohort"]
    own = int(window.direction == "first")
    tables.put(
        "cds_window",
        pd.DataFrame({"opens_hours": [window.opens], "closes_hours": [window.closes], "own": own}),
    )
    tables.put("cds_outcome", pd.DataFrame({"prefix": list(rules["outcome_icd9"])}, dtype=object))
    # The admissions are few, and nobody waits for them.
    tables.run(statements["admissions"], Silent(), "")
    people = tables.fetch(statements["people"])
    oldest, older = load_layout()["oldest_age"], load_layout()["age_of_older"]
    people["age"] = people["age"].astype("int64").where(people["age"] <= oldest, older)
    flow = [_step("admissions", people)]
    people = people[people["age"] >= rules["minimum_age"]]
    flow.append(_step(f"aged {rules['minimum_age']} or over", people))
    people = people[people["event"].notna()]
    flow.append(_step("diagnoses coded", people))
    people = people.reset_index(drop=True)
    _check_classes(people, f"{source}: the cohort", rules)
    people = people.assign(
        event=people["event"].astype("int64"),
        part=TEST if outside else _drawn(people, recipe.raw["split"]),
    )
    for part in sorted(set(people["part"])):
        _check_classes(people[people["part"] == part], f"{source}: the {part} part", rules)
    return _Cohort(kept=people, flow=tuple(flow))


def _step(kept: str, people: pd.DataFrame) -> FlowStep:
    return FlowStep(kept=kept, people=len(people), events=int(people["event"].fillna(0).sum()))


def _drawn_step(part: str, kept: pd.DataFrame) -> list[FlowStep]:
    """None where nobody was drawn, because everybody is in this part."""
    inside = kept[kept["part"] == part]
    return [] if len(inside) == len(kept) else [_step("of patients drawn for this part", inside)]


def _check_classes(people: pd.DataFrame, what: str, rules: Mapping[str, Any]) -> None:
    if not len(people):
        raise DatasetError(
            f"{what} is empty: no admission of an adult aged {rules['minimum_age']} or over with "
            "coded diagnoses (DIAGNOSES_ICD) was found."
        )
    events = int(people["event"].sum())
    if events in (0, len(people)):
        codes = ", ".join(f"{code}.xx" for code in rules["outcome_icd9"])
        raise DatasetError(
            f"{what} has one class only: {events} of {len(people)} admissions carry ICD-9 {codes}, "
            "and a model needs both kinds."
        )


def _drawn(people: pd.DataFrame, split: Mapping[str, Any]) -> pd.Series[str]:
    """The part of each admission: whole patients, and of those who ever had the outcome the same
    share as of the others."""
    ever = people.groupby("person")["event"].max()
    chance = np.random.default_rng(split["seed"])
    tested: set[int] = set()
    for event in (0, 1):
        persons = ever.index[ever == event].to_numpy()
        order = chance.permutation(len(persons))
        tested.update(persons[order[: round(split["test_share"] * len(persons))]].tolist())
    return people["person"].map(lambda person: TEST if person in tested else DEVELOPMENT)


# ------------------------------------------------------------------------ the measurements


def _read_measurements(
    tables: Tables,
    statements: Mapping[str, str],
    plan: Plan,
    cohort: _Cohort,
    reporter: Reporter,
    source: str,
) -> Tally:
    """Leaves cds_measurement in the engine."""
    tables.put(
        "cds_kept",
        pd.DataFrame(
            {
                "admission": cohort.kept["admission"].astype("int64"),
                "development": (cohort.kept["part"] == DEVELOPMENT).astype("int64"),
            }
        ),
    )
    tables.put("cds_item", plan.items())
    tables.put("cds_ingredient", plan.ingredients())
    tables.run(statements["events"], Silent(), "")
    for table, erroneous in _RECORDED.items():
        statement = statements["recorded"].format(table=table, erroneous=erroneous)
        tables.run(statement, reporter, table.upper())
    meanings, tally = readings(tables.fetch(statements["values"]), plan)
    _check_units(plan, tally, source)
    tables.put("cds_reading", meanings)
    tables.run(statements["measurements"], reporter, "Values in one unit each")
    return tally


def _check_units(plan: Plan, tally: Tally, source: str) -> None:
    """Single values in another unit are left out and counted; all of them are another table."""
    for concept in plan.concepts():
        wrong = sum(
            n for (id_, why), n in tally.refused.items() if id_ == concept.id and why in UNIT_FAULTS
        )
        if wrong >= _MANY and not tally.taken[concept.id]:
            raise DatasetError(
                f"{source}: all {wrong:,} values of {concept.title} that were read have another "
                "unit than MIMIC-III gives them (VALUEUOM), so none could be used."
            )


def _look_at_outliers(
    tables: Tables, statements: Mapping[str, str], plan: Plan, rules: Mapping[str, Any]
) -> str | None:
    """Leaves cds_fence in the engine, empty where values are kept; the sentence for the report."""
    concept = plan.catalog.concepts[rules["concept"]]
    scale = 10**concept.decimals
    histogram = tables.fetch(statements["histogram"])
    found = {
        series: fences(histogram, series, reach=rules["reach"], above=rules["above"] * scale)
        for series in plan.numbers_of(concept.id)
    }
    known = {series: fence for series, fence in found.items() if fence}
    winsorized = rules["method"] == "winsorize"
    rows = [(series, f.low, f.high) for series, f in known.items()] if winsorized else []
    tables.put("cds_fence", fence_table(rows))
    if not known:
        return None
    widest = max(known.values(), key=lambda fence: fence.values)
    return _outlier_note(concept.title, concept.unit, widest, rules, scale)


def _outlier_note(
    title: str, unit: str, found: Fences, rules: Mapping[str, Any], scale: int
) -> str:
    fate = (
        "those beyond a fence were set to it"
        if rules["method"] == "winsorize"
        else "all were kept as they are"
    )
    return (
        f"{title}: of {found.values:,} values in the window {found.above:,} are above "
        f"{rules['above']:g} {unit} and {found.outside:,} lie outside {found.low / scale:g} to "
        f"{found.high / scale:g} {unit} ({rules['reach']:g} interquartile ranges beyond the "
        f"quartiles of development people); {fate}."
    )


# ------------------------------------------------------------------------------ the people


def _people(
    kept: pd.DataFrame, measured: pd.DataFrame, recipe: Recipe, layout: Mapping[str, Any]
) -> tuple[pd.DataFrame, Mapping[str, int]]:
    """The table of people in the dataset's order, and of each category how many texts of it were
    not known."""
    groups = kept[ETHNICITY].map(lambda text: _group(text, layout[ETHNICITY]))
    texts = {
        "sex": kept["gender"].map(lambda text: layout["gender"].get(text)),
        ETHNICITY: groups,
        "admission_type": kept["admission_type"],
    }
    columns: dict[str, Any] = {
        RECORD: _numbered(kept["admission"]),
        PERSON: _numbered(kept["person"]),
        PERIOD: layout["period"],
        EVENT: kept["event"].astype("int64"),
        WEIGHT: 1.0,
        STRATUM: 0,
        SAMPLING_UNIT: kept["person"].astype("int64"),
        ETHNICITY: groups.astype(object).where(groups.notna(), None),
    }
    unread: dict[str, int] = {}
    for feature in recipe.features:
        if feature.name in measured:
            columns[feature.name] = measured[feature.name].to_numpy()
        elif feature.concept == "age":
            columns[feature.name] = kept["age"].astype("float64")
        else:
            codes = _codes(feature, texts)
            columns[feature.name] = codes
            unread[feature.title] = int(codes.isna().sum())
    # Numbers padded to one length: their order is that of the strings.
    return pd.DataFrame(columns).sort_values([PERIOD, PERSON, RECORD], kind="stable"), unread


def _numbered(numbers: pd.Series[int]) -> pd.Series[str]:
    return numbers.map(lambda number: f"{number:07d}")


def _group(text: str | None, beginnings: Mapping[str, str]) -> str | None:
    known = (title for start, title in beginnings.items() if str(text).startswith(start))
    return next(known, None)


def _codes(feature: FeatureSpec, texts: Mapping[str, pd.Series[Any]]) -> pd.Series[float]:
    if feature.concept not in texts or feature.categories is None:
        raise DatasetError(
            f"The recipe's feature {feature.name} ({feature.concept}) is not in MIMIC-III, or has "
            "no categories."
        )
    codes = {text: float(code) for text, code in feature.categories.items()}
    return texts[feature.concept].map(lambda text: codes.get(text, np.nan)).astype("float64")


# ------------------------------------------------------------------------------- the notes


def _window_note(window: Window, kept: pd.DataFrame, statistics: pd.DataFrame) -> str:
    without = len(kept) - int(kept["admission"].isin(statistics["admission"]).sum())
    little = "" if window.direction == "first" else "; MIMIC-III holds little from before admission"
    return (
        f"Values are from {window.text}: {without:,} of {len(kept):,} admissions have none there"
        f"{little}."
    )


def _unread_notes(unread: Mapping[str, int]) -> list[str]:
    return [f"{title}: not known of {n:,} admissions." for title, n in unread.items() if n]


def _tally_notes(plan: Plan, tally: Tally) -> list[str]:
    """One sentence per concept of which values were not used."""
    notes = []
    for concept in plan.concepts():
        refused = {why: n for (id_, why), n in sorted(tally.refused.items()) if id_ == concept.id}
        if refused:
            total = tally.taken[concept.id] + sum(refused.values())
            reasons = ", ".join(f"{n:,} {why}" for why, n in refused.items())
            notes.append(
                f"{concept.title}: {sum(refused.values()):,} of {total:,} values were not used "
                f"({reasons})."
            )
    return notes


def _missing_notes(plan: Plan) -> list[str]:
    derived = {derivation.concept for derivation in plan.derivations.values()}
    return [
        f"{concept.title}: the catalog names no item of MIMIC-III, so it is absent from every row."
        for concept in plan.concepts()
        if not concept.mimic3 and concept.id not in derived
    ]


def _size_note(kept: pd.DataFrame) -> list[str]:
    patients = kept["person"].nunique()
    if patients >= LEAST_PATIENTS:
        return []
    return [f"A model from {patients:,} patients is for testing only, never for care."]
