"""What MIMIC-III's events say of the recipe's features: units checked, values summed up.

The catalog of concepts decides which items hold a concept, which unit each item has, how it
converts, what is plausible and to how many decimals a value is known: as in `fhir_mapping`, and by
its own functions. Events stay in the engine; what comes here is each *different* value, once, and
sums per admission.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fhir_mapping import compile_mapping, load_catalog
from fhir_mapping.concepts import Catalog, Concept, Mimic3Items
from fhir_mapping.selection import Slot
from fhir_mapping.units import Unit, rounding
from fhir_mapping.vector import AbsentReason
from model_training.recipe import FeatureSpec, manifest_feature

SECONDS_A_DAY = 86_400
# A value that the nurse or the interface marked as an error (CHARTEVENTS.ERROR).
MARKED_AS_ERROR = "marked as an error"
_REASONS = {
    AbsentReason.UNIT_MISSING: "without a unit",
    AbsentReason.UNIT_UNKNOWN: "with an unknown unit",
    AbsentReason.UNIT_CONFLICT: "with a unit that contradicts its item's",
    AbsentReason.IMPLAUSIBLE: "not plausible",
}
UNIT_FAULTS = frozenset(
    text for reason, text in _REASONS.items() if reason.name.startswith("UNIT_")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The values of one concept that lie within one plausible range."""

    concept: str
    plausible: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """A feature computed from other concepts: of each value of `windowed` in the window, with the
    newest of each of `lasting` that makes the result plausible."""

    windowed: int
    lasting: tuple[int, ...]
    concept: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which series are needed (numbered from 0), and which feature is made of which."""

    catalog: Catalog
    series: tuple[Series, ...]
    slots: Mapping[str, tuple[Slot, int]]
    derivations: Mapping[str, Derivation]

    def concepts(self) -> list[Concept]:
        """Without repeats, in a fixed order."""
        return [self.catalog.concepts[id_] for id_ in dict.fromkeys(s.concept for s in self.series)]

    def items(self) -> pd.DataFrame:
        """The table cds_item of mimic3.sql."""
        lasting = self._lasting()
        rows = [
            (item, *lasting.get(concept.id, (0, 0)))
            for concept in self.concepts()
            for held in concept.mimic3
            for item in held.items
        ]
        return _whole_numbers(rows, ["itemid", "lasting_days", "from_age"])

    def ingredients(self) -> pd.DataFrame:
        """The table cds_ingredient."""
        wanted = {i for d in self.derivations.values() for i in (d.windowed, *d.lasting)}
        return _whole_numbers([(index,) for index in sorted(wanted)], ["series"])

    def numbers_of(self, concept: str) -> list[int]:
        return [index for index, series in enumerate(self.series) if series.concept == concept]

    def _lasting(self) -> dict[str, tuple[int, int]]:
        """Of each concept that is good for longer than the window: days, and from which age."""
        return {
            ingredient: (int(days), concept.derived.from_age.get(ingredient, 0))
            for concept in self.catalog.concepts.values()
            if concept.derived
            for ingredient, days in concept.derived.look_back_days.items()
        }


def plan_measurements(features: Sequence[FeatureSpec]) -> Plan:
    """Of the features that are measured; age, sex and categories are left out."""
    catalog = load_catalog()
    measured = [f for f in features if catalog.concepts[f.concept].element is None]
    compiled = compile_mapping(catalog, {"features": [manifest_feature(f) for f in measured]})
    numbers: dict[Series, int] = {}

    def number(concept: str, plausible: tuple[float, float]) -> int:
        return numbers.setdefault(Series(concept=concept, plausible=plausible), len(numbers))

    slots = {slot.name: (slot, number(slot.concept, slot.plausible)) for slot in compiled.slots}
    derivations: dict[str, Derivation] = {}
    for name, (slot, _) in slots.items():
        derived = catalog.concepts[slot.concept].derived
        if derived:
            own = {id_: number(id_, catalog.concepts[id_].plausible) for id_ in derived.factors}
            windowed = [id_ for id_ in own if id_ not in derived.look_back_days]
            derivations[name] = Derivation(
                windowed=own[windowed[0]],
                lasting=tuple(own[id_] for id_ in own if id_ not in windowed[:1]),
                concept=slot.concept,
            )
    return Plan(catalog=catalog, series=tuple(numbers), slots=slots, derivations=derivations)


# ------------------------------------------------------------------------- what values mean


@dataclass(frozen=True, slots=True)
class Tally:
    """How many values were taken, and how many were not, by concept and reason."""

    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)


def readings(values: pd.DataFrame, plan: Plan) -> tuple[pd.DataFrame, Tally]:
    """The table cds_reading, from the query `values`, and what became of how many values.

    A unit is recognised by the catalog's table of units, must be the one that the item is measured
    in, and is never assumed. `scaled`: the value in the canonical unit, rounded to the concept's
    decimals, in units of the last decimal.
    """
    owners = {
        item: (concept, held)
        for concept in plan.concepts()
        for held in concept.mimic3
        for item in held.items
    }
    tally = Tally()
    rows: list[tuple[int, str, float, int, int, int]] = []
    columns = (values[name] for name in ("itemid", "unit", "value", "erroneous", "n"))
    for item, unit, value, erroneous, n in zip(*columns, strict=True):
        concept, held = owners[int(item)]
        if erroneous:
            tally.refused[concept.id, MARKED_AS_ERROR] += int(n)
            continue
        meant = _meaning(float(value), str(unit), concept, held)
        known = [] if isinstance(meant, AbsentReason) else list(_scaled(meant, concept.id, plan))
        if known:
            tally.taken[concept.id] += int(n)
        else:
            reason = meant if isinstance(meant, AbsentReason) else AbsentReason.IMPLAUSIBLE
            tally.refused[concept.id, _REASONS[reason]] += int(n)
        copied = int(held.copies)
        rows.extend(
            (int(item), str(unit), float(value), series, scaled, copied) for series, scaled in known
        )
    frame = pd.DataFrame(
        rows, columns=["itemid", "unit", "value", "series", "scaled", "copied"]
    ).astype(
        {"itemid": "int64", "value": "float64"}
        | dict.fromkeys(["series", "scaled", "copied"], "int64")
    )
    return frame, tally


def _meaning(value: float, unit: str, concept: Concept, held: Mimic3Items) -> float | AbsentReason:
    """The value in the concept's unit, rounded as the mapping rounds."""
    assert concept.reader is not None  # noqa: S101 - the catalog gives items to quantities only
    if unit.strip() or not held.unit_in_name:
        recognised = concept.reader.read({"unit": unit})
        if not isinstance(recognised, Unit):
            return recognised
        if recognised.code != held.unit:
            return AbsentReason.UNIT_CONFLICT
    converted = concept.reader.conversions[held.unit](value)
    return rounding(concept.decimals)(converted) if math.isfinite(converted) else math.nan


