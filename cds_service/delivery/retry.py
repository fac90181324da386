"""When to try again, and when to stop. Pure: chance is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Waits double from `first` to `longest`; after `most_attempts` a message is dead.

    The defaults try for about three days: a server that is down over a long weekend
    costs no message.
    """

    first: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(hours=1)
    most_attempts: int = 100
    longest_asked: timedelta = timedelta(hours=24)

    def wait_after(
        self, attempts: int, *, jitter: float, retry_after: float | None = None
    ) -> timedelta | None:
        """How long to wait after this many attempts; None: no more.

        `jitter` in [0, 1) takes up to half of the wait away, so that messages which failed
        together do not come back together. `retry_after`, seconds, is what the server asked
        for: never sooner, and no later than a day.
        """
        if attempts >= self.most_attempts:
            return None
        doubled = self.first * float(2 ** min(attempts - 1, 30))
        wait = min(doubled, self.longest) * (1 - jitter / 2)
        asked = timedelta(seconds=min(retry_after or 0, self.longest_asked.total_seconds()))
        return max(wait, asked)
