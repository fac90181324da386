"""One walk over a patient's resources:

mapping = compile_mapping(load_catalog(), manifest)
vector = map_features(mapping, resources, as_of=now, patient_id="123")
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from fhir_mapping.findings import MEDICATION_TYPES, condition_shows, medication_shows
from fhir_mapping.mapping import CompiledMapping, DerivedSlot
from fhir_mapping.patient import PatientFacts
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
    Candidate,
    Distinct,
    OrderKey,
    Selection,
    Slot,
    statistic_for,
)
from fhir_mapping.times import read_datetime, read_effective
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
    patient: PatientFacts = field(init=False)

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
        self.patient = PatientFacts(self.patient_id)

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
        elif isinstance(kind, str) and kind in MEDICATION_TYPES:
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
            entries[slot.name] = self.patient.entry(slot, self.as_of)
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
