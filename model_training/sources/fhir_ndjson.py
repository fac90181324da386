"""A FHIR Bulk Data export to people, through the mapping that the service itself uses.

What a site trains on is so what the service will give its model: the same codes, units, windows,
plausible ranges and refusals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, tzinfo
from pathlib import Path

import pandas as pd

from fhir_mapping import load_catalog
from fhir_mapping.times import whole_years
from model_training.dataset import (
    DEVELOPMENT,
    PERIOD,
    PERSON,
    RECORD,
    SAMPLING_UNIT,
    TEST,
    TREATED,
    WEIGHT,
    Dataset,
    DatasetError,
    FlowStep,
    Part,
    Reporter,
)
from model_training.recipe import Recipe
from model_training.sources.fhir_export import export_files
from model_training.sources.fhir_keep import PATIENT, RESULT, Kept, keep
from model_training.sources.fhir_patient import Rules, rules_of
from model_training.sources.fhir_people import PASSED, PATIENT_ID, Seen, map_patients
from model_training.sources.fhir_spool import Spool

_DESCRIPTION = (
    "Records of the patients of one site, exported as FHIR (Bulk Data, NDJSON) and read through "
    "the mapping of the service"
)
# How much larger a compressed export is once it is read.
_GZIP = 10


def read_fhir(
    folder: Path,
    recipe: Recipe,
    reporter: Reporter,
    *,
    parts: Mapping[str, Sequence[str]] | None = None,
    zone: tzinfo = UTC,
) -> Dataset:
    """One row per patient who has a usable result of the outcome and is in the recipe's domain.

    `parts`: part → periods, absent, those of the recipe's split; {TEST: ()} takes results of any
    year, each year being a period, for evaluating a model on a site's own records. With a TEST part
    comes a TREATED one, if there is anybody in it. `zone`: the one of bare dates. Raises
    DatasetError where the folder holds no whole export, or a part has nobody.
    """
    chosen = _parts_of(recipe) if parts is None else parts
    rules = rules_of(recipe, periods=_years(chosen), zone=zone)
    with Spool(_bytes_to_read(folder)) as spool:
        reporter.step("Reading the export")
        kept = keep(folder, rules, spool, reporter)
        rules = replace(rules, fhir_base=kept.server())
        reporter.step("Mapping the patients, one after the other")
        seen = map_patients(spool, kept, rules, recipe, reporter)
    return _dataset(seen, kept, chosen, rules)


def _bytes_to_read(folder: Path) -> int:
    return sum(
        path.stat().st_size * (_GZIP if path.suffix == ".gz" else 1)
        for path in export_files(folder)
    )


def _parts_of(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    split = recipe.raw["split"]
    if split["kind"] != "period":
        raise DatasetError(
            f"{recipe.file}: [split] is by {split['kind']}: a FHIR export is read by period, and "
            'needs kind = "period" with the years of development and test.'
        )
    return {part: tuple(split[part]) for part in (DEVELOPMENT, TEST)}


def _years(parts: Mapping[str, Sequence[str]]) -> dict[tuple[int, int], str]:
    """`1999-2000` is the two calendar years."""
    years = {}
    for period in (period for periods in parts.values() for period in periods):
        first, _, last = period.partition("-")
        try:
            years[int(first), int(last or first)] = period
        except ValueError as fault:
            raise DatasetError(
                f"The recipe's period {period!r} is not two calendar years such as 2015-2016."
            ) from fault
    return years


def _dataset(seen: Seen, kept: Kept, parts: Mapping[str, Sequence[str]], rules: Rules) -> Dataset:
    if not any(n for (_, reached, _), n in seen.passed.items() if reached == len(seen.steps)):
        raise DatasetError(_nobody(seen, kept, rules))
    people = _numbered(pd.concat(seen.tables, ignore_index=True))
    in_cohort = people[PASSED] == len(seen.steps)
    people = people.drop(columns=PASSED)
    periods = {part: tuple(names) or _all_periods(seen) for part, names in parts.items()}
    read = {
        part: _part(part, people[in_cohort], names, seen, rules) for part, names in periods.items()
    }
    treated = _inside(people[~in_cohort], periods.get(TEST, ()))
    if len(treated):
        read[TREATED] = Part(periods=periods[TEST], people=treated, flow=())
    return Dataset(
        source="fhir",
        description=_DESCRIPTION,
        parts=read,
        notes=(_who_was_tested(seen, rules, people), *_notes(seen, kept, rules)),
    )


def _all_periods(seen: Seen) -> tuple[str, ...]:
    return tuple(sorted({period for period, _, _ in seen.passed}))


def _inside(people: pd.DataFrame, periods: Sequence[str]) -> pd.DataFrame:
    return people[people[PERIOD].isin(periods)].reset_index(drop=True)


def _numbered(people: pd.DataFrame) -> pd.DataFrame:
    """With opaque numbers for ids, in the order of period and patient id, or the survey's own."""
    people = people.sort_values([PERIOD, PATIENT_ID], ignore_index=True)
    designed = int(people[WEIGHT].notna().sum())
    if designed not in (0, len(people)):
        raise DatasetError(
            f"{designed} of {len(people)} people carry a survey design and the others do not: "
            "either all Patients have the extension, or none."
        )
    if designed and not (people[WEIGHT] > 0).all():
        raise DatasetError("A survey weight is not above zero: whoever is in stands for somebody.")
    if not designed:
        people[WEIGHT] = 1.0
        people[SAMPLING_UNIT] = range(1, len(people) + 1)
    if not people[RECORD].notna().all():
        people[RECORD] = [f"{n:09d}" for n in range(1, len(people) + 1)]
    if not people[RECORD].is_unique:
        raise DatasetError("Two Patients carry the same record in their survey design.")
    people[PERSON] = people[RECORD]
    return people.drop(columns=PATIENT_ID).sort_values([PERIOD, PERSON], ignore_index=True)


