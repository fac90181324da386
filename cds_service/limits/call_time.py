"""One call's time, and the decision that ends it: stored and answered, or given up with nothing
stored. A worker thread cannot be stopped; it can be kept from committing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cds_service.errors import CallTimedOut


class CallTime:
    """Decided once, by whoever comes first: the clock gives up, or a transaction seals."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._given_up = False
        self._sealed = False

    def give_up(self) -> bool:
        """True when nothing of this call will be stored any more; False: it is being stored."""
        with self._one_at_a_time:
            self._given_up = not self._sealed
            return self._given_up

    def seal(self) -> None:
        """From here on the call is stored and answered. Raises CallTimedOut: it is too late."""
        with self._one_at_a_time:
            if self._given_up:
                raise CallTimedOut
            self._sealed = True


# Worker threads see it too: anyio copies the context of the call that starts them.
_current: ContextVar[CallTime | None] = ContextVar("call_time", default=None)


@contextmanager
def on_the_clock(call: CallTime) -> Iterator[None]:
    """Within, `seal_call` belongs to `call`."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def seal_call() -> None:
    """The last statement before the commit of what a call leaves behind; raises CallTimedOut.

    Outside of a call (delivery, the command line) there is no clock, and nothing happens.
    """
    call = _current.get()
    if call is not None:
        call.seal()
