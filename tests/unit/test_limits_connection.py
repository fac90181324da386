"""Connections, with both of uvicorn's parsers, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from cds_service.limits.connection import (
    HEAD_SECONDS,
    LARGEST_HEAD_BYTES,
    MOST_CONNECTIONS,
    MOST_IN_ADVANCE,
    BoundedH11,
    bounded_protocol,
)
from tests.wire import check_operation_outcome

LARGE = 30_000_000
PROTOCOLS = {protocol.__name__: protocol for protocol in (BoundedH11, bounded_protocol())}
HEAD = b"GET /short HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /short HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
SECONDS = 0.3
MOST = 8
HTTPTOOLS_ONLY = pytest.mark.skipif(len(PROTOCOLS) == 1, reason="httptools is not installed")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, float]]:
    yield {HEAD_SECONDS: SECONDS, MOST_CONNECTIONS: MOST}


def application() -> FastAPI:
    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.api_route("/short", methods=["GET", "POST"])
    async def short() -> str:
        return "done"

    @app.api_route("/sent", methods=["POST"])
    async def sent(request: Request) -> str:
        body = await request.body()
        return f"{len(body)} {sorted(name for name in request.headers if name.startswith('x-'))}"

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(LARGE))

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


@HTTPTOOLS_ONLY
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


# Without end ---------------------------------------------------------------------------------


def test_trailers_are_no_headers(port: int) -> None:
    """What a proxy in front removes or sets must not come in by the back door."""
    head = POST.replace(b"short", b"sent") + b"X-A: 1\r\nConnection: close\r\n" + CHUNKED
    assert b"\"2 ['x-a']\"" in said(port, head + b"2\r\n{}\r\n0\r\nX-B: 2\r\n\r\n")


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n" + b"X: y\r\n" * 100, b"0\r\nX: ", b"2;x=", b"\r\n"],
    ids=["trailers", "a trailer", "a chunk's extension", "empty lines"],
)
def test_what_is_neither_head_nor_body_ends_as_well(port: int, endless: bytes) -> None:
    """Trailers without end, and without a JWT, had taken two gigabytes in six seconds."""
    head = POST.replace(b"short", b"sent") + CHUNKED + b"2\r\n{}\r\n"
    unread = [b"" if endless == b"\r\n" else head, endless]
    more = endless if endless.endswith(b"\n") else b"y" * 16_384
    assert sent_until_it_ended(port, *unread, more=more) < 8_000_000


def sent_until_it_ended(port: int, *begun: bytes, more: bytes) -> int:
    """How many bytes could be sent; the answers are not read."""
    count = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            for part in begun:
                connection.sendall(part)
            while count < 100_000_000:
                connection.sendall(more * 64)
                count += len(more) * 64
        except ConnectionError:
            pass
    return count


@HTTPTOOLS_ONLY
@pytest.mark.parametrize("port", [bounded_protocol().__name__], indirect=True)
def test_requests_in_advance_are_answered_up_to_a_bound(port: int) -> None:
    """h11 takes none in advance: it leaves them where they are."""
    request = HEAD + b"\r\n"
    allowed = said(port, request * (MOST_IN_ADVANCE + 1))
    assert statuses(allowed) == [b"200"] * (MOST_IN_ADVANCE + 1)
    refused = said(port, request * (MOST_IN_ADVANCE + 20))
    assert statuses(refused)[-1:] in ([b"400"], []), "closed; answers may be lost"


def test_a_client_that_does_not_read_its_answer_is_cut_off(port: int) -> None:
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(30)
        slow.connect(("127.0.0.1", port))
        slow.sendall(HEAD.replace(b"short", b"large") + b"\r\n")
        time.sleep(8 * SECONDS + 1)  # after its answer a connection is kept for a second
        heard = 0
        try:
            while part := slow.recv(1_000_000):
                heard += len(part)
        except ConnectionError:
            pass
    assert heard < LARGE


# How many ------------------------------------------------------------------------------------


def test_of_too_many_connections_the_one_that_is_idle_the_longest_gives_way(port: int) -> None:
    with ExitStack() as stack:
        idle = [opened(stack, port) for _ in range(MOST)]
        newest = opened(stack, port)
        assert idle[0].recv(1) == b"", "it was the first"
        newest.sendall(HEAD + b"Connection: close\r\n\r\n")
        assert statuses(newest.recv(65_536)) == [b"200"]
        idle[1].sendall(HEAD + b"Connection: close\r\n\r\n")
        assert statuses(idle[1].recv(65_536)) == [b"200"]


def test_where_every_connection_is_at_work_a_new_one_is_503_with_retry_after(port: int) -> None:
    with ExitStack() as stack:
        busy = [opened(stack, port) for _ in range(MOST)]
        for connection in busy:
            connection.sendall(HEAD.replace(b"short", b"long") + b"Connection: close\r\n\r\n")
        time.sleep(SECONDS)
        heard = said(port)
        assert statuses(heard) == [b"503"]
        assert b"\r\nretry-after: 1\r\n" in heard.lower()
        check_operation_outcome(json.loads(heard.partition(b"\r\n\r\n")[2]))
        assert [statuses(connection.recv(65_536)) for connection in busy] == [[b"200"]] * MOST


def opened(stack: ExitStack, port: int) -> socket.socket:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
    time.sleep(0.01)
    return connection


def test_calls_on_one_connection_do_not_each_set_a_timer() -> None:
    for protocol in PROTOCOLS.values():
        assert asyncio.run(timers_of(protocol, calls=50)) == 1


async def timers_of(protocol: type[asyncio.Protocol], *, calls: int) -> int:
    """How many of our own were set; uvicorn's has another name."""
    loop = CountingLoop()
    config = uvicorn.Config(answer_at_once, http=protocol, ws="none", log_config=None)
    config.load()
    connection: Any = protocol(  # type: ignore[call-arg]
        config=config, server_state=ServerState(), app_state={HEAD_SECONDS: 60.0}, _loop=loop
    )
    connection.connection_made(Unconnected())
    for _ in range(calls):
        connection.data_received(HEAD + b"\r\n")
        while not connection.cycle.response_complete:
            await asyncio.sleep(0)
    assert connection.server_state.total_requests == calls
    connection.connection_lost(None)
    return loop.timers


async def answer_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body"})


class CountingLoop:
    """The loop that runs, and how often it was asked to call at a certain time."""

    def __init__(self) -> None:
        self.timers = 0

    def call_at(self, *when_and_what: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return asyncio.get_running_loop().call_at(*when_and_what)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio.get_running_loop(), name)


class Unconnected(asyncio.Transport):
    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass
