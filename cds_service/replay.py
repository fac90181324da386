"""Any past assessment, computed again from what is stored of it. Pure: a record and a model in,
a named value out.

What is compared: probability and level, bit for bit; identifier and id, which are digests of the
inputs; and every member of the RiskAssessment. What the row does not hold is `left_out`, by name.
What a call told the clinician (cards) is not stored, and not made again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from enum import Enum
from typing import Any, NoReturn

from cds_service.inputs import (
    InputsDamaged,
    TitlesOf,
    identifier_of,
    is_whole,
    mitigation_of,
    vector_of,
)
from cds_service.judgement import Scored, judge, outcome_name
from cds_service.risk_assessment import id_of, risk_assessment
from cds_service.store import AssessmentRecord
from fhir_mapping import FeatureVector, MappingError, compile_mapping, load_catalog
from fhir_mapping.risk_assessment import About, following
from risk_model import Model


class Nothing(Enum):
    """What stands on the side of a difference that has no such member: JSON's null is a value."""

    THERE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`path` is a column of the row, or leads into its `resource`: `resource.prediction[0]…`."""

    path: str
    stored: Any
    now: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Same:
    """The same bits; `left_out` are members that the row holds nothing to compute from."""

    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Differs:
    """`is_named_so`: the identifier is still the digest of the row's inputs, patient and model, so
    that it is the result that is another one; else it is they that have changed since."""

    differences: tuple[Difference, ...]
    is_named_so: bool
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cannot:
    """It cannot be computed again; `reason` is a sentence for an operator."""

    reason: str


Replayed = Same | Differs | Cannot


def replay(record: AssessmentRecord, model: Model, titles: TitlesOf) -> Replayed:
    """`record` against what `model`, which is of the record's name and version, says today.

    `titles` are those of the model: see `titles_of`.
    """
    if not (isinstance(record.inputs, dict) and isinstance(record.resource, dict)):
        return Cannot(reason="Its row is damaged: inputs or resource are no JSON object.")
    whole = is_whole(record.inputs)
    try:
        vector = _vector(record, model, titles)
        mitigation = mitigation_of(record.inputs) if whole else record.resource.get("mitigation")
    except InputsDamaged as fault:
        return Cannot(reason=f"Its stored inputs are damaged: {fault}.")
    named = identifier_of(
        origin=record.origin,
        patient_id=record.patient_id,
        model=record.model,
        version=record.model_version,
        vector=vector,
    )
    differences = [
        *compared("identifier", record.identifier, named),
        *compared("id", record.id, id_of(record.identifier)),
        *_of_result(record, model, vector, mitigation),
    ]
    left_out = () if whole else ("resource.mitigation",)
    if not differences:
        return Same(left_out=left_out)
    return Differs(
        differences=tuple(differences), is_named_so=named == record.identifier, left_out=left_out
    )


def _of_result(
    record: AssessmentRecord, model: Model, vector: FeatureVector, mitigation: str | None
) -> Iterator[Difference]:
    try:
        judgement = judge(vector, model)
    except ValueError as fault:  # a value that the model would never have been given
        yield Difference(path="outcome", stored="scored", now=f"refused: {fault}")
        return
    if not isinstance(judgement, Scored):
        yield Difference(path="outcome", stored="scored", now=outcome_name(judgement))
        return
    estimate = judgement.estimate
    yield from compared("probability", record.probability, estimate.probability)
    yield from compared("level", record.level, estimate.level)
    # By the row's own names: where those are wrong, that is said once, and not in every place.
    about = About(
        id=record.id,
        identifier=record.identifier,
        patient_id=record.patient_id,
        encounter_id=record.encounter_id,
        occurrence=vector.as_of,
        mitigation=mitigation,
    )
    resource = risk_assessment(about, estimate, vector, model.manifest)
    before = _before(record)
    if before is not None:
        resource = following(resource, before)
    yield from compared("follows", record.follows, None if before is None else id_of(before))
    yield from compared("resource", record.resource, _as_told(_as_stored(resource), record.inputs))


def compared(path: str, stored: Any, now: Any) -> Iterator[Difference]:
    """Where two JSON values are not the same, by path. Numbers are the same if their bits are:
    1 is not 1.0, nor 0.0 -0.0; the order of an object's members means nothing."""
    if isinstance(stored, dict) and isinstance(now, dict):
        for name in sorted(stored.keys() | now.keys()):
            one, other = stored.get(name, Nothing.THERE), now.get(name, Nothing.THERE)
            yield from compared(f"{path}.{name}", one, other)
    elif isinstance(stored, list) and isinstance(now, list):
        for place in range(max(len(stored), len(now))):
            one = stored[place] if place < len(stored) else Nothing.THERE
            other = now[place] if place < len(now) else Nothing.THERE
            yield from compared(f"{path}[{place}]", one, other)
    elif not _same(stored, now):
        yield Difference(path=path, stored=stored, now=now)


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one.hex() == other.hex()
    return type(one) is type(other) and one == other