def _scaled(value: float, concept: str, plan: Plan) -> Iterator[tuple[int, int]]:
    scale = _scale(plan, concept)
    for index in plan.numbers_of(concept):
        low, high = plan.series[index].plausible
        if low <= value <= high:
            yield index, round(value * scale)


def _scale(plan: Plan, concept: str) -> int:
    return int(10 ** plan.catalog.concepts[concept].decimals)


# ------------------------------------------------------------------------------- statistics


def feature_columns(
    plan: Plan,
    statistics: pd.DataFrame,
    ingredients: pd.DataFrame,
    admissions: pd.Index[int],
    window: tuple[int, int],
) -> pd.DataFrame:
    """One column per measured feature, one row per admission; NaN where absent.

    `window`: the first second, and the one after the last, counted from admission.
    """
    by_series = {int(str(key)): rows for key, rows in statistics.groupby("series")}
    none = statistics.iloc[:0]
    columns = {}
    for name, (slot, series) in plan.slots.items():
        rows = by_series.get(series, none).set_index("admission")
        if name in plan.derivations:
            derived = _derived_statistics(plan, plan.derivations[name], slot, ingredients, window)
            rows = pd.concat([rows, derived[~derived.index.isin(rows.index)]])
        columns[name] = _statistic(slot, rows).reindex(
            admissions, fill_value=0.0 if slot.statistic == "count" else np.nan
        )
    return pd.DataFrame(columns, index=admissions, dtype="float64")


def _statistic(slot: Slot, rows: pd.DataFrame) -> pd.Series[float]:
    """From sums to the statistic, as fhir_mapping.selection defines it."""
    scale = 10**slot.decimals
    found: pd.Series[float]
    match slot.statistic:
        case "latest" | "min" | "max":
            column = {"latest": "latest", "min": "least", "max": "greatest"}[slot.statistic]
            found = rows[column].astype("float64") / scale
        case "mean":
            means = rows["total"].astype("float64") / (rows["n"].astype("float64") * scale)
            # Two places beyond the concept's own: a mean of rounded values knows no more.
            found = means.map(rounding(slot.decimals + 2)).astype("float64")
        case "count":
            found = rows["n"].astype("float64")
        case _:
            found = _slope(rows[rows["first_second"] < rows["last_second"]]) / scale
    return found


def _slope(rows: pd.DataFrame) -> pd.Series[float]:
    """Least squares, per day; whole numbers of any size until the last division."""
    n, t, x, tt, tx = (
        rows[name].astype("int64").astype(object)
        for name in ("n", "total_seconds", "total", "total_squares", "total_products")
    )
    slopes: pd.Series[float] = (n * tx - t * x) * SECONDS_A_DAY / (n * tt - t * t)
    return slopes.astype("float64")


