"""The stored RiskAssessments as a read-only FHIR R4 endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from cds_service import __version__
from cds_service.audit.facts import LONGEST, facts_of
from cds_service.body import read_bounded
from cds_service.clients import Caller
from cds_service.errors import BadRequest, NotFound, NotJson
from cds_service.hooks.primitives import read_fhir_id
from cds_service.parts import Parts
from cds_service.routes.answers import fhir_answer
from cds_service.routes.callers import caller_of, origin_of
from cds_service.routes.described import FORM, reads
from cds_service.store import AssessmentRecord
from fhir_mapping.risk_assessment import IDENTIFIER_SYSTEM

READS = ["GET", "HEAD"]
PAGE = 20
LARGEST_PAGE = 100
FARTHEST_OFFSET = 1_000_000_000
FORM_BYTES = 10_000

# http://hl7.org/fhir/R4/search.html#escaping
_OR = re.compile(r"(?<!\\)(?:\\\\)*,")
_ESCAPED = re.compile(r"\\([\\,|$])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search as it was understood. `nothing` is one that can match no resource here."""

    patient: str | None = None
    identifier: str | None = None
    count: int = PAGE
    offset: int = 0
    nothing: bool = False
    given: tuple[tuple[str, str], ...] = ()


def router(parts: Parts) -> APIRouter:
    """CapabilityStatement, read and search."""
    routes = APIRouter()
    capability = capability_statement(parts)

    @routes.api_route("/fhir/metadata", methods=READS)
    async def metadata(request: Request) -> Response:
        await caller_of(parts, request)
        return fhir_answer(capability)

    @routes.api_route("/fhir/RiskAssessment", methods=READS)
    async def search(request: Request) -> Response:
        caller = await caller_of(parts, request)
        return await answer_search(parts, caller, request, request.url.query)

    # "Servers supporting search SHALL support POST": http://hl7.org/fhir/R4/http.html#search
    @routes.post(
        "/fhir/RiskAssessment/_search",
        openapi_extra=reads(
            {"type": "object", "properties": {name: {"type": "string"} for name in _PARAMETERS}},
            kind=FORM,
        ),
    )
    async def search_by_form(request: Request) -> Response:
        caller = await caller_of(parts, request)
        return await answer_search(parts, caller, request, await read_form(request))

    @routes.api_route("/fhir/RiskAssessment/{id}", methods=READS)
    async def read(request: Request, id: str) -> Response:
        caller = await caller_of(parts, request)
        record = await to_thread.run_sync(parts.store.risk_assessment, id)
        origin = origin_of(parts, caller)
        facts = facts_of(request)
        facts.resource_id = id[:LONGEST]
        # Another client's resource and one that does not exist look the same from outside.
        if record is None or (origin is not None and record.origin != origin):
            raise NotFound("There is no such RiskAssessment.")
        facts.patient_id = record.patient_id
        facts.model, facts.model_version = record.model, record.model_version
        return fhir_answer(as_resource(record))

    return routes


