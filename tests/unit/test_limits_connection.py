"""Connections, with both of uvicorn's parsers, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from fastapi import FastAPI

from cds_service.limits.connection import (
    HEAD_SECONDS,
    LARGEST_HEAD_BYTES,
    BoundedH11,
    bounded_protocol,
)
from tests.wire import check_operation_outcome

PROTOCOLS = {protocol.__name__: protocol for protocol in (BoundedH11, bounded_protocol())}
HEAD = b"GET /short HTTP/1.1\r\nHost: x\r\n"
SECONDS = 0.3


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, float]]:
    yield {HEAD_SECONDS: SECONDS}


def application() -> FastAPI:
    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.api_route("/short", methods=["GET", "POST"])
    async def short() -> str:
        return "done"

    @app.get("/long")
    async def long() -> str:
        await asyncio.sleep(4 * SECONDS)
        return "done"

    return app


@pytest.fixture(params=sorted(PROTOCOLS))
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            application(),
            http=PROTOCOLS[request.param],
            h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
            timeout_keep_alive=1,
            log_config=None,
            ws="none",
        )
    )
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def said(port: int, *sent: bytes) -> bytes:
    """What comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        heard = b""
        try:
            for part in sent:
                connection.sendall(part)
            while part := connection.recv(65_536):
                heard += part
        except ConnectionError:  # it closed while more was on its way
            pass
        return heard


def statuses(heard: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", heard)


@pytest.mark.parametrize("begun", [b"", b"GET", HEAD, HEAD + b"X: y"])
def test_a_head_that_is_not_complete_in_time_ends_the_connection(port: int, begun: bytes) -> None:
    assert said(port, begun) == b""


def test_the_same_holds_after_an_answer(port: int) -> None:
    assert statuses(said(port, HEAD + b"\r\n" + HEAD)) == [b"200"]


def test_a_call_may_last_longer_than_its_head(port: int) -> None:
    assert statuses(said(port, HEAD.replace(b"short", b"long") + b"\r\n")) == [b"200"]


def test_calls_that_are_sent_one_behind_the_other_are_all_answered(port: int) -> None:
    long = HEAD.replace(b"short", b"long") + b"\r\n"
    assert statuses(said(port, long + HEAD + b"\r\n" + long)) == [b"200"] * 3


def test_a_body_that_nobody_reads_does_not_keep_the_connection(port: int) -> None:
    head = HEAD.replace(b"GET", b"POST") + b"Content-Length: 1000000\r\n\r\n"
    assert statuses(said(port, head + b"x" * 1000)) == [b"200"]


@pytest.mark.skipif(len(PROTOCOLS) == 1, reason="httptools is not installed")
@pytest.mark.parametrize("port", [bounded_protocol().__name__], indirect=True)
def test_a_whole_head_that_is_too_large_is_400_with_an_outcome(port: int) -> None:
    """h11 looks at the size of what is not complete, and may read a little more."""
    heard = said(port, HEAD + b"X: " + b"y" * LARGEST_HEAD_BYTES + b"\r\n\r\n")
    assert statuses(heard) == [b"400"]
    check_operation_outcome(json.loads(heard.partition(b"\r\n\r\n")[2]))


def test_a_head_without_end_is_not_kept(port: int) -> None:
    heard = said(port, HEAD + b"X: ", *[b"y" * 16_384] * 200)
    assert statuses(heard) in ([b"400"], []), "closed; the answer may be lost with what was sent"


def test_a_large_head_that_fits_is_read(port: int) -> None:
    head = HEAD + b"X: " + b"y" * (LARGEST_HEAD_BYTES - 200)
    assert statuses(said(port, head + b"\r\n\r\n")) == [b"200"]


def test_what_is_not_http_is_400_with_an_outcome(port: int) -> None:
    heard = said(port, b"\x16\x03\x01 not HTTP\r\n\r\n")
    assert statuses(heard) == [b"400"]
    check_operation_outcome(json.loads(heard.partition(b"\r\n\r\n")[2]))
