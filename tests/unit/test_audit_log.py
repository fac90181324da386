"""The audit log on SQLite and on a real PostgreSQL: any change, removal or insertion is found."""

from __future__ import annotations

import hashlib
import multiprocessing
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from fhir.resources.R4B.auditevent import AuditEvent

from cds_service.audit.chain import canonical, digest_of, genesis
from cds_service.audit.export import Format, export
from cds_service.audit.prune import TooYoung, prune
from cds_service.audit.verify import AuditBroken, Verified, heads, verify
from cds_service.errors import StoreUnavailable
from cds_service.store import AuditEntry, Store, audit_rows
from cds_service.store.schema import REFUSALS_OF_SQLITE, metadata
from tests.fakes.records import NOON, a_feedback_item, an_assessment, an_audit_entry, an_id


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url)
    yield store
    store.close()


def tamper(store: Store, *statements: str) -> None:
    """What someone does who may do anything in the database."""
    with store._engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            for name in REFUSALS_OF_SQLITE:
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        else:
            connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        for statement in statements:
            connection.exec_driver_sql(statement)


def write(store: Store, count: int, **changed: Any) -> None:
    for _ in range(count):
        store.append_audit([an_audit_entry(**changed)])


def raw(store: Store) -> list[dict[str, Any]]:
    with store.reading() as connection:
        return [dict(row) for row in audit_rows.read(connection, audit_rows.in_chains())]


# The chain -----------------------------------------------------------------------------------


def test_the_canonical_form_and_the_digest_never_change() -> None:
    """Else no log that is written today could be verified by a later version."""
    row: dict[str, str | int | None] = {
        "id": 9,
        "status": 200,
        "user": "Zoë\u2028\x01",
        "tenant": None,
        "digest": "x",
    }
    said = '{"status":200,"user":"Zoë\u2028\\u0001"}'.encode()
    assert canonical(row) == said
    assert digest_of(row) == hashlib.sha256(said).hexdigest()
    assert genesis("a") != genesis("b")


def test_every_way_to_store_a_call_adds_one_link(store: Store) -> None:
    store.record(an_assessment(), [], an_audit_entry(), None)
    store.add_feedback([a_feedback_item(an_id())], an_audit_entry())
    store.append_audit([an_audit_entry(), an_audit_entry()])
    rows = raw(store)
    assert [row["seq"] for row in rows] == [1, 2, 3, 4]
    assert [row["previous"] for row in rows[1:]] == [row["digest"] for row in rows[:-1]]
    assert verify(store) == Verified(rows=4, chains=1, before_chains=0)


def test_text_and_times_verify_as_either_database_gives_them_back(store: Store) -> None:
    east = datetime.fromisoformat("2026-01-01T05:30:00.000001+05:30")
    write(store, 1, recorded_at=east, user="a\x00b\ud800 \u202e 漢字 \x7f\r\n'\\", patient_id="")
    assert verify(store).rows == 1


def test_both_databases_hold_the_same_bytes(tmp_path: Path, store: Store) -> None:
    other = Store.open(f"sqlite:///{tmp_path}/other.db")
    entry = an_audit_entry(user="é\x00", recorded_at=NOON, calls=3, detail='{"a":1}')
    forms = []
    for one in (store, other):
        one.append_audit([entry])
        left = {"id", "chain", "previous", "digest"}
        forms.append(canonical({n: v for n, v in raw(one)[0].items() if n not in left}))
    other.close()
    assert forms[0] == forms[1]


def test_threads_side_by_side_never_fork_a_chain(store: Store) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: write(store, 5), range(32)))
    found = verify(store)
    assert found.rows == 160
    assert found.chains <= 16
    places = [(row["chain"], row["seq"]) for row in raw(store)]
    assert len(set(places)) == 160


def _write_in_a_process(url: str, count: int) -> None:
    store = Store.open(url)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: write(store, count), range(4)))
    store.close()


