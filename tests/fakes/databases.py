"""Real databases for tests: a PostgreSQL cluster of their own, where the binaries are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

POSTGRESQL_MISSING = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"


def postgresql_binaries() -> Path | None:
    """The directory of initdb and pg_ctl: on the PATH, else the newest where Debian puts them."""
    on_path = shutil.which("pg_ctl")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    found = [Path(on_path).resolve()] if on_path else debian
    return found[0].parent if found else None


# A parameter for fixtures: left out, with the reason, where it cannot be had.
POSTGRESQL = pytest.param(
    "postgresql",
    marks=[
        pytest.mark.skipif(postgresql_binaries() is None, reason=POSTGRESQL_MISSING),
        pytest.mark.xdist_group("postgresql"),
    ],
)


def a_database(cluster: str) -> str:
    """The URL of a new, empty database of the cluster."""
    address = sa.make_url(cluster).set(drivername="postgresql+psycopg")
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return address.set(drivername="postgresql", database=name).render_as_string()


@contextmanager
def postgresql_cluster(*, folder: Path | None = None, fsync: bool = False) -> Iterator[str]:
    """A running cluster that listens on a socket in its own directory only; yields its URL.

    Its data are in `folder`; with `fsync` its commits are as durable as that is.
    """
    binaries = postgresql_binaries()
    assert binaries is not None, POSTGRESQL_MISSING
    # Not pytest's tmp_path: the server may not run as root, and a socket's path must be short.
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    data = Path(tempfile.mkdtemp(prefix="pg-", dir=folder)) if folder else home / "data"
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        account = pwd.getpwnam(user)
        for owned in {home, data} if folder else {home}:
            os.chown(owned, account.pw_uid, account.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", str(data), *arguments]
        log = (home / "log").open("a")
        with log:
            subprocess.run(command, check=True, user=user, cwd=home, stdout=log, stderr=log)

    options = f"-k {home} -c listen_addresses='' -c max_connections=120"
    try:
        run("initdb", "--username=cds", "--auth=trust", "--no-sync", "--encoding=UTF8")
        run("pg_ctl", "start", "--wait", "-o", options if fsync else f"{options} -F")
        try:
            yield f"postgresql://cds@/postgres?host={home}"
        finally:
            run("pg_ctl", "stop", "--mode=immediate")
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)
