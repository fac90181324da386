"""Real processes under too much: calls at once, slow clients, a stop, a stuck store, and one JWT
that reaches two machines in the same moment."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_service_process import authorization, chart, eventually
from tests.fakes.databases import POSTGRESQL_MISSING, postgresql_binaries, postgresql_cluster
from tests.fakes.ehr import FakeEhr
from tests.fakes.tokens import a_clients_file, a_key, a_token, jwks
from tests.process import ServiceProcess
from tests.wire import check_operation_outcome

HOOK = "/cds-services/diabetes-risk"
PUBLIC_URL = "https://cds.example.org"


def body(**change: Any) -> dict[str, Any]:
    return {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/1", "patientId": "p1"},
        "prefetch": chart(),
        **change,
    }


def post(service: ServiceProcess, **change: Any) -> httpx.Response:
    return httpx.post(service.url + HOOK, json=body(**change), timeout=60)


def stored(service: ServiceProcess) -> int:
    found = httpx.get(f"{service.url}/fhir/RiskAssessment", params={"patient": "p1"}, timeout=60)
    total: int = found.json()["total"]
    return total


@contextmanager
def calls_in_flight(
    service: ServiceProcess, ehr: FakeEhr, count: int
) -> Iterator[list[Future[httpx.Response]]]:
    """`count` calls that wait for an EHR that does not answer, until the deadline of each."""
    ehr.faults = deque(["stall"] * count)
    prefetch = {key: value for key, value in chart().items() if key != "medications"}
    waiting = {
        "prefetch": prefetch,
        "fhirServer": ehr.base,
        "fhirAuthorization": authorization(),
    }
    with ThreadPoolExecutor(count) as threads:
        calls = [threads.submit(post, service, **waiting) for _ in range(count)]
        assert eventually(lambda: len(ehr.fhir_requests) == count)
        yield calls


def checked(answer: httpx.Response, status: int) -> httpx.Response:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/fhir+json"
    check_operation_outcome(answer.json())
    return answer


def test_what_does_not_fit_in_is_503_monitors_answer_and_calls_in_flight_finish(
    tmp_path: Path,
) -> None:
    limits = {"CDS_MAX_CONCURRENT_CALLS": "2", "CDS_MAX_WAITING_CALLS": "0"}
    limits["CDS_DEADLINE_MS"] = "8000"
    with FakeEhr() as ehr, ServiceProcess(tmp_path, **limits) as service:
        with calls_in_flight(service, ehr, 2) as calls:
            refused = checked(post(service), 503)
            assert refused.headers["retry-after"] == "1"
            for monitor in ("/healthz", "/readyz", "/metrics"):
                assert httpx.get(service.url + monitor, timeout=30).status_code == 200
            assert not any(call.done() for call in calls), "all of that was while they lasted"
            assert [call.result().status_code for call in calls] == [200, 200]
        assert post(service).status_code == 200


def test_a_stop_answers_the_calls_in_flight_and_takes_no_new_ones(tmp_path: Path) -> None:
    with FakeEhr() as ehr, ServiceProcess(tmp_path, CDS_DEADLINE_MS="6000") as service:
        with calls_in_flight(service, ehr, 3) as calls:
            service.signal(signal.SIGTERM)
            assert eventually(lambda: not listens(service))
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{service.url}/healthz")
            assert not any(call.done() for call in calls), "all of that was while they lasted"
            assert [call.result().status_code for call in calls] == [200] * 3
        assert eventually(lambda: not service.running)
    with ServiceProcess(tmp_path) as service:
        assert stored(service) == 1, "three calls about the same facts"


def test_a_worker_that_takes_long_to_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine each was killed after five seconds, and begun anew, for ever."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif 'spawn_main' in ' '.join(sys.orig_argv): time.sleep(7)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ServiceProcess(tmp_path, CDS_WORKERS="2") as service:
        assert post(service).status_code == 200
        assert "died" not in service.log


def listens(service: ServiceProcess) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", service.port), timeout=5):
            return True
    except ConnectionRefusedError:
        return False


# Slow clients --------------------------------------------------------------------------------


def raw(service: ServiceProcess, sent: bytes) -> bytes:
    """Everything that the service says to `sent` until it closes the connection."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(sent)
        said = b""
        while part := connection.recv(65_536):
            said += part
        return said


def test_slow_and_endless_clients_are_let_go_and_hold_up_nobody(tmp_path: Path) -> None:
    limits = {"CDS_READ_TIMEOUT_MS": "1500", "CDS_MAX_CONCURRENT_CALLS": "1"}
    post_head = f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    with ServiceProcess(tmp_path, **limits) as service, ThreadPoolExecutor(20) as threads:
        silent = [threads.submit(raw, service, b"") for _ in range(3)]
        slow_heads = [threads.submit(raw, service, post_head) for _ in range(3)]
        slow_body = post_head + b'Content-Length: 100\r\n\r\n{"hook":'
        slow_bodies = [threads.submit(raw, service, slow_body) for _ in range(3)]
        slow_chunks = post_head + b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"hook":\r\n'
        slow_bodies += [threads.submit(raw, service, slow_chunks) for _ in range(3)]
        assert post(service).status_code == 200, "the one turn is free for who has a whole body"
        assert [call.result() for call in silent + slow_heads] == [b""] * 6
        for call in slow_bodies:
            said = call.result()
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in said.lower()
            check_operation_outcome(json.loads(said.partition(b"\r\n\r\n")[2]))


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 400_000,
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100_000,
        b"GET /" + b"a" * 400_000,
        b"not HTTP at all\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n{}",
    ],
    ids=[
        "a header without end",
        "a header too long",
        "headers without end",
        "a path without end",
        "not HTTP",
        "a negative length",
        "two lengths",
        "a length and chunks",
    ],
)
def test_a_head_that_no_one_needs_is_400_and_the_connection_ends(
    one_service: ServiceProcess, sent: bytes
) -> None:
    try:
        said = raw(one_service, sent)
    except ConnectionError:  # closed while there was more to send: the answer may be lost with it
        said = b""
    assert said == b"" or said.startswith(b"HTTP/1.1 400 "), said
    if said:
        check_operation_outcome(json.loads(said.partition(b"\r\n\r\n")[2]))
    assert httpx.get(f"{one_service.url}/healthz").status_code == 200