async def read_form(request: Request) -> str:
    """The body of a `_search` by POST, in the form of a query."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise NotJson(f"A search by POST has the Content-Type {FORM}.")
    return (await read_bounded(request, FORM_BYTES)).decode("utf-8", errors="replace")


async def answer_search(parts: Parts, caller: Caller, request: Request, query: str) -> Response:
    """A searchset Bundle of what `caller` may see."""
    facts = facts_of(request)
    facts.look_at(query)
    search = parse_search(query, strict="handling=strict" in request.headers.get("prefer", ""))
    facts.patient_id = search.patient
    origin = origin_of(parts, caller)
    # Without either, the answer is everyone: in production nobody needs that from here.
    if search.patient is None and search.identifier is None and not parts.settings.demo:
        raise BadRequest("A search needs patient or identifier.", code="required")
    find = partial(
        parts.store.search,
        patient=search.patient,
        identifier=search.identifier,
        origin=origin,
        count=search.count,
        offset=search.offset,
    )
    total, records = (0, []) if search.nothing else await to_thread.run_sync(find)
    facts.patient_id = search.patient or the_patient(records)
    return fhir_answer(bundle(parts.settings.public_url, search, total, records))


def the_patient(records: list[AssessmentRecord]) -> str | None:
    """Whom all of `records` are about, if it is one."""
    patients = {record.patient_id for record in records}
    return patients.pop() if len(patients) == 1 else None


def parse_search(query: str, *, strict: bool = False) -> Search:
    """The search in a query string; raises BadRequest.

    Unknown parameters are ignored unless the client asks for `Prefer: handling=strict`:
    http://hl7.org/fhir/R4/search.html#errors
    """
    # Parameters without a value are ignored too, as the same page says.
    given = [(name, value) for name, value in parse_qsl(query) if value]
    used = tuple((name, value) for name, value in given if name in _PARAMETERS)
    names = [name for name, _ in used]
    if strict and len(used) < len(given):
        raise BadRequest(f"Only {', '.join(_PARAMETERS)} are supported.", code="not-supported")
    for name, _ in given:
        _check_plain(name)
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"{name} is given more than once.", expression=name)
    fields: dict[str, Any] = {}
    for name, value in used:
        fields |= _parameter(name, value)
    return Search(**fields, given=used)


def _check_plain(name: str) -> None:
    # "Servers SHALL reject any search request that contains a modifier that the server does not
    # support": http://hl7.org/fhir/R4/search.html#modifiers. A chain narrows a search as they do.
    plain = re.split("[:.]", name)[0]
    if plain in _PARAMETERS and plain != name:
        raise BadRequest(
            f"{plain}: modifiers and chains are not supported.",
            expression=plain,
            code="not-supported",
        )


def _parameter(name: str, value: str) -> dict[str, Any]:
    try:
        return _PARAMETERS[name](value)
    except ValueError as fault:
        raise BadRequest(f"{name}: {fault}", expression=name, code="value") from None


def _patient(text: str) -> dict[str, Any]:
    return {"patient": read_fhir_id(_one(text).removeprefix("Patient/"))}


def _identifier(text: str) -> dict[str, Any]:
    # http://hl7.org/fhir/R4/search.html#token: `value` in any system, `system|value` in one,
    # `|value` in none. Everything here has an identifier in the one system.
    system, bar, value = (_ESCAPED.sub(r"\1", part) for part in _one(text).rpartition("|"))
    if bar and system != IDENTIFIER_SYSTEM:
        return {"identifier": value, "nothing": True}
    if not value:
        raise ValueError("must be a value or system|value")
    return {"identifier": value}


def _one(text: str) -> str:
    # http://hl7.org/fhir/R4/search.html#combining
    if _OR.search(text):
        raise ValueError("several values (an unescaped comma, OR) are not supported")
    return text


def _count(text: str) -> dict[str, Any]:
    # http://hl7.org/fhir/R4/search.html#count: the server may give fewer than were asked for.
    return {"count": min(_whole(text), LARGEST_PAGE)}


def _offset(text: str) -> dict[str, Any]:
    return {"offset": min(_whole(text), FARTHEST_OFFSET)}


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError("must be a whole number")
    return int(text)


_PARAMETERS = {
    "patient": _patient,
    "identifier": _identifier,
    "_count": _count,
    "_offset": _offset,
}


def bundle(
    public_url: str, search: Search, total: int, records: list[AssessmentRecord]
) -> dict[str, Any]:
    """A searchset with its self link and, where there is more, the next page's."""
    found: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": total,
        "link": list(_links(public_url, search, total)),
    }
    if records:
        found["entry"] = [_entry(public_url, record) for record in records]
    return found


def _links(public_url: str, search: Search, total: int) -> Iterator[dict[str, str]]:
    base = f"{public_url}/fhir/RiskAssessment"
    given = dict(search.given)
    yield {"relation": "self", "url": _url(base, given)}
    following = search.offset + search.count
    if search.count and following < total:
        yield {"relation": "next", "url": _url(base, {**given, "_offset": str(following)})}
    if search.count and search.offset:
        before = str(max(0, search.offset - search.count))
        yield {"relation": "previous", "url": _url(base, {**given, "_offset": before})}


def _url(base: str, query: Mapping[str, str]) -> str:
    return f"{base}?{urlencode(query)}" if query else base


def _entry(public_url: str, record: AssessmentRecord) -> dict[str, Any]:
    return {
        "fullUrl": f"{public_url}/fhir/RiskAssessment/{record.id}",
        "resource": as_resource(record),
        "search": {"mode": "match"},
    }


def as_resource(record: AssessmentRecord) -> dict[str, Any]:
    """The stored RiskAssessment under the id by which it is read here."""
    return {**record.resource, "id": record.id}


def capability_statement(parts: Parts) -> dict[str, Any]:
    """What this endpoint can do: http://hl7.org/fhir/R4/capabilitystatement.html"""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": parts.clock().isoformat(timespec="seconds"),
        "kind": "instance",
        "software": {"name": "cds-service", "version": __version__},
        "implementation": {
            "description": "RiskAssessments stored by this clinical decision support service",
            "url": f"{parts.settings.public_url}/fhir",
        },
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server", "resource": [_risk_assessment_capability()]}],
    }


def _risk_assessment_capability() -> dict[str, Any]:
    return {
        "type": "RiskAssessment",
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "versioning": "no-version",
        "searchParam": [
            {"name": "patient", "type": "reference", "documentation": "`123` or `Patient/123`"},
            {"name": "identifier", "type": "token"},
        ],
    }
