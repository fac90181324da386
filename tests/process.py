"""The service as its users run it: a process of its own, started, called and killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest

ROOT = Path(__file__).parents[1]
START_SECONDS = 60


class ServiceProcess:
    """`with ServiceProcess(folder) as service:` runs `cds-service serve` in the demo profile.

    `folder` holds its store and its log; `settings` are further CDS_ variables. A second process
    on the same folder finds what the first one left.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {
            "CDS_PROFILE": "demo",
            "CDS_DATABASE_URL": f"sqlite:///{folder / 'cds.db'}",
            **settings,
        }

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def __enter__(self) -> Self:
        inherited = {n: v for n, v in os.environ.items() if not n.startswith("CDS_")}
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("cds-service"), "serve", "--port", str(self.port)],
                cwd=ROOT,
                env=inherited | self._settings,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(timeout=START_SECONDS)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send it, and wait for nothing."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`: no goodbye, nothing flushed."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=START_SECONDS)

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        pytest.fail(f"the service did not become ready:\n{self.log}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
