"""What the figures were measured on: without it they mean nothing."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "orjson", "sqlalchemy", "xgboost-cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`load` is the machine's load average over one minute before the benchmarks began: above
    about 0.5, neighbours were busy. `fsync_ms` is what one durable 4 kB write costs."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    packages: dict[str, str]
    date: str
    command: str
    load: float
    fsync_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Who runs where; both None where processes cannot be pinned, or there is one core only."""

    subject: int | None
    generator: int | None


def machine(
    folder: Path, arguments: list[str], *, program: str = "python -m benchmarks"
) -> Machine:
    """The facts of this machine; `folder` is on the disk that the store will be on."""
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_gb=_memory_gb(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version(name) for name in PACKAGES},
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=" ".join([program, *arguments]) if arguments else "make bench",
        load=os.getloadavg()[0],
        fsync_ms=_fsync_ms(folder),
    )


def cores() -> Cores:
    """The first core for the subjects, the last for the load generator."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(subject=None, generator=None)
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cores(subject=None, generator=None)
    return Cores(subject=usable[0], generator=usable[-1])


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """This thread, and every process that it starts meanwhile, runs on `core` alone."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _fsync_ms(folder: Path, times: int = 50) -> float:
    """Median over some appends; a RAM disk shows here as next to nothing."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            started = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return round(statistics.median(taken) * 1000, 2)


def running_python() -> str:
    """The interpreter that the subjects run on: this one."""
    return sys.executable
