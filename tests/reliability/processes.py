"""The product's processes: started, killed without goodbye, frozen, stopped as operators do."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.fakes.tokens import a_key, jwks
from tests.process import ROOT
from tests.reliability.calls import ISSUER

# Where a serving process dies while its supervisor asks whether it is well, the supervisor waits
# for the answer (`timeout_worker_healthcheck`, a minute) before it starts another.
START_SECONDS = 180
STOP_SECONDS = 60
PROGRAM = (sys.executable, "-m", "tests.reliability.program")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@dataclass(slots=True, kw_only=True)
class Process:
    """One program and what it started, in a process group of its own: killed together, as an init
    system or a container runtime does."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        inherited = {n: v for n, v in os.environ.items() if not n.startswith("CDS_")}
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [*PROGRAM, *self.arguments],
                cwd=ROOT,
                env=inherited | dict(self.environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """`kill -9`, the whole group."""
        if self.running is not None:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()

    def kill_a_child(self, chance: random.Random) -> bool:
        """`kill -9` of one serving process, which its parent replaces; False: there is none."""
        children = list(self._children())
        if not children:
            return False
        os.kill(chance.choice(children), signal.SIGKILL)
        return True

    def signal(self, number: int) -> None:
        assert self.running is not None
        os.killpg(self.running.pid, number)

    def stop(self) -> None:
        """SIGTERM, and wait for what is in flight; killed where that takes too long."""
        if self.running is None:
            return
        if self.running.poll() is None:
            self.running.terminate()
        try:
            self.running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _children(self) -> Iterator[int]:
        assert self.running is not None
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue  # it has ended meanwhile
            if parent == self.running.pid and b"spawn_main" in command:
                yield int(folder.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Which processes there are. `workers`: `outbox deliver` processes; 0: the service's own.
    Of the first of them `clock_jumps`, or it `freezes` for longer than a lease."""

    name: str
    serving: int = 1
    workers: int = 0
    clock_jumps: bool = False
    freezes: bool = False


ARRANGEMENTS = (
    Arrangement(name="serve"),
    Arrangement(name="serve --workers 2", serving=2),
    Arrangement(name="serve, one outbox deliver", workers=1),
    Arrangement(
        name="serve --workers 2, two outbox deliver, one freezes",
        serving=2,
        workers=2,
        freezes=True,
    ),
    Arrangement(name="serve, two outbox deliver, one clock jumps", workers=2, clock_jumps=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What an operator sets up in `folder`: settings, clients file, keys."""

    folder: Path
    port: int
    database_url: str
    lease: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set_up(self, fhir_base: str, token_url: str) -> None:
        """Calls are signed; the RiskAssessments are written back with the service's own tokens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "key.pem").write_bytes(a_key("ES384").as_pem(private=True))
        keys = jwks(a_key("ES384"))
        (self.folder / "keys.json").write_text(str(keys).replace("'", '"'))
        (self.folder / "clients.toml").write_text(
            f'[[client]]\nname = "Hospital"\nissuer = "{ISSUER}"\njwks_file = "keys.json"\n'
            f'fhir_servers = ["{fhir_base}"]\nwrite_back = "backend"\n'
            f'[client.backend]\ntoken_url = "{token_url}"\nclient_id = "cds"\n'
            'private_key_file = "key.pem"\n'
        )

    def processes(self, arrangement: Arrangement) -> list[Process]:
        """The service first."""
        delivery = "apart" if arrangement.workers else "in-process"
        settings = {
            # Servers on loopback speak http, which production does not: the only difference.
            "CDS_PROFILE": "demo",
            "CDS_PUBLIC_URL": self.url,
            "CDS_DATABASE_URL": self.database_url,
            "CDS_CLIENTS_FILE": str(self.folder / "clients.toml"),
            "CDS_DELIVERY": delivery,
            "CDS_WORKERS": str(arrangement.serving),
            "RELIABILITY_LEASE": str(self.lease),
        }
        service = Process(
            name="service",
            arguments=["serve", "--port", str(self.port)],
            environment=settings,
            log=self.folder / "service.log",
        )
        workers = [
            Process(
                name="worker",
                arguments=["outbox", "deliver"],
                environment=settings
                | (self._faketime() if arrangement.clock_jumps and n == 0 else {}),
                log=self.folder / f"worker-{n}.log",
            )
            for n in range(arrangement.workers)
        ]
        return [service, *workers]

    @property
    def clock(self) -> Path:
        """What the clock of a worker that has one of its own is off by, such as +2d."""
        return self.folder / "clock"

    def _faketime(self) -> dict[str, str]:
        """https://github.com/wolfcw/libfaketime; loops and time limits go by the other clock."""
        self.clock.write_text("+0\n")
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


@dataclass(slots=True, kw_only=True)
class Kills:
    """Kills at random moments, so many in all; each process is started again at once."""

    left: int
    done: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, processes: Sequence[Process], service_url: str, seed: str) -> None:
        """Return when the last kill is done; they run then, as they did before."""
        with ThreadPoolExecutor(len(processes)) as pool:
            killers = [
                pool.submit(self._kill_on, process, service_url, f"{seed} {number}")
                for number, process in enumerate(processes)
            ]
        for killer in killers:
            killer.result()

    def _kill_on(self, process: Process, service_url: str, seed: str) -> None:
        chance = random.Random(seed)
        while self._one_more():
            # Most die at work, some on the way there.
            if process.name == "service" and chance.random() < 0.9:
                wait_until_ready(process, service_url)
                time.sleep(chance.uniform(0, 2.0))
            else:
                time.sleep(chance.uniform(0, 4.0))
            if chance.random() < 0.5 and process.kill_a_child(chance):
                self._count("serving process")
            else:
                self.kill(process)
                process.start()

    def kill(self, process: Process) -> None:
        """`kill -9`, counted."""
        process.kill()
        self._count(process.name)

    def _one_more(self) -> bool:
        with self._lock:
            self.left -= 1
            return self.left >= 0

    def _count(self, name: str) -> None:
        with self._lock:
            self.done[name] += 1


def wait_until_ready(process: Process, url: str) -> None:
    """Raises RuntimeError when it ends, or takes too long."""
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        try:
            if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if process.running is None or process.running.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the service did not start: {process.log.read_text()[-2000:]}")


def freeze(process: Process, seconds: float) -> None:
    """It hangs, as in a virtual machine that is moved, and then goes on where it was."""
    process.signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.signal(signal.SIGCONT)


def set_clock(path: Path, offset: str) -> None:
    """At once for whoever reads it: a file that is half written says something else."""
    new = path.with_suffix(".new")
    new.write_text(f"{offset}\n")
    new.rename(path)
