"""Cards: everything that a clinician reads. Pure: a judgement in, CDS Hooks cards out.

The words are in hooks.json, how figures are said in `figures.py` and what inputs lack in `gaps.py`;
here is what is said.
Placeholders: `{percent}` "12 %", `{frequency}` "about 1 in 8", `{relative}` "3.9", `{level}`,
`{outcome}`, `{drivers}` and `{gaps}` Markdown lists, `{missing}` names of what is missing,
`{result}` and `{date}` of a result that settles the question, `{unread}` what could not be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cds_service.figures import escape, frequency, percent, with_unit
from cds_service.gaps import REASONS, asked_by, day, gaps, why
from cds_service.hooks.wording import CardText, Coding, Order, Wording
from cds_service.judgement import InsufficientData, Judgement, Scored, Settled
from cds_service.once import once
from fhir_mapping import Absent, AbsentReason, FeatureVector, Present
from fhir_mapping.versions import FhirVersion, rendered
from risk_model import Manifest, RiskEstimate

# CDS Hooks 2.0.1, "Card Attributes": summary below 140 characters.
LONGEST_SUMMARY = 139
STRONGEST = 3
_ESCAPED = re.compile(r"\\(.)")
_PLACEHOLDER = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card as it goes out; `kind` names its place in hooks.json, for metrics and the store."""

    kind: str
    uuid: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What surrounds a card: ids (made by the caller), the patient, the model card's address, and
    the FHIR version of what the card suggests."""

    card_uuid: str
    suggestion_uuid: str
    patient_id: str
    encounter_id: str | None
    model_card_url: str
    fhir_version: FhirVersion = FhirVersion.R4


def compose(
    judgement: Judgement,
    *,
    vector: FeatureVector,
    manifest: Manifest,
    wording: Wording,
    unread: Sequence[str],
    frame: Frame,
) -> list[Card]:
    """At most one card. None is an answer too: this service has nothing to say."""
    match judgement:
        case Scored(estimate):
            text, kind = wording.levels.get(estimate.level), f"level:{estimate.level}"
            unclear = () if text else _unusable(vector)
            if unclear:
                text, kind = wording.unusable_result, "unusable-result"
            if text is None:
                return []  # as for most people, whose risk is low
            values = _scored(estimate, vector, manifest)
            if unclear:
                values["missing"] = escape("; ".join(unclear))
        case Settled(band=band):
            text, kind, values = wording.settled.get(band), f"settled:{band}", _settled(judgement)
        case InsufficientData():
            text, kind = wording.insufficient_data, "insufficient-data"
            values = _insufficient(judgement, vector, manifest)
        case _:
            return []
    if text is None:
        return []
    values["gaps"] = _gaps(vector, manifest, wording, unread)
    values["unread"] = _bulleted(_unread(wording, unread))
    return [Card(kind=kind, uuid=frame.card_uuid, body=_body(text, values, wording, frame))]


def drivers(estimate: RiskEstimate, vector: FeatureVector) -> list[tuple[str, float]]:
    """The measured features that move the estimate most: (name, log-odds), strongest first."""
    entries = vector.entries
    measured = [
        (-abs(c.log_odds), c.feature, c.log_odds)
        for c in estimate.contributions
        if isinstance(entries[c.feature], Present)
    ]
    return [(name, share) for _, name, share in sorted(measured)[:STRONGEST]]


def rationale(estimate: RiskEstimate, vector: FeatureVector, manifest: Manifest) -> str:
    """The drivers in one line of plain text, for the RiskAssessment."""
    said = [
        f"{_described(name, vector, manifest)} ({share:+.2f})"
        for name, share in drivers(estimate, vector)
    ]
    return "Strongest contributions (log-odds): " + "; ".join(said)


# ------------------------------------------------------------------------------ features, described


def _described(name: str, vector: FeatureVector, manifest: Manifest) -> str:
    """`Glucose 118 mg/dL, 2026-03-12`, in the unit in which it was recorded."""
    feature = asked_by(manifest).features[name]
    entry = vector.entries[name]
    assert isinstance(entry, Present)  # noqa: S101 - drivers are measured features
    when = day(entry.sources[0].effective)
    shown = f"{feature.title} {_shown(entry, feature.categories)}"
    if len(entry.sources) == 2:
        one, other = entry.sources
        shown += f" (from {one.title.lower()} and {other.title.lower()})"
    return f"{shown}, {when}" if when else shown


def _shown(entry: Present, categories: Mapping[str, float] | None) -> str:
    if categories:
        return next(label for label, value in categories.items() if value == entry.value)
    source = entry.sources[0]
    as_recorded = len(entry.sources) == 1 and source.recorded_value is not None
    if as_recorded and source.recorded_unit != entry.unit:
        assert source.recorded_value is not None  # noqa: S101
        return with_unit(source.recorded_value, source.recorded_unit or "")
    return with_unit(entry.value, entry.unit)


# --------------------------------------------------------------------------------- what is said


def _scored(estimate: RiskEstimate, vector: FeatureVector, manifest: Manifest) -> dict[str, str]:
    lines = [
        f"- {'↑' if share > 0 else '↓'} {_listed(name, vector, manifest)}"
        for name, share in drivers(estimate, vector)
    ]
    return {
        "percent": percent(estimate.probability),
        "frequency": frequency(estimate.probability),
        "relative": f"{estimate.relative_risk:.1f}",
        "level": estimate.level,
        "outcome": escape(manifest.raw["outcome"]["text"]),
        "drivers": "\n".join(lines),
    }


def _listed(name: str, vector: FeatureVector, manifest: Manifest) -> str:
    return escape(_described(name, vector, manifest))


def _settled(settled: Settled) -> dict[str, str]:
    # As the laboratory reported it: converted, it would be a figure that nobody has seen before.
    source = settled.source
    assert source.recorded_value is not None  # noqa: S101 - results come from quantities
    result = with_unit(source.recorded_value, source.recorded_unit or "")
    return {
        "result": escape(f"{settled.comparator} {result}" if settled.comparator else result),
        "date": escape(day(settled.source.effective)),
    }


def _insufficient(
    lacking: InsufficientData, vector: FeatureVector, manifest: Manifest
) -> dict[str, str]:
    titles = {feature.name: feature.title for feature in manifest.features}
    wanted = [titles[name] for name in lacking.missing]
    wanted += [" or ".join(titles[name] for name in group) for group in lacking.groups]
    return {"missing": escape(", ".join(wanted))}


def _gaps(
    vector: FeatureVector, manifest: Manifest, wording: Wording, unread: Sequence[str]
) -> str:
    """What is missing, old, or could not be read, with the reason."""
    lines = [*_unread(wording, unread), *map(escape, _set_aside(vector))]
    return _bulleted([*lines, *gaps(vector, manifest)])


def _bulleted(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


# Reasons that leave open what the result was; one that was never final says nothing.
_UNCLEAR = frozenset(
    {
        AbsentReason.CODE_CONFLICT,
        AbsentReason.SUBJECT_UNCERTAIN,
        AbsentReason.TIME_UNKNOWN,
        AbsentReason.UNIT_MISSING,
        AbsentReason.UNIT_UNKNOWN,
        AbsentReason.UNIT_CONFLICT,
        AbsentReason.IMPLAUSIBLE,
    }
)


def _unusable(vector: FeatureVector) -> list[str]:
    """Results that would have answered the question, had they been certain."""
    return [
        f"{vector.titles[name]} {REASONS[entry.reason]}"
        for name, entry in vector.settling.items()
        if isinstance(entry, Absent) and entry.reason in _UNCLEAR
    ]


def _set_aside(vector: FeatureVector) -> Iterator[str]:
    """Results that would answer the question, and why they do not."""
    for name, entry in vector.settling.items():
        if isinstance(entry, Present):
            shown = _shown(entry, None)
            yield f"{vector.titles[name]} {shown} of {day(entry.sources[0].effective)} is too old"
        elif entry.reason not in (AbsentReason.NOT_RECORDED, AbsentReason.OTHER_PATIENT):
            yield f"{vector.titles[name]}: {why(entry)}"


def _unread(wording: Wording, unread: Sequence[str]) -> Iterator[str]:
    for key in unread:
        if key in wording.unread:
            yield escape(wording.unread[key])


# -------------------------------------------------------------------------------- the card's form


def _body(
    text: CardText, values: Mapping[str, str], wording: Wording, frame: Frame
) -> dict[str, Any]:
    same = _same_of_all(wording)
    body: dict[str, Any] = {
        "uuid": frame.card_uuid,
        "summary": _summary(text, values),
        "detail": _filled(text.detail, values),
        "indicator": text.indicator,
        "source": {
            "label": wording.source.label,
            "url": frame.model_card_url,
            "topic": same.topic,
        },
        "overrideReasons": same.override_reasons,
        "links": [{"label": wording.link_label, "url": frame.model_card_url, "type": "absolute"}],
    }
    if text.order and wording.order:
        body["suggestions"] = [_suggestion(wording.order, text.order, frame)]
        body["selectionBehavior"] = "at-most-one"
    return body


def _summary(text: CardText, values: Mapping[str, str]) -> str:
    """Plain text, not Markdown: what was escaped for the detail is put back."""
    summary = _filled(text.summary, values)
    if "\\" in summary:
        summary = _ESCAPED.sub(r"\1", summary)
    return summary if len(summary) <= LONGEST_SUMMARY else summary[: LONGEST_SUMMARY - 1] + "…"


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Paragraphs whose placeholders are all empty are left out, heading and all."""
    kept = [
        paragraph
        for paragraph, names in _paragraphs(template)
        if not names or any(map(values.get, names))
    ]
    return "\n\n".join(kept).format_map(values)


