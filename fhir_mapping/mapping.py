"""The mapping: compiled once from a manifest, then one pass over a patient's resources.

mapping = compile_mapping(load_catalog(), manifest)
vector = map_features(mapping, resources, as_of=now, patient_id="123")
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from fhir_mapping.codes import by_system, spellings
from fhir_mapping.concepts import Catalog, Concept, Derived, FindingRule
from fhir_mapping.findings import MEDICATION_TYPES, condition_shows, medication_shows
from fhir_mapping.resources import (
    Reading,
    Subject,
    read_quantity,
    reference_to,
    usable_status,
    whose,
)
from fhir_mapping.selection import (
    EARLIEST,
    STATISTICS,
    Candidate,
    Distinct,
    OrderKey,
    Selection,
    Slot,
    statistic_for,
)
from fhir_mapping.times import read_date, read_datetime, read_effective, whole_years
from fhir_mapping.units import Rounding, rounding
from fhir_mapping.vector import (
    Absent,
    AbsentReason,
    Bound,
    Effective,
    Entry,
    FeatureVector,
    Finding,
    Present,
    Source,
)

BIRTH_DATE, GENDER = "Patient.birthDate", "Patient.gender"
DECEASED = "deceased"


class MappingError(ValueError):
    """A manifest asks for what the catalog does not have; the message names both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSlot:
    """A feature read from the Patient; `categories` turns a code into a number."""

    name: str
    concept: str
    element: str
    unit: str
    plausible: tuple[float, float]
    categories: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedSlot:
    """A feature computed from other concepts where it is not recorded itself."""

    name: str
    title: str
    derived: Derived
    ingredients: Mapping[str, Slot]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledMapping:
    """Everything that `map_features` needs, looked up once: see `compile_mapping`."""

    catalog: Catalog
    order: tuple[str, ...]
    slots: tuple[Slot, ...]
    settling: tuple[Slot, ...]
    patient_slots: tuple[PatientSlot, ...]
    derived: Mapping[str, DerivedSlot]
    findings: tuple[FindingRule, ...]
    concept_of: Mapping[tuple[str, str], str]
    rounded: Mapping[str, Rounding]
    system_names: Mapping[str, str]
    minimum_age: int | None = None


# ------------------------------------------------------------------------------------ compile


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
        concept_of=_index(catalog, {slot.concept for slot in everything}),
        rounded={id_: rounding(concept.decimals) for id_, concept in catalog.concepts.items()},
        system_names=by_system(catalog.systems),
        minimum_age=domain.get("minimum_age"),
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
        concept=concept.id,
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


def _index(catalog: Catalog, concepts: set[str]) -> dict[tuple[str, str], str]:
    """From every spelling of every code that matters to its concept."""
    return {
        key: id_
        for id_ in concepts
        for code in catalog.concepts[id_].loinc
        for key in spellings(catalog.systems["loinc"], code, hyphenless=True)
    }


# ---------------------------------------------------------------------------------------- map


def map_features(
    mapping: CompiledMapping,
    resources: Iterable[Any],
    *,
    as_of: datetime,
    patient_id: str,
    fhir_base: str | None = None,
) -> FeatureVector:
    """One walk over any number of resources, in any order, to one patient's features.

    `as_of` is aware; its zone is the one in which bare dates are read. Resources of other patients,
    of other types and malformed ones are passed over. `fhir_base` is the server whose absolute
    references name this patient.
    """
    walk = _Walk(mapping, as_of, patient_id, fhir_base)
    for resource in resources:
        if isinstance(resource, dict):
            walk.take(resource)
    return walk.vector()


