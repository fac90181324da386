"""POST /cds-services/{id}/feedback: what became of the cards (CDS Hooks, "Feedback")."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from cds_service.audit.facts import CallFacts, facts_of
from cds_service.clients import Caller
from cds_service.hooks import CardFeedback, Feedback, parse_feedback
from cds_service.log import note
from cds_service.parts import Parts
from cds_service.routes.answers import json_answer
from cds_service.routes.callers import caller_of
from cds_service.routes.described import reads, schema_of
from cds_service.routes.services import read_object, service
from cds_service.store import FeedbackItem


def router(parts: Parts) -> APIRouter:
    """Feedback is stored whole or not at all; a card that is not known is no fault.

    The specification names no status and no body: 200 and how many items were new.
    """
    routes = APIRouter()

    @routes.post("/cds-services/{service_id}/feedback", openapi_extra=reads(schema_of(Feedback)))
    async def receive(request: Request, service_id: str) -> Response:
        caller = await caller_of(parts, request)
        definition = service(parts, service_id)
        note(request, service=definition.id)
        facts = facts_of(request)
        facts.serve(definition)
        sent = await read_object(parts, request)
        facts.read_feedback(sent)
        stored = await to_thread.run_sync(keep, parts, definition.id, caller, sent, facts)
        return json_answer({"stored": stored})

    return routes


def keep(
    parts: Parts, service_id: str, caller: Caller, body: dict[str, Any], facts: CallFacts
) -> int:
    """How many items of `body` were new; raises BadRequest. It blocks: not for the event loop."""
    sent = parse_feedback(body)
    items = [stored_form(item, service_id, caller, facts.received_at) for item in sent]
    stored = parts.store.add_feedback(items, facts.entry(outcome="feedback", status=200))
    facts.written = True
    return stored


def stored_form(
    sent: CardFeedback, service_id: str, caller: Caller, received_at: datetime
) -> FeedbackItem:
    """One item as the store keeps it."""
    override = sent.override_reason
    reason = override.reason if override else None
    return FeedbackItem(
        card=sent.card,
        outcome=sent.outcome,
        outcome_timestamp=sent.outcome_timestamp,
        service_id=service_id,
        received_at=received_at,
        client=caller.client.name if caller.client else None,
        accepted_suggestions=tuple(suggestion.id for suggestion in sent.accepted_suggestions),
        override_reason=reason.model_dump(exclude_none=True) if reason else None,
        user_comment=override.user_comment if override else None,
    )
