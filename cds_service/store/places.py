"""Who waits for a group commit, and what came of it: a thread, or a task on its event loop."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from anyio import CancelScope

from cds_service.audit.chain import ChainWriter
from cds_service.errors import CallTimedOut, StoreUnavailable
from cds_service.limits.call_time import seal_call
from cds_service.store.calls import CallRecord

log = structlog.get_logger(__name__)

T = TypeVar("T")
Work = Callable[[sa.Connection, ChainWriter], T]


class Place(ABC):
    """One writer in the queue, and what came of its work. Whoever comes first decides: the thread
    begins with it, or the writer leaves."""

    def __init__(self, work: Work[Any] | CallRecord) -> None:
        self.work = work
        self.context = copy_context()
        self.value: Any = None
        self._fault: BaseException | None = None
        self._decision = threading.Lock()

    def begin(self) -> bool:
        """False: it has been withdrawn."""
        return self._decision.acquire(blocking=False)

    def withdraw(self) -> bool:
        """True where nobody has begun with it, and nobody will."""
        return self._decision.acquire(blocking=False)

    @abstractmethod
    def tell(self) -> None:
        """What came of it is known."""

    def leave(self, seconds: float) -> None:
        """It has waited for so long; if it is its turn just now, nothing happens."""
        if self.withdraw():
            log.error("store unavailable", reason="no turn to write", seconds=seconds)
            self.fail(StoreUnavailable())
            self.tell()

    def is_sealed(self) -> bool:
        """Whether its call will be answered with what is stored now; else CallTimedOut."""
        try:
            self.context.run(seal_call)
        except CallTimedOut as fault:
            self.fail(fault)
        return self._fault is None

    def fail(self, fault: BaseException) -> None:
        """Nothing of it is stored; the first fault counts."""
        self._fault = self._fault or (fault if isinstance(fault, Exception) else StoreUnavailable())

    def outcome(self) -> Any:
        if isinstance(self._fault, StoreUnavailable):
            raise StoreUnavailable from self._fault  # one for each thread that raises it
        if self._fault is not None:
            raise self._fault
        return self.value


class Called(Place):
    """A thread that waits."""

    def __init__(self, work: Work[Any] | CallRecord) -> None:
        super().__init__(work)
        self.told = threading.Event()

    def tell(self) -> None:
        self.told.set()


class Turn(Called):
    """A thread that waits for its turn, and says when it is over."""

    def __init__(self) -> None:
        super().__init__(_nothing)
        self.over = threading.Event()


def _nothing(_connection: sa.Connection, _writer: ChainWriter) -> None: ...


class Awaited(Place):
    """A task that waits on its event loop, from where alone this is called, but for `begin`."""

    def __init__(self, call: CallRecord) -> None:
        super().__init__(call)
        self.loop = asyncio.get_running_loop()
        self.told = self.loop.create_future()
        self._is_decided = False

    def tell(self) -> None:
        self._is_decided = True
        if not self.told.done():  # as it is when the task was cancelled
            self.told.set_result(None)

    async def is_stored(self) -> bool:
        """For a task that was cancelled when its work had begun."""
        if not self._is_decided:
            self.told = self.loop.create_future()
            with CancelScope(shield=True):
                await self.told
        return self._fault is None
