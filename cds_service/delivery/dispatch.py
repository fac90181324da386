"""The outbox worker's loop: a rolling set of tries, side by side, each destination with its share.

A try begins when there is room, not when a batch is done: a server that stalls takes its own share
of the room, and then nothing until it answers again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from cds_service.clients.outbound import open_http
from cds_service.delivery.bell import Bell
from cds_service.delivery.destinations import Destinations, Outage
from cds_service.delivery.tokens import BackendTokens
from cds_service.delivery.worker import LEASE, Outcome, Worker
from cds_service.errors import StoreUnavailable

if TYPE_CHECKING:
    from cds_service.parts import Parts
    from cds_service.store import ClaimedMessage, Destination

log = structlog.get_logger(__name__)

# What other processes committed, and what has waited for its time, is found within a second.
POLL_SECONDS = 1.0
# One try, token included, ends well within the lease: nobody else takes a message in mid-flight.
TRY_SECONDS = 20.0
CLAIMED_AT_ONCE = 8
MOST_UNDER_WAY = 64


class Dispatch:
    """What one worker has under way. `outcomes` counts what came of its tries."""

    def __init__(self, worker: Worker, destinations: Destinations | None = None) -> None:
        self._worker = worker
        self._bell: Bell = worker.parts.bell
        self._destinations = destinations or Destinations()
        self._under_way = 0
        self._waited_for: frozenset[Destination] = frozenset()
        self.outcomes: Counter[Outcome] = Counter()

    async def until(self, stop: asyncio.Event) -> None:
        """Deliver what is due until `stop` is set; what is under way then is finished."""
        async with asyncio.TaskGroup() as tries:
            stopping = tries.create_task(self._ring_at(stop))
            try:
                while not stop.is_set():
                    await self._go_round(tries)
            finally:
                stopping.cancel()

    async def once(self, stop: asyncio.Event) -> None:
        """Deliver what is due, and end when nothing is. Raises StoreUnavailable."""
        fault: StoreUnavailable | None = None
        async with asyncio.TaskGroup() as tries:
            stopping = tries.create_task(self._ring_at(stop))
            while not stop.is_set():
                self._bell.hush()
                try:
                    more = await self._set_out(tries)
                except StoreUnavailable as unavailable:
                    fault = unavailable
                    break
                if more or self._may_go_on():
                    continue
                if not self._under_way:
                    break
                await self._bell.heard(POLL_SECONDS)
            stopping.cancel()
        if fault is not None:
            raise fault

    async def _ring_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._bell.ring()

    async def _go_round(self, tries: asyncio.TaskGroup) -> None:
        self._bell.hush()
        try:
            more = await self._set_out(tries)
        except StoreUnavailable:
            more = False  # the store has logged why; it may have recovered a moment later
        except Exception:
            # Whatever it is, what is committed later must still be delivered.
            log.exception("claiming failed")
            more = False
        if not more:
            await self._bell.heard(POLL_SECONDS)

    async def _set_out(self, tries: asyncio.TaskGroup) -> bool:
        """Claim what is due and there is room for, and begin with it. True: there may be more."""
        began = asyncio.get_running_loop().time()
        room = min(CLAIMED_AT_ONCE, MOST_UNDER_WAY - self._under_way)
        if not room:
            return False
        self._waited_for = self._destinations.closed(began)
        claimed = await self._worker.claim(room, self._waited_for)
        # A claim that took long leaves less, so that no try outlives its lease.
        until = min(
            asyncio.get_running_loop().time() + TRY_SECONDS, began + LEASE.total_seconds() / 2
        )
        for message in claimed:
            self._under_way += 1
            self._destinations.set_out(message.destination)
            tries.create_task(self._try(message, began, until))
        return len(claimed) == room

    def _may_go_on(self) -> bool:
        """True where a destination that got nothing from the last claim may have some now."""
        now = asyncio.get_running_loop().time()
        return bool(self._waited_for - self._destinations.closed(now))

    async def _try(self, message: ClaimedMessage, began: float, until: float) -> None:
        outage = None
        try:
            delivery = await self._worker.deliver(message, until)
        except StoreUnavailable:
            pass  # the store has logged why; the message is due again when its lease ends
        except Exception:
            # Such as a reason that the database does not take: due again when the lease ends.
            log.exception("delivery failed", message=message.id)
        else:
            outage = delivery.outage
            self.outcomes[delivery.outcome] += 1
            self._worker.parts.metrics.count_delivery(delivery.outcome)
        self._come_back(message.destination, outage, began)

    def _come_back(self, destination: Destination, outage: Outage | None, began: float) -> None:
        if self._under_way == MOST_UNDER_WAY or destination in self._waited_for:
            self._bell.ring()
        self._under_way -= 1
        if not self._under_way:
            self._bell.ring()
        pause = self._destinations.came_back(
            destination,
            outage,
            began=began,
            now=asyncio.get_running_loop().time(),
            jitter=random.random(),  # noqa: S311 (spreads load, guards nothing)
        )
        if pause is not None:
            log.warning(
                "deliveries paused",
                client=destination.client,
                fhir_base=destination.fhir_base,
                seconds=round(pause, 1),
            )


@asynccontextmanager
async def dispatch(parts: Parts) -> AsyncIterator[Dispatch]:
    """A worker with connections and tokens of its own."""
    async with open_http(reach=parts.clients.reach) as http:
        tokens = BackendTokens(http, parts.clock)
        try:
            yield Dispatch(Worker(parts=parts, tokens=tokens))
        finally:
            await tokens.close()


async def run(parts: Parts, stop: asyncio.Event) -> None:
    """Deliver until `stop` is set; what is in flight then is finished first."""
    async with dispatch(parts) as worker:
        await worker.until(stop)
