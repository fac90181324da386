"""One walk over a patient's resources:

mapping = compile_mapping(load_catalog(), manifest)
vector = map_features(mapping, resources, as_of=now, patient_id="123")
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Any

from fhir_mapping.findings import MEDICATION_TYPES, shown_by_condition, shown_by_medication
from fhir_mapping.mapping import CompiledMapping, DerivedSlot, Wanted
from fhir_mapping.patient import PatientFacts
from fhir_mapping.relevance import Hit, hits
from fhir_mapping.resources import Subject, read_quantity, reference_to, usable_status, whose
from fhir_mapping.selection import (
    Candidate,
    Distinct,
    Report,
    Selection,
    Selections,
    Slot,
    statistic_for,
)
from fhir_mapping.times import in_utc, read_datetime, read_effective, read_instant
from fhir_mapping.vector import (
    REASON_ORDER,
    Absent,
    AbsentReason,
    Effective,
    Entry,
    FeatureVector,
    Finding,
    Present,
)
from fhir_mapping.versions import as_r4


def map_features(
    mapping: CompiledMapping,
    resources: Iterable[Any],
    *,
    as_of: datetime,
    patient_id: str,
    fhir_base: str | None = None,
) -> FeatureVector:
    """One walk over resources of any number, order and FHIR version, to one patient's features.

    `as_of` is aware; its zone is the one in which bare dates are read. Resources of other patients,
    of other types and malformed ones are passed over. `fhir_base` is the server whose absolute
    references name this patient.
    """
    walk = _Walk(mapping, as_of, patient_id, fhir_base)
    for resource in resources:
        if isinstance(resource, dict):
            walk.take(resource)
    return walk.vector()


# A weight and a height that give no plausible BMI together are tried with earlier ones, this far.
MOST_CANDIDATES = 20


@dataclass(slots=True)
class _Walk:
    mapping: CompiledMapping
    as_of: datetime
    patient_id: str
    fhir_base: str | None
    by_name: dict[str, Selection] = field(init=False)
    settling: dict[str, Selection] = field(init=False)
    ingredients: dict[str, dict[str, Selection]] = field(init=False)
    selections: dict[str, Selections] = field(init=False)
    found: dict[str, set[str]] = field(init=False)
    patient: PatientFacts = field(init=False)
    now: datetime = field(init=False)
    of_others: int = 0

    def __post_init__(self) -> None:
        if self.as_of.tzinfo is None:
            raise ValueError("as_of needs a time zone")
        self.now = in_utc(self.as_of)
        self.selections = {}
        self.by_name = {slot.name: self._open(slot) for slot in self.mapping.slots}
        self.settling = {slot.name: self._open(slot) for slot in self.mapping.settling}
        self.ingredients = {
            name: {id_: self._open(slot) for id_, slot in derived.ingredients.items()}
            for name, derived in self.mapping.derived.items()
        }
        for selection in self.settling.values():
            self.selections[selection.slot.concept].bounds_count = True
        self.found = {}
        self.patient = PatientFacts(self.patient_id)

    def _open(self, slot: Slot) -> Selection:
        selection = Selection(slot, self.as_of, statistic_for(slot, self.as_of))
        held = self.selections.get(slot.concept)
        if held is None:
            self.selections[slot.concept] = Selections([selection])
        else:
            held.each.append(selection)
        return selection

    @property
    def zone(self) -> tzinfo:
        assert self.as_of.tzinfo is not None  # noqa: S101 - checked in __post_init__
        return self.as_of.tzinfo

    def take(self, sent: dict[str, Any]) -> None:
        kind = sent.get("resourceType")
        if kind == "Observation":
            # First of all, as most of a record is about what nobody asks for.
            if found := hits(sent, self.mapping.wanted):
                self.observation(as_r4(sent), found)
        elif kind == "Patient":
            self.patient.take(as_r4(sent))
        elif kind == "Condition":
            self.condition(as_r4(sent))
        elif isinstance(kind, str) and kind in MEDICATION_TYPES:
            self.medication(as_r4(sent))

    # ------------------------------------------------------------------------- Observations

    def observation(self, observation: dict[str, Any], found: Sequence[Hit]) -> None:
        report: Report | AbsentReason | None = None
        for element, wanted in found:
            if not isinstance(wanted, Wanted):
                # Two codings that name two quantities: which was measured is not certain.
                for concept in wanted:
                    self.selections[concept].refuse(AbsentReason.CODE_CONFLICT)
                continue
            if report is None:
                report = self._report(observation)
            selections = self.selections[wanted.concept]
            if isinstance(report, AbsentReason):
                selections.refuse(report)
                continue
            settled = selections.settled_before
            if settled is None or report.earliest >= settled:
                self._offer(selections, wanted, element, report)

    def _report(self, observation: dict[str, Any]) -> Report | AbsentReason:
        """What holds for all components: may it be used, whose is it, when was it."""
        # http://hl7.org/fhir/R4/extensibility.html#modifierExtension: whoever does not understand
        # one must not use the element.
        if observation.get("modifierExtension") or observation.get("implicitRules"):
            return AbsentReason.MODIFIED
        if not usable_status(observation):
            return AbsentReason.STATUS
        subject = whose(observation, patient_id=self.patient_id, fhir_base=self.fhir_base)
        if subject is not Subject.THIS_PATIENT:
            if subject is Subject.UNCERTAIN:
                return AbsentReason.SUBJECT_UNCERTAIN
            self.of_others += 1
            return AbsentReason.OTHER_PATIENT
        if observation.get("focus") and not self._is_about_the_patient(observation):
            return AbsentReason.SUBJECT_UNCERTAIN
        # The common form first, of which `read_effective` says the same.
        instant = read_instant(observation.get("effectiveDateTime"))
        if instant is not None:
            if instant > self.now:
                return AbsentReason.FUTURE
            return Report(observation, instant, None, self.zone)
        effective = read_effective(observation, self.zone)
        if effective is None:
            return AbsentReason.TIME_UNKNOWN
        if effective.earliest > self.now or self._ends_in_future(observation, effective):
            return AbsentReason.FUTURE
        return Report(observation, effective.earliest, effective, self.zone)

    def _is_about_the_patient(self, observation: dict[str, Any]) -> bool:
        """`focus` names whom a value is about when that is not the patient of record: a fetus, a
        donor. http://hl7.org/fhir/R4/observation-definitions.html#Observation.focus"""
        focus = observation["focus"]
        return isinstance(focus, list) and all(
            whose({"subject": one}, patient_id=self.patient_id, fhir_base=self.fhir_base)
            is Subject.THIS_PATIENT
            for one in focus
        )

    def _ends_in_future(self, observation: dict[str, Any], effective: Effective) -> bool:
        """A Period that ends after now; a bare date of today does not count as future."""
        if "effectivePeriod" not in observation or "/" not in effective.text:
            return False
        end = read_datetime(effective.text.split("/")[1], self.zone)
        return end is not None and end.earliest > self.now

    def _offer(
        self, selections: Selections, wanted: Wanted, element: dict[str, Any], report: Report
    ) -> None:
        if element.get("modifierExtension"):
            selections.refuse(AbsentReason.MODIFIED)
            return
        reading = read_quantity(element, wanted.reader, wanted.rounded)
        if isinstance(reading, AbsentReason):
            selections.refuse(reading)
        else:
            selections.offer(Candidate(reading.value, report, reading, wanted.title))

    # ----------------------------------------------------------------------------- findings

    def condition(self, condition: dict[str, Any]) -> None:
        if self._may_be_mine(condition):
            for rule in shown_by_condition(
                condition, self.mapping.findings, self.mapping.system_names, self.as_of
            ):
                self.found.setdefault(rule.id, set()).add(reference_to(condition) or "")

    def medication(self, request: dict[str, Any]) -> None:
        if self._may_be_mine(request):
            for rule in shown_by_medication(
                request, self.mapping.findings, self.mapping.system_names
            ):
                self.found.setdefault(rule.id, set()).add(reference_to(request) or "")

    def _may_be_mine(self, resource: dict[str, Any]) -> bool:
        """A finding of uncertain subject counts: in doubt, no figure."""
        subject = whose(resource, patient_id=self.patient_id, fhir_base=self.fhir_base)
        self.of_others += subject is Subject.ANOTHER
        return subject is not Subject.ANOTHER

    # ------------------------------------------------------------------------------- result

    def vector(self) -> FeatureVector:
        entries: dict[str, Entry] = {name: s.entry() for name, s in self.by_name.items()}
        for name, derived in self.mapping.derived.items():
            direct = entries[name]
            if isinstance(direct, Absent):
                entries[name] = self._derive(name, derived) or self._underived(direct, derived)
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
            titles={name: self._title(s.slot) for name, s in self.settling.items()},
            of_others=self.of_others,
        )

    def _title(self, slot: Slot) -> str:
        return self.mapping.catalog.concepts[slot.concept].title

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
        held = [self._candidates(slot, derived, id_) for id_ in derived.ingredients]
        if not all(held):
            return None
        powers = list(derived.derived.factors.values())
        for chosen in itertools.product(*held):
            value = derived.derived.scale * math.prod(
                candidate.value**power for candidate, power in zip(chosen, powers, strict=True)
            )
            value = self.mapping.rounded[slot.concept](value)
            if slot.is_plausible(value):
                sources = tuple(candidate.source() for candidate in chosen)
                return Present(name=name, value=value, unit=slot.unit, sources=sources)
        return None

    def _candidates(self, slot: Slot, derived: DerivedSlot, id_: str) -> list[Candidate]:
        """The latest values of an ingredient; few, as each is tried with each of the others."""
        statistic = self.ingredients[slot.name][id_].statistic
        assert isinstance(statistic, Distinct)  # noqa: S101 - ingredients are Distinct
        since = slot.since(self.as_of)
        from_age = derived.derived.from_age.get(id_, 0)
        usable = (
            candidate
            for candidate in statistic.latest_first()
            if candidate.report.earliest >= since
            or (self.patient.age(candidate.report.earliest) or 0) >= from_age
        )
        return list(itertools.islice(usable, MOST_CANDIDATES))

    def _underived(self, direct: Absent, derived: DerivedSlot) -> Absent:
        """Where nothing was recorded under its own name, the reason of the ingredients."""
        if direct.reason is not AbsentReason.NOT_RECORDED:
            return direct
        entries = [s.entry() for s in self.ingredients[direct.name].values()]
        reasons = [entry.reason for entry in entries if isinstance(entry, Absent)]
        # All there: then one is too old for what it is, or together they make no sense.
        slot = self.by_name[direct.name].slot
        usable = all(self._candidates(slot, derived, id_) for id_ in derived.ingredients)
        otherwise = AbsentReason.IMPLAUSIBLE if usable else AbsentReason.TOO_OLD
        furthest = max(reasons, key=REASON_ORDER.__getitem__, default=otherwise)
        return replace(direct, reason=furthest)