def test_processes_side_by_side_never_fork_a_chain(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_in_a_process, args=(url, 5)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = Store.open(url)
    found = verify(store)
    store.close()
    assert found.rows == 60
    assert found.chains >= 3


def test_the_database_refuses_two_rows_in_one_place(store: Store) -> None:
    write(store, 1)
    (row,) = raw(store)
    again = {**row, "recorded_at": NOON}
    del again["id"]
    with pytest.raises(sa.exc.IntegrityError), store._engine.begin() as connection:
        connection.execute(sa.insert(metadata.tables["audit"]).values(again))


def test_a_transaction_that_fails_ends_its_chain_and_leaves_no_gap(store: Store) -> None:
    write(store, 2)

    @sa.event.listens_for(store._engine, "commit")
    def fail(_connection: Any) -> None:
        raise sa.exc.OperationalError("COMMIT", None, Exception("disk I/O error"))

    with pytest.raises(StoreUnavailable):
        write(store, 1)
    sa.event.remove(store._engine, "commit", fail)
    write(store, 2)
    assert verify(store) == Verified(rows=4, chains=2, before_chains=0)


# Verify --------------------------------------------------------------------------------------

COPY = (
    "INSERT INTO audit (recorded_at, outcome, status, chain, seq, previous, digest) "
    "SELECT recorded_at, outcome, status, chain, {seq}, previous, digest FROM audit WHERE seq = 3"
)
TAMPERED: dict[str, tuple[tuple[str, ...], str]] = {
    "a value changed": (("UPDATE audit SET status = 403 WHERE seq = 3",), "number 3 .*written"),
    "a null filled": (("UPDATE audit SET tenant = 'x' WHERE seq = 3",), "number 3 .*written"),
    "a time moved": (
        ("UPDATE audit SET recorded_at = '2026-03-01T12:00:00.000001Z' WHERE seq = 3",),
        "number 3 .*written",
    ),
    "a row removed": (("DELETE FROM audit WHERE seq = 3",), "number 4 .*missing"),
    "the first row removed": (("DELETE FROM audit WHERE seq = 1",), "number 2 .*missing"),
    "a row removed and the rest numbered anew": (
        ("DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = seq - 1 WHERE seq > 3"),
        "number 3 .*does not follow",
    ),
    "a digest changed": (("UPDATE audit SET digest = 'x' WHERE seq = 3",), "number 3 .*written"),
    "two rows changed places": (
        (
            "UPDATE audit SET seq = 99 WHERE seq = 3",
            "UPDATE audit SET seq = 3 WHERE seq = 4",
            "UPDATE audit SET seq = 4 WHERE seq = 99",
        ),
        "number 3 .*does not follow",
    ),
    "a row put at the end": ((COPY.format(seq=6),), "number 6 .*does not follow"),
    "a row put after a gap": ((COPY.format(seq=9),), "number 9 .*number 6 .*missing"),
    "the last row removed": (
        ("DELETE FROM audit WHERE seq = 5",),
        "number 5 of chain .* was its last, number 4 is now",
    ),
    "every row removed": (
        ("DELETE FROM audit",),
        "number 5 of chain .* was its last, and none is left",
    ),
    "the last row removed, and that there was one": (
        ("DELETE FROM audit WHERE seq = 5", "DELETE FROM audit_head"),
        "Where chain .* ended is not recorded",
    ),
    "a row outside the chains": (
        (
            "INSERT INTO audit (recorded_at, outcome, status) "
            "VALUES ('2020-01-01T00:00:00.000000Z', 'scored', 200)",
        ),
        "outside every chain",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_verify_names_the_first_row_that_is_wrong(store: Store, how: str) -> None:
    write(store, 5)
    assert verify(store).rows == 5
    statements, said = TAMPERED[how]
    tamper(store, *statements)
    with pytest.raises(AuditBroken, match=said):
        verify(store)


def test_a_whole_chain_removed_beside_another_is_found(url: str) -> None:
    for count in (2, 3):  # each process, and each opening, has chains of its own
        store = Store.open(url)
        write(store, count)
        store.close()
    store = Store.open(url)
    assert verify(store).chains == 2
    tamper(store, "DELETE FROM audit WHERE chain IN (SELECT chain FROM audit WHERE seq = 3)")
    with pytest.raises(AuditBroken, match=r"number 3 of chain .* was its last, and none is left"):
        verify(store)
    store.close()


def write_anew(store: Store, chain: str, count: int) -> None:
    """A consistent history in place of the one that was, by someone who knows how."""
    tamper(store, "DELETE FROM audit")
    previous = genesis(chain)
    for seq in range(1, count + 1):
        row = audit_rows.stored_form(an_audit_entry(status=204))
        row |= {"chain": chain, "seq": seq, "previous": previous}
        previous = digest_of(row)
        bound = {**row, "digest": previous, "recorded_at": NOON}
        with store._engine.begin() as connection:
            connection.execute(sa.insert(metadata.tables["audit"]).values(bound))
    end_in(store, seq=count, digest=previous)


def end_in(store: Store, **values: Any) -> None:
    with store._engine.begin() as connection:
        connection.execute(sa.update(metadata.tables["audit_head"]).values(values))


def test_rows_removed_from_the_end_show_against_a_head(store: Store) -> None:
    """Also where it is made to seem that they never were."""
    write(store, 5)
    taken = list(heads(store))
    write(store, 2)
    assert verify(store, taken).rows == 7
    write_anew(store, taken[0].chain, 4)
    assert verify(store).rows == 4, "whoever may write everything can write it consistently"
    with pytest.raises(AuditBroken, match="The end of a chain is gone: number 5"):
        verify(store, taken)


def test_a_history_written_anew_shows_against_a_head(store: Store) -> None:
    write(store, 3)
    taken = list(heads(store))
    write_anew(store, taken[0].chain, 3)
    assert verify(store).rows == 3
    with pytest.raises(AuditBroken, match="another row was there"):
        verify(store, taken)


def test_a_history_written_anew_with_its_old_end_is_found(store: Store) -> None:
    write(store, 3)
    (head,) = heads(store)
    write_anew(store, head.chain, 3)
    end_in(store, digest=head.digest)
    with pytest.raises(AuditBroken, match="does not end in the row that was its last"):
        verify(store)


def test_a_log_that_is_written_to_and_pruned_meanwhile_verifies(store: Store) -> None:
    """One state is looked at, not a newer one with every query."""
    write(store, 3, recorded_at=OLD)
    write(store, 3)
    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(write, store, 40) for _ in range(2)]
        pruning = threads.submit(pruned, store)
        while not (pruning.done() and all(each.done() for each in writing)):
            verify(store)
    assert pruning.result() == 3
    assert verify(store).rows == 84


# Stores of 0.1.0 -----------------------------------------------------------------------------

ADDED = ("action", "resource_id", "suspicious", "calls", "detail")
CHAIN = ("chain", "seq", "previous", "digest")


def as_of_0_1_0(url: str, count: int) -> None:
    """A store without what came after: chains and their ends, and what delivery needs."""
    store = Store.open(url)
    write(store, count)
    tamper(
        store,
        "DROP TABLE audit_head",
        "DROP TABLE IF EXISTS alembic_version",
        "DROP TABLE inline_write_back",
        "DROP INDEX assessment_after",
        "DROP INDEX card_of_call",
        "ALTER TABLE assessment DROP COLUMN follows",
        "ALTER TABLE outbox DROP COLUMN discarded_at",
        "ALTER TABLE outbox DROP COLUMN discarded_by",
        *(f"DROP INDEX {table}_sealed_by" for table in ("assessment", "outbox")),
        *(f"ALTER TABLE {table} DROP COLUMN sealed_by" for table in ("assessment", "outbox")),
        "DROP INDEX audit_in_chains",
        "DROP INDEX audit_of_action",
        *(f"ALTER TABLE audit DROP COLUMN {name}" for name in ADDED + CHAIN),
    )
    with store._engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            for statement in REFUSALS_OF_SQLITE.values():
                connection.exec_driver_sql(statement)
        else:
            connection.exec_driver_sql("ALTER TABLE audit ENABLE TRIGGER ALL")
    store.close()


def test_rows_from_before_the_chains_are_kept_sealed_and_counted(url: str) -> None:
    as_of_0_1_0(url, 3)
    for _ in range(2):  # the second opening changes nothing
        store = Store.open(url)
        store.close()
    store = Store.open(url)
    write(store, 2)
    assert verify(store) == Verified(rows=3, chains=2, before_chains=3)
    assert len(store.audit_trail(count=9)) == 6
    tamper(store, "UPDATE audit SET status = 201 WHERE id = 2")
    with pytest.raises(AuditBroken, match="3 rows from before the chains"):
        verify(store)
    store.close()


def test_an_old_store_without_rows_needs_no_seal(url: str) -> None:
    as_of_0_1_0(url, 0)
    store = Store.open(url)
    assert verify(store) == Verified(rows=0, chains=0, before_chains=0)
    store.close()


def test_an_upgraded_table_is_the_declared_one(url: str) -> None:
    """So that a tool that compares the two finds nothing to do."""
    fresh = columns_and_indexes(url)
    as_of_0_1_0(url, 1)
    assert columns_and_indexes(url) == fresh


def columns_and_indexes(url: str) -> tuple[set[tuple[str, str, bool]], set[str | None]]:
    store = Store.open(url)
    there = sa.inspect(store._engine)
    columns = {(c["name"], str(c["type"]), c["nullable"]) for c in there.get_columns("audit")}
    indexes = {index["name"] for index in there.get_indexes("audit")}
    store.close()
    return columns, indexes


def test_services_that_upgrade_side_by_side_seal_once(url: str) -> None:
    as_of_0_1_0(url, 2)
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(Store.open, [url] * 4))
    assert verify(stores[0]) == Verified(rows=1, chains=1, before_chains=2)
    for store in stores:
        store.close()


# Prune ---------------------------------------------------------------------------------------

OLD = datetime(2017, 6, 1, tzinfo=UTC)
BEFORE = datetime(2018, 1, 1, tzinfo=UTC)


def pruned(store: Store, before: datetime = BEFORE) -> int:
    done = prune(store, before=before, now=NOON, years=7, user="operator:test")
    return done.rows + done.before_chains


def test_nothing_younger_than_the_retention_is_pruned(store: Store) -> None:
    write(store, 1, recorded_at=OLD)
    with pytest.raises(TooYoung, match="7 years: nothing after 2019-03-01"):
        pruned(store, datetime(2019, 3, 2, tzinfo=UTC))
    assert verify(store).rows == 1


def test_a_pruned_log_verifies_and_says_what_is_gone(store: Store) -> None:
    write(store, 3, recorded_at=OLD)
    taken = list(heads(store))
    write(store, 2)
    assert pruned(store) == 3
    assert verify(store, taken) == Verified(rows=3, chains=2, before_chains=0)
    last = store.audit_trail(count=1)[0]
    assert (last.action, last.user) == ("audit-prune", "operator:test")
    assert orjson.loads(last.detail or "")["rows"] == 3
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), store._engine.begin() as it:
        it.exec_driver_sql("DELETE FROM audit")


