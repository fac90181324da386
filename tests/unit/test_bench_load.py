"""The load generator: what it sends, what it takes for an answer, and what it counts."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from benchmarks.connection import content_length, post
from benchmarks.lineup import in_turn
from benchmarks.load import drive
from benchmarks.offer import moments, offer
from benchmarks.rate import step_of
from benchmarks.rounds import LEAST_CALLS, MOST_CALLS, calls_of
from benchmarks.subjects import Subject, SubjectFailed

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


class Answering(asyncio.Protocol):
    """Answers each request with the next of `answers`, in two pieces; None hangs up."""

    def __init__(self, answers: Iterator[bytes | None], seen: list[bytes]) -> None:
        self._answers, self._seen, self._request = answers, seen, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._request += data
        if self._request.endswith(b"}"):
            self._seen.append(self._request)
            self._request = b""
            answer = next(self._answers)
            if answer is None:
                self._transport.close()
                return
            self._transport.write(answer[:30])
            asyncio.get_running_loop().call_soon(self._transport.write, answer[30:])


@contextmanager
def answering(*answers: bytes | None, log: Path) -> Iterator[tuple[Subject, list[bytes]]]:
    """A subject that gives these answers, and the requests that came."""
    seen: list[bytes] = []
    given = iter(answers)
    loop = asyncio.new_event_loop()
    making = loop.create_server(lambda: Answering(given, seen), "127.0.0.1", 0)
    server = loop.run_until_complete(making)
    thread = Thread(target=loop.run_forever)
    thread.start()
    process = subprocess.Popen(["sleep", "60"])
    log.touch()
    try:
        port = server.sockets[0].getsockname()[1]
        yield Subject(name="s", port=port, process=process, ready_seconds=0.0, log=log), seen
    finally:
        process.kill()
        process.wait()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_a_request_is_http_with_its_length_and_its_token() -> None:
    request = post("/x", b'{"a":1}', "Bearer t")
    lines = request.head.decode().split("\r\n")
    assert lines[0] == "POST /x HTTP/1.1"
    assert {"Authorization: Bearer t", "Content-Length: 7"} <= set(lines)
    assert b"Authorization" not in post("/x", b"{}").head


def test_an_answer_without_a_length_is_refused() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12") == 12
    with pytest.raises(ValueError, match="without a length"):
        content_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked")


@pytest.mark.parametrize("connections", [1, 2, 9])
def test_every_body_is_sent_once_and_timed(tmp_path: Path, connections: int) -> None:
    bodies = [f'{{"n":{number}}}'.encode() for number in range(5)]
    with answering(*[OK] * 5, log=tmp_path / "log") as (subject, seen):
        taken = drive(subject, bodies, connections=connections)
    assert len(taken.latencies) == 5
    assert sorted(request.rpartition(b"\r\n\r\n")[2] for request in seen) == bodies


@pytest.mark.parametrize(("answer", "how"), [(BUSY, "answered 503"), (None, "hung up")])
def test_a_subject_that_does_not_answer_properly_ends_the_run(
    tmp_path: Path, answer: bytes | None, how: str
) -> None:
    (tmp_path / "log").write_text("why it failed")
    with (
        answering(OK, answer, OK, log=tmp_path / "log") as (subject, _),
        pytest.raises(SubjectFailed, match=f"(?s){how}.*why it failed"),
    ):
        drive(subject, [b"{}"] * 3, connections=1)


def test_offered_calls_are_counted_whatever_is_answered(tmp_path: Path) -> None:
    with answering(OK, BUSY, OK, log=tmp_path / "log") as (subject, _):
        found = offer(subject, [b"{}"] * 3, [0.0, 0.0, 0.001], connections=1)
    assert (found.due, found.refused, found.unanswered) == (3, 1, 0)
    assert found.statuses == {200: 2, 503: 1}


def test_what_an_offered_call_takes_counts_from_when_it_was_due(tmp_path: Path) -> None:
    with answering(*[OK] * 3, log=tmp_path / "log") as (subject, _):
        found = offer(subject, [b"{}"] * 3, [0.0, 0.0, 0.0], connections=1)
    # One connection, all due at once: each waits for those before it.
    assert found.latencies == sorted(found.latencies)
    assert len(found.late) == 1  # what waits for a connection is not the generator's fault


def test_a_connection_that_is_lost_leaves_its_call_unanswered(tmp_path: Path) -> None:
    with answering(None, log=tmp_path / "log") as (subject, _):
        found = offer(subject, [b"{}"], [0.0], connections=1)
    assert (found.due, found.unanswered, found.refused) == (1, 1, 0)


def test_moments_are_as_many_as_the_rate_and_the_same_for_the_same_chance() -> None:
    due = moments(200, 5, random.Random(1))  # noqa: S311 (not a secret)
    assert len(due) == 1000
    assert due == sorted(due)
    assert due == moments(200, 5, random.Random(1))  # noqa: S311
    assert 4 < due[-1] < 6


def test_a_rate_is_held_when_nothing_is_refused_and_p99_is_short(tmp_path: Path) -> None:
    with answering(OK, BUSY, log=tmp_path / "log") as (subject, _):
        good = offer(subject, [b"{}"], [0.0], connections=1)
        bad = offer(subject, [b"{}"], [0.0], connections=1)
    held = step_of(100, good, service_cpu=0.1, generator_cpu=0.1)
    refused = step_of(100, bad, service_cpu=0.1, generator_cpu=0.1)
    assert refused.refused == 1
    assert not refused.held
    good.latencies[:] = [0.099]
    assert step_of(100, good, service_cpu=0.1, generator_cpu=0.1).held
    good.latencies[:] = [0.100]
    assert not step_of(100, good, service_cpu=0.1, generator_cpu=0.1).held
    assert held.unanswered == 0


def test_everybody_goes_first_and_last_in_turn() -> None:
    names: list[Any] = ["a", "b", "c", "d"]
    orders = [in_turn(names, turn) for turn in range(8)]
    assert all(set(order) == set(names) and len(order) == 4 for order in orders)
    assert {order[0] for order in orders} == {order[-1] for order in orders} == set(names)


def test_a_slice_is_about_as_long_for_a_slow_subject_as_for_a_fast_one() -> None:
    assert calls_of(1.0, 400.0, 20) == 400
    assert calls_of(1.0, 50.0, 20) == 50
    assert calls_of(1.0, 1e6, 20) == MOST_CALLS
    assert calls_of(1.0, 0.5, 1000) == calls_of(1.0, 1e6, 5000) == LEAST_CALLS
