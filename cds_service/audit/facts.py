"""What is known of one call for its audit row, gathered while the call goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cds_service.audit.suspicious import suspicious
from cds_service.store.records import AuditEntry

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope

    from cds_service.clients import Caller
    from cds_service.hooks import ServiceDefinition

_KEY = "cds_service.audit"
# A FHIR id has 64 characters; what a hostile caller sends in its place is kept in part.
LONGEST = 200
MOST_ITEMS = 50
# They carry credentials. The JWT is judged elsewhere, and neither is looked at or kept here.
_SECRET_HEADERS = frozenset((b"authorization", b"proxy-authorization", b"cookie"))


@dataclass(slots=True, kw_only=True)
class CallFacts:
    """`admitted`: the caller has shown who it is, or need not. `written`: the row is stored.
    `of_others`: resources about other patients that came with the call and were dropped."""

    action: str
    received_at: datetime
    address: str | None = None
    caller: Caller | None = None
    user: str | None = None
    patient_id: str | None = None
    hook_instance: str | None = None
    service_id: str | None = None
    model: str | None = None
    model_version: str | None = None
    resource_id: str | None = None
    of_others: int = 0
    kinds: set[str] = field(default_factory=set)
    written: bool = False

    @property
    def admitted(self) -> bool:
        return self.caller is not None

    @property
    def suspicious(self) -> str | None:
        """The kinds of attempt seen so far, in one order."""
        return ",".join(sorted(self.kinds)) or None

    def look_at(self, *texts: object) -> None:
        """Mark the call if one of `texts` looks like an attempt; what is no text is left alone."""
        self.kinds |= suspicious(text for text in texts if isinstance(text, str))

    def serve(self, definition: ServiceDefinition) -> None:
        """The service that was called, and with which model it answers."""
        self.service_id = definition.id
        self.model, self.model_version = definition.model, definition.model_version

    def read_hook_call(self, body: Mapping[str, Any]) -> None:
        """Whom a hook call is about, as far as it says: it may yet be refused."""
        found = body.get("context")
        context = found if isinstance(found, dict) else {}
        self.user = _bounded(context.get("userId"))
        self.patient_id = _bounded(context.get("patientId"))
        self.hook_instance = _bounded(body.get("hookInstance"))
        granted = body.get("fhirAuthorization")
        claims = granted if isinstance(granted, dict) else {}
        self.look_at(
            *(context.get(name) for name in ("userId", "patientId", "encounterId")),
            *(body.get(name) for name in ("hook", "hookInstance", "fhirServer")),
            *(claims.get(name) for name in ("token_type", "scope", "subject", "patient")),
        )

    def read_feedback(self, body: Mapping[str, Any]) -> None:
        """Feedback names cards, not patients. Reasons and comments are not looked at."""
        self.look_at(*_ids_of_feedback(body))

    def entry(self, *, outcome: str, status: int) -> AuditEntry:
        """The row."""
        client = self.caller.client if self.caller else None
        return AuditEntry(
            recorded_at=self.received_at,
            outcome=outcome,
            status=status,
            client=client.name if client else None,
            tenant=self.caller.tenant if self.caller else None,
            user=self.user,
            address=self.address,
            patient_id=self.patient_id,
            hook_instance=self.hook_instance,
            service_id=self.service_id,
            model=self.model,
            model_version=self.model_version,
            action=self.action,
            resource_id=self.resource_id,
            suspicious=self.suspicious,
            detail=f'{{"dropped_of_other_patients":{self.of_others}}}' if self.of_others else None,
        )


def begin(scope: Scope, action: str, received_at: datetime) -> CallFacts:
    """The facts of a call that comes in; `facts_of` finds them again."""
    client = scope.get("client")
    facts = CallFacts(action=action, received_at=received_at, address=client[0] if client else None)
    facts.kinds |= suspicious(_texts(scope))
    scope[_KEY] = facts
    return facts


def facts_of(request: Request) -> CallFacts:
    """The facts of the call that `request` is; only routes that are audited have them."""
    facts: CallFacts = request.scope[_KEY]
    return facts


def note_caller(request: Request, caller: Caller) -> None:
    """Who calls, on any route: some of them are not audited."""
    facts: CallFacts | None = request.scope.get(_KEY)
    if facts is not None:
        facts.caller = caller


def _texts(scope: Scope) -> list[str]:
    headers = [value for name, value in scope["headers"] if name not in _SECRET_HEADERS]
    sent = [scope.get("raw_path", b""), scope["query_string"], *headers]
    return [scope["path"], *[text.decode("latin-1") for text in sent]]


def _ids_of_feedback(body: Mapping[str, Any]) -> Iterator[object]:
    for item in _first(body.get("feedback")):
        if isinstance(item, dict):
            yield item.get("card")
            yield item.get("outcome")
            for suggestion in _first(item.get("acceptedSuggestions")):
                yield suggestion.get("id") if isinstance(suggestion, dict) else suggestion


def _first(found: object) -> Iterable[object]:
    return found[:MOST_ITEMS] if isinstance(found, list) else ()


def _bounded(found: object) -> str | None:
    return found[:LONGEST] if isinstance(found, str) else None
