"""FHIR R4 servers in processes of their own: started, stopped, killed, stalled, started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from tests.servers import built

# CI's two cores are shared with the other half of the tests, and at times with more.
START_SECONDS = 240
STOP_SECONDS = 30


class FhirServer:
    """`with HapiServer(folder) as server:` runs until the block ends; `server.base` is its base.

    The port stays the same through `stop` or `kill` and the next `start`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.base = f"http://127.0.0.1:{self.port}/fhir"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        raise NotImplementedError

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when it answers searches; fails the test, with the end of the log, otherwise."""
        assert not self.running
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            # It ends when its standard input does: it does not outlive a pytest that was killed.
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder
            )
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self.running:
            try:
                if httpx.get(f"{self.base}/Patient?_summary=count").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        self.kill()
        pytest.fail(f"{type(self).__name__} did not start:\n{self.log[-4000:]}")

    def put(self, *resources: dict[str, Any]) -> None:
        """Update, or create with the id that it has: what the EHR holds before a call."""
        for resource in resources:
            place = f"{self.base}/{resource['resourceType']}/{resource['id']}"
            httpx.put(place, json=resource, timeout=30).raise_for_status()

    def search(self, type: str, **query: str) -> list[dict[str, Any]]:
        """The first page of a search."""
        answer = httpx.get(f"{self.base}/{type}", params=query, timeout=30).raise_for_status()
        return [entry["resource"] for entry in answer.json().get("entry", ())]

    def stop(self) -> None:
        """As an operator does: what was begun is finished."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def stall(self) -> None:
        """It takes connections, and answers none until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _signal(self, number: int) -> None:
        if self._process is not None and self.running:
            os.kill(self._process.pid, number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._signal(number)
        self.resume()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


class HapiServer(FhirServer):
    """HAPI's JPA server on an H2 database in `folder`: a restart finds what was committed.

    With `references_resolve`, HAPI's own default, a resource whose references lead nowhere is
    refused. Without, it is taken, but not found by a reference to what is not there.
    """

    def __init__(self, folder: Path, *, references_resolve: bool = True) -> None:
        super().__init__(folder)
        self.references_resolve = references_resolve

    @property
    def command(self) -> list[str]:
        resolve = str(self.references_resolve).lower()
        arguments = (str(self.port), str(self.folder / "database"), resolve)
        return built.java("HapiServer", *arguments, megabytes=768)


class MedplumServer(FhirServer):
    """Medplum's router with its resource validation, in memory: a restart has forgotten all."""

    @property
    def command(self) -> list[str]:
        return built.node("medplum_server.mjs", str(self.port))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
