"""How many messages are under way to each destination, and which ones get none for now. Pure.

One server that stalls, or one token endpoint that is down, must not hold up what goes elsewhere,
nor be asked once for every message that waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cds_service.delivery.retry import RetryPolicy
from cds_service.store import Destination

# With so many under way a destination gets no more until one is done.
ENOUGH = 4

# A pause ends by trying again, with few messages: it may be short, and need not stop growing
# less than a person would wait. It has no last attempt.
PAUSES = RetryPolicy(
    first=timedelta(seconds=1),
    longest=timedelta(minutes=1),
    most_attempts=2**63,
    longest_asked=timedelta(hours=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Nothing else would have got there either. `retry_after`: the seconds that were asked for."""

    retry_after: float | None = None


@dataclass(slots=True)
class _Traffic:
    under_way: int = 0
    outages: int = 0
    since: float = 0.0
    closed_until: float = 0.0


class Destinations:
    """`now` is the time of a clock that never jumps."""

    def __init__(self, pauses: RetryPolicy = PAUSES) -> None:
        self._pauses = pauses
        self._traffic: dict[Destination, _Traffic] = {}

    def closed(self, now: float) -> frozenset[Destination]:
        """Those that get no message now: enough are under way, or it failed a moment ago.

        One that failed is tried with what one claim brings, until something arrives there.
        """
        return frozenset(
            destination
            for destination, traffic in self._traffic.items()
            if traffic.closed_until > now or traffic.under_way >= (1 if traffic.outages else ENOUGH)
        )

    def set_out(self, destination: Destination) -> None:
        """One more is under way."""
        self._traffic.setdefault(destination, _Traffic()).under_way += 1

    def came_back(
        self,
        destination: Destination,
        outage: Outage | None,
        *,
        began: float,
        now: float,
        jitter: float,
    ) -> float | None:
        """One that began at `began` is done; the seconds of the pause that follows, if it begins
        one."""
        traffic = self._traffic[destination]
        traffic.under_way -= 1
        if outage is None:
            traffic.outages, traffic.closed_until = 0, 0.0
            if not traffic.under_way:
                del self._traffic[destination]
            return None
        # Those that were under way together have met the same outage: it counts once.
        if not traffic.outages or began >= traffic.since:
            traffic.outages, traffic.since = traffic.outages + 1, now
        elif outage.retry_after is None:
            return None
        return self._close(traffic, outage, now, jitter)

    def _close(self, traffic: _Traffic, outage: Outage, now: float, jitter: float) -> float | None:
        pause = self._pauses.wait_after(
            traffic.outages, jitter=jitter, retry_after=outage.retry_after
        )
        assert pause is not None  # noqa: S101 (it has no last attempt)
        until = now + pause.total_seconds()
        if until <= traffic.closed_until:
            return None
        traffic.closed_until = until
        return pause.total_seconds()
