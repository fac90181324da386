"""Stores of earlier versions, from what they really left: every row stays, nothing is missing."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cds_service.audit.verify import verify
from cds_service.store import Store, upgrade
from cds_service.store.engine import open_engine
from cds_service.store.schema import metadata
from cds_service.store.upgrade import NEWEST, REVISIONS, StoreTooNew
from tests.fakes.records import NOON, a_card, a_message, an_assessment, an_audit_entry

STORES = Path(__file__).parents[1] / "payloads" / "stores"
MIGRATIONS = Path(upgrade.__file__).with_name("migrations")
OLD = ("0.1.0", "0.2.0-before-ends", "0.2.0-before-delivery")
Rows = dict[str, list[tuple[Any, ...]]]


def raw(url: str) -> sa.Engine:
    """The database, as nobody of ours has opened it."""
    address = sa.make_url(url)
    if address.get_backend_name() == "postgresql":
        return sa.create_engine(address.set(drivername="postgresql+psycopg"))
    Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True)
    return sa.create_engine(address)


def as_left_by(version: str, url: str) -> None:
    engine = raw(url)
    script = (STORES / f"{version}.{engine.dialect.name}.sql").read_text(encoding="utf-8")
    if engine.dialect.name == "sqlite":
        with sqlite3.connect(str(engine.url.database)) as connection:
            connection.executescript(script)
        connection.close()
    else:
        with engine.begin() as connection:
            assert connection.connection.driver_connection is not None
            connection.connection.driver_connection.execute(script)
    engine.dispose()


def contents(url: str) -> Rows:
    """Table -> its rows, with the columns that it has, in their order."""
    engine, found = raw(url), Rows()
    with engine.connect() as connection:
        for name in sa.inspect(connection).get_table_names():
            if name != "alembic_version":
                quoted = connection.dialect.identifier_preparer.quote(name)
                rows = connection.exec_driver_sql(f"SELECT * FROM {quoted}")  # noqa: S608
                found[name] = sorted((tuple(row) for row in rows), key=repr)
    engine.dispose()
    return found


def differences(url: str) -> list[Any]:
    """What Alembic would still change."""
    engine = raw(url)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    return found


def recorded(url: str) -> list[str]:
    engine = raw(url)
    with engine.connect() as connection:
        found = (
            connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
        )
    engine.dispose()
    return list(found)


@pytest.fixture(params=OLD)
def old(request: pytest.FixtureRequest, url: str) -> str:
    as_left_by(request.param, url)
    return url


def test_the_revisions_are_those_of_the_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [NEWEST]
    assert tuple(reversed([one.revision for one in scripts.walk_revisions()])) == REVISIONS


def test_a_new_store_is_the_declared_one(url: str) -> None:
    Store.open(url).close()
    assert differences(url) == []
    assert recorded(url) == [NEWEST]


def test_the_migrations_alone_make_the_declared_store(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "NEWEST", "0001_first")
    monkeypatch.setattr(upgrade, "REVISIONS", ("0001_first",))
    engine = open_engine(url)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("DROP FUNCTION audit_is_append_only")
        connection.exec_driver_sql("DELETE FROM alembic_version")
        monkeypatch.undo()
        upgrade._run_migrations(connection)
    engine.dispose()
    assert differences(url) == []
    refuses_changes(url)


def test_every_row_is_kept_and_nothing_is_missing(old: str) -> None:
    before = contents(old)
    assert all(before[table] for table in ("assessment", "card", "audit", "outbox", "feedback"))
    Store.open(old).close()
    after = contents(old)
    for table, rows in before.items():
        kept = [row[: len(rows[0])] for row in after[table]] if rows else []
        assert all(row in kept for row in rows), table
        # A seal, and where its chain ends, are all that is added.
        assert len(kept) - len(rows) <= (1 if table in ("audit", "audit_head") else 0), table
    assert differences(old) == []
    assert recorded(old) == [NEWEST]
    refuses_changes(old)


def refuses_changes(url: str) -> None:
    store = Store.open(url)
    store.append_audit([an_audit_entry()])
    for change in ("UPDATE audit SET status = 500", "DELETE FROM audit"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), store._engine.begin() as it:
            it.exec_driver_sql(change)
    store.close()


def test_what_an_old_store_holds_is_read_verified_and_gone_on_with(old: str) -> None:
    store = Store.open(old)
    verify(store)
    total, found = store.search(count=9)
    assert total == 5
    assert {record.patient_id for record in found} == {"p1", "Zoë-2", "p3", "p4"}
    assert {record.inputs["name"] for record in found} == {"Zoë"}
    assert all(record.follows is None for record in found)
    figures = store.outbox_figures(now=NOON)
    assert figures.depth == {"ready": 1, "claimed": 1, "delivered": 1, "dead": 1}
    newest = next(record for record in found if record.patient_id == "p1")
    later = an_assessment(patient_id="p1")
    stored = store.record(later, [a_card(later)], an_audit_entry(), a_message(later))
    assert stored is not None
    assert stored.follows == newest.id
    verify(store)
    store.close()


def test_an_upgrade_that_fails_changes_nothing(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(old)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr("alembic.operations.Operations.create_table", fail)
        with pytest.raises(RuntimeError):
            Store.open(old)
    assert contents(old) == before
    Store.open(old).close()
    assert differences(old) == []


def _open_in_a_process(url: str) -> None:
    Store.open(url).close()


def test_processes_that_start_at_once_upgrade_once(old: str) -> None:
    context = multiprocessing.get_context("spawn")
    starting = [context.Process(target=_open_in_a_process, args=(old,)) for _ in range(3)]
    for process in starting:
        process.start()
    for process in starting:
        process.join()
    assert [process.exitcode for process in starting] == [0, 0, 0]
    assert recorded(old) == [NEWEST]
    assert differences(old) == []
    store = Store.open(old)
    verify(store)
    store.close()


def test_a_newer_store_is_refused_and_left_alone(url: str) -> None:
    Store.open(url).close()
    engine = raw(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0099_later'")
    before = contents(url)
    with pytest.raises(StoreTooNew, match=rf"0099_later.*up to {NEWEST}.*Start the newer"):
        Store.open(url)
    assert contents(url) == before
    engine.dispose()


def imported_by_opening(url: str) -> list[str]:
    code = (
        "import sys; from cds_service.store import Store; Store.open(sys.argv[1]).close();"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_alembic_is_imported_only_where_it_has_something_to_do(tmp_path: Path) -> None:
    """Else every start would pay for it."""
    new = f"sqlite:///{tmp_path}/new.db"
    assert "alembic" not in imported_by_opening(new)
    assert "alembic" not in imported_by_opening(new)
    past = f"sqlite:///{tmp_path}/past.db"
    as_left_by("0.1.0", past)
    assert "alembic" in imported_by_opening(past)
    assert "alembic" not in imported_by_opening(past)
