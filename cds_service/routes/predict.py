"""POST /predict: plain features in, a risk and its explanation out; no FHIR, nothing stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from cds_service.audit.facts import facts_of
from cds_service.errors import BadRequest, Issue, NotFound
from cds_service.log import note
from cds_service.parts import LoadedModel, Parts
from cds_service.routes.answers import json_answer
from cds_service.routes.callers import caller_of
from cds_service.routes.described import reads
from cds_service.routes.services import read_object
from risk_model import Contribution, Feature, InsufficientData, Manifest, RiskEstimate, score

MOST_ISSUES = 20
# A client that sends the names of several models' features at once is told which are not this
# one's; an object of many times as many members is no attempt at naming features.
MEMBERS_PER_FEATURE = 10
LONGEST_NAME = 64


def router(parts: Parts) -> APIRouter:
    """The serving models, scored directly."""
    routes = APIRouter()

    @routes.post("/predict", openapi_extra=reads(features_schema(parts)))
    async def predict(request: Request) -> Response:
        await caller_of(parts, request)
        facts = facts_of(request)
        loaded = chosen_model(parts, request.query_params.get("model"))
        facts.model = loaded.model.manifest.name
        facts.model_version = loaded.model.manifest.version
        values = read_features(loaded, await read_object(parts, request))
        note(request, model=loaded.model.manifest.name)
        return json_answer(await to_thread.run_sync(prediction, loaded, values))

    return routes


def features_schema(parts: Parts) -> dict[str, Any]:
    """The features of the first model, which answers when none is named."""
    manifest = chosen_model(parts, None).model.manifest
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {each.name: _value_schema(each) for each in manifest.features},
        "additionalProperties": False,
        "required": [each.name for each in manifest.features if each.required],
    }
    if groups := manifest.at_least_one_of:
        # A null counts as absent; that one of a group must be more than null is not said here.
        schema["allOf"] = [{"anyOf": [{"required": [name]} for name in group]} for group in groups]
    return schema


def _value_schema(feature: Feature) -> dict[str, Any]:
    title = f"{feature.title}, {feature.unit}"
    if feature.categories is not None:
        values = [*feature.categories, *feature.categories.values()]
        return {"title": title, "enum": values if feature.required else [*values, None]}
    low, high = feature.plausible
    kind = "number" if feature.required else ["number", "null"]
    return {"title": title, "type": kind, "minimum": low, "maximum": high}


def chosen_model(parts: Parts, name: str | None) -> LoadedModel:
    """The model called `name`, or the first that serves; raises NotFound."""
    if name is None:
        return next(iter(parts.models.values()))
    if name not in parts.models:
        raise NotFound("There is no such model.", expression="model")
    return parts.models[name]


def read_features(loaded: LoadedModel, body: Mapping[str, Any]) -> dict[str, float]:
    """Feature name -> value in the manifest's unit, rounded as the mapping rounds.

    `null` means absent. Raises BadRequest naming what cannot be used, the first MOST_ISSUES of it.
    """
    features = {feature.name: feature for feature in loaded.model.manifest.features}
    most = MEMBERS_PER_FEATURE * len(features)
    if len(body) > most:
        raise BadRequest(f"The body must have at most {most} members.", code="too-long")
    issues = list(islice(_unknown(body, features), MOST_ISSUES))
    values: dict[str, float] = {}
    for name, feature in features.items():
        if body.get(name) is None:
            continue
        try:
            values[name] = _rounded(loaded, feature, read_value(feature, body[name]))
        except ValueError as fault:
            issues.append(_issue(name, str(fault)))
    if issues:
        raise BadRequest.with_issues(tuple(issues[:MOST_ISSUES]))
    return values


def read_value(feature: Feature, value: object) -> float:
    """A number within the plausible range, or the name of a category; raises ValueError."""
    if feature.categories is not None:
        return _category(feature.categories, value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"must be a number in {feature.unit}")
    low, high = feature.plausible
    if not low <= value <= high:
        raise ValueError(f"must be from {low:g} to {high:g} {feature.unit}")
    return float(value)


def _category(categories: Mapping[str, float], value: object) -> float:
    if isinstance(value, str) and value in categories:
        return categories[value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and value in categories.values():
        return float(value)  # type: ignore[arg-type]
    names = ", ".join(f"'{name}' ({number:g})" for name, number in categories.items())
    raise ValueError(f"must be one of {names}")


def _rounded(loaded: LoadedModel, feature: Feature, value: float) -> float:
    # A value enters the model as a record would have held it: the same figure by either door.
    # A count or a slope is not in its concept's unit, and has no resolution of its own.
    raw = next(e for e in loaded.model.manifest.raw["features"] if e["name"] == feature.name)
    concept = loaded.mapping.catalog.concepts[raw["concept"]]
    return loaded.mapping.rounded[concept.id](value) if concept.unit == feature.unit else value


def prediction(loaded: LoadedModel, values: Mapping[str, float]) -> dict[str, Any]:
    """The body of a 200; raises BadRequest naming what is missing."""
    outcome = score(loaded.model, values)
    if isinstance(outcome, InsufficientData):
        raise BadRequest.with_issues(tuple(_lacking(outcome)))
    return described(loaded.model.manifest, outcome)


def described(manifest: Manifest, estimate: RiskEstimate) -> dict[str, Any]:
    """A risk in plain JSON: probability 0 to 1, contributions in log-odds, strongest first.

    `baseline` is in log-odds too: with the contributions it sums to the probability's.
    """
    features = {feature.name: feature for feature in manifest.features}
    given = [entry for entry in estimate.contributions if entry.value is not None]
    absent = [entry for entry in estimate.contributions if entry.value is None]
    return {
        "risk_score": estimate.probability,
        "risk_level": estimate.level,
        "relative_risk": estimate.relative_risk,
        "baseline": estimate.baseline,
        "explanation": [_explained(features[entry.feature], entry) for entry in given],
        "absent": [entry.feature for entry in absent],
        "absent_contribution": sum(entry.log_odds for entry in absent),
        "model": {"name": manifest.name, "version": manifest.version, "title": manifest.title},
    }


def _explained(feature: Feature, entry: Contribution) -> dict[str, Any]:
    named = {} if feature.categories is None else {"category": _name_of(feature, entry.value)}
    return named | {
        "feature": feature.name,
        "title": feature.title,
        "value": entry.value,
        "unit": feature.unit,
        "contribution": entry.log_odds,
        "direction": _direction(entry.log_odds),
    }


def _name_of(feature: Feature, value: float | None) -> str | None:
    return next((name for name, code in (feature.categories or {}).items() if code == value), None)


def _direction(log_odds: float) -> str:
    if log_odds == 0:
        return "none"
    return "raises" if log_odds > 0 else "lowers"


def _lacking(outcome: InsufficientData) -> list[Issue]:
    required = [
        Issue(text=f"{name} is required", code="required", expression=name)
        for name in outcome.missing
    ]
    groups = [
        Issue(text=f"one of {', '.join(group)} is required", code="required", expression=group[0])
        for group in outcome.groups
    ]
    return required + groups


def _unknown(body: Mapping[str, Any], features: Mapping[str, Feature]) -> Iterator[Issue]:
    known = ", ".join(features)
    for place, name in enumerate(body, start=1):
        if name not in features:
            # Anything can stand where a name should, a patient's own too: it is not echoed.
            near = "".join(get_close_matches(name[:LONGEST_NAME].lower(), features, n=1))
            hint = f" (is '{near}' meant?)" if near else ""
            text = f"Member {place} is not a feature of this model{hint}; it has {known}"
            yield Issue(text=text, code="value")


def _issue(name: str, text: str) -> Issue:
    return Issue(text=f"{name}: {text}", code="value", expression=name)
