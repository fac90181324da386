"""What an EHR does with prefetch templates: fill in the tokens, then read or search.

The FHIR server here is a handful of resources in memory. It knows the parts of FHIR search that
the CDS Hooks specification names as widely supported, and refuses the rest by name: a FHIR server
may ignore a parameter that it does not know, but a demo that did so would hide a mistake.
https://cds-hooks.hl7.org/STU2/#prefetch-query-restrictions
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote

Resource = dict[str, Any]
Predicate = Callable[[Resource], bool]

_TOKEN = re.compile(r"{{([^{}]*)}}")


class UnsupportedQuery(ValueError):
    """A template, or a query, that this small FHIR server does not understand."""


def resolve_prefetch(
    templates: Mapping[str, str],
    resources: Iterable[Resource],
    *,
    context: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Answer each template from `resources`: a resource for a read, a searchset for a search.

    `context` holds the hook context's fields; without one, `patientId` is the id of the Patient
    among the resources. A key whose tokens cannot be filled in, or whose resource does not exist,
    is left out, as the public CDS Hooks Sandbox does. Raises UnsupportedQuery.
    """
    chart = list(resources)
    fields = context if context is not None else _context_of(chart)
    prefetch = {}
    for key, template in templates.items():
        query = fill_tokens(template, fields)
        answer = answer_query(query, chart) if query is not None else None
        if answer is not None:
            prefetch[key] = answer
    return prefetch


def fill_tokens(template: str, context: Mapping[str, str]) -> str | None:
    """The relative URL with every `{{context.field}}` replaced; None where a field is not known."""
    fields = [token.strip().removeprefix("context.") for token in _TOKEN.findall(template)]
    if any(field not in context for field in fields):
        return None
    return _TOKEN.sub(lambda token: quote(context[_field(token)], safe="/"), template)


def answer_query(query: str, resources: Sequence[Resource]) -> Resource | None:
    """Answer `Type/id` or `Type?parameters`; None where a read finds nothing.

    Raises UnsupportedQuery.
    """
    path, _, parameters = query.partition("?")
    kind, _, id_ = path.partition("/")
    if not re.fullmatch(r"[A-Z][A-Za-z]+", kind) or "/" in id_ or (id_ and parameters):
        raise UnsupportedQuery(f"neither a read nor a search: {query}")
    of_this_kind = [resource for resource in resources if resource["resourceType"] == kind]
    if id_:
        return next((found for found in of_this_kind if found.get("id") == id_), None)
    return _search(of_this_kind, parse_qsl(parameters, keep_blank_values=True), query=query)


def _field(token: re.Match[str]) -> str:
    return token.group(1).strip().removeprefix("context.")


def _context_of(resources: Sequence[Resource]) -> dict[str, str]:
    ids = [found["id"] for found in resources if found["resourceType"] == "Patient"]
    if len(ids) != 1:
        raise ValueError(f"expected one Patient among the resources, found {len(ids)}")
    return {"patientId": ids[0]}


def _search(
    resources: Sequence[Resource], parameters: Sequence[tuple[str, str]], *, query: str
) -> Resource:
    """A searchset Bundle; `total` counts all matches, also those beyond `_count`."""
    matches = list(resources)
    page_size: int | None = None
    for name, value in parameters:
        if name == "_count":
            page_size = _page_size(value)
        elif name == "_sort":
            matches = _sorted(matches, value)
        elif name in _FILTERS:
            matches = list(filter(_FILTERS[name](value), matches))
        else:
            raise UnsupportedQuery(f"search parameter not supported: {name}")
    return _searchset(matches, page_size=page_size, query=query)


def _searchset(matches: Sequence[Resource], *, page_size: int | None, query: str) -> Resource:
    bundle: Resource = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(matches),
        "link": [{"relation": "self", "url": query}],
    }
    page = matches if page_size is None else matches[:page_size]
    if page:  # FHIR JSON has no empty arrays
        bundle["entry"] = [{"resource": match, "search": {"mode": "match"}} for match in page]
    return bundle


def _page_size(value: str) -> int:
    if not value.isdecimal():
        raise UnsupportedQuery(f"_count is not a number: {value}")
    return int(value)


def _sorted(resources: Iterable[Resource], value: str) -> list[Resource]:
    if value.removeprefix("-") != "date":
        raise UnsupportedQuery(f"_sort not supported: {value}")
    return sorted(resources, key=_date_text, reverse=value.startswith("-"))


def _date_text(resource: Resource) -> str:
    """The element behind the search parameter `date`, as text; empty where there is none."""
    period = resource.get("effectivePeriod", {})
    text: str = (
        resource.get("effectiveDateTime")
        or resource.get("effectiveInstant")
        or period.get("end")
        or period.get("start")
        or resource.get("onsetDateTime")
        or resource.get("authoredOn")
        or ""
    )
    return text


# Each filter parses its value once and then looks at every resource.


def _has_patient(value: str) -> Predicate:
    """The reference matches as `Patient/x`, as `x`, and as Synthea's `urn:uuid:x`."""
    id_ = value.removeprefix("Patient/")

    def matches(resource: Resource) -> bool:
        subject: Resource = resource.get("subject") or resource.get("patient") or {}
        return re.split(r"[/:]", subject.get("reference", ""))[-1] == id_

    return matches


def _has_id(value: str) -> Predicate:
    ids = set(value.split(","))
    return lambda resource: resource.get("id") in ids


def _has_code(value: str) -> Predicate:
    """One of the tokens matches one of the codings of the resource itself, not of a component."""
    tokens = _tokens(value)
    return lambda resource: _in_concept(
        resource.get("code") or resource.get("medicationCodeableConcept") or {}, tokens
    )


def _has_category(value: str) -> Predicate:
    tokens = _tokens(value)
    return lambda resource: any(
        _in_concept(concept, tokens) for concept in resource.get("category", [])
    )


def _has_status(value: str) -> Predicate:
    statuses = set(value.split(","))
    return lambda resource: resource.get("status") in statuses


def _has_clinical_status(value: str) -> Predicate:
    tokens = _tokens(value)
    return lambda resource: _in_concept(resource.get("clinicalStatus") or {}, tokens)


def _tokens(value: str) -> frozenset[tuple[str | None, str]]:
    """`system|code,code` → {(system, code), (None, code)}; no system means any."""
    parts = [token.rpartition("|") for token in value.split(",")]
    return frozenset((system if bar else None, code) for system, bar, code in parts)


def _in_concept(concept: Resource, tokens: frozenset[tuple[str | None, str]]) -> bool:
    return any(
        (coding.get("system", ""), coding.get("code")) in tokens
        or (None, coding.get("code")) in tokens
        for coding in concept.get("coding", [])
    )


def _has_date(value: str) -> Predicate:
    """Dates are compared at the precision of the query, as text: enough for `ge2024-03-01`."""
    prefix, limit = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
    compare = _DATE_PREFIXES.get(prefix)
    if compare is None:
        raise UnsupportedQuery(f"date prefix not supported: {prefix}")

    def matches(resource: Resource) -> bool:
        found = _date_text(resource)[: len(limit)]
        return bool(found) and compare(found, limit)

    return matches


_DATE_PREFIXES: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq,
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}

_FILTERS: dict[str, Callable[[str], Predicate]] = {
    "_id": _has_id,
    "patient": _has_patient,
    "subject": _has_patient,
    "code": _has_code,
    "category": _has_category,
    "status": _has_status,
    "clinical-status": _has_clinical_status,
    "date": _has_date,
}
