"""The same facts on SQLite files and on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from cds_service.audit.verify import verify
from cds_service.errors import StoreUnavailable
from cds_service.store import AssessmentRecord, Store
from cds_service.store.engine import WAIT_SECONDS
from cds_service.store.group_commit import QUEUE_SECONDS
from tests.fakes.records import (
    NOON,
    a_card,
    a_message,
    an_assessment,
    an_audit_entry,
)
from tests.fakes.statements import before_each_statement, broken

LEASE = timedelta(minutes=1)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url)
    yield store
    store.close()


def keep(store: Store, assessment: AssessmentRecord | None = None, **audit: Any) -> str:
    """Store one call with a card and a message; the card's uuid."""
    assessment = assessment or an_assessment()
    card = a_card(assessment)
    store.record(assessment, [card], an_audit_entry(**audit), a_message(assessment))
    return card.uuid


def rows(store: Store, table: str) -> int:
    with store._engine.connect() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608


def everything(store: Store) -> dict[str, int]:
    return {name: rows(store, name) for name in ("assessment", "card", "audit", "outbox")}


# The call ------------------------------------------------------------------------------------


def test_a_repeat_gives_the_stored_assessment_and_sends_nothing_new(store: Store) -> None:
    first = an_assessment()
    keep(store, first)
    again = an_assessment(identifier=first.identifier, probability=0.9)
    stored = store.record(again, [a_card(again)], an_audit_entry(), a_message(again))
    assert stored == first
    assert everything(store) == {"assessment": 1, "card": 2, "audit": 2, "outbox": 1}


def test_a_repeat_may_bring_the_id_of_the_stored_one(store: Store) -> None:
    first = an_assessment()
    keep(store, first)
    again = an_assessment(id=first.id, identifier=first.identifier)
    assert store.record(again, [a_card(again)], an_audit_entry(), a_message(again)) == first


def test_one_id_for_two_identifiers_is_a_fault_and_stores_nothing(store: Store) -> None:
    first = an_assessment()
    keep(store, first)
    with pytest.raises(sa.exc.IntegrityError):
        store.record(an_assessment(id=first.id), [], an_audit_entry(), None)
    assert rows(store, "audit") == 1


def test_equal_calls_side_by_side_store_one_assessment_and_one_message(store: Store) -> None:
    equal = [an_assessment(identifier="same") for _ in range(24)]

    def call(assessment: AssessmentRecord) -> str:
        stored = store.record(
            assessment, [a_card(assessment)], an_audit_entry(), a_message(assessment)
        )
        assert stored is not None
        return stored.id

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(call, equal))
    assert len(ids) == 1
    assert everything(store) == {"assessment": 1, "card": 24, "audit": 24, "outbox": 1}


def test_text_that_no_database_can_hold_does_not_cost_the_audit_row(store: Store) -> None:
    store.record(None, [], an_audit_entry(user="a\x00b\ud800"), None)
    assert store.audit_trail(count=1)[0].user == "a\ufffdb\ufffd"


def test_a_closed_store_has_no_thread_left_and_can_be_used_again(store: Store) -> None:
    for _ in range(2):
        keep(store)
        thread = store._transactions._group._thread
        assert thread is not None
        store.close()
        assert not thread.is_alive()
    assert rows(store, "audit") == 2


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="needs a time zone"):
        store.record(None, [], an_audit_entry(recorded_at=datetime(2026, 1, 1)), None)  # noqa: DTZ001


def test_times_are_kept_as_utc(store: Store) -> None:
    east = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    store.record(None, [], an_audit_entry(recorded_at=east), None)
    assert store.audit_trail(count=1)[0].recorded_at.isoformat() == "2025-12-31T20:00:00+00:00"


def test_a_number_that_json_does_not_have_is_refused(store: Store) -> None:
    with pytest.raises((sa.exc.StatementError, ValueError)):
        store.record(an_assessment(inputs={"x": float("nan")}), [], an_audit_entry(), None)
    assert rows(store, "audit") == 0


