"""The second reading of an export: patient by patient, to counts and to rows of people."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import orjson
import pandas as pd

from fhir_mapping.concepts import FindingRule
from fhir_mapping.times import read_date, read_datetime
from model_training.dataset import EVENT, PERIOD, RECORD, SAMPLING_UNIT, STRATUM, WEIGHT, Reporter
from model_training.recipe import Recipe
from model_training.sources.fhir_keep import (
    CONDITION,
    MEDICATION,
    OBSERVATION,
    PATIENT,
    RESULT,
    Kept,
    medication_id,
    subject_of,
)
from model_training.sources.fhir_patient import (
    Person,
    Record,
    Resource,
    Rules,
    Tally,
    person_of,
)
from model_training.sources.fhir_spool import Entry, Spool
from model_training.sources.fhir_survey import SurveyDesign, read_group, read_survey

# Columns of the rows that do not come into the table of people.
PATIENT_ID, PASSED = "patient_id", "passed"


@dataclass(slots=True)
class Seen:
    """Everybody, counted, and those who stay, as rows."""

    steps: tuple[str, ...]
    patients: int = 0
    strangers: int = 0
    of_other_servers: int = 0
    same_day: int = 0
    results: Tally = field(default_factory=Tally)
    # (period, steps passed, event) → people
    passed: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    births: array[int] = field(default_factory=lambda: array("l"))
    tables: list[pd.DataFrame] = field(default_factory=list)


def _steps(rules: Rules) -> tuple[str, ...]:
    """What is asked after a usable result, in order: what passes before what stays."""
    return (
        f"aged {rules.minimum_age} or over at that moment",
        *(f"without {rule.title} on record by then" for rule in _findings(rules)),
        "on no medicine that means one of these",
    )


def map_patients(
    spool: Spool, kept: Kept, rules: Rules, recipe: Recipe, reporter: Reporter
) -> Seen:
    seen = Seen(steps=_steps(rules))
    for patients in spool.records():
        rows = []
        for patient_id, entries in patients:
            row = _patient(patient_id, entries, kept, rules, recipe, seen)
            if row is not None:
                rows.append(row)
        if rows:
            seen.tables.append(_table(rows, recipe))
        reporter.detail(f"{seen.patients:,} patients")
    return seen


def _patient(
    patient_id: str,
    entries: list[Entry],
    kept: Kept,
    rules: Rules,
    recipe: Recipe,
    seen: Seen,
) -> dict[str, Any] | None:
    """The row of a patient who is in, and a count of everybody."""
    if not any(kind == PATIENT for kind, _ in entries):
        seen.strangers += len(entries)
        return None
    seen.patients += 1
    has_result = any(kind == RESULT for kind, _ in entries)
    record = _record(patient_id, entries if has_result else _only_patient(entries), kept, rules)
    seen.of_other_servers += record.of_other_servers
    person = person_of(record, rules, seen.results) if has_result else None
    if person is None:
        _count_birth(record, seen)
        return None
    passed = _passed(person, rules)
    seen.passed[person.period, passed, int(person.event)] += 1
    seen.same_day += person.same_day
    if passed < len(seen.steps) - 1:
        return None
    return _row(person, record.patients[-1], recipe, passed)


def _only_patient(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry[0] == PATIENT]


def _record(patient_id: str, entries: list[Entry], kept: Kept, rules: Rules) -> Record:
    """Parsed, each resource in its latest version only, with the codes of its medicines."""
    record = Record(patient_id=patient_id)
    places = {
        PATIENT: record.patients,
        RESULT: record.results,
        OBSERVATION: record.observations,
        CONDITION: record.conditions,
        MEDICATION: record.medications,
    }
    for kind, resource in _latest(entries, rules.zone):
        base, _ = subject_of(resource)
        if base is not None and base != rules.fhir_base:
            record.of_other_servers += 1
        else:
            places[kind].append(_with_medicine(resource, kept))
    # The id as the Patient spells it, which references need not.
    record.patient_id = str(record.patients[-1]["id"])
    return record


def _latest(entries: list[Entry], zone: tzinfo) -> Iterator[tuple[bytes, Resource]]:
    """Exports that follow one another hold a resource once more when it has changed: the version
    updated last counts, and of equals the one read last."""
    versions: dict[tuple[Any, ...], tuple[Any, Resource]] = {}
    for number, (kind, line) in enumerate(entries):
        resource = orjson.loads(line)
        identity = resource.get("id")
        key = (kind, resource["resourceType"], identity if isinstance(identity, str) else number)
        meta = resource.get("meta")
        updated = read_datetime(meta.get("lastUpdated") if isinstance(meta, dict) else None, zone)
        version = updated.earliest.timestamp() if updated else 0.0
        if key not in versions or version >= versions[key][0]:
            versions[key] = (version, resource)
    for key, (_, resource) in versions.items():
        yield key[0], resource


def _with_medicine(resource: Resource, kept: Kept) -> Resource:
    medicine = kept.medicines.get(medication_id(resource) or "")
    if medicine is None:
        return resource
    return {
        **resource,
        "contained": [medicine],
        "medicationReference": {"reference": f"#{medicine['id']}"},
        "medication": None,
    }


def _count_birth(record: Record, seen: Seen) -> None:
    """The last day that the birth date allows, so that nobody is taken for an adult in doubt."""
    days = read_date(record.patients[-1].get("birthDate"))
    if days:
        seen.births.append(days[1].toordinal())


def _findings(rules: Rules) -> list[FindingRule]:
    return sorted(rules.findings.findings, key=lambda rule: rule.persistent)


def _passed(person: Person, rules: Rules) -> int:
    """How many of the steps hold, one after the other. An earlier result that gave the answer is a
    diagnosis that nobody wrote down."""
    checks = (
        person.age is not None and person.age >= rules.minimum_age,
        *(
            rule.id not in person.conditions and not (rule.persistent and person.earlier_event)
            for rule in _findings(rules)
        ),
        not person.medicines,
    )
    return next((n for n, holds in enumerate(checks) if not holds), len(checks))


def _row(person: Person, patient: Resource, recipe: Recipe, passed: int) -> dict[str, Any]:
    return {
        PATIENT_ID: person.patient_id,
        PASSED: passed,
        PERIOD: person.period,
        EVENT: int(person.event),
        "design": read_survey(patient),
        "ethnicity": read_group(patient, _groups(recipe)),
        **person.values,
    }


def _groups(recipe: Recipe) -> set[str]:
    """The titles of the groups that the recipe's evaluation looks at by ethnicity."""
    axes = recipe.raw.get("evaluation", {}).get("groups", ())
    return {title for axis in axes if axis.get("column") == "ethnicity" for title in axis["groups"]}


def _table(rows: list[dict[str, Any]], recipe: Recipe) -> pd.DataFrame:
    """Numbers as columns: a million people are held at a time only so."""
    frame = pd.DataFrame.from_records(rows)
    values = frame.reindex(columns=recipe.columns).astype(float)
    designs: list[SurveyDesign | None] = list(frame["design"])
    survey = pd.DataFrame(
        {
            WEIGHT: [design.weight if design else float("nan") for design in designs],
            STRATUM: [design.stratum if design else 0 for design in designs],
            SAMPLING_UNIT: [design.sampling_unit if design else 0 for design in designs],
            RECORD: [design.record if design else None for design in designs],
        }
    )
    kept = frame[[PATIENT_ID, PASSED, PERIOD, EVENT, "ethnicity"]]
    return pd.concat([kept, survey, values], axis=1)
