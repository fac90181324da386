"""One try of one message: create on the FHIR server, then settle, reschedule, or park as dead.

A message may be sent more than once (the process may die between the server's answer and the
settling); the conditional create makes that harmless.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from cds_service.clients import Client
from cds_service.delivery.destinations import Outage
from cds_service.delivery.failure import Failure, failure_of
from cds_service.delivery.retry import RetryPolicy
from cds_service.delivery.send import send_and_find
from cds_service.delivery.tokens import BackendTokens, TokenUnavailable
from cds_service.errors import StoreUnavailable
from cds_service.fhir_client import Created, FetchError, base_allowed

if TYPE_CHECKING:
    from cds_service.parts import Parts
    from cds_service.store import ClaimedMessage, Destination

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=60)
# A store that is away for a moment need not cost a second create: the rest of the lease is waited.
RECORDING_PAUSES = (0.2, 1.0, 5.0)


class Outcome(StrEnum):
    """What came of one try. LEASE_LOST: it took too long, and another worker has the message."""

    CREATED = "created"
    EXISTING = "existing"
    RESCHEDULED = "rescheduled"
    DEAD = "dead"
    LEASE_LOST = "lease-lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One try, and whether its destination was out of reach for everybody."""

    outcome: Outcome
    outage: Outage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker over the parts of the service; `policy` decides about retries."""

    parts: Parts
    tokens: BackendTokens
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    async def claim(self, count: int, without: Collection[Destination]) -> list[ClaimedMessage]:
        """Messages that are due, for the length of a lease. Raises StoreUnavailable."""
        return await asyncio.to_thread(
            self.parts.store.claim,
            now=self.parts.clock(),
            lease=LEASE,
            count=count,
            claim_id=str(uuid.uuid4()),
            without=without,
        )

    async def deliver(self, message: ClaimedMessage, until: float) -> Delivery:
        """One try, until the loop's time `until`; raises StoreUnavailable when its end cannot be
        recorded: it is due again when its lease ends."""
        client = self.parts.clients.named(message.client or "")
        base = base_allowed(message.fhir_base, client, self.parts.settings.profile)
        if client is None or base is None or base not in client.fhir_servers:
            gone = "the clients file no longer allows this FHIR server"
            return await self._park(message, Failure(reason=gone, may_retry=False))
        if client.write_back != "backend":
            # Whoever switched it off did not mean "from the next call on", nor "without a token".
            off = "the clients file no longer has this service write back"
            return await self._park(message, Failure(reason=off, may_retry=False))
        if message.attempts > self.policy.most_attempts:
            # Claims that never came to an end count too: it may be what kills the worker.
            reason = f"given up after {message.attempts - 1} attempts"
            return await self._park(message, Failure(reason=reason, may_retry=False))
        try:
            async with asyncio.timeout_at(until):
                created = await self._create(message, client, base, until)
        except (TokenUnavailable, TimeoutError, FetchError) as fault:
            return await self._fail(message, failure_of(fault))
        except Exception as fault:
            # A mistake of ours is mended by the next release, and the message waits for it.
            log.exception("delivery failed", message=message.id)
            reason = f"a fault of this program: {type(fault).__name__}"
            return await self._fail(message, Failure(reason=reason, may_retry=True))
        return await self._settle(message, created)

    async def _create(
        self, message: ClaimedMessage, client: Client, base: str, until: float
    ) -> Created:
        token = await self.tokens.token(client)
        try:
            return await self._create_with(token, message, client, base, until)
        except FetchError as fault:
            if fault.status != 401 or token is None:
                raise
        # It was withdrawn before its end, as when the server was started anew: another one, once.
        self.tokens.forget(client, token)
        token = await self.tokens.token(client)
        try:
            return await self._create_with(token, message, client, base, until)
        except FetchError as fault:
            if fault.status == 401 and token is not None:
                self.tokens.forget(client, token)
            raise

    async def _create_with(
        self, token: str | None, message: ClaimedMessage, client: Client, base: str, until: float
    ) -> Created:
        # As the clients file says now: a version that was wrong is mended there, and retried.
        version = client.fhir_version
        return await send_and_find(self.parts.fhir, base, message.resource, token, until, version)

    async def _fail(self, message: ClaimedMessage, failure: Failure) -> Delivery:
        if not failure.may_retry:
            return await self._park(message, failure)
        wait = self.policy.wait_after(
            message.attempts,
            jitter=random.random(),  # noqa: S311 (spreads load, guards nothing)
            retry_after=failure.retry_after,
        )
        if wait is None:
            return await self._park(message, _given_up(message, failure))
        held = await _recorded(
            lambda: self.parts.store.reschedule(
                message, available_at=self.parts.clock() + wait, reason=failure.reason
            )
        )
        log.warning(
            "delivery rescheduled",
            message=message.id,
            attempts=message.attempts,
            seconds=round(wait.total_seconds(), 1),
            reason=failure.public_reason,
            lease_held=held,
        )
        return Delivery(
            outcome=Outcome.RESCHEDULED if held else Outcome.LEASE_LOST, outage=failure.outage
        )

    async def _settle(self, message: ClaimedMessage, created: Created) -> Delivery:
        held = await _recorded(
            lambda: self.parts.store.settle(
                message,
                location=created.location,
                version=created.version,
                settled_at=self.parts.clock(),
            )
        )
        log.info(
            "delivered",
            message=message.id,
            assessment=message.assessment_id,
            attempts=message.attempts,
            existing=created.existing,
            lease_held=held,
        )
        delivered = Outcome.EXISTING if created.existing else Outcome.CREATED
        return Delivery(outcome=delivered if held else Outcome.LEASE_LOST)

    async def _park(self, message: ClaimedMessage, failure: Failure) -> Delivery:
        held = await _recorded(
            lambda: self.parts.store.park(
                message, reason=failure.reason, settled_at=self.parts.clock()
            )
        )
        log.error(
            "delivery dead", message=message.id, reason=failure.public_reason, lease_held=held
        )
        return Delivery(outcome=Outcome.DEAD if held else Outcome.LEASE_LOST, outage=failure.outage)


def _given_up(message: ClaimedMessage, failure: Failure) -> Failure:
    reason = f"given up after {message.attempts} attempts: {failure.reason}"
    return Failure(reason=reason, may_retry=False, outage=failure.outage)


async def _recorded(write: Callable[[], bool]) -> bool:
    """What `write` gives, tried again while the store is away for a moment."""
    for pause in RECORDING_PAUSES:
        try:
            return await asyncio.to_thread(write)
        except StoreUnavailable:
            await asyncio.sleep(pause)
    return await asyncio.to_thread(write)
