"""Calls at once, the time for each, and for its body; and that what a 503 says is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from cds_service.app import application
from cds_service.assess import assess
from cds_service.errors import CallTimedOut
from cds_service.limits.call_time import CallTime, on_the_clock, seal_call
from cds_service.limits.calls import LARGEST_BODIES, MONITORS, Calls
from cds_service.parts import Parts
from cds_service.routes import services
from cds_service.settings import Settings
from tests.fakes.records import an_assessment, an_audit_entry
from tests.service import HOOK_URL, Service, patient_view
from tests.wire import check_operation_outcome

ORIGIN = "https://ehr.example.org"


class Desk:
    """An application whose calls last until they are released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.at_work = 0
        self.most_at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            while (await receive()).get("more_body"):
                pass
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            if scope["path"] not in MONITORS:
                await self.released.wait()
        finally:
            self.at_work -= 1
        await PlainTextResponse("done")(scope, receive, send)


@asynccontextmanager
async def open_desk(**settings: Any) -> AsyncIterator[tuple[Desk, httpx.AsyncClient]]:
    desk = Desk()
    app = Calls(desk, settings=Settings(**settings))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
        yield desk, client


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0)


def worked_through(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(bounded())


# Calls at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_no_longer_fits_in_is_503_at_once_and_the_others_are_answered(method: str) -> None:
    async def work() -> None:
        async with open_desk(max_concurrent_calls=2, max_waiting_calls=3) as (desk, client):
            inside = [asyncio.create_task(client.request(method, "/x")) for _ in range(5)]
            await until(lambda: desk.at_work == 2)
            refused = await client.request(method, "/x")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            check_operation_outcome(refused.json())
            for monitor in MONITORS:
                assert (await client.get(monitor)).status_code == 200
            desk.released.set()
            assert [(await call).status_code for call in inside] == [200] * 5
            assert desk.most_at_work <= 2 + 1  # a monitor comes in beside
            assert (await client.request(method, "/x")).status_code == 200

    worked_through(work)


def test_without_a_waiting_room_only_those_at_work_are_in(parts: Parts) -> None:
    async def work() -> None:
        async with open_desk(max_concurrent_calls=1, max_waiting_calls=0) as (desk, client):
            inside = asyncio.create_task(client.get("/x"))
            await until(lambda: desk.at_work == 1)
            assert (await client.get("/x")).status_code == 503
            desk.released.set()
            assert (await inside).status_code == 200

    worked_through(work)


def test_a_slow_body_waits_outside_and_holds_up_nobody() -> None:
    async def work() -> None:
        async with open_desk(max_concurrent_calls=1, max_waiting_calls=3) as (desk, client):
            desk.released.set()
            ends = asyncio.Event()

            async def slowly() -> AsyncIterator[bytes]:
                yield b"{"
                await ends.wait()
                yield b"}"

            slow = [asyncio.create_task(client.post("/x", content=slowly())) for _ in range(3)]
            await asyncio.sleep(0)
            assert (await client.post("/x", content=b"{}")).status_code == 200
            ends.set()
            assert [(await call).status_code for call in slow] == [200] * 3

    worked_through(work)


def test_bodies_for_which_there_is_no_room_are_503_until_others_have_left(parts: Parts) -> None:
    """Twelve bodies of 19 MB at once took 1.2 GB; 160 would have been let in."""
    app = application(replace(parts, settings=replace(parts.settings, max_body_bytes=1000)))
    headers = {"Content-Type": "application/json"}

    async def work() -> None:
        ends, arrived = asyncio.Event(), 0

        async def large() -> AsyncIterator[bytes]:
            nonlocal arrived
            yield b'{"x":"' + b"y" * 900
            arrived += 1
            await ends.wait()
            yield b'"}'

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:

            def post(content: Any) -> asyncio.Task[httpx.Response]:
                return asyncio.create_task(client.post(HOOK_URL, content=content, headers=headers))

            held = [post(large()) for _ in range(LARGEST_BODIES)]
            await until(lambda: arrived == LARGEST_BODIES)
            refused = await post(b"{" + b" " * 900 + b"}")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            check_operation_outcome(refused.json())
            assert (await post(b"{}")).status_code == 400, "a small one finds room"
            ends.set()
            assert [(await call).status_code for call in held] == [400] * LARGEST_BODIES
            for _ in range(2 * LARGEST_BODIES):
                assert (await post(b"{" + b" " * 900 + b"}")).status_code == 400

    worked_through(work)


def test_a_call_that_fails_or_is_left_gives_its_place_back() -> None:
    async def work() -> None:
        async with open_desk(max_concurrent_calls=1, max_waiting_calls=0) as (desk, client):
            left = asyncio.create_task(client.get("/x"))
            await until(lambda: desk.at_work == 1)
            left.cancel()
            await asyncio.wait([left])
            desk.released.set()
            assert (await client.get("/x")).status_code == 200

    worked_through(work)


# Time ----------------------------------------------------------------------------------------


def test_a_call_that_takes_too_long_is_503_and_its_place_is_free() -> None:
    async def work() -> None:
        limits = {"call_timeout_ms": 50, "max_concurrent_calls": 1, "max_waiting_calls": 0}
        async with open_desk(**limits) as (desk, client):
            answer = await client.get("/x")
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert answer.json()["issue"][0]["code"] == "timeout"
            assert desk.at_work == 0
            desk.released.set()
            assert (await client.get("/x")).status_code == 200

    worked_through(work)


def test_a_wait_in_the_waiting_room_is_part_of_the_calls_time() -> None:
    async def work() -> None:
        async with open_desk(call_timeout_ms=50, max_concurrent_calls=1) as (desk, client):
            calls = await asyncio.gather(*(client.get("/x") for _ in range(3)))
            assert [call.status_code for call in calls] == [503] * 3
            assert desk.most_at_work == 1

    worked_through(work)


def test_a_body_that_does_not_arrive_is_408(parts: Parts) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"hook":'
        await asyncio.Event().wait()

    settings = replace(parts.settings, read_timeout_ms=100)
    service = Service.of(replace(parts, settings=settings))
    headers = {"Content-Type": "application/json", "Origin": ORIGIN}
    answer = service.request("POST", HOOK_URL, content=endless(), headers=headers)
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert service.stored() == 0


def test_a_timeout_of_the_applications_own_is_not_taken_for_the_limit() -> None:
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise TimeoutError("of its own")

    async def work() -> None:
        transport = httpx.ASGITransport(Calls(broken, settings=Settings()))
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
            with pytest.raises(TimeoutError, match="of its own"):
                await client.get("/x")

    worked_through(work)


def test_an_answer_that_nobody_reads_gives_its_place_back() -> None:
    """A client that sends a call and takes nothing of its answer."""

    async def answers_at_length(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("x" * 1_000)(scope, receive, send)

    async def unread(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def nothing() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def work() -> None:
        calls = Calls(answers_at_length, settings=Settings(call_timeout_ms=50))
        scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
        with pytest.raises(ClientDisconnect):
            await calls(scope, nothing, unread)

    worked_through(work)


# What is unpacked: nothing -------------------------------------------------------------------


@pytest.mark.parametrize(
    "coding",
    ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "identity, gzip"],
)
def test_a_compressed_body_is_415_and_not_one_byte_of_it_is_read(
    app_client: Service, coding: str
) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("it must not be read")
        yield b""

    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = app_client.request("POST", HOOK_URL, content=never(), headers=headers)
    assert answer.status_code == 415
    assert app_client.stored() == 0


# What is stored ------------------------------------------------------------------------------


def test_a_call_is_given_up_or_stored_and_never_both() -> None:
    given_up, stored = CallTime(), CallTime()
    assert given_up.give_up()
    with pytest.raises(CallTimedOut):
        given_up.seal()
    stored.seal()
    assert not stored.give_up()
    stored.seal()


def test_a_call_that_was_given_up_stores_nothing(app_client: Service) -> None:
    store = app_client.parts.store
    call = CallTime()
    call.give_up()
    with on_the_clock(call), pytest.raises(CallTimedOut):
        store.record(an_assessment(), [], an_audit_entry(), None)
    assert app_client.stored() == 0
    assert app_client.audited() == []
    seal_call()  # outside of a call there is no clock
    store.record(an_assessment(), [], an_audit_entry(), None)
    assert app_client.stored() == 1


def test_a_call_that_times_out_before_its_commit_stores_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(parts.settings, call_timeout_ms=300)
    service = Service.of(replace(parts, settings=settings))

    async def slow(*of_the_call: Any) -> Any:
        await asyncio.sleep(60)
        return await assess(*of_the_call)

    monkeypatch.setattr(services, "assess", slow)
    answer = service.call(patient_view(), headers={"Origin": ORIGIN})
    assert answer.status_code == 503
    assert answer.headers["access-control-allow-origin"] == "*"
    assert service.stored() == 0


def test_a_call_that_was_stored_is_answered_however_long_that_takes() -> None:
    async def stored(scope: Scope, receive: Receive, send: Send) -> None:
        seal_call()
        await asyncio.sleep(0.3)
        await PlainTextResponse("stored")(scope, receive, send)

    async def work() -> None:
        transport = httpx.ASGITransport(Calls(stored, settings=Settings(call_timeout_ms=50)))
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
            assert (await client.get("/x")).text == "stored"

    worked_through(work)


# CORS around it ------------------------------------------------------------------------------


def test_an_overload_is_told_to_a_browser_as_well(parts: Parts) -> None:
    settings = replace(
        parts.settings,
        max_concurrent_calls=1,
        max_waiting_calls=0,
        cors_origins=(ORIGIN,),
        call_timeout_ms=60_000,
        read_timeout_ms=30_000,
    )

    async def work() -> None:
        transport = httpx.ASGITransport(application(replace(parts, settings=settings)))
        async with httpx.AsyncClient(transport=transport, base_url="http://cds") as client:
            ends = asyncio.Event()

            async def slowly() -> AsyncIterator[bytes]:
                await ends.wait()
                yield orjson.dumps(patient_view())

            json = {"Content-Type": "application/json"}
            slow = asyncio.create_task(client.post(HOOK_URL, content=slowly(), headers=json))
            for _ in range(20):
                await asyncio.sleep(0)
            for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None)):
                refused = await client.get("/cds-services", headers={"Origin": origin})
                assert refused.status_code == 503
                assert refused.headers.get("access-control-allow-origin") == allowed
                assert refused.headers["vary"] == "Origin"
            asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
            assert (await client.options(HOOK_URL, headers=asked)).status_code == 204
            assert (await client.get("/healthz")).status_code == 200
            ends.set()
            assert (await slow).status_code == 200

    worked_through(work)