def test_the_audit_table_refuses_changes_and_removals(store: Store) -> None:
    store.record(None, [], an_audit_entry(), None)
    for change in ("UPDATE audit SET status = 500", "DELETE FROM audit"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), store._engine.begin() as it:
            it.exec_driver_sql(change)
    assert [entry.status for entry in store.audit_trail(count=9)] == [200]


# Faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["assessment", "card", "outbox", "audit"])
def test_an_insert_that_fails_leaves_nothing_of_the_call(store: Store, table: str) -> None:
    keep(store)
    before = everything(store)

    def fail(cursor: Any, statement: str) -> None:
        if statement.startswith(f"INSERT INTO {table}"):
            raise broken(cursor, "disk full")

    with before_each_statement(store._engine, fail), pytest.raises(StoreUnavailable):
        keep(store)
    assert everything(store) == before
    keep(store)


def test_a_commit_that_fails_leaves_nothing_of_the_call(store: Store) -> None:
    @sa.event.listens_for(store._engine, "commit")
    def fail(_connection: Any) -> None:
        raise sa.exc.OperationalError("COMMIT", None, Exception("disk I/O error"))

    with pytest.raises(StoreUnavailable):
        keep(store)
    sa.event.remove(store._engine, "commit", fail)
    assert everything(store) == dict.fromkeys(("assessment", "card", "audit", "outbox"), 0)


WRITER = """
import sys, time
from cds_service.store import Store
from tests.fakes.records import a_card, a_message, an_assessment, an_audit_entry
from tests.fakes.statements import before_each_statement

def hang(_cursor, statement):
    if statement.startswith("INSERT INTO audit"):
        print("inside", flush=True)
        time.sleep(60)

store = Store.open(sys.argv[1])
if sys.argv[2] == "hangs":
    hanging = before_each_statement(store._engine, hang)
    hanging.__enter__()
while True:
    assessment = an_assessment()
    cards = [a_card(assessment), a_card(assessment)]
    store.record(assessment, cards, an_audit_entry(), a_message(assessment))
    print(assessment.id, flush=True)
"""


def kill_a_writer(url: str, manner: str, after: int) -> list[str]:
    """Start a writing process, read `after` lines, SIGKILL it; what it had said by then."""
    command = [sys.executable, "-c", WRITER, url, manner]
    root = Path(__file__).parents[2]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    with writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline().strip() for _ in range(after)]
        os.kill(writer.pid, signal.SIGKILL)
        return said + writer.stdout.read().split()


def test_a_writer_killed_in_mid_transaction_leaves_nothing(url: str) -> None:
    assert kill_a_writer(url, "hangs", after=1) == ["inside"]
    store = Store.open(url)
    assert everything(store) == dict.fromkeys(("assessment", "card", "audit", "outbox"), 0)
    keep(store)
    store.close()


def test_a_writer_killed_at_any_moment_leaves_whole_calls_only(url: str) -> None:
    promised = [
        assessment for after in (1, 7, 20) for assessment in kill_a_writer(url, "runs", after)
    ]
    store = Store.open(url)
    assert all(store.risk_assessment(assessment) for assessment in promised)
    count = rows(store, "assessment")
    assert count >= len(promised)
    assert everything(store) == {
        "assessment": count,
        "card": 2 * count,
        "audit": count,
        "outbox": count,
    }
    store.close()


FORKED = """
import os, sys
from cds_service.store import Store
from tests.fakes.records import an_assessment, an_audit_entry

def write(store, patient):
    for _ in range(3):
        store.record(an_assessment(patient_id=patient), [], an_audit_entry(), None)

store = Store.open(sys.argv[1])
write(store, "before")
child = os.fork()
write(store, "parent" if child else "child")
if not child:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
write(store, "after")
store.close()
"""


def test_a_process_that_is_forked_off_writes_for_itself(url: str) -> None:
    command = [sys.executable, "-c", FORKED, url]
    subprocess.run(command, check=True, timeout=60, cwd=Path(__file__).parents[2])
    store = Store.open(url)
    assert rows(store, "assessment") == rows(store, "audit") == 12
    assert verify(store).chains == 2
    store.close()