@pytest.fixture(scope="module")
def one_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path_factory.mktemp("heads")) as service:
        yield service


# A stuck store -------------------------------------------------------------------------------


def test_a_call_that_times_out_while_it_is_stored_is_503_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    limits = {"CDS_CALL_TIMEOUT_MS": "1500", "CDS_READ_TIMEOUT_MS": "1000"}
    with ServiceProcess(tmp_path, **limits) as service:
        assert post(service).status_code == 200
        before = stored(service)
        other = body(context={"userId": "Practitioner/1", "patientId": "p2"})
        other["prefetch"]["patient"]["id"] = "p2"
        for entry in (
            e
            for key in ("observations", "conditions", "medications")
            for e in other["prefetch"][key]["entry"]
        ):
            entry["resource"]["subject"] = {"reference": "Patient/p2"}
        lock = sqlite3.connect(tmp_path / "cds.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        late = checked(httpx.post(service.url + HOOK, json=other, timeout=60), 503)
        assert late.json()["issue"][0]["code"] == "timeout"
        assert late.headers["retry-after"] == "5"
        lock.execute("ROLLBACK")
        lock.close()
        assert post(service).status_code == 200, "behind the writer that was given up"
        about = httpx.get(f"{service.url}/fhir/RiskAssessment", params={"patient": "p2"})
        assert about.json()["total"] == 0
        assert stored(service) == before
        again = httpx.post(service.url + HOOK, json=other, timeout=60)
        assert again.status_code == 200, "a repeat is safe"


# One JWT, two machines -----------------------------------------------------------------------

POSTGRESQL = pytest.param(
    "postgresql",
    marks=[
        pytest.mark.skipif(postgresql_binaries() is None, reason=POSTGRESQL_MISSING),
        pytest.mark.xdist_group("postgresql"),
    ],
)


@pytest.fixture(params=["sqlite", POSTGRESQL])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shared.db"
        return
    with postgresql_cluster() as url:
        yield url


def bearer() -> dict[str, str]:
    now = int(time.time())
    times: dict[str, Any] = {"iat": now, "exp": now + 300, "jti": str(uuid.uuid4())}
    return {"Authorization": f"Bearer {a_token(aud=f'{PUBLIC_URL}/cds-services', **times)}"}


def test_a_jwt_that_reaches_two_processes_at_once_is_taken_by_one(
    tmp_path: Path, database: str
) -> None:
    settings = {
        "CDS_PROFILE": "production",
        "CDS_PUBLIC_URL": PUBLIC_URL,
        "CDS_DATABASE_URL": database,
        "CDS_CLIENTS_FILE": str(a_clients_file(tmp_path, keys=jwks(a_key("ES384")))),
    }
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with (
        ServiceProcess(folders[0], **settings) as one,
        ServiceProcess(folders[1], **settings) as two,
        ThreadPoolExecutor(4) as threads,
        httpx.Client(timeout=60) as http,
    ):

        def discover(service: ServiceProcess, headers: dict[str, str]) -> int:
            return http.get(f"{service.url}/cds-services", headers=headers).status_code

        for _ in range(25):
            headers = bearer()
            sent = [threads.submit(discover, service, headers) for service in (one, two) * 2]
            assert sorted(call.result() for call in sent) == [200, 401, 401, 401]
        log = one.log + two.log
        assert "jti was used before" in log
        assert headers["Authorization"].partition(" ")[2] not in log
        one.kill()
        assert discover(two, headers) == 401, "what another machine took stays taken"


# Long records --------------------------------------------------------------------------------


def memory(service: ServiceProcess, which: str) -> int:
    """Megabytes: VmRSS is what the process has now, VmHWM the most that it has had."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{which}:"))
    return int(line.split()[1]) // 1000


def long_body() -> bytes:
    """8 MB: the record of somebody with 75,000 short Conditions."""
    subject = {"reference": "Patient/p1"}
    condition = {"resourceType": "Condition", "code": {"text": "a"}, "subject": subject}
    conditions = {"resourceType": "Bundle", "entry": [{"resource": condition}] * 75_000}
    return json.dumps(body(prefetch={**chart(), "conditions": conditions})).encode()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by /proc")
def test_many_long_records_at_once_take_little_more_memory_than_one(tmp_path: Path) -> None:
    sent, at_once = long_body(), 6

    def call(_: int) -> int:
        return httpx.post(
            service.url + HOOK,
            content=sent,
            headers={"Content-Type": "application/json"},
            timeout=120,
        ).status_code

    limits = {"CDS_CALL_TIMEOUT_MS": "100000", "CDS_READ_TIMEOUT_MS": "60000"}
    with ServiceProcess(tmp_path, **limits) as service:
        before = memory(service, "VmRSS")
        assert call(0) == 200
        one = memory(service, "VmHWM") - before
        with ThreadPoolExecutor(at_once) as threads:
            assert list(threads.map(call, range(at_once))) == [200] * at_once
        many = memory(service, "VmHWM") - before
        # The bodies themselves are all here, perhaps twice for a moment; what is read is one's and
        # the next one's.
        assert many < 2.5 * one + 2 * at_once * len(sent) / 1e6
