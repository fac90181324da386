"""How a FHIR server fares over time: calm, a spell of one fault, calm again, and outages."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Protocol

from tests.reliability.fhir_server import Fault

# Of the creates during a spell; the others go through, so that a fault meets work in progress.
SHARE = 0.8


class Stoppable(Protocol):
    """A FHIR server that can be away for a while."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Weather:
    """The fault of each create, drawn from `seed`. Outages are added up in `longest_outage`."""

    def __init__(self, seed: str, *, faults: bool = True) -> None:
        self._chance = random.Random(seed)
        self._faults = faults
        self._now: Fault | None = None
        self.met: Counter[str] = Counter()
        self.longest_outage = 0.0

    def fault(self) -> Fault | None:
        """For one create."""
        now = self._now
        if now is None or self._chance.random() > SHARE:
            return None
        self.met[now.value] += 1
        return now

    def change(self, over: threading.Event) -> None:
        """Spells of a few seconds until `over`, then calm."""
        while self._faults and not over.wait(self._chance.uniform(0.5, 3.0)):
            self._now = self._chance.choice(list(Fault))
            over.wait(self._chance.uniform(0.3, 2.0))
            self._now = None

    def outage(self, server: Stoppable, seconds: float) -> None:
        """The server is not there for so long."""
        began = time.monotonic()
        server.stop()
        time.sleep(seconds)
        server.start()
        self.longest_outage = max(self.longest_outage, time.monotonic() - began)
        self.met["is stopped"] += 1