def _as_stored(resource: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from a database: lists for tuples, plain objects for mappings."""
    read: dict[str, Any] = json.loads(json.dumps(resource))
    return read


# "BMI 34.8 kg/m² (from weight and height), 2026-11-08"
_MADE_OF = re.compile(r" \(from [^()]*\)")


def _as_told(resource: dict[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`resource` in the words of the version that stored `inputs`: the same facts, said otherwise.

    Whoever changes a word of the resource gives `inputs.FORMAT` a new number, and adds here what
    was said before it. A test holds rows of every version against this.
    """
    if not is_whole(inputs):
        resource["contained"][0]["deviceName"][0]["type"] = "model-name"
        prediction = resource["prediction"][0]
        prediction["rationale"] = _MADE_OF.sub("", prediction["rationale"])
    return resource


def _before(record: AssessmentRecord) -> str | None:
    """The identifier of the assessment before, as the resource tells it. Which one that is was
    found in the store and not in the inputs; that the column names the same one can be told."""
    try:
        told = record.resource["parent"]["identifier"]["value"]
    except (KeyError, TypeError):
        return None
    return told if isinstance(told, str) else None


# ------------------------------------------------------------------------------- stored inputs


def _vector(record: AssessmentRecord, model: Model, titles: TitlesOf) -> FeatureVector:
    """Raises InputsDamaged, also where the inputs are not those that the model asks for."""
    zone = _zone_of_answer(record)
    vector = vector_of(record.inputs, as_of=record.as_of, zone=zone, titles=titles)
    wanted = [feature.name for feature in model.manifest.features]
    if vector.entries.keys() != set(wanted):
        raise InputsDamaged("they are not the features of the model")
    # A database may give an object's members back in an order of its own.
    return replace(vector, entries={name: vector.entries[name] for name in wanted})


def _zone_of_answer(record: AssessmentRecord) -> tzinfo:
    """For rows of 0.1.0: the zone is told by the answer alone, the moment by a column."""
    try:
        told = datetime.fromisoformat(record.resource["occurrenceDateTime"]).tzinfo
    except (KeyError, TypeError, ValueError):
        told = None
    return told or UTC


def titles_of(model: Model) -> TitlesOf:
    """What concepts.toml calls the results that a feature of `model` is made of, as `map_features`
    would: for rows of 0.1.0. It raises InputsDamaged when the two do not fit any more."""
    try:
        mapping = compile_mapping(load_catalog(), model.manifest.raw)
    except MappingError as fault:
        raised = InputsDamaged(f"they hold no titles, and {fault}")
        return lambda name, count: _raise(raised)
    concepts = mapping.catalog.concepts
    own = {slot.name: concepts[slot.concept].title for slot in mapping.slots}
    own |= {slot.name: slot.title for slot in mapping.patient_slots}
    parts = {
        name: tuple(concepts[slot.concept].title for slot in derived.ingredients.values())
        for name, derived in mapping.derived.items()
    }

    def titles(name: str, count: int) -> tuple[str, ...]:
        made_of = parts.get(name, ())
        return made_of if count > 1 and count == len(made_of) else (own[name],) * count

    return titles


def _raise(fault: InputsDamaged) -> NoReturn:
    raise fault
