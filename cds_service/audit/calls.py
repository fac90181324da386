"""One audit row for every call of the hooks, /predict and /fhir, answered or refused, in one place.

A hook call and feedback commit their row together with what they store; everything else gets it
here, before its answer leaves. An answer that cannot be put on record is not given (503). A
refusal stands even then: the log says so, and a metric counts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog
from anyio import CancelScope, get_cancelled_exc_class, to_thread
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cds_service.audit.facts import CallFacts, begin
from cds_service.audit.refusals import Refusals
from cds_service.errors import CLIENT_LEFT, StoreUnavailable
from cds_service.log import notes_of
from cds_service.parts import Parts
from cds_service.routes.answers import fault_answer
from cds_service.store.records import AuditEntry

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 20.0


def action_of(path: str) -> str | None:
    """What a call of `path` is called in the log; None: it is no call of the service, but of a
    monitor, a person's browser or a scanner.

    The name says what was called for, not that it was done.
    """
    if path == "/cds-services":
        return "discovery"
    if path == "/predict":
        return "predict"
    if path.startswith("/cds-services/"):
        return "feedback" if path.endswith("/feedback") else "hook-call"
    if path in ("/fhir/RiskAssessment", "/fhir/RiskAssessment/_search"):
        return "search-type"
    if path == "/fhir/metadata":
        return "capabilities"
    if path.startswith("/fhir/"):
        return "read"
    return None


class AuditCalls:
    """Within Observe, which counts what comes out here, and around the limits: a call that is
    refused because the house is full has been refused."""

    def __init__(self, app: ASGIApp, *, parts: Parts, refusals: Refusals) -> None:
        self.app = app
        self._parts = parts
        self._refusals = refusals
        self._send_seconds = parts.settings.call_timeout_ms / 1000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        action = action_of(scope["path"]) if scope["type"] == "http" else None
        if action is None:
            await self.app(scope, receive, send)
            return
        facts = begin(scope, action, self._parts.clock())
        # Answers here are whole and bounded: they are held until the row is there.
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        try:
            await self.app(scope, receive, hold)
        except ClientDisconnect:
            await self._refused(facts, "client-left", CLIENT_LEFT)
            raise
        except get_cancelled_exc_class():
            # The process ends, and takes no longer for it than a row does.
            with CancelScope(shield=True):
                await self._refused(facts, "cut-off", CLIENT_LEFT)
            raise
        except Exception:
            await self._refused(facts, "refused:InternalFault", 500)
            raise
        try:
            await self._conclude(scope, facts, held[0]["status"])
        except StoreUnavailable as fault:
            await fault_answer(fault)(scope, receive, send)
            return
        await self._send(held, send)

    async def _conclude(self, scope: Scope, facts: CallFacts, status: int) -> None:
        """Raises StoreUnavailable for an answer that is not on record."""
        outcome = notes_of(scope).get("outcome")
        if status >= 400:
            await self._refused(facts, outcome or f"refused:{status}", status)
        elif not facts.written:
            entry = facts.entry(outcome=outcome or "answered", status=status)
            try:
                await to_thread.run_sync(self._parts.store.append_audit, [entry])
            except StoreUnavailable:
                self._parts.metrics.count_unaudited(calls=1, answered=True)
                raise

    async def _refused(self, facts: CallFacts, outcome: str, status: int) -> None:
        if facts.written:
            return
        entry = facts.entry(outcome=outcome, status=status)
        due = [entry] if facts.admitted else self._refusals.take(entry)
        await write_refused(self._parts, due)

    async def _send(self, held: Sequence[Message], send: Send) -> None:
        try:
            async with asyncio.timeout(self._send_seconds):
                for message in held:
                    await send(message)
        except TimeoutError:
            raise ClientDisconnect from None  # it does not read its answer


async def write_refused(parts: Parts, entries: Sequence[AuditEntry]) -> None:
    """Rows of refused calls. If they cannot be written the refusals stand all the same."""
    if not entries:
        return
    try:
        await to_thread.run_sync(parts.store.append_audit, entries)
    except Exception as fault:  # whatever it is, it must not turn into an answer
        calls = sum(entry.calls or 1 for entry in entries)
        parts.metrics.count_unaudited(calls=calls, answered=False)
        log.error("audit rows of refused calls are lost", calls=calls, exc_info=fault)


async def write_ended(parts: Parts, refusals: Refusals, now: datetime) -> None:
    """Rows of the minutes that have ended."""
    await write_refused(parts, refusals.ended(now))


async def keep_writing(parts: Parts, refusals: Refusals, stop: asyncio.Event) -> None:
    """Write what each minute left, until `stop`; then the rest."""
    while not stop.is_set():
        await write_ended(parts, refusals, parts.clock())
        try:
            await asyncio.wait_for(stop.wait(), FLUSH_SECONDS)
        except TimeoutError:
            continue
    await write_refused(parts, refusals.rest())