def test_a_chain_keeps_everything_from_its_first_young_row_on(store: Store) -> None:
    """Rows of one chain can lie a little out of order: a long call ends after a short one."""
    for moment in (OLD, OLD, NOON, OLD, NOON):
        write(store, 1, recorded_at=moment)
    assert pruned(store) == 2
    assert sorted(int(row["seq"]) for row in raw(store)) == [1, 3, 4, 5]
    assert verify(store).rows == 4


def test_prunes_one_after_the_other_verify(store: Store) -> None:
    for year in (2015, 2016, 2017):
        write(store, 2, recorded_at=datetime(year, 6, 1, tzinfo=UTC))
    write(store, 1)
    for year, gone in ((2016, 2), (2017, 2), (2018, 2), (2018, 0)):
        assert pruned(store, datetime(year, 1, 1, tzinfo=UTC)) == gone
        verify(store)
    assert verify(store) == Verified(rows=5, chains=5, before_chains=0)


def test_a_removal_after_a_prune_is_found(store: Store) -> None:
    write(store, 3, recorded_at=OLD)
    write(store, 3)
    pruned(store)
    tamper(store, "DELETE FROM audit WHERE seq = 4")
    with pytest.raises(AuditBroken, match=r"number 5 .*number 4 .*missing"):
        verify(store)