@cache
def _paragraphs(template: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(paragraph, names of its placeholders) of a template: each of hooks.json is read once."""
    return tuple((p, tuple(_PLACEHOLDER.findall(p))) for p in template.split("\n\n"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Same:
    """What is the same in all cards of a service; shared by them, and never changed."""

    topic: dict[str, str]
    override_reasons: list[dict[str, str]]


@once
def _same_of_all(wording: Wording) -> _Same:
    return _Same(
        topic=_coding(wording.source.topic),
        override_reasons=[_coding(reason) for reason in wording.override_reasons],
    )


def _coding(coding: Coding) -> dict[str, str]:
    return {"system": coding.system, "code": coding.code, "display": coding.display}


def _suggestion(order: Order, reason: str, frame: Frame) -> dict[str, Any]:
    return {
        "label": order.label,
        "uuid": frame.suggestion_uuid,
        "isRecommended": True,
        "actions": [
            {
                "type": "create",
                "description": order.description,
                "resource": _draft(order, reason, frame),
            }
        ],
    }


def _draft(order: Order, reason: str, frame: Frame) -> dict[str, Any]:
    """The order for this patient and encounter, as the EHR's version of FHIR has it."""
    form = _form(order, reason, frame.fhir_version)
    draft = form.resource | {"subject": {"reference": f"Patient/{frame.patient_id}"}}
    if frame.encounter_id:
        draft[form.encounter] = {"reference": f"Encounter/{frame.encounter_id}"}
    else:
        del draft[form.encounter]
    return draft


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """An order with blanks for patient and encounter; shared by all calls, and never changed.

    `encounter` is the element's name: `context` before R4.
    """

    resource: dict[str, Any]
    encounter: str


@cache
def _form(order: Order, reason: str, version: FhirVersion) -> _Form:
    blank: dict[str, Any] = {}
    resource = rendered(_service_request(order, reason, subject={}, encounter=blank), version)
    return _Form(
        resource=resource,
        encounter=next(name for name, element in resource.items() if element is blank),
    )


def _service_request(
    order: Order, reason: str, *, subject: dict[str, Any], encounter: dict[str, Any]
) -> dict[str, Any]:
    """A draft order, in R4; the EHR completes and signs it."""
    return {
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "order",
        "code": {"coding": [_coding(order.code)], "text": order.label},
        "subject": subject,
        "reasonCode": [{"text": reason}],
        "encounter": encounter,
    }