def test_services_that_start_side_by_side_all_find_their_tables(url: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(Store.open, [url] * 6))
    for store in stores:
        keep(store)
    assert rows(stores[0], "assessment") == 6
    for store in stores:
        store.close()


# SQLite alone --------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "cds.db"


def test_sqlite_commits_are_durable_and_readers_do_not_wait(file: Path) -> None:
    store = Store.open(f"sqlite:///{file}")
    with store._engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    store.close()


def test_the_directory_of_the_file_is_made_for_its_owner_alone(file: Path) -> None:
    Store.open(f"sqlite:///{file}").close()
    assert file.parent.stat().st_mode & 0o077 == 0


def test_a_full_disk_is_store_unavailable_and_passes(file: Path) -> None:
    store = Store.open(f"sqlite:///{file}")

    def limit(pages: int) -> None:
        with store._engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    limit(1)  # SQLite raises it to what the file already has
    big = an_assessment(inputs={"x": "y" * 100_000})
    with pytest.raises(StoreUnavailable):
        keep(store, big)
    assert rows(store, "audit") == 0
    limit(1_000_000)
    keep(store, big)
    store.close()


def test_a_read_only_database_serves_reads_and_refuses_writes(file: Path) -> None:
    store = Store.open(f"sqlite:///{file}")
    assessment = an_assessment()
    keep(store, assessment)
    read_only = Store.open(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert read_only.risk_assessment(assessment.id) == assessment
    with pytest.raises(StoreUnavailable):
        keep(read_only)
    read_only.close()
    store.close()


def test_a_writer_that_holds_the_file_too_long_is_store_unavailable(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_service.store.engine.WAIT_SECONDS", 0.1)
    store = Store.open(f"sqlite:///{file}")
    holder = sqlite3.connect(file)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        keep(store)
    assert store.search(count=1) == (0, [])
    holder.rollback()
    holder.close()
    keep(store)
    store.close()


def test_a_queue_of_writers_is_given_longer_than_the_file() -> None:
    assert QUEUE_SECONDS > WAIT_SECONDS


def test_a_writer_whose_turn_never_comes_is_store_unavailable_and_logged(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_service.store.group_commit.QUEUE_SECONDS", 0.01)
    store = Store.open(f"sqlite:///{file}")
    with store.auditing(), ThreadPoolExecutor(1) as others, capture_logs() as logs:
        with pytest.raises(StoreUnavailable):
            others.submit(keep, store, user="Practitioner/secret").result()
        assert store.search(count=1) == (0, []), "readers need no turn"
    assert [entry["reason"] for entry in logs] == ["no turn to write"]
    assert logs[0]["seconds"] == 0.01
    assert "secret" not in str(logs)
    keep(store)
    store.close()


def test_a_file_that_is_no_database_is_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "cds.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreUnavailable):
        Store.open(f"sqlite:///{tmp_path}/cds.db")


def test_a_directory_that_cannot_be_made_is_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file in the way")
    with pytest.raises(StoreUnavailable):
        Store.open(f"sqlite:///{tmp_path}/var/cds.db")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d"])
def test_a_store_that_would_forget_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"memory|not supported"):
        Store.open(url)


def test_a_postgresql_that_does_not_answer_is_store_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        Store.open("postgresql://nobody@127.0.0.1:1/none")


def test_a_fault_is_logged_without_what_was_to_be_stored(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.close()
    with store._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit RENAME TO elsewhere")
    with pytest.raises((StoreUnavailable, sa.exc.SQLAlchemyError)) as caught:
        store.record(None, [], an_audit_entry(user="Practitioner/secret"), None)
    assert "secret" not in str(caught.value)
    assert "secret" not in capsys.readouterr().out


def test_an_open_store_answers_a_ping(store: Store) -> None:
    store.ping()
    assert NOON.tzinfo is UTC
