"""The line-up: which subjects take part, at which sizes, and why another is left out.

All run side by side on one core, and one of them is driven at a time. PostgreSQL itself runs on the
load generator's core, as a database on a machine of its own would: its work is not the worker's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks import calls, subjects
from benchmarks.agreement import check_agreement
from benchmarks.healthchain_process import NAME, PLAIN, CannotBeInstalled, healthchain
from benchmarks.machine import Cores, on_core, running_python
from benchmarks.subjects import ROOT, Subject, free_port, running
from benchmarks.tokens import Ehr, check_verified
from tests.fakes.databases import (
    POSTGRESQL_MISSING,
    a_database,
    postgresql_binaries,
    postgresql_cluster,
)

FLOOR = "floor"
SERVICE = "service"
POSTGRESQL = "service, PostgreSQL"
JWT = "service, JWT"
EAGER = "eager"
HEALTHCHAIN, HEALTHCHAIN_PLAIN = NAME, PLAIN
# Where a subject is measured; the floor and the service are at every size.
COMPARED = frozenset({20, 100, 1000})
SIZES = {
    POSTGRESQL: COMPARED,
    JWT: COMPARED,
    EAGER: COMPARED,
    HEALTHCHAIN: frozenset({250}),
    HEALTHCHAIN_PLAIN: frozenset({250}),
}
# Their probabilities are held against the service's before the run.
PROVEN = (EAGER, HEALTHCHAIN, HEALTHCHAIN_PLAIN)
NAMES = (FLOOR, SERVICE, *SIZES)


@dataclass(slots=True, kw_only=True)
class LineUp:
    """Who is there, by name, in the order of the report; who is not, and why."""

    present: dict[str, Subject] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    agreement: float = 0.0

    @property
    def floor(self) -> Subject:
        return self.present[FLOOR]

    @property
    def service(self) -> Subject:
        return self.present[SERVICE]

    def at(self, observations: int) -> list[Subject]:
        """The subjects at one size of record."""
        return [
            subject
            for name, subject in self.present.items()
            if observations in SIZES.get(name, {observations})
        ]


def in_turn(subjects: Sequence[Subject], turn: int) -> list[Subject]:
    """Every second round they go backwards, every other another one begins: each is as often the
    first as the last, and nobody is always behind the same one."""
    first = turn // 2 % len(subjects)
    order = [*subjects[first:], *subjects[:first]]
    return order if turn % 2 else order[::-1]


@contextmanager
def lined_up(
    folder: Path,
    place: Cores,
    sizes: Sequence[int],
    wanted: Sequence[str],
    step: Callable[[str], None],
) -> Iterator[LineUp]:
    """Those of `wanted` that have a size to run at and can be had, running, and proven to do what
    they are measured at."""
    starts: dict[str, Callable[[Path, Cores], AbstractContextManager[Subject]]] = {
        FLOOR: lambda folder, place: subjects.floor(folder, place.subject),
        SERVICE: lambda folder, place: subjects.service(folder, place.subject, name=SERVICE),
        POSTGRESQL: on_postgresql,
        JWT: with_tokens,
        EAGER: eager,
        HEALTHCHAIN: lambda folder, place: healthchain(folder, place.subject, artifact()),
        HEALTHCHAIN_PLAIN: lambda folder, place: healthchain(
            folder, place.subject, artifact(), plain=True
        ),
    }
    found = LineUp()
    with ExitStack() as stack:
        for name, start in starts.items():
            if name not in wanted or not set(sizes) & SIZES.get(name, set(sizes)):
                continue
            step(f"start of {name}")
            try:
                found.present[name] = stack.enter_context(start(folder, place))
            except (Missing, CannotBeInstalled) as fault:
                found.left_out[name] = str(fault)
        _prove(found)
        yield found


class Missing(RuntimeError):
    """What a subject needs is not on this machine; the message says what."""


def _prove(found: LineUp) -> None:
    if JWT in found.present:
        chart = calls.bodies(1, observations=20, seed="verified", now=calls.utc_now())
        check_verified(found.present[JWT], next(chart))
    others = [found.present[name] for name in PROVEN if name in found.present]
    found.agreement = check_agreement(found.service, others)


@contextmanager
def on_postgresql(folder: Path, place: Cores) -> Iterator[Subject]:
    """The service on a PostgreSQL of its own, whose data are beside the SQLite files."""
    if postgresql_binaries() is None:
        raise Missing(POSTGRESQL_MISSING)
    with ExitStack() as stack:
        with on_core(place.generator):
            cluster = stack.enter_context(postgresql_cluster(folder=folder, fsync=True))
        settings = {"CDS_DATABASE_URL": a_database(cluster)}
        yield stack.enter_context(
            subjects.service(folder, place.subject, name=POSTGRESQL, settings=settings)
        )


@contextmanager
def with_tokens(folder: Path, place: Cores) -> Iterator[Subject]:
    """The service in the production profile, called by an EHR that signs."""
    ehr = Ehr(folder)
    with subjects.service(
        folder, place.subject, name=JWT, settings=ehr.settings, sign=ehr.signs
    ) as subject:
        yield subject


@contextmanager
def eager(folder: Path, place: Cores) -> Iterator[Subject]:
    """The eager version, on a store of its own."""
    port = free_port()
    arguments = [running_python(), "-m", "benchmarks.eager", "--port", str(port)]
    arguments += ["--database", f"sqlite:///{folder / 'eager.db'}"]
    with running(EAGER, arguments, port=port, folder=folder, core=place.subject) as subject:
        yield subject


def artifact() -> Path:
    """The folder of the model that the service serves."""
    serving = orjson.loads((ROOT / "hooks.json").read_bytes())["services"][0]["serving"]
    return ROOT / "model_artifacts" / str(serving["model"]) / str(serving["modelVersion"])
