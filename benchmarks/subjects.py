"""The subjects: processes of their own, pinned to one core, started, watched and stopped."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.connection import Request, post
from benchmarks.machine import on_core, running_python

ROOT = Path(__file__).parents[1]
PATH = "/cds-services/diabetes-risk"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.005
# Servers answer first, and then write down what went wrong.
LOG_SECONDS = 0.3


class SubjectFailed(RuntimeError):
    """A subject did not start, or answered what it should not; the message holds its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of one process, in MB: resident now, and at its highest."""

    resident: float
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A running server; `ready_seconds` from the start of its process to `/readyz` saying 200.

    `sign` makes the Authorization of each call, where there is one. `counts`: its `/metrics` say
    how many calls it scored; every subject does but the floor.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    ready_seconds: float
    log: Path
    path: str = PATH
    sign: Callable[[], str] | None = None
    counts: bool = True

    def failed(self, how: str) -> SubjectFailed:
        """What to raise, with the end of its log."""
        time.sleep(LOG_SECONDS)
        return SubjectFailed(f"{self.name} {how}\n{self.log.read_text()[-2000:]}".strip())

    def requests(self, bodies: Sequence[bytes]) -> list[Request]:
        """These calls as this subject wants them, made before any time is taken."""
        return [post(self.path, body, self.sign() if self.sign else None) for body in bodies]

    def memory(self) -> Memory:
        """From /proc, of its first process alone; raises OSError where there is no /proc."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = {
            line.split(":")[0]: line.split()[1] for line in status.splitlines() if " kB" in line
        }
        return Memory(resident=int(kilobytes["VmRSS"]) / 1000, peak=int(kilobytes["VmHWM"]) / 1000)

    def cpu_seconds(self) -> float:
        """Time on the processor so far, user and system, of all its threads and workers."""
        ticks = sum(_ticks(pid) for pid in _family(self.process.pid))
        return ticks / os.sysconf("SC_CLK_TCK")

    def figure(self, start: str) -> float | None:
        """The value of the first line of `/metrics` that begins with `start`."""
        for line in get(self.port, "/metrics")[1].decode().splitlines():
            if line.startswith(start):
                return float(line.rsplit(" ", 1)[1])
        return None

    def outcomes(self) -> dict[str, int]:
        """How many calls ended how, by the subject's own count."""
        found: dict[str, int] = {}
        for line in get(self.port, "/metrics")[1].decode().splitlines():
            if line.startswith("cds_assessments_total{"):
                labels, count = line.rsplit(" ", 1)
                found[labels.split('outcome="')[1].split('"')[0]] = int(float(count))
        return found

    def scored(self) -> int:
        """Calls that it scored so far."""
        return self.outcomes().get("scored", 0)


@contextmanager
def floor(folder: Path, core: int | None) -> Iterator[Subject]:
    """The floor, running."""
    port = free_port()
    arguments = [running_python(), "-m", "benchmarks.floor", "--port", str(port)]
    with running("floor", arguments, port=port, folder=folder, core=core, counts=False) as subject:
        yield subject


@contextmanager
def service(
    folder: Path,
    core: int | None,
    *,
    name: str = "service",
    workers: int = 1,
    settings: dict[str, str] | None = None,
    sign: Callable[[str], Callable[[], str]] | None = None,
) -> Iterator[Subject]:
    """The service as its users run it: demo profile, one worker, an SQLite store in `folder`.

    `sign` is given the URL that is called, and gives what makes the Authorization of each call.
    """
    port = free_port()
    arguments = [
        str(Path(running_python()).with_name("cds-service")),
        *("serve", "--port", str(port), "--workers", str(workers)),
    ]
    stated = {
        "CDS_PROFILE": "demo",
        "CDS_DATABASE_URL": f"sqlite:///{folder / f'{file_name(name)}.db'}",
    }
    signing = sign(f"http://127.0.0.1:{port}{PATH}") if sign else None
    with running(
        name,
        arguments,
        settings=stated | (settings or {}),
        port=port,
        folder=folder,
        core=core,
        sign=signing,
    ) as subject:
        yield subject


@contextmanager
def running(
    name: str,
    arguments: list[str],
    *,
    port: int,
    folder: Path,
    core: int | None,
    settings: dict[str, str] | None = None,
    path: str = PATH,
    sign: Callable[[], str] | None = None,
    counts: bool = True,
) -> Iterator[Subject]:
    """A server with its log in `folder`, from its start until it has stopped."""
    inherited = {n: value for n, value in os.environ.items() if not n.startswith("CDS_")}
    log = folder / f"{file_name(name)}.log"
    with log.open("wb") as output, on_core(core):
        started = time.perf_counter()
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=inherited | (settings or {}), stdout=output, stderr=output
        )
    try:
        _wait_until_ready(name, process, port, log)
        yield Subject(
            name=name,
            port=port,
            process=process,
            ready_seconds=time.perf_counter() - started,
            log=log,
            path=path,
            sign=sign,
            counts=counts,
        )
    finally:
        process.terminate()
        process.wait(timeout=STOP_SECONDS)


def _wait_until_ready(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if get(port, "/readyz")[0] == 200:
                return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise SubjectFailed(f"{name} did not become ready:\n{log.read_text()[-2000:]}")


def file_name(name: str) -> str:
    """A subject's name as files have it."""
    return name.lower().replace(",", "").replace(" ", "-")


def _family(pid: int) -> Iterator[int]:
    """The process and every process under it."""
    yield pid
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    for child in listed.read_text().split() if listed.exists() else ():
        yield from _family(int(child))


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body; raises OSError where nobody listens."""
    return _exchange(port, "GET", path, None, {})


def send(subject: Subject, body: bytes, authorization: str | None = None) -> tuple[int, bytes]:
    """One call outside of any measurement; its Authorization is the caller's affair."""
    headers = {"Content-Type": "application/json"}
    if authorization:
        headers["Authorization"] = authorization
    return _exchange(subject.port, "POST", subject.path, body, headers)


def _exchange(
    port: int, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
