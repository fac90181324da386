"""Real servers for acceptance tests: each is started once in a run, by the first test that asks."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from _pytest.nodeid import NodeId

from tests.servers import HapiServer, MedplumServer, Validator, built


@pytest.hookimpl(wrapper=True)  # before xdist's own hook, which reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Tests that share a server share an xdist worker: two HAPIs would need two cores."""
    for item in items:
        for name in ("hapi", "medplum", "validator"):
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(name))
                break
    yield
    for item in items:
        # From pytest 9.2 on xdist 3.8 writes the group where nobody reads it, and every group is
        # spread over all workers: https://github.com/pytest-dev/pytest-xdist/issues/1386
        if grouped := getattr(item, "_nodeid", None):
            item._id = NodeId.parse(grouped)


@pytest.fixture(scope="session")
def hapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HapiServer]:
    """Tests share what it holds: use patient ids of your own, and leave it running."""
    if reason := built.java_missing():
        pytest.skip(reason)
    with HapiServer(tmp_path_factory.mktemp("hapi")) as server:
        yield server


@pytest.fixture(scope="session")
def medplum(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MedplumServer]:
    """Tests share what it holds: use patient ids of your own, and leave it running."""
    if reason := built.node_missing():
        pytest.skip(reason)
    with MedplumServer(tmp_path_factory.mktemp("medplum")) as server:
        yield server


@pytest.fixture(scope="session")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validator]:
    if reason := built.java_missing():
        pytest.skip(reason)
    with Validator(tmp_path_factory.mktemp("validator") / "log") as running:
        yield running
