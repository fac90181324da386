"""A real service whose disk is full or whose database is read-only: 503 and a line in the log that
says why, nothing half-stored, and as before when there is room again."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from cds_service.audit.verify import verify
from cds_service.store import Store
from tests.acceptance.test_overload import checked, post
from tests.acceptance.test_service_process import chart
from tests.fakes.databases import POSTGRESQL_MISSING, postgresql_binaries, postgresql_cluster
from tests.process import ServiceProcess

needs_postgresql = pytest.mark.skipif(postgresql_binaries() is None, reason=POSTGRESQL_MISSING)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own; left out where it may not be mounted."""
    # Not pytest's tmp_path, which nobody else may look into: PostgreSQL does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    size = f"size={megabytes}m"
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"{size},mode=1777", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        folder.rmdir()
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(disk: Path) -> Path:
    """A file that leaves no room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
    return filler


def call(service: ServiceProcess, more: float) -> httpx.Response:
    """About the same patient, each value being so much `more`: facts of their own."""
    sent: dict[str, Any] = chart()
    for value in sent.values():
        for entry in (value or {}).get("entry", ()):
            if quantity := entry["resource"].get("valueQuantity"):
                quantity["value"] += more
    return post(service, prefetch=sent)


def refuses_until(service: ServiceProcess, reason: str, mend: Any, url: str) -> None:
    """What is promised of every fault: `mend` ends it."""
    before = service.log.count("store unavailable")
    with ThreadPoolExecutor(4) as threads:
        for answer in threads.map(lambda n: call(service, n / 8), range(1, 5)):
            refused = checked(answer, 503)
            assert refused.json()["issue"][0]["code"] == "transient"
            assert refused.headers["retry-after"] == "5"
    assert httpx.get(f"{service.url}/healthz", timeout=30).status_code == 200
    lines = [line for line in service.log.splitlines() if "store unavailable" in line]
    assert len(lines) > before
    assert any(reason in line for line in lines), lines
    mend()
    for n in range(1, 5):
        assert call(service, n / 8).status_code == 200
    store = Store.open(url)
    total, found = store.search(count=99)
    assert total == 5, "the one from before, and four: nothing was half-stored"
    assert len({record.follows for record in found}) == 5
    verify(store)
    store.close()


def test_a_full_file_system_is_503_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(2) as disk:
        url = f"sqlite:///{disk}/cds.db"
        with ServiceProcess(tmp_path, CDS_DATABASE_URL=url) as service:
            assert call(service, 0).status_code == 200
            filler = fill(disk)
            refuses_until(service, "full", filler.unlink, url)


def test_a_limit_of_size_is_503_until_it_is_lifted(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path) as service:
        assert call(service, 0).status_code == 200
        size = (tmp_path / "cds.db-wal").stat().st_size
        unlimited = resource.RLIM_INFINITY
        # The log of the service is a file too, and a small one.
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (size, unlimited))

        def lift() -> None:
            resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))

        refuses_until(service, "disk", lift, f"sqlite:///{tmp_path}/cds.db")


def test_a_read_only_file_is_503_and_is_still_read(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path) as service:
        assert call(service, 0).status_code == 200
        read_only = f"sqlite:///file:{tmp_path}/cds.db?mode=ro&uri=true"
        with ServiceProcess(tmp_path, CDS_DATABASE_URL=read_only) as other:
            checked(call(other, 1), 503)
            assert "readonly" in other.log
            assert httpx.get(f"{other.url}/readyz", timeout=30).status_code == 200
        assert call(service, 1).status_code == 200


@needs_postgresql
@pytest.mark.xdist_group("postgresql")
def test_a_read_only_postgresql_is_503_until_it_is_not(tmp_path: Path) -> None:
    """As a standby is, or one that an operator has locked."""
    with postgresql_cluster() as url, ServiceProcess(tmp_path, CDS_DATABASE_URL=url) as service:
        assert call(service, 0).status_code == 200
        administer(url, "ALTER SYSTEM SET default_transaction_read_only = on")
        refuses_until(
            service,
            "read-only",
            lambda: administer(url, "ALTER SYSTEM RESET default_transaction_read_only"),
            url,
        )


def administer(url: str, statement: str) -> None:
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
            connection.exec_driver_sql("SELECT pg_reload_conf()")
    finally:
        engine.dispose()


@needs_postgresql
@pytest.mark.xdist_group("postgresql")
def test_a_full_tablespace_is_503_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(32) as disk, postgresql_cluster() as cluster:
        space = disk / "space"
        space.mkdir(mode=0o777)
        space.chmod(0o777)
        subprocess.run(["chown", "nobody", str(space)], check=True)
        administer(cluster, f"CREATE TABLESPACE small LOCATION '{space}'")
        administer(cluster, "CREATE DATABASE small TABLESPACE small")
        url = cluster.replace("/postgres?", "/small?")
        with ServiceProcess(tmp_path, CDS_DATABASE_URL=url) as service:
            assert call(service, 0).status_code == 200
            filler = fill(disk)
            # What is there already has room for some rows.
            number = 0
            while call(service, (number + 1) / 64).status_code == 200:
                number += 1
                assert number < 500
            filler.unlink()
            assert call(service, 9).status_code == 200
            assert "DiskFull" in service.log
        store = Store.open(url)
        assert store.search(count=1)[0] == number + 2
        verify(store)
        store.close()