def _derived_statistics(
    plan: Plan, derivation: Derivation, slot: Slot, rows: pd.DataFrame, window: tuple[int, int]
) -> pd.DataFrame:
    """As the query `statistics` gives them, of a concept that is computed value by value."""
    derived = plan.catalog.concepts[derivation.concept].derived
    assert derived is not None  # noqa: S101 - a Derivation is made of one
    inside = (rows["seconds"] >= window[0]) & (rows["seconds"] < window[1])
    values = _ingredient(plan, rows[inside], derivation.windowed)
    result = derived.scale * values["value"] ** derived.factors[_concept(plan, derivation.windowed)]
    values = values.assign(result=result, row=np.arange(len(values)))
    for series in derivation.lasting:
        other = _ingredient(plan, rows, series)
        values = values.merge(other, on="admission", suffixes=("", "_other"))
        power = derived.factors[_concept(plan, series)]
        values["result"] *= values["value_other"] ** power
        # The newest first: of those that are left below, it is the one that is taken.
        values = values.sort_values(
            ["row", "seconds_other", "value_other"], ascending=[True, False, False], kind="stable"
        ).drop(columns=["seconds_other", "value_other"])
    low, high = slot.plausible
    rounded = values["result"].map(rounding(slot.decimals)).astype("float64")
    taken = values.assign(result=rounded)[rounded.between(low, high)].drop_duplicates("row")
    scaled = (taken["result"] * 10**slot.decimals).round().astype("int64")
    return _sums(taken.assign(scaled=scaled).drop_duplicates(["admission", "seconds", "scaled"]))


def _concept(plan: Plan, series: int) -> str:
    return plan.series[series].concept


def _ingredient(plan: Plan, rows: pd.DataFrame, series: int) -> pd.DataFrame:
    own = rows[rows["series"] == series]
    values = own["scaled"].astype("float64") / _scale(plan, _concept(plan, series))
    return own[["admission", "seconds"]].assign(value=values)


def _sums(values: pd.DataFrame) -> pd.DataFrame:
    """The query `statistics`, for the few series that are computed here."""
    t, x = values["seconds"], values["scaled"]
    grouped = values.assign(
        total=x, total_seconds=t, total_squares=t * t, total_products=t * x
    ).groupby("admission")
    sums = grouped[["total", "total_seconds", "total_squares", "total_products"]].sum()
    newest = values[t == grouped["seconds"].transform("max")]
    return sums.assign(
        n=grouped.size(),
        least=grouped["scaled"].min(),
        greatest=grouped["scaled"].max(),
        latest=newest.groupby("admission")["scaled"].max(),
        first_second=grouped["seconds"].min(),
        last_second=grouped["seconds"].max(),
    )


# --------------------------------------------------------------------------------- outliers


@dataclass(frozen=True, slots=True, kw_only=True)
class Fences:
    """Tukey's fences of a concept in units of its last decimal, and what lies beyond them."""

    low: int
    high: int
    values: int
    outside: int
    above: int


def fences(histogram: pd.DataFrame, series: int, *, reach: float, above: float) -> Fences | None:
    """`reach` interquartile ranges beyond the quartiles of development people, or of everybody if
    there are none; None without any value. `above`, in units of the last decimal: values beyond it
    are counted.

    https://en.wikipedia.org/wiki/Outlier#Tukey's_fences
    """
    own = histogram[histogram["series"] == series]
    seen = own[own["development"] == own["development"].max()]
    if not len(seen):
        return None
    first, third = _quantile(seen, 0.25), _quantile(seen, 0.75)
    width = reach * (third - first)
    low, high = math.ceil(first - width), math.floor(third + width)
    scaled, n = own["scaled"], own["n"]
    return Fences(
        low=low,
        high=high,
        values=int(n.sum()),
        outside=int(n[(scaled < low) | (scaled > high)].sum()),
        above=int(n[scaled > above].sum()),
    )


def _quantile(histogram: pd.DataFrame, share: float) -> int:
    """The least value that at least this share of the values does not exceed."""
    ordered = histogram.sort_values("scaled")
    reached = ordered["n"].cumsum() >= share * ordered["n"].sum()
    return int(ordered["scaled"][reached].iloc[0])


def fence_table(rows: Sequence[tuple[int, int, int]]) -> pd.DataFrame:
    """The table cds_fence of (series, low, high)."""
    return _whole_numbers(rows, ["series", "low", "high"])


def _whole_numbers(rows: Sequence[tuple[int, ...]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns, dtype="int64")
