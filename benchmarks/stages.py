"""Where the time of one call goes: the real application in this process, with a stopwatch around
each of its steps. `python -m benchmarks.stages` prints JSON; logs go to stderr as in service.

A stopwatch replaces a function under the name by which its caller knows it, so what is timed is
what serves. A name that no longer exists ends the run: then this list is out of date.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.calls import bodies, utc_now
from benchmarks.subjects import PATH, ROOT
from cds_service.app import create_app
from cds_service.log import configure_logging
from cds_service.settings import Settings

# What the call does, where its name is, and the name. In the order of the call; none holds another.
STAGES: tuple[tuple[str, str, str], ...] = (
    ("parse JSON, bounded and strict", "cds_service.routes.services", "parse_call"),
    ("parse the hook request", "cds_service.routes.services", "parse_hook_request"),
    ("sort prefetch into states", "cds_service.prefetch", "states"),
    ("tell the version of FHIR", "cds_service.assess", "_version"),
    ("map resources to features", "cds_service.assess", "map_features"),
    ("score and explain", "cds_service.assess", "judge"),
    ("compose the card", "cds_service.cards", "compose"),
    ("compose the RiskAssessment", "cds_service.assess", "_record"),
    ("store in one transaction", "cds_service.store.store.Store", "recorded"),
    ("render the answer", "cds_service.routes.services", "hook_response"),
    ("count and log", "cds_service.observe.Observe", "_tell"),
)
REST = "framework, middleware, the rest"
TOTAL = "all"
WARM_UP = 20


class StageIsGone(RuntimeError):
    """A name in STAGES that the service no longer has, or does not call once for each call; the
    message says which."""


@dataclass(slots=True)
class Stopwatches:
    """Seconds of each stage, one entry per call. Calls come one at a time."""

    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def around(self, title: str, timed: Callable[..., Any]) -> Callable[..., Any]:
        """`timed`, with a stopwatch."""

        def watched(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return timed(*arguments, **options)
            finally:
                self.taken[title].append(time.perf_counter() - started)

        async def watched_on_the_loop(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return await timed(*arguments, **options)
            finally:
                self.taken[title].append(time.perf_counter() - started)

        return watched_on_the_loop if asyncio.iscoroutinefunction(timed) else watched

    def hang(self) -> None:
        """One around every stage."""
        for title, place, name in STAGES:
            owner = owner_of(place, name)
            setattr(owner, name, self.around(title, getattr(owner, name)))


def owner_of(place: str, name: str) -> Any:
    """What has the function `name`: a module, or a class in one. Raises StageIsGone."""
    module, _, last = place.rpartition(".")
    try:
        if last[0].isupper():
            owner = getattr(importlib.import_module(module), last)
        else:
            owner = importlib.import_module(place)
        getattr(owner, name)
    except (ImportError, AttributeError) as fault:
        raise StageIsGone(
            f"{place}.{name} is no function of the service any more: bring STAGES in "
            f"benchmarks/stages.py up to date ({fault})"
        ) from fault
    return owner


def measure(calls: Sequence[bytes], folder: Path) -> dict[str, float]:
    """Median milliseconds of each stage, of the rest, and of the whole."""
    settings = Settings(
        profile="demo",
        database_url=f"sqlite:///{folder / 'cds.db'}",
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
    )
    watches = Stopwatches()
    watches.hang()
    totals = asyncio.run(_all(create_app(settings), calls))[WARM_UP:]
    return medians({title: watches.taken[title][WARM_UP:] for title in watches.taken}, totals)


def medians(taken: dict[str, list[float]], totals: list[float]) -> dict[str, float]:
    """Milliseconds; raises StageIsGone unless every call went through every stage once."""
    titles = [title for title, _, _ in STAGES]
    missed = [title for title in titles if len(taken.get(title, ())) != len(totals)]
    if missed:
        raise StageIsGone(
            f"not every call went once through: {'; '.join(missed)}. Bring STAGES in "
            "benchmarks/stages.py up to date"
        )
    stages = [taken[title] for title, _, _ in STAGES]
    rest = [total - sum(known) for total, *known in zip(totals, *stages, strict=True)]
    columns = {title: taken[title] for title, _, _ in STAGES}
    columns |= {REST: rest, TOTAL: totals}
    return {title: statistics.median(seconds) * 1000 for title, seconds in columns.items()}


async def _all(app: Any, calls: Sequence[bytes]) -> list[float]:
    taken = []
    for body in calls:
        started = time.perf_counter()
        status = await call_once(app, body)
        taken.append(time.perf_counter() - started)
        if status != 200:
            raise RuntimeError(f"answered {status}")
    return taken


async def call_once(app: Any, body: bytes) -> int:
    """One call as uvicorn would make it, without the socket."""
    status = 0
    body_is_read = False

    async def receive() -> dict[str, Any]:
        nonlocal body_is_read
        if body_is_read:
            await asyncio.Event().wait()  # as a server: nothing more until the client leaves
        body_is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(_scope(body), receive, send)
    return status


def _scope(body: bytes) -> dict[str, Any]:
    headers = [
        (b"host", b"127.0.0.1"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


def main() -> None:
    """Print the medians as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--observations", type=int, default=100)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    configure_logging("INFO")
    calls = [
        *bodies(
            given.calls + WARM_UP, observations=given.observations, seed="stages", now=utc_now()
        )
    ]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(orjson.dumps(measure(calls, Path(folder))).decode())


if __name__ == "__main__":
    main()
