"""The outbox worker: claim, create on the FHIR server, settle, reschedule, or park as dead.

A message may be sent more than once (the process may die between the server's answer and the
settling); the conditional create makes that harmless.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from cds_service.clients import Client
from cds_service.clients.outbound import open_http
from cds_service.delivery.retry import RetryPolicy
from cds_service.delivery.send import send
from cds_service.delivery.tokens import BackendTokens, TokenUnavailable
from cds_service.errors import StoreUnavailable
from cds_service.fhir_client import Created, FetchError, base_allowed

if TYPE_CHECKING:
    from cds_service.parts import Parts
    from cds_service.store import ClaimedMessage

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
BATCH = 8
# One try, token included, ends well within the lease: nobody else takes a message in mid-flight.
TRY_SECONDS = 20.0
LEASE = timedelta(seconds=60)
LONGEST_REASON = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker over the parts of the service; `policy` decides about retries."""

    parts: Parts
    tokens: BackendTokens
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    async def deliver_due(self) -> int:
        """Claim what is due and deliver it, side by side; how many were claimed."""
        claimed = await asyncio.to_thread(
            self.parts.store.claim,
            now=self.parts.clock(),
            lease=LEASE,
            count=BATCH,
            claim_id=str(uuid.uuid4()),
        )
        outcomes = await asyncio.gather(*map(self.deliver, claimed), return_exceptions=True)
        for message, outcome in zip(claimed, outcomes, strict=True):
            if isinstance(outcome, Exception):
                # It stays claimed, and is due again when the lease ends: nothing is lost.
                log.error("delivery failed", message=message.id, fault=type(outcome).__name__)
        return len(claimed)

    async def deliver(self, message: ClaimedMessage) -> None:
        """One try of one message. Raises StoreUnavailable when its end cannot be recorded."""
        client = self.parts.clients.named(message.client or "")
        base = base_allowed(message.fhir_base, client, self.parts.settings.profile)
        if client is None or base is None or base not in client.fhir_servers:
            await self._park(message, "the clients file no longer allows this FHIR server")
            return
        if client.write_back != "backend":
            # Whoever switched it off did not mean "from the next call on", nor "without a token".
            await self._park(message, "the clients file no longer has this service write back")
            return
        if message.attempts > self.policy.most_attempts:
            # Claims that never came to an end count too: it may be what kills the worker.
            await self._park(message, f"given up after {message.attempts - 1} attempts")
            return
        try:
            async with asyncio.timeout(TRY_SECONDS):
                created = await self._create(message, client, base)
        except TokenUnavailable as fault:
            await self._retry(message, str(fault))
        except TimeoutError:
            await self._retry(message, "no answer in time")
        except FetchError as fault:
            # 401: the token was withdrawn, or the registration is being mended.
            if fault.may_retry or fault.status == 401:
                await self._retry(message, _reason(fault), fault.retry_after)
            else:
                await self._park(message, _reason(fault))
        else:
            await self._settle(message, created)

    async def _create(self, message: ClaimedMessage, client: Client, base: str) -> Created:
        token = await self.tokens.token(client)
        deadline = asyncio.get_running_loop().time() + TRY_SECONDS
        try:
            # As the clients file says now: a version that was wrong is mended there, and retried.
            version = client.fhir_version
            return await send(self.parts.fhir, base, message.resource, token, deadline, version)
        except FetchError as fault:
            if fault.status == 401 and token is not None:
                self.tokens.forget(client, token)
            raise

    async def _settle(self, message: ClaimedMessage, created: Created) -> None:
        held = await asyncio.to_thread(
            self.parts.store.settle,
            message,
            location=created.location,
            version=created.version,
            settled_at=self.parts.clock(),
        )
        log.info(
            "delivered",
            message=message.id,
            assessment=message.assessment_id,
            attempts=message.attempts,
            existing=created.existing,
            lease_held=held,
        )

    async def _retry(
        self, message: ClaimedMessage, reason: str, retry_after: float | None = None
    ) -> None:
        wait = self.policy.wait_after(
            message.attempts,
            jitter=random.random(),  # noqa: S311 (spreads load, guards nothing)
            retry_after=retry_after,
        )
        if wait is None:
            await self._park(message, f"given up after {message.attempts} attempts: {reason}")
            return
        await asyncio.to_thread(
            self.parts.store.reschedule,
            message,
            available_at=self.parts.clock() + wait,
            reason=reason,
        )
        log.warning(
            "delivery rescheduled",
            message=message.id,
            attempts=message.attempts,
            seconds=round(wait.total_seconds(), 1),
            reason=_public(reason),
        )

    async def _park(self, message: ClaimedMessage, reason: str) -> None:
        await asyncio.to_thread(
            self.parts.store.park, message, reason=reason, settled_at=self.parts.clock()
        )
        log.error("delivery dead", message=message.id, reason=_public(reason))


async def run(parts: Parts, stop: asyncio.Event) -> None:
    """Deliver until `stop` is set; what is in flight then is finished first."""
    async with open_http(reach=parts.clients.reach) as http:
        worker = Worker(parts=parts, tokens=BackendTokens(http, parts.clock))
        while not stop.is_set():
            try:
                busy = await worker.deliver_due() == BATCH
            except StoreUnavailable:
                busy = False  # the store has logged why; it may have recovered a moment later
            if not busy:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), POLL_SECONDS)


def _reason(fault: FetchError) -> str:
    """What a person needs to mend it. The server's words may hold patient data: stored only."""
    said = [_issue(issue) for issue in (fault.outcome or {}).get("issue", ()) if issue]
    return f"{fault.reason}\n{'; '.join(said)}".strip()[:LONGEST_REASON]


def _issue(issue: Any) -> str:
    if not isinstance(issue, dict):
        return ""
    details = issue.get("details")
    text = details.get("text") if isinstance(details, dict) else None
    words = (issue.get("severity"), issue.get("code"), issue.get("diagnostics") or text)
    return " ".join(word for word in words if isinstance(word, str))


def _public(reason: str) -> str:
    return reason.partition("\n")[0]
