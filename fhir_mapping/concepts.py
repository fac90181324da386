"""concepts.toml, read and checked: the clinical policy that a mapping is compiled from."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fhir_mapping.codes import WordPattern, word_pattern
from fhir_mapping.units import MOLAR, Conversion, UnitReader, conversions_to, unit_table

CONCEPTS_FILE = Path(__file__).with_name("concepts.toml")


class ConceptsError(ValueError):
    """concepts.toml contradicts itself; the message names the entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """scale · Π concept^power: a concept computed where it is not recorded.

    `look_back_days`: ingredients that are good for longer than the feature's own look-back;
    `from_age`: but only if they were measured at this age or later.
    """

    factors: Mapping[str, int]
    scale: float
    look_back_days: Mapping[str, float]
    from_age: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mimic3Items:
    """Items of one table of MIMIC-III that hold a concept; `unit` is a code of the units' table."""

    table: str
    items: tuple[int, ...]
    unit: str
    unit_in_name: bool
    copies: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A clinical quantity. `element` is set for those read from the Patient.

    `loinc` holds all of its codes, those of `molar_loinc` too, of which `molar_reader` reads the
    unit: a code of urea with mg/dL would be taken for its nitrogen.
    """

    id: str
    title: str
    unit: str
    decimals: int
    plausible: tuple[float, float]
    loinc: tuple[str, ...]
    molar_loinc: tuple[str, ...]
    panels: tuple[str, ...]
    element: str | None
    reader: UnitReader | None
    molar_reader: UnitReader | None
    derived: Derived | None
    mimic3: tuple[Mimic3Items, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRule:
    """How a finding is recognised in Conditions and medication requests."""

    id: str
    title: str
    persistent: bool
    max_days: float | None
    exact: frozenset[tuple[str, str]]
    prefixes: Mapping[str, tuple[str, ...]]
    not_exact: frozenset[tuple[str, str]]
    not_prefixes: Mapping[str, tuple[str, ...]]
    words: WordPattern | None
    not_phrases: re.Pattern[str] | None
    medicine_words: WordPattern | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All concepts and findings, and the spellings of code systems."""

    systems: Mapping[str, tuple[str, ...]]
    concepts: Mapping[str, Concept]
    findings: Mapping[str, FindingRule]


@cache
def load_catalog(path: Path = CONCEPTS_FILE) -> Catalog:
    """Reads and checks a concepts file. Raises ConceptsError."""
    spec = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        table = unit_table(spec["units"])
        systems = {name: tuple(urls) for name, urls in spec["systems"].items()}
        readers = {u.code: u for u in table.by_code.values()}
        concepts = {
            id_: _concept(id_, entry, table, readers) for id_, entry in spec["concepts"].items()
        }
        findings = {id_: _finding(id_, entry) for id_, entry in spec["findings"].items()}
    except (KeyError, TypeError, ValueError, re.error) as fault:
        raise ConceptsError(f"{path.name}: {fault!r}") from fault
    _check_codes(concepts)
    return Catalog(systems=systems, concepts=concepts, findings=findings)


def _concept(id_: str, entry: Mapping[str, Any], table: Any, units: Mapping[str, Any]) -> Concept:
    element = entry.get("element")
    reader = None
    if element is None:
        if entry["unit"] not in units:
            raise ConceptsError(f"concepts.{id_}: unit {entry['unit']!r} is not among the units")
        conversions: dict[str, Conversion] = conversions_to(
            units[entry["unit"]],
            table,
            molar_mass=entry.get("molar_mass"),
            special=entry.get("convert", {}),
        )
        reader = UnitReader(table=table, conversions=conversions)
    molar_loinc = tuple(entry.get("molar_loinc", ()))
    low, high = entry["plausible"]
    return Concept(
        id=id_,
        title=entry["title"],
        unit=entry["unit"],
        decimals=entry["decimals"],
        plausible=(float(low), float(high)),
        loinc=(*entry.get("loinc", ()), *molar_loinc),
        molar_loinc=molar_loinc,
        panels=tuple(entry.get("panels", ())),
        element=element,
        reader=reader,
        molar_reader=reader.only(MOLAR) if reader and molar_loinc else None,
        derived=Derived(**entry["derived"]) if "derived" in entry else None,
        mimic3=tuple(_mimic3_items(id_, found, reader) for found in entry.get("mimic3", ())),
    )


def _mimic3_items(id_: str, entry: Mapping[str, Any], reader: UnitReader | None) -> Mimic3Items:
    if reader is None or entry["unit"] not in reader.conversions:
        raise ConceptsError(f"concepts.{id_}: mimic3 unit {entry['unit']!r} does not convert")
    return Mimic3Items(
        table=entry["table"],
        items=tuple(entry["items"]),
        unit=entry["unit"],
        unit_in_name=entry.get("unit_in_name", False),
        copies=entry.get("copies", False),
    )


_EXACT_SYSTEMS = ("snomed", "rxnorm")
_PREFIX_SYSTEMS = ("icd10", "icd9", "icd11", "icpc2", "read", "atc")


def _finding(id_: str, entry: Mapping[str, Any]) -> FindingRule:
    return FindingRule(
        id=id_,
        title=entry["title"],
        persistent=entry["persistent"],
        max_days=entry.get("max_days"),
        exact=_exact(entry),
        prefixes=_prefixes(entry),
        not_exact=_exact(entry.get("not_codes", {})),
        not_prefixes=_prefixes(entry.get("not_codes", {})),
        words=_pattern(entry, "words"),
        not_phrases=_phrases(entry),
        medicine_words=_pattern(entry, "medicine_words"),
    )


def _exact(codes: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    return frozenset((name, code) for name in _EXACT_SYSTEMS for code in codes.get(name, ()))


def _prefixes(codes: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    return {name: tuple(codes.get(name, ())) for name in _PREFIX_SYSTEMS}


def _phrases(entry: Mapping[str, Any]) -> re.Pattern[str] | None:
    """The phrases that are not the finding, as one pattern; {it} stands for what it is called."""
    phrases = [phrase.replace("{it}", entry["it"]) for phrase in entry.get("not_phrases", ())]
    return re.compile("|".join(phrases)) if phrases else None


def _pattern(entry: Mapping[str, Any], key: str) -> WordPattern | None:
    return word_pattern(entry[key]) if key in entry else None


def _check_codes(concepts: Mapping[str, Concept]) -> None:
    owner: dict[str, str] = {}
    item_owner: dict[int, str] = {}
    for concept in concepts.values():
        for code in concept.loinc:
            if owner.setdefault(code, concept.id) != concept.id:
                raise ConceptsError(f"LOINC {code} means both {owner[code]} and {concept.id}")
        for item in (item for held in concept.mimic3 for item in held.items):
            if item in item_owner:
                raise ConceptsError(f"item {item}: {item_owner[item]} and {concept.id}, or twice")
            item_owner[item] = concept.id
        for ingredient in concept.derived.factors if concept.derived else ():
            if ingredient not in concepts:
                raise ConceptsError(f"concepts.{concept.id}: {ingredient} is not a concept")