def _part(
    name: str, people: pd.DataFrame, periods: tuple[str, ...], seen: Seen, rules: Rules
) -> Part:
    inside = _inside(people, periods)
    span = f"{periods[0].split('-')[0]}–{periods[-1].split('-')[-1]}"
    if inside.empty:
        raise DatasetError(
            f"None of the export's patients is in the {name} part ({span}) after the recipe's "
            f"rules: usable {rules.outcome_title} results are from {seen.results.span()}, and the "
            "recipe's [split] names the years."
        )
    titles = (f"{rules.outcome_title} measured in {span}", *seen.steps)
    counts = {key: n for key, n in seen.passed.items() if key[0] in periods}
    measured = sum(n for (_, _, event), n in counts.items() if event)
    flow = [FlowStep(kept="patients in the export", people=seen.patients, events=measured)]
    for step, title in enumerate(titles):
        passed = [(event, n) for (_, reached, event), n in counts.items() if reached >= step]
        flow.append(
            FlowStep(
                kept=title,
                people=sum(n for _, n in passed),
                events=sum(n for event, n in passed if event),
            )
        )
    return Part(periods=periods, people=inside, flow=tuple(flow))


def _who_was_tested(seen: Seen, rules: Rules, people: pd.DataFrame) -> str:
    outcome = rules.outcome_title
    tested, others = _adults(seen, rules)
    adults = tested + others
    share = f"{tested:,} of {adults:,} adults ({tested / adults:.0%}) had a usable {outcome}"
    if (people[WEIGHT] != 1).any():
        return f"{share}; the Patients carry the design of a survey, which the figures use."
    return (
        f"{share}: it is measured in whom somebody suspects something, so the figures hold for "
        "people like those tested, not for everybody whom the service will meet."
    )


def _notes(seen: Seen, kept: Kept, rules: Rules) -> Iterator[str]:
    outcome = rules.outcome_title
    yield (
        f"One row per patient, as of the earliest usable {outcome} in the periods; what the record "
        "dates later is left out, and what it does not date counts as a diagnosis known by then."
    )
    if seen.same_day:
        yield (
            f"{seen.same_day} patients were left out for a diagnosis dated to the day of the "
            "result itself: some were diagnosed by that very result."
        )
    if seen.results.refused:
        yield (
            f"Of {seen.results.read:,} {outcome} results these could not be used: "
            f"{seen.results.reasons()}."
        )
    left_out = seen.strangers + kept.without_patient + seen.of_other_servers
    if left_out:
        yield (
            f"{left_out:,} resources were left out for whose they are: {seen.strangers:,} of "
            f"patients who are not in the export, {kept.without_patient:,} that name none, "
            f"{seen.of_other_servers:,} of patients on another server."
        )
    if kept.lines.malformed:
        yield f"{kept.lines.malformed:,} of {kept.lines.read:,} lines were not FHIR resources."


def _adults(seen: Seen, rules: Rules) -> tuple[int, int]:
    """Adults at their first usable result; and the others who are adults by the periods' end."""
    tested = sum(n for (_, reached, _), n in seen.passed.items() if reached > 0)
    last = max(int(period.split("-")[-1]) for period, _, _ in seen.passed)
    end = date(max((years[1] for years in rules.periods), default=last), 12, 31)
    others = sum(
        whole_years(date.fromordinal(day), end) >= rules.minimum_age
        for day in seen.births
        if day <= end.toordinal()
    )
    return tested, others


def _nobody(seen: Seen, kept: Kept, rules: Rules) -> str:
    """Why nobody is left, in one sentence that says where to look."""
    outcome = rules.outcome_title
    if not kept.kinds[PATIENT]:
        return "The export holds no Patient: are all of its files in the folder?"
    if not kept.kinds[RESULT]:
        codes = ", ".join(load_catalog().concepts[rules.concept].loinc)
        return f"The export holds no {outcome} (LOINC {codes}): there is nothing to learn from."
    if not seen.passed:
        results, periods = seen.results, ", ".join(rules.periods.values())
        return (
            f"None of the export's {results.read} {outcome} results can be used: the usable ones "
            f"are from {results.span()}, the recipe's periods are {periods}; not usable were "
            f"{results.reasons() or 'none'}."
        )
    return (
        f"All {sum(seen.passed.values())} patients with a usable {outcome} are left out by the "
        "recipe's rules (age, diagnoses, pregnancy, medicines)."
    )
