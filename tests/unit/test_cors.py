"""`Vary`, whoever asks: a cache must not give one origin's answer to another."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from cds_service.cors import Cors
from cds_service.settings import Settings

Headers = list[tuple[bytes, bytes]]
ORIGIN = (b"origin", b"https://ehr.example.org")


def vary(settings: Settings, sent: Headers, answered: Headers | None) -> list[bytes]:
    """Every `Vary` of an answer that had the headers `answered`."""
    start: Message = {"type": "http.response.start", "status": 200}
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start if answered is None else start | {"headers": answered})
        await send({"type": "http.response.body"})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "GET", "headers": sent}
    asyncio.run(Cors(app, settings=settings)(scope, receive, send))
    return [value for name, value in messages[0]["headers"] if name == b"vary"]


@pytest.mark.parametrize("origins", [(), ("https://ehr.example.org",), ("*",)])
@pytest.mark.parametrize("sent", [[], [(b"host", b"x")], [ORIGIN]])
def test_every_answer_varies_by_origin_once(origins: tuple[str, ...], sent: Headers) -> None:
    settings = Settings(cors_origins=origins)
    assert vary(settings, sent, None) == [b"Origin"]
    assert vary(settings, sent, [(b"vary", b"Accept"), (b"x", b"y")]) == [b"Accept, Origin"]


def test_what_an_answer_varies_by_is_kept() -> None:
    kept: Headers = [(b"vary", b"Accept")]
    assert vary(Settings(profile="demo"), [], kept) == [b"Accept, Origin"]
    assert kept == [(b"vary", b"Accept")], "the answer's own list is left alone"
