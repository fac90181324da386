"""One patient's record as it was at one moment: the first usable result of the outcome.

The moment is the patient's earliest usable result inside the recipe's periods: of all their results
it is the one before which least was known, and the least likely to be a check of treatment. What
the model is given is what the record held when that sample was taken. In doubt a diagnosis was
already known, and a value was not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, tzinfo
from typing import Any

from fhir_mapping import (
    Absent,
    Bound,
    CompiledMapping,
    Effective,
    FeatureVector,
    compile_mapping,
    load_catalog,
    map_features,
)
from fhir_mapping.mapping import MappingError
from fhir_mapping.times import read_datetime, read_effective, read_period
from model_training.dataset import DatasetError
from model_training.recipe import Recipe, required

Resource = dict[str, Any]
# After every result: when a result was taken is asked first, and what was known then second.
_LAST_YEAR = 9998
_NO_MOMENT = "not dated to the day"
_AFTER_DEATH = "after death"
_UNCERTAIN_BOUND = "bound on both sides of the threshold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a recipe asks of a record, resolved once: see `rules_of`.

    `periods` from calendar years, first and last, to the period's name; empty: each year is its
    own. `zone` is the one in which bare dates are read; `fhir_base` the server that the export's
    absolute references name.
    """

    features: CompiledMapping
    findings: CompiledMapping
    outcome: CompiledMapping
    concept: str
    outcome_title: str
    at_least: float
    minimum_age: int
    periods: Mapping[tuple[int, int], str]
    zone: tzinfo
    fhir_base: str | None = None

    def period_of(self, moment: datetime) -> str | None:
        year = moment.astimezone(self.zone).year
        if not self.periods:
            return f"{year}-{year}"
        inside = (name for (first, last), name in self.periods.items() if first <= year <= last)
        return next(inside, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One usable result of the outcome: when its sample was taken, and on which side it lies."""

    effective: Effective
    event: bool


@dataclass(slots=True)
class Record:
    """One patient's resources that matter, `results` being the Observations of the outcome."""

    patient_id: str
    patients: list[Resource] = field(default_factory=list)
    results: list[Resource] = field(default_factory=list)
    observations: list[Resource] = field(default_factory=list)
    conditions: list[Resource] = field(default_factory=list)
    medications: list[Resource] = field(default_factory=list)
    of_other_servers: int = 0


@dataclass(slots=True)
class Tally:
    """What became of the results of the outcome: their years, and why some were not usable."""

    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    years: set[int] = field(default_factory=set)

    def reasons(self) -> str:
        return ", ".join(f"{reason}: {n}" for reason, n in sorted(self.refused.items()))

    def span(self) -> str:
        return f"{min(self.years)} to {max(self.years)}" if self.years else "no year"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A patient at the moment of their first usable result.

    `conditions` and `medicines` are the findings of the recipe's domain that a Condition shows, or
    a medicine implies; `earlier_event`: an earlier result already gave the answer; `same_day`: the
    diagnosis was recorded on the day of the result itself.
    """

    patient_id: str
    period: str
    event: bool
    age: int | None
    values: Mapping[str, float]
    conditions: frozenset[str]
    medicines: frozenset[str]
    earlier_event: bool
    same_day: bool


def rules_of(recipe: Recipe, *, periods: Mapping[tuple[int, int], str], zone: tzinfo) -> Rules:
    """Raises DatasetError where the recipe makes its outcome an input too."""
    catalog = load_catalog()
    cohort = required(recipe, "cohort", "outcome_concept", "outcome_at_least", "minimum_age")
    outcome = cohort["outcome_concept"]
    manifest = recipe.mapping_manifest()
    if any(feature["concept"] == outcome for feature in manifest["features"]):
        raise DatasetError(f"{recipe.file} makes {outcome} both the outcome and an input.")
    concept = catalog.concepts.get(outcome)
    if concept is None or not concept.loinc:
        raise DatasetError(
            f"{recipe.file}: the outcome_concept {outcome!r} of [cohort] is no measured concept of "
            "concepts.toml."
        )
    asked = {"concept": outcome, "unit": concept.unit}
    return Rules(
        features=_compiled(recipe),
        findings=compile_mapping(catalog, {"features": [], "domain": manifest["domain"]}),
        outcome=compile_mapping(catalog, {"features": [], "settled_by": [asked]}),
        concept=outcome,
        outcome_title=concept.title,
        at_least=float(cohort["outcome_at_least"]),
        minimum_age=int(cohort["minimum_age"]),
        periods=periods,
        zone=zone,
    )


def _compiled(recipe: Recipe) -> CompiledMapping:
    try:
        return compile_mapping(load_catalog(), recipe.mapping_manifest())
    except MappingError as fault:
        raise DatasetError(f"{recipe.file} cannot be used on a FHIR export: {fault}.") from fault


def person_of(record: Record, rules: Rules, tally: Tally) -> Person | None:
    """None without a usable result in the periods. Counts all results in `tally`."""
    judged = sorted(_results(record, rules, tally), key=lambda one: _interval(one[0]))
    inside = [one for one in judged if rules.period_of(one[0].effective.earliest)]
    if not inside:
        return None
    index = _at_one_moment(inside, record, rules)
    moment = index.effective.latest.astimezone(rules.zone)
    period = rules.period_of(index.effective.earliest)
    assert period is not None  # noqa: S101 - chosen so
    vector = _mapped(rules.features, _known_by(record, moment), moment, record, rules)
    medicines = _mapped(
        rules.findings, _begun_by(record.medications, moment), moment, record, rules
    )
    return Person(
        patient_id=record.patient_id,
        period=period,
        event=index.event,
        age=vector.age,
        values=vector.values(),
        conditions=frozenset(vector.findings),
        medicines=frozenset(medicines.findings),
        earlier_event=any(
            result.event and result.effective.earliest < index.effective.earliest
            for result, _ in judged
        ),
        same_day=_only_today(vector.findings, record, moment, rules),
    )


# --------------------------------------------------------------------------------- the outcome


def _results(record: Record, rules: Rules, tally: Tally) -> Iterator[tuple[Result, Resource]]:
    death = _death(record, rules.zone)
    for observation in record.results:
        tally.read += 1
        result = _judged([observation], record, rules)
        if isinstance(result, str):
            tally.refused[result] += 1
        elif death and result.effective.earliest > death.latest:
            tally.refused[_AFTER_DEATH] += 1
        else:
            tally.years.add(result.effective.earliest.astimezone(rules.zone).year)
            yield result, observation


def _judged(observations: list[Resource], record: Record, rules: Rules) -> Result | str:
    """Read as the service reads a result that settles its question; else the reason why not."""
    moment = datetime(_LAST_YEAR, 1, 1, tzinfo=rules.zone)
    vector = _mapped(rules.outcome, observations, moment, record, rules)
    entry, bound = vector.settling[rules.concept], vector.bounds.get(rules.concept)
    if isinstance(entry, Absent):
        if bound is None:
            return str(entry.reason)
        event, source = _bound_event(bound, rules.at_least), bound.source
    else:
        event, source = entry.value >= rules.at_least, entry.sources[0]
    if event is None:
        return _UNCERTAIN_BOUND
    effective = source.effective
    if effective is None or not _is_one_day(effective, rules.zone):
        return _NO_MOMENT
    return Result(effective=effective, event=event)


def _bound_event(bound: Bound, at_least: float) -> bool | None:
    """`> 14` is at least 6.5 and `< 4` is not; of `< 9` it cannot be told."""
    if bound.comparator in (">", ">=") and bound.value >= at_least:
        return True
    below = bound.value <= at_least if bound.comparator == "<" else bound.value < at_least
    return False if bound.comparator in ("<", "<=") and below else None


def _at_one_moment(
    judged: Sequence[tuple[Result, Resource]], record: Record, rules: Rules
) -> Result:
    """Of several results of the first moment the one that the service would take: the corrected
    one, then the one issued later."""
    first = judged[0][0]
    same = [observation for result, observation in judged if _same_moment(result, first)]
    together = _judged(same, record, rules) if len(same) > 1 else first
    return first if isinstance(together, str) else together


def _same_moment(one: Result, other: Result) -> bool:
    return _interval(one) == _interval(other)


def _interval(result: Result) -> tuple[datetime, datetime]:
    return result.effective.earliest, result.effective.latest


def _is_one_day(effective: Effective, zone: tzinfo) -> bool:
    try:
        first, last = (one.astimezone(zone) for one in (effective.earliest, effective.latest))
    except OverflowError:
        # 0001-01-01T00:00:00Z, which some systems write for "no date", is in no year west of it.
        return False
    return first.date() == last.date()


def _death(record: Record, zone: tzinfo) -> Effective | None:
    dates = (read_datetime(one.get("deceasedDateTime"), zone) for one in record.patients)
    return next((death for death in dates if death), None)


# ---------------------------------------------------------------------- what was known by then


def _known_by(record: Record, moment: datetime) -> Iterator[Resource]:
    yield from record.patients
    for observation in record.observations:
        if not _may_be_later(observation, moment):
            yield observation
    for condition in _begun_by(record.conditions, moment):
        yield _as_it_was(condition)


def _may_be_later(observation: Resource, moment: datetime) -> bool:
    """`2015` or `2015-06` may lie after the moment although it begins before it.

    A time is judged by the mapping itself; a bare date of the moment's own day is taken for the
    same visit.
    """
    text = observation.get("effectiveDateTime")
    if isinstance(text, str) and len(text.strip()) >= len("2015-06-01"):
        return False
    effective = read_effective(observation, _zone(moment))
    end_of_day = datetime.combine(moment.date(), time.max, moment.tzinfo)
    return effective is not None and effective.latest > end_of_day


def _begun_by(resources: Iterable[Resource], moment: datetime) -> Iterator[Resource]:
    """What has no date counts: in doubt a diagnosis was known and a medicine was taken."""
    for resource in resources:
        began = _began(resource, _zone(moment))
        if began is None or began <= moment:
            yield resource


def _began(resource: Resource, zone: tzinfo) -> datetime | None:
    """The earliest moment that the record names as the beginning: of the disease, or the entry."""
    moments = (
        *(read_datetime(resource.get(name), zone) for name in _MOMENTS),
        *(read_period(resource.get(name), zone) for name in _PERIODS),
    )
    return min((effective.earliest for effective in moments if effective), default=None)


# Condition (R4 and later; STU3), MedicationRequest, MedicationStatement.
_MOMENTS = (
    "recordedDate",
    "assertedDate",
    "onsetDateTime",
    "authoredOn",
    "effectiveDateTime",
    "dateAsserted",
)
_PERIODS = ("onsetPeriod", "effectivePeriod")
_OF_TODAY = ("clinicalStatus", "abatementBoolean")


def _as_it_was(condition: Resource) -> Resource:
    """Without what is true at the time of the export only: a pregnancy that is over now was not
    over then. Its dates tell whether it was; where it has none, its status is all there is."""
    if not any(name in condition for name in (*_MOMENTS, *_PERIODS)):
        return condition
    return {name: value for name, value in condition.items() if name not in _OF_TODAY}


def _only_today(found: Collection[str], record: Record, moment: datetime, rules: Rules) -> bool:
    """Whether a finding that stays rests on Conditions of the moment's own day alone."""
    lasting = {rule.id for rule in rules.findings.findings if rule.persistent} & set(found)
    if not lasting:
        return False
    start = datetime.combine(moment.date(), time.min, moment.tzinfo)
    before = _begun_by(record.conditions, start - timedelta(microseconds=1))
    return not lasting <= set(_mapped(rules.findings, before, moment, record, rules).findings)


def _mapped(
    mapping: CompiledMapping,
    resources: Iterable[Resource],
    moment: datetime,
    record: Record,
    rules: Rules,
) -> FeatureVector:
    return map_features(
        mapping,
        resources,
        as_of=moment,
        patient_id=record.patient_id,
        fhir_base=rules.fhir_base,
    )


def _zone(moment: datetime) -> tzinfo:
    assert moment.tzinfo is not None  # noqa: S101 - made with the rules' zone
    return moment.tzinfo
