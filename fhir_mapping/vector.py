"""What a mapping returns: per feature a value with its source, or an absence with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AbsentReason(StrEnum):
    """Why a feature has no value, in the order in which an Observation is examined.

    Where several Observations failed for different reasons, the feature carries the reason of the
    one that got furthest: the most useful one to whoever has to mend the record.
    """

    NOT_RECORDED = "not-recorded"
    CODE_CONFLICT = "code-conflict"
    MODIFIED = "modifier-extension"
    STATUS = "status-not-usable"
    OTHER_PATIENT = "other-patient"
    SUBJECT_UNCERTAIN = "subject-uncertain"
    TIME_UNKNOWN = "time-unknown"
    FUTURE = "in-the-future"
    NO_VALUE = "no-numeric-value"
    COMPARATOR = "comparator"
    UNIT_MISSING = "unit-missing"
    UNIT_UNKNOWN = "unit-unknown"
    UNIT_CONFLICT = "unit-conflict"
    IMPLAUSIBLE = "implausible"
    TOO_OLD = "too-old"


# Later in the list = the Observation got further.
REASON_ORDER: Mapping[AbsentReason, int] = {reason: n for n, reason in enumerate(AbsentReason)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """When something was true, as an interval: FHIR times may be partial, and periods.

    `text` is what the record said; `earliest` and `latest` are aware datetimes that bound it.
    """

    text: str
    earliest: datetime
    latest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The Observation (or Patient) that a value came from, and what it said.

    `recorded_value` and `recorded_unit` (UCUM) are as the record had them, before conversion.
    """

    reference: str | None
    effective: Effective | None
    recorded_value: float | None
    recorded_unit: str | None
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """A feature's value in its canonical unit, rounded to the concept's resolution."""

    name: str
    value: float
    unit: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A feature without a usable value. `effective` is set where one exists but is too old."""

    name: str
    reason: AbsentReason
    effective: Effective | None = None


Entry = Present | Absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A result known only as a bound: `comparator` value, such as HbA1c > 14 %."""

    name: str
    comparator: str
    value: float
    unit: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something in the record that puts the patient outside a model's question."""

    id: str
    title: str
    reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureVector:
    """One patient as a model sees them, at one moment.

    `entries` are the model's inputs in the manifest's order; `settling` the results that answer the
    model's question by themselves (`settled_by` in the manifest), `bounds` those of them that are
    known only as a bound; `findings` what the manifest's domain excludes; `age` in whole years, the
    youngest that the birth date allows; `titles` names the settling results for people.
    `of_others` counts resources about other patients, which were dropped: they change nothing of
    what this patient is, and so no comparison.
    """

    as_of: datetime
    entries: Mapping[str, Entry]
    settling: Mapping[str, Entry] = field(default_factory=dict)
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    findings: Mapping[str, Finding] = field(default_factory=dict)
    age: int | None = None
    deceased: bool = False
    titles: Mapping[str, str] = field(default_factory=dict)
    of_others: int = field(default=0, compare=False)

    def values(self) -> dict[str, float]:
        """The present values by feature name: what a model is given."""
        return {name: e.value for name, e in self.entries.items() if isinstance(e, Present)}

    def absences(self) -> dict[str, Absent]:
        return {name: e for name, e in self.entries.items() if isinstance(e, Absent)}
