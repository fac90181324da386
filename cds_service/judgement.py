"""What can be said about a patient: scored, outside the question, already answered, or too little
known. Pure: a feature vector and a model in, a named value out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fhir_mapping import Effective, FeatureVector, Present, Source
from risk_model import InsufficientData, Model, RiskEstimate, score


@dataclass(frozen=True, slots=True)
class Scored:
    """The model gave a figure."""

    estimate: RiskEstimate


@dataclass(frozen=True, slots=True)
class OutOfDomain:
    """The model's question does not arise for this patient; `reason` is a finding's id,
    `deceased`, or `minimum_age`."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A result in the record answers the question: the manifest's band, and the result."""

    band: str
    value: float
    unit: str
    comparator: str | None
    source: Source


Judgement = Scored | OutOfDomain | Settled | InsufficientData


def judge(vector: FeatureVector, model: Model) -> Judgement:
    """Domain first, then results that settle the question, then the model."""
    manifest = model.manifest.raw
    outside = _outside(vector, manifest.get("domain", {}))
    if outside:
        return outside
    for rule in manifest.get("settled_by", ()):
        settled = _settled(vector, rule)
        if settled:
            return settled
    estimate = score(model, vector.values())
    return Scored(estimate) if isinstance(estimate, RiskEstimate) else estimate


def outcome_name(judgement: Judgement) -> str:
    """One word for audit rows and metrics."""
    match judgement:
        case Scored():
            return "scored"
        case OutOfDomain(reason):
            return f"out-of-domain:{reason}"
        case Settled(band=band):
            return f"settled:{band}"
        case InsufficientData():
            return "insufficient-data"


def _outside(vector: FeatureVector, domain: Mapping[str, Any]) -> OutOfDomain | None:
    for reason in domain.get("exclude", ()):
        if (reason == "deceased" and vector.deceased) or reason in vector.findings:
            return OutOfDomain(reason)
    minimum = domain.get("minimum_age")
    if minimum is not None and vector.age is not None and vector.age < minimum:
        return OutOfDomain("minimum_age")
    return None


def _settled(vector: FeatureVector, rule: Mapping[str, Any]) -> Settled | None:
    """The most recent result decides, exact or as a bound such as `> 14 %`.

    A bound that leaves open in which band it lies says nothing, and the exact result before it
    does.
    """
    for value, unit, comparator, source in _latest_first(vector, rule["concept"]):
        band = next((b for b in rule["bands"] if _reaches(value, comparator, b)), None)
        if band is not None and _certain(value, comparator, band, rule["bands"]):
            if not _within(source.effective, vector.as_of, band["within_days"]):
                return None
            return Settled(
                band=band["id"], value=value, unit=unit, comparator=comparator, source=source
            )
    return None


def _latest_first(
    vector: FeatureVector, concept: str
) -> list[tuple[float, str, str | None, Source]]:
    found: list[tuple[float, str, str | None, Source]] = []
    if isinstance(entry := vector.settling.get(concept), Present):
        found.append((entry.value, entry.unit, None, entry.sources[-1]))
    if bound := vector.bounds.get(concept):
        found.append((bound.value, bound.unit, bound.comparator, bound.source))
    return sorted(found, key=lambda result: _moment(result[3]), reverse=True)


def _moment(source: Source) -> datetime:
    assert source.effective is not None  # noqa: S101 - results without a time are never selected
    return source.effective.earliest


def _reaches(value: float, comparator: str | None, band: Mapping[str, Any]) -> bool:
    floor = band.get("at_least")
    if floor is None:
        return True
    # Below `value` by an unknown amount: it reaches no floor for certain.
    return value >= floor and comparator not in ("<", "<=")


def _certain(
    value: float, comparator: str | None, band: Mapping[str, Any], bands: list[Mapping[str, Any]]
) -> bool:
    """Whether a bound lies inside one band whatever the exact value was."""
    if comparator is None:
        return True
    if comparator in (">", ">="):
        return band is bands[0]
    floors = [b["at_least"] for b in bands if "at_least" in b]
    # "< 5.7" is below every floor; "<= 5.7" could be 5.7, which is not.
    below = value <= min(floors) if comparator == "<" else value < min(floors)
    return comparator in ("<", "<=") and below


def _within(effective: Effective | None, as_of: datetime, days: float) -> bool:
    return effective is not None and effective.earliest >= as_of - timedelta(days=days)


__all__ = [
    "InsufficientData",
    "Judgement",
    "OutOfDomain",
    "Scored",
    "Settled",
    "judge",
    "outcome_name",
]