def test_rows_from_before_the_chains_go_together_or_not_at_all(url: str) -> None:
    as_of_0_1_0(url, 3)
    store = Store.open(url)
    assert pruned(store, datetime(2019, 3, 1, tzinfo=UTC)) == 0, "they are of 2026"
    assert verify(store).before_chains == 3
    later = NOON + timedelta(days=366 * 8)
    done = prune(store, before=NOON + timedelta(days=1), now=later, years=7, user="operator:test")
    assert done.before_chains == 3
    assert verify(store).before_chains == 0
    store.close()


# Export --------------------------------------------------------------------------------------


def exported(store: Store, format: Format, **span: datetime) -> list[dict[str, Any]]:
    lines = export(
        store,
        start=span.get("start"),
        end=span.get("end"),
        format=format,
        now=NOON + timedelta(days=9),
        user="operator:test",
    )
    return [orjson.loads(line) for line in lines]


def test_exported_rows_are_the_bytes_that_were_digested(store: Store) -> None:
    write(store, 3, user="Practitioner/1")
    rows = exported(store, Format.NDJSON)
    assert [row["digest"] for row in rows] == [digest_of(row) for row in rows]
    assert [row["action"] for row in rows] == [None, None, None, "audit-export"]
    assert verify(store).rows == 4