@dataclass(slots=True)
class _Walk:
    mapping: CompiledMapping
    as_of: datetime
    patient_id: str
    fhir_base: str | None
    selections: dict[str, list[Selection]] = field(init=False)
    by_name: dict[str, Selection] = field(init=False)
    settling: dict[str, Selection] = field(init=False)
    ingredients: dict[str, dict[str, Selection]] = field(init=False)
    found: dict[str, set[str]] = field(init=False)
    patient: "_PatientFacts" = field(init=False)

    def __post_init__(self) -> None:
        if self.as_of.tzinfo is None:
            raise ValueError("as_of needs a time zone")
        self.by_name = {slot.name: self._open(slot) for slot in self.mapping.slots}
        self.settling = {slot.name: self._open(slot) for slot in self.mapping.settling}
        self.ingredients = {
            name: {id_: self._open(slot) for id_, slot in derived.ingredients.items()}
            for name, derived in self.mapping.derived.items()
        }
        self.selections = {}
        inner = itertools.chain.from_iterable(i.values() for i in self.ingredients.values())
        for selection in itertools.chain(self.by_name.values(), self.settling.values(), inner):
            self.selections.setdefault(selection.slot.concept, []).append(selection)
        self.found = {}
        self.patient = _PatientFacts(self.patient_id)

    def _open(self, slot: Slot) -> Selection:
        return Selection(slot, statistic_for(slot, self.as_of))

    @property
    def zone(self) -> tzinfo:
        assert self.as_of.tzinfo is not None  # noqa: S101 - checked in __post_init__
        return self.as_of.tzinfo

    def take(self, resource: dict[str, Any]) -> None:
        kind = resource.get("resourceType")
        if kind == "Observation":
            self.observation(resource)
        elif kind == "Patient":
            self.patient.take(resource)
        elif kind == "Condition":
            self.condition(resource)
        elif kind in MEDICATION_TYPES:
            self.medication(resource)

    # ------------------------------------------------------------------------- Observations

    def observation(self, observation: dict[str, Any]) -> None:
        hits = list(self._hits(observation))
        if not hits:
            return
        context = self._context(observation)
        for concept, element in hits:
            if isinstance(context, AbsentReason):
                self._refuse(concept, context)
            else:
                self._offer(concept, element, context)

    def _hits(self, observation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The concepts that this Observation, or a component of it, is about."""
        yield from self._hit(observation)
        components = observation.get("component")
        for component in components if isinstance(components, list) else ():
            if isinstance(component, dict):
                yield from self._hit(component)

    def _hit(self, element: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        code = element.get("code")
        codings = code.get("coding") if isinstance(code, dict) else None
        if not isinstance(codings, list):
            return
        concepts = set()
        for coding in codings:
            if isinstance(coding, dict):
                system, value = coding.get("system"), coding.get("code")
                if isinstance(system, str) and isinstance(value, str):
                    concept = self.mapping.concept_of.get((system.strip(), value.strip()))
                    if concept:
                        concepts.add(concept)
        if len(concepts) > 1:
            # Two codings that name two quantities: which of them was measured is not certain.
            for concept in concepts:
                self._refuse(concept, AbsentReason.CODE_CONFLICT)
        else:
            for concept in concepts:
                yield concept, element

    def _context(self, observation: dict[str, Any]) -> "_Context | AbsentReason":
        """What holds for all components: may it be used, whose is it, when was it."""
        # http://hl7.org/fhir/R4/extensibility.html#modifierExtension: whoever does not understand
        # one must not use the element.
        if observation.get("modifierExtension"):
            return AbsentReason.MODIFIED
        if not usable_status(observation):
            return AbsentReason.STATUS
        subject = whose(observation, patient_id=self.patient_id, fhir_base=self.fhir_base)
        if subject is Subject.ANOTHER:
            return AbsentReason.OTHER_PATIENT
        if subject is Subject.UNCERTAIN:
            return AbsentReason.SUBJECT_UNCERTAIN
        effective = read_effective(observation, self.zone)
        if effective is None:
            return AbsentReason.TIME_UNKNOWN
        if effective.earliest > self.as_of or self._ends_in_future(observation, effective):
            return AbsentReason.FUTURE
        return self._ordered(observation, effective)

    def _ends_in_future(self, observation: dict[str, Any], effective: Effective) -> bool:
        """A Period that ends after now; a bare date of today does not count as future."""
        if "effectivePeriod" not in observation or "/" not in effective.text:
            return False
        end = read_datetime(effective.text.split("/")[1], self.zone)
        return end is not None and end.earliest > self.as_of

    def _ordered(self, observation: dict[str, Any], effective: Effective) -> "_Context":
        issued = read_datetime(observation.get("issued"), self.zone)
        return _Context(
            effective=effective,
            reference=reference_to(observation),
            is_correction=str(observation["status"]).strip() != "final",
            issued=issued.earliest if issued else EARLIEST,
        )

    def _refuse(
        self, concept: str, reason: AbsentReason, effective: Effective | None = None
    ) -> None:
        for selection in self.selections[concept]:
            selection.refuse(reason, effective)

    def _offer(self, concept: str, element: dict[str, Any], context: "_Context") -> None:
        if element.get("modifierExtension"):
            self._refuse(concept, AbsentReason.MODIFIED)
            return
        known = self.mapping.catalog.concepts[concept]
        assert known.reader is not None  # noqa: S101 - only Patient concepts have none
        reading = read_quantity(element, known.reader, self.mapping.rounded[concept])
        if isinstance(reading, AbsentReason):
            self._refuse(concept, reading)
            return
        source = context.source(known.title, reading)
        for selection in self.selections[concept]:
            self._add(selection, reading, context, source)

    def _add(
        self, selection: Selection, reading: Reading, context: "_Context", source: Source
    ) -> None:
        slot = selection.slot
        order = context.order(reading.value)
        if not slot.is_plausible(reading.value):
            selection.refuse(AbsentReason.IMPLAUSIBLE)
        elif not slot.admits(context.effective, self.as_of):
            selection.refuse(AbsentReason.TOO_OLD, context.effective)
        elif reading.comparator is not None:
            selection.refuse(AbsentReason.COMPARATOR)
            selection.offer_bound(order, _bound(slot, reading, source))
        else:
            selection.statistic.add(Candidate(reading.value, context.effective, order, source))

    # ----------------------------------------------------------------------------- findings

    def condition(self, condition: dict[str, Any]) -> None:
        if self._may_be_mine(condition):
            for rule in self.mapping.findings:
                if condition_shows(condition, rule, self.mapping.system_names, self.as_of):
                    self.found.setdefault(rule.id, set()).add(reference_to(condition) or "")

    def medication(self, request: dict[str, Any]) -> None:
        if self._may_be_mine(request):
            for rule in self.mapping.findings:
                if medication_shows(request, rule, self.mapping.system_names):
                    self.found.setdefault(rule.id, set()).add(reference_to(request) or "")

    def _may_be_mine(self, resource: dict[str, Any]) -> bool:
        """A finding of uncertain subject counts: in doubt, no figure."""
        subject = whose(resource, patient_id=self.patient_id, fhir_base=self.fhir_base)
        return subject is not Subject.ANOTHER

    # ------------------------------------------------------------------------------- result

    def vector(self) -> FeatureVector:
        entries: dict[str, Entry] = {name: s.entry() for name, s in self.by_name.items()}
        for name, derived in self.mapping.derived.items():
            if isinstance(entries[name], Absent):
                entries[name] = self._derive(name, derived) or entries[name]
        for slot in self.mapping.patient_slots:
            entries[slot.name] = self.patient.entry(slot, self.as_of, self.mapping)
        return FeatureVector(
            as_of=self.as_of,
            entries={name: entries[name] for name in self.mapping.order},
            settling={name: s.entry() for name, s in self.settling.items()},
            bounds={name: s.bound[1] for name, s in self.settling.items() if s.bound},
            findings=self._findings(),
            age=self.patient.age(self.as_of),
            deceased=self.patient.deceased,
        )

    def _findings(self) -> dict[str, Finding]:
        return {
            rule.id: Finding(
                id=rule.id, title=rule.title, reference=min(self.found[rule.id]) or None
            )
            for rule in self.mapping.findings
            if rule.id in self.found
        }

    def _derive(self, name: str, derived: DerivedSlot) -> Present | None:
        """The most recent ingredients that together are plausible."""
        slot = self.by_name[name].slot
        held = [self._candidates(selection) for selection in self.ingredients[name].values()]
        powers = list(derived.derived.factors.values())
        for chosen in itertools.product(*held):
            value = derived.derived.scale * math.prod(
                candidate.value**power for candidate, power in zip(chosen, powers, strict=True)
            )
            value = self.mapping.rounded[slot.concept](value)
            if slot.is_plausible(value):
                sources = tuple(candidate.source for candidate in chosen)
                return Present(name=name, value=value, unit=slot.unit, sources=sources)
        return None

    def _candidates(self, selection: Selection) -> list[Candidate]:
        assert isinstance(selection.statistic, Distinct)  # noqa: S101 - ingredients are Distinct
        return list(selection.statistic.latest_first())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    effective: Effective
    reference: str | None
    is_correction: bool
    issued: datetime

    def order(self, value: float) -> OrderKey:
        return (
            self.effective.earliest,
            int(self.is_correction),
            self.issued,
            self.reference or "",
            value,
        )

    def source(self, title: str, reading: Reading) -> Source:
        return Source(
            reference=self.reference,
            effective=self.effective,
            recorded_value=reading.recorded_value,
            recorded_unit=reading.recorded_unit,
            title=title,
        )


def _bound(slot: Slot, reading: Reading, source: Source) -> Bound:
    assert reading.comparator is not None  # noqa: S101 - only called for comparators
    return Bound(
        name=slot.name,
        comparator=reading.comparator,
        value=reading.value,
        unit=slot.unit,
        source=source,
    )


@dataclass(slots=True)
class _PatientFacts:
    """Birth date, gender and death of the patient in context.

    Where a Patient arrives in several versions, each fact is taken from the latest that states it.
    """

    patient_id: str
    born: tuple[str, date, date] | None = None
    born_text: str = ""
    gender: tuple[str, str] | None = None
    deceased: bool = False

    def take(self, patient: dict[str, Any]) -> None:
        # A Patient without an id is accepted: FHIR leaves it optional, and the caller vouches for
        # what it passes as the patient in context.
        if patient.get("id") not in (None, self.patient_id):
            return
        meta = patient.get("meta")
        version = str(meta.get("lastUpdated", "")) if isinstance(meta, dict) else ""
        days = read_date(patient.get("birthDate"))
        if days and (self.born is None or (version, *days) > self.born):
            self.born, self.born_text = (version, *days), patient["birthDate"]
        gender = patient.get("gender")
        if isinstance(gender, str) and (self.gender is None or (version, gender) > self.gender):
            self.gender = (version, gender)
        self.deceased = self.deceased or _is_deceased(patient)

    def age(self, as_of: datetime) -> int | None:
        """Completed years; of a partial birth date the youngest age that it allows, so that a
        child is never taken for an adult."""
        if self.born is None or self.born[1] > as_of.date():
            return None
        return max(0, whole_years(min(self.born[2], as_of.date()), as_of.date()))

    def entry(self, slot: PatientSlot, as_of: datetime, mapping: CompiledMapping) -> Entry:
        if slot.element == BIRTH_DATE:
            value: float | None = self.age(as_of)
            missing = AbsentReason.FUTURE if self.born else AbsentReason.NOT_RECORDED
        else:
            value = slot.categories.get(self.gender[1].strip()) if self.gender else None
            missing = AbsentReason.NO_VALUE if self.gender else AbsentReason.NOT_RECORDED
        if value is None:
            return Absent(name=slot.name, reason=missing)
        if not slot.plausible[0] <= value <= slot.plausible[1]:
            return Absent(name=slot.name, reason=AbsentReason.IMPLAUSIBLE)
        source = Source(
            reference=f"Patient/{self.patient_id}",
            effective=None,
            recorded_value=None,
            recorded_unit=None,
            title=mapping.catalog.concepts[slot.concept].title,
        )
        return Present(name=slot.name, value=float(value), unit=slot.unit, sources=(source,))


def _is_deceased(patient: Mapping[str, Any]) -> bool:
    """Any statement of death but a plain `false`; a date of death whose value was left out is one."""
    boolean = patient.get("deceasedBoolean")
    if boolean is not None and boolean is not False:
        return True
    return "deceasedDateTime" in patient or "_deceasedDateTime" in patient
