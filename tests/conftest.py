"""The application for tests: real parts, a fixed clock, a store of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cds_service.app import assemble
from cds_service.clients import Clients
from cds_service.metrics import new_metrics
from cds_service.parts import Parts
from cds_service.settings import Settings
from cds_service.store import Store
from tests.conformance.listen import every_answer_checked
from tests.fakes.databases import POSTGRESQL, a_database, postgresql_cluster
from tests.service import Service

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def pytest_configure(config: pytest.Config) -> None:
    """`proves`: which rows of docs/conformance.md a test proves."""
    config.addinivalue_line("markers", "proves(*rows): rows of docs/conformance.md it proves")


@pytest.fixture(scope="session", autouse=True)
def _wire() -> Iterator[None]:
    with every_answer_checked():
        yield


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A PostgreSQL of the tests' own."""
    with postgresql_cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", POSTGRESQL])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the test's own, on each of the two kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/var/cds.db"
    return a_database(request.getfixturevalue("cluster"))


@pytest.fixture(scope="session")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Parts in the demo profile, with the served model; loading it once is enough."""
    settings = Settings(
        profile="demo",
        database_url=f"sqlite:///{tmp_path_factory.mktemp('assembled')}/cds.db",
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
    )
    parts = assemble(settings, lambda: NOW)
    parts.store.close()
    return parts


@pytest.fixture
def parts(assembled: Parts, tmp_path: Path) -> Iterator[Parts]:
    """`assembled` with an empty store and metrics at zero."""
    store = Store.open(f"sqlite:///{tmp_path}/cds.db")
    yield replace(assembled, store=store, metrics=new_metrics())
    store.close()


@pytest.fixture
def app_client(parts: Parts) -> Service:
    """The service in the demo profile."""
    return Service.of(parts)


@pytest.fixture
def production(parts: Parts) -> Service:
    """The service in the production profile, without a clients file: nobody may call."""
    settings = replace(parts.settings, profile="production")
    return Service.of(replace(parts, settings=settings, clients=Clients((), demo=False)))