def test_an_export_holds_its_span_and_is_on_record(store: Store) -> None:
    for day in range(4):
        write(store, 1, recorded_at=NOON + timedelta(days=day))
    start, end = NOON + timedelta(days=1), NOON + timedelta(days=3)
    rows = exported(store, Format.NDJSON, start=start, end=end)
    assert [row["recorded_at"][:10] for row in rows] == ["2026-03-02", "2026-03-03"]
    asked = orjson.loads(store.audit_trail(count=1)[0].detail or "")
    assert asked == {
        "format": "ndjson",
        "from": "2026-03-02T12:00:00.000000Z",
        "to": "2026-03-04T12:00:00.000000Z",
    }


EVENTS: dict[str, tuple[AuditEntry, Callable[[Any], object], object]] = {
    "hook": (
        an_audit_entry(action="patient-view", user="Practitioner/1", patient_id="p1"),
        lambda event: (
            event.subtype[0].system,
            event.subtype[0].code,
            event.action,
            event.agent[0].who.reference,
        ),
        ("urn:cds-service:hook", "patient-view", "E", "Practitioner/1"),
    ),
    "refused": (
        an_audit_entry(action="hook-call", status=401, address="192.0.2.1", calls=41),
        lambda event: (event.outcome, event.agent[0].network.address),
        ("4", "192.0.2.1"),
    ),
    "fault": (an_audit_entry(action="predict", status=500), lambda event: event.outcome, "8"),
    "read": (
        an_audit_entry(action="read", resource_id="r1", patient_id="p1", client="General"),
        lambda event: [entity.what.reference for entity in event.entity[:2]],
        ["Patient/p1", "RiskAssessment/r1"],
    ),
    "search": (
        an_audit_entry(action="search-type"),
        lambda event: event.subtype[0].system,
        "http://hl7.org/fhir/restful-interaction",
    ),
    "hostile": (
        an_audit_entry(
            action="hook-call", user="' OR 1=1 --", patient_id="../\x01", outcome=" ", tenant="\n"
        ),
        lambda event: (event.agent[0].who.display, event.entity[0].what.display),
        ("' OR 1=1 --", "../\ufffd"),
    ),
    "export": (
        an_audit_entry(action="audit-export", user="operator:x"),
        lambda event: event.type.code,
        "110101",
    ),
    "old": (an_audit_entry(), lambda event: event.action, "E"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_exported_event_is_valid_r4(store: Store, name: str) -> None:
    entry, seen, expected = EVENTS[name]
    store.append_audit([entry])
    event = AuditEvent.model_validate(exported(store, Format.FHIR)[0])
    assert seen(event) == expected


def test_an_export_takes_no_more_memory_for_more_rows(tmp_path: Path) -> None:
    """A row is let go when the next one is asked for: of thousands, a page is held."""
    store = Store.open(f"sqlite:///{tmp_path}/cds.db")
    store.append_audit([an_audit_entry(detail="x" * 1_000)] * (8 * audit_rows.PAGE))
    lines = export(store, start=None, end=None, format=Format.NDJSON, now=NOON, user="operator:x")
    tracemalloc.start()
    size = sum(len(line) for line in lines)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    store.close()
    assert most < size / 2


def test_an_export_that_cannot_be_put_on_record_gives_nothing(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/cds.db")
    write(store, 1)
    with sqlite3.connect(tmp_path / "cds.db", isolation_level=None) as other:
        other.execute("ALTER TABLE audit RENAME TO elsewhere")
    with pytest.raises((StoreUnavailable, sa.exc.SQLAlchemyError)):
        exported(store, Format.NDJSON)
    store.close()
