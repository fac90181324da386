"""The mapping: what a manifest asks for, resolved once against the catalog of concepts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fhir_mapping.codes import CodeKey, by_system, spellings
from fhir_mapping.concepts import Catalog, Concept, Derived, FindingRule
from fhir_mapping.patient import BIRTH_DATE, GENDER, PatientSlot
from fhir_mapping.selection import STATISTICS, Slot
from fhir_mapping.units import Rounding, UnitReader, rounding

DECEASED = "deceased"


class MappingError(ValueError):
    """A manifest asks for what the catalog does not have; the message names both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedSlot:
    """A feature computed from other concepts where it is not recorded itself."""

    name: str
    title: str
    derived: Derived
    ingredients: Mapping[str, Slot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A concept that is read, and how a value is read that stands under one of its codes.

    `molar_only`: the code's mass would be another substance's, so `reader` knows no mass.
    """

    concept: str
    title: str
    molar_only: bool
    reader: UnitReader
    rounded: Rounding


# By code, then by system: few codes of a record are wanted, and all have the same few systems.
WantedCodes = Mapping[str, Mapping[str, Wanted]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledMapping:
    """Everything that `map_features` needs, looked up once: see `compile_mapping`.

    `concept_of` and `wanted` have the same keys.
    """

    catalog: Catalog
    order: tuple[str, ...]
    slots: tuple[Slot, ...]
    settling: tuple[Slot, ...]
    patient_slots: tuple[PatientSlot, ...]
    derived: Mapping[str, DerivedSlot]
    findings: tuple[FindingRule, ...]
    concept_of: Mapping[tuple[str, str], str]
    wanted: WantedCodes
    rounded: Mapping[str, Rounding]
    system_names: Mapping[str, str]


def compile_mapping(catalog: Catalog, manifest: Mapping[str, Any]) -> CompiledMapping:
    """Resolves a manifest's `features`, `settled_by` and `domain` against the catalog.

    Raises MappingError where the two disagree: an unknown concept or finding, a unit that is not
    the concept's, a statistic that does not exist.
    """
    slots: list[Slot] = []
    patient_slots: list[PatientSlot] = []
    derived: dict[str, DerivedSlot] = {}
    for feature in manifest["features"]:
        concept = _concept(catalog, feature)
        if concept.element:
            patient_slots.append(_patient_slot(concept, feature))
            continue
        slot = _slot(concept, feature)
        slots.append(slot)
        if concept.derived and slot.statistic == "latest":
            derived[slot.name] = _derived_slot(catalog, concept, slot)
    settling = [
        _settling_slot(_concept(catalog, rule), rule) for rule in manifest.get("settled_by", ())
    ]
    everything = [*slots, *settling, *(i for d in derived.values() for i in d.ingredients.values())]
    domain = manifest.get("domain", {})
    read = {slot.concept for slot in everything}
    rounded = {id_: rounding(concept.decimals) for id_, concept in catalog.concepts.items()}
    return CompiledMapping(
        catalog=catalog,
        order=tuple(feature["name"] for feature in manifest["features"]),
        slots=tuple(slots),
        settling=tuple(settling),
        patient_slots=tuple(patient_slots),
        derived=derived,
        findings=tuple(
            _finding(catalog, id_) for id_ in domain.get("exclude", ()) if id_ != DECEASED
        ),
        concept_of={
            key: id_ for id_ in read for key in _keys(catalog, catalog.concepts[id_].loinc)
        },
        wanted=_wanted(catalog, read, rounded),
        rounded=rounded,
        system_names=by_system(catalog.systems),
    )


def _concept(catalog: Catalog, wanted: Mapping[str, Any]) -> Concept:
    concept = catalog.concepts.get(wanted["concept"])
    if concept is None:
        raise MappingError(f"concept {wanted['concept']!r} of the manifest is not in concepts.toml")
    return concept


def _finding(catalog: Catalog, id_: str) -> FindingRule:
    if id_ not in catalog.findings:
        raise MappingError(f"finding {id_!r} of the manifest's domain is not in concepts.toml")
    return catalog.findings[id_]


def _slot(concept: Concept, feature: Mapping[str, Any]) -> Slot:
    statistic, name = feature.get("statistic", "latest"), feature["name"]
    if statistic not in STATISTICS:
        raise MappingError(f"feature {name}: statistic {statistic!r} is not one of {STATISTICS}")
    unit = {"count": "1", "slope": f"{concept.unit}/d"}.get(statistic, concept.unit)
    _same_unit(name, feature["unit"], unit)
    return Slot(
        name=name,
        concept=concept.id,
        unit=unit,
        decimals=concept.decimals,
        statistic=statistic,
        look_back=_days(feature.get("look_back_days")),
        # A count or slope is judged by the values that it is made of.
        plausible=_narrower(
            concept.plausible, feature.get("plausible") if unit == concept.unit else None
        ),
    )


def _same_unit(name: str, stated: str, known: str) -> None:
    if stated != known:
        raise MappingError(f"feature {name}: the manifest says {stated!r}, concepts.toml {known!r}")


def _narrower(outer: tuple[float, float], inner: Any) -> tuple[float, float]:
    if inner is None:
        return outer
    return max(outer[0], float(inner[0])), min(outer[1], float(inner[1]))


def _days(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)


def _patient_slot(concept: Concept, feature: Mapping[str, Any]) -> PatientSlot:
    _same_unit(feature["name"], feature["unit"], concept.unit)
    if concept.element not in (BIRTH_DATE, GENDER):
        raise MappingError(f"concept {concept.id}: element {concept.element!r} cannot be read")
    return PatientSlot(
        name=feature["name"],
        title=concept.title,
        element=concept.element,
        unit=concept.unit,
        plausible=_narrower(concept.plausible, feature.get("plausible")),
        categories={k: float(v) for k, v in (feature.get("categories") or {}).items()},
    )


def _derived_slot(catalog: Catalog, concept: Concept, slot: Slot) -> DerivedSlot:
    assert concept.derived is not None  # noqa: S101 - checked by the caller, for the type checker
    ingredients = {
        id_: Slot(
            name=f"{slot.name}/{id_}",
            concept=id_,
            unit=catalog.concepts[id_].unit,
            decimals=catalog.concepts[id_].decimals,
            statistic="distinct",
            look_back=_days(concept.derived.look_back_days[id_])
            if id_ in concept.derived.look_back_days
            else slot.look_back,
            plausible=catalog.concepts[id_].plausible,
        )
        for id_ in concept.derived.factors
    }
    return DerivedSlot(
        name=slot.name, title=concept.title, derived=concept.derived, ingredients=ingredients
    )


def _settling_slot(concept: Concept, rule: Mapping[str, Any]) -> Slot:
    return _slot(concept, {**rule, "name": concept.id})


def _wanted(catalog: Catalog, read: Iterable[str], rounded: Mapping[str, Rounding]) -> WantedCodes:
    found: dict[str, dict[str, Wanted]] = {}
    for concept in (catalog.concepts[id_] for id_ in read):
        for reader, codes in (
            (concept.reader, concept.loinc),
            # Last, as they are among the others too.
            (concept.molar_reader, concept.molar_loinc),
        ):
            if reader is None:
                continue
            wanted = Wanted(
                concept=concept.id,
                title=concept.title,
                molar_only=reader is concept.molar_reader,
                reader=reader,
                rounded=rounded[concept.id],
            )
            for system, code in _keys(catalog, codes):
                found.setdefault(code, {})[system] = wanted
    return found


def _keys(catalog: Catalog, codes: tuple[str, ...]) -> Iterator[CodeKey]:
    """Every spelling of these LOINC codes, with every spelling of their system."""
    for code in codes:
        yield from spellings(catalog.systems["loinc"], code, hyphenless=True)
