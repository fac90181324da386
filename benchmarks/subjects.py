"""The subjects: processes of their own, pinned to one core, started, watched and stopped."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import on_core, running_python

ROOT = Path(__file__).parents[1]
START_SECONDS = 60.0
POLL_SECONDS = 0.005


class SubjectFailed(RuntimeError):
    """A subject did not start, or answered what it should not; the message holds its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of one process, in MB: resident now, and at its highest."""

    resident: float
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A running server; `ready_seconds` from the start of its process to `/readyz` saying 200."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    ready_seconds: float
    log: Path

    def memory(self) -> Memory:
        """From /proc; raises OSError where there is none."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = {
            line.split(":")[0]: line.split()[1] for line in status.splitlines() if " kB" in line
        }
        return Memory(resident=int(kilobytes["VmRSS"]) / 1000, peak=int(kilobytes["VmHWM"]) / 1000)

    def cpu_seconds(self) -> float:
        """Time on the processor so far, of all its threads, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def outcomes(self) -> dict[str, int]:
        """How many calls ended how, by the service's own count."""
        found = {}
        for line in get(self.port, "/metrics")[1].decode().splitlines():
            if line.startswith("cds_assessments_total{"):
                labels, count = line.rsplit(" ", 1)
                found[labels.split('outcome="')[1].split('"')[0]] = int(float(count))
        return found


@contextmanager
def floor(folder: Path, core: int | None) -> Iterator[Subject]:
    """The floor, running."""
    port = _free_port()
    arguments = [running_python(), "-m", "benchmarks.floor", "--port", str(port)]
    with _running("floor", arguments, {}, port=port, folder=folder, core=core) as subject:
        yield subject


@contextmanager
def service(folder: Path, core: int | None) -> Iterator[Subject]:
    """The service as its users run it: demo profile, one worker, an SQLite store in `folder`."""
    port = _free_port()
    arguments = [
        str(Path(running_python()).with_name("cds-service")),
        *("serve", "--port", str(port), "--workers", "1"),
    ]
    settings = {"CDS_PROFILE": "demo", "CDS_DATABASE_URL": f"sqlite:///{folder / 'cds.db'}"}
    with _running("service", arguments, settings, port=port, folder=folder, core=core) as subject:
        yield subject


@contextmanager
def _running(
    name: str,
    arguments: list[str],
    settings: dict[str, str],
    *,
    port: int,
    folder: Path,
    core: int | None,
) -> Iterator[Subject]:
    inherited = {n: value for n, value in os.environ.items() if not n.startswith("CDS_")}
    log = folder / f"{name}.log"
    with log.open("wb") as output, on_core(core):
        started = time.perf_counter()
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=inherited | settings, stdout=output, stderr=output
        )
    try:
        _wait_until_ready(process, port, log)
        seconds = time.perf_counter() - started
        yield Subject(name=name, port=port, process=process, ready_seconds=seconds, log=log)
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if get(port, "/readyz")[0] == 200:
                return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise SubjectFailed(f"did not become ready:\n{log.read_text()[-2000:]}")


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body; raises OSError where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
