"""A caller who hangs up: nobody reads the answer, so that nothing more is asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from anyio import CancelScope
from fastapi import Request
from starlette.requests import ClientDisconnect

T = TypeVar("T")


async def unless_client_leaves(request: Request, work: Awaitable[T]) -> T:
    """What `work` gives; raises ClientDisconnect when the client leaves before, work cancelled.

    The body of `request` has been read. What runs in a thread, a transaction above all, ends
    first: it is whole, or was never begun.
    """
    with CancelScope() as scope:
        watch = asyncio.create_task(_cancel_when_left(request, scope))
        try:
            return await work
        finally:
            watch.cancel()
    raise ClientDisconnect


async def _cancel_when_left(request: Request, scope: CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
