"""Sealed at rest, on SQLite and on PostgreSQL: nothing of a record in the files, keys that change,
and rows that cannot be opened."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from cds_service import cli
from cds_service.app import StartRefused, assemble_delivery
from cds_service.errors import RowUnreadable
from cds_service.metrics import new_metrics
from cds_service.parts import Parts
from cds_service.settings import Settings
from cds_service.store import AssessmentRecord, MessageState, Store, rekey
from cds_service.store.outbox import UNREADABLE_WAIT
from cds_service.store.sealing import Sealing, fingerprint
from tests.conftest import NOW
from tests.fakes.databases import POSTGRESQL
from tests.fakes.records import NOON, a_message, an_assessment, an_audit_entry, an_id
from tests.service import Service, patient_view

OLD, NEW, STRANGE = (bytes(range(n, n + 32)) for n in (0, 100, 200))
# Written in no other test, so that whatever holds it was put there by this one.
MARKER = "Xylophagous-rationale"
LEASE = timedelta(minutes=1)
SEALED = ("assessment.inputs", "assessment.resource", "outbox.resource")


@pytest.fixture
def opening(url: str) -> Iterator[Any]:
    """Opens the test's database with keys; closed at the end."""
    opened: list[Store] = []

    def open_with(*keys: bytes) -> Store:
        opened.append(Store.open(url, Sealing(keys)))
        return opened[-1]

    yield open_with
    for store in opened:
        store.close()


def keep(store: Store, **changed: Any) -> AssessmentRecord:
    marker = an_id()
    resource = {"resourceType": "RiskAssessment", "rationale": f"{MARKER} {marker}", "x": 0.1 + 0.2}
    inputs = {"glucose": 5.1e-7, "title": f"{MARKER} {marker}"}
    values = {"patient_id": an_id(), "inputs": inputs, "resource": resource} | changed
    assessment = an_assessment(**values)
    stored = store.record(assessment, [], an_audit_entry(), a_message(assessment))
    assert stored is not None
    return stored


def claim(store: Store, now: Any = NOON) -> list[Any]:
    return store.claim(now=now, lease=LEASE, count=99, claim_id=an_id())


def execute(store: Store, statement: str, **values: Any) -> None:
    with store._engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def in_files(url: str, marker: str) -> bool:
    """Whether any file of the database holds it: tables, indexes and logs."""
    engine = sa.create_engine(sa.make_url(url).set(drivername=_driver(url)))
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("CHECKPOINT")
            folder = Path(str(connection.exec_driver_sql("SHOW data_directory").scalar_one()))
        files = [path for path in folder.rglob("*") if path.is_file()]
    else:
        database = Path(str(engine.url.database))
        files = list(database.parent.glob(f"{database.name}*"))
    engine.dispose()
    assert files
    return any(marker.encode() in content(path) for path in files)


def content(path: Path) -> bytes:
    """Of a file that the database has removed meanwhile, as it does with its caches: nothing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _driver(url: str) -> str:
    return "postgresql+psycopg" if url.startswith("postgresql") else "sqlite"


# What is in the files --------------------------------------------------------------------------


def test_with_a_key_no_file_of_the_database_holds_what_was_in_a_record(
    opening: Any, url: str
) -> None:
    store, marker = opening(OLD), an_id()
    kept = keep(store, resource={"rationale": marker}, inputs={"title": marker})
    assert store.risk_assessment(kept.id) == kept
    assert not in_files(url, marker)
    # What is searched by is in the clear, and shows that the search would find something.
    assert in_files(url, kept.patient_id)


def test_without_keys_everything_is_as_before(opening: Any, url: str) -> None:
    store, marker = opening(), an_id()
    kept = keep(store, resource={"rationale": marker})
    assert in_files(url, marker)
    with store.reading() as connection:
        found = connection.execute(sa.text("SELECT sealed_by, inputs FROM assessment")).one()
    assert found.sealed_by is None
    inputs = found.inputs if isinstance(found.inputs, dict) else json.loads(found.inputs)
    assert inputs == kept.inputs
    assert rekey.keys_in_use(store) == frozenset()


def test_everything_is_read_back_as_it_was(opening: Any) -> None:
    store = opening(OLD)
    first = keep(store, patient_id="p1")
    second = keep(store, patient_id="p1")
    assert second.follows == first.id
    assert store.search(patient="p1", count=9) == (2, [second, first]) or store.search(
        patient="p1", count=9
    ) == (2, [first, second])
    assert store.search(identifier=first.identifier, count=9) == (1, [first])
    assert store.assessment_of_call(first.hook_instance) == [first]
    repeat = an_assessment(identifier=first.identifier)
    assert store.record(repeat, [], an_audit_entry(), None) == first
    claimed = {message.assessment_id: message for message in claim(store)}
    assert claimed[first.id].resource == first.resource
    assert claimed[second.id].resource == second.resource
    detail = store.message(claimed[first.id].id)
    assert detail is not None
    assert detail.resource == first.resource


# Keys that change ------------------------------------------------------------------------------


def test_a_new_key_seals_and_the_old_one_still_opens(opening: Any) -> None:
    before = keep(opening(OLD))
    store = opening(NEW, OLD)
    after = keep(store)
    assert store.risk_assessment(before.id) == before
    assert rekey.keys_in_use(store) == {fingerprint(OLD), fingerprint(NEW)}
    with pytest.raises(RowUnreadable):
        opening(OLD).risk_assessment(after.id)


def test_rekey_seals_what_is_plain_or_under_an_old_key_and_nothing_stays_in_the_file(
    opening: Any, url: str
) -> None:
    plain, marker = opening(), an_id()
    kept = [keep(plain, resource={"rationale": marker}), keep(opening(OLD))]
    for store in (plain,):
        store.close()
    store = opening(NEW, OLD)
    assert rekey.left_to_do(store) == 4
    pages = list(rekey.rekey(store))
    assert sum(page.sealed for page in pages) == 4
    assert [page.unreadable for page in pages] == [()] * len(pages)
    assert rekey.left_to_do(store) == 0
    assert rekey.keys_in_use(store) == {fingerprint(NEW)}
    alone = opening(NEW)
    assert [alone.risk_assessment(one.id) for one in kept] == kept
    assert len(claim(alone)) == 2
    assert list(rekey.rekey(alone)) == []
    if url.startswith("sqlite"):  # on PostgreSQL old rows and its log stay for a while
        assert not in_files(url, marker)


def test_rekey_goes_page_by_page_and_goes_on_where_it_was_left(
    opening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekey, "PAGE", 3)
    kept = [keep(opening(OLD)) for _ in range(8)]
    store, pauses = opening(NEW, OLD), list[float]()
    first = next(rekey.rekey(store, pause=pauses.append))
    assert first.sealed == 3
    assert rekey.left_to_do(store) == 13
    rest = [page.sealed for page in rekey.rekey(store, pause=pauses.append)]
    assert rest == [3, 2, 3, 3, 2]
    assert len(pauses) == 5
    assert [opening(NEW).risk_assessment(one.id) for one in kept] == kept


# SQLite has one writer: nobody holds a row while another writes.
@pytest.mark.parametrize("url", [POSTGRESQL], indirect=True)
def test_rows_that_a_worker_holds_are_left_to_another_round(opening: Any) -> None:
    store = opening(OLD)
    keep(store)
    newer = opening(NEW, OLD)
    with store._engine.begin() as connection:
        connection.execute(sa.text("SELECT id FROM outbox FOR UPDATE"))
        assert sum(page.sealed for page in rekey.rekey(newer)) == 1
    assert sum(page.sealed for page in rekey.rekey(newer)) == 1
    assert rekey.left_to_do(newer) == 0


# Rows that cannot be opened --------------------------------------------------------------------


@pytest.mark.parametrize("column", SEALED)
def test_a_value_that_was_changed_moved_or_written_over_is_refused(
    opening: Any, column: str
) -> None:
    table, name = column.split(".")
    store = opening(OLD)
    one, other = keep(store), keep(store)
    key = "id" if table == "assessment" else "assessment_id"
    message = {m.assessment_id: m for m in store.messages(count=9)}[one.id]

    def read() -> Any:
        return store.risk_assessment(one.id) if table == "assessment" else store.message(message.id)

    assert read() is not None
    with store.reading() as connection:
        values = connection.execute(sa.text(f"SELECT {key} AS id, {name} FROM {table}")).all()  # noqa: S608
    stored = {row.id: row[1] if isinstance(row[1], dict) else json.loads(row[1]) for row in values}
    damaged = {**stored[one.id], "value": stored[one.id]["value"][:-4]}
    for wrong in (stored[other.id], damaged, {"resourceType": "RiskAssessment"}):
        execute(
            store,
            f"UPDATE {table} SET {name} = :value WHERE {key} = :id",  # noqa: S608
            value=json.dumps(wrong),
            id=one.id,
        )
        with pytest.raises(RowUnreadable) as refused:
            read()
        assert column in refused.value.reason
        assert refused.value.status == 500
    execute(
        store,
        f"UPDATE {table} SET {name} = :value WHERE {key} = :id",  # noqa: S608
        value=json.dumps(stored[one.id]),
        id=one.id,
    )
    assert read() is not None


def test_a_message_that_cannot_be_opened_waits_and_holds_up_no_other(opening: Any) -> None:
    keep(opening(OLD))
    store = opening(NEW)
    readable = keep(store)
    assert [message.assessment_id for message in claim(store)] == [readable.id]
    (waiting,) = store.messages(count=9, state=MessageState.READY)
    assert waiting.attempts == 0
    assert waiting.available_at == NOON + UNREADABLE_WAIT
    assert fingerprint(OLD) in (waiting.reason or "")
    # Its key is given again: it goes out.
    both = opening(NEW, OLD)
    assert claim(both, NOON + UNREADABLE_WAIT) != []


def test_a_repeat_of_a_call_whose_row_cannot_be_opened_is_answered(opening: Any) -> None:
    first = keep(opening(OLD))
    store = opening(NEW)
    repeat = replace(first, id=an_id(), hook_instance=an_id(), resource={"now": True})
    stored = store.record(repeat, [], an_audit_entry(), None)
    assert stored == replace(first, resource={"now": True})
    with pytest.raises(RowUnreadable):
        store.risk_assessment(first.id)
    assert opening(OLD).risk_assessment(first.id) == first


def test_rekey_leaves_what_it_cannot_open_as_it_is(opening: Any) -> None:
    lost, kept = keep(opening(STRANGE)), keep(opening(OLD))
    store = opening(NEW, OLD)
    pages = list(rekey.rekey(store))
    assert sum(page.sealed for page in pages) == 2
    faults = [reason for page in pages for reason in page.unreadable]
    assert len(faults) == 2
    assert all(fingerprint(STRANGE) in reason for reason in faults)
    assert opening(STRANGE).risk_assessment(lost.id) == lost
    assert opening(NEW).risk_assessment(kept.id) == kept


# The service -----------------------------------------------------------------------------------


def as_text(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


def test_the_service_does_not_start_without_a_key_of_its_rows(opening: Any, url: str) -> None:
    keep(opening(OLD))
    for keys in ((), (NEW,)):
        settings = Settings(database_url=url, profile="demo", store_keys=keys)
        with pytest.raises(StartRefused, match=fingerprint(OLD)) as refused:
            assemble_delivery(settings, lambda: NOW)
        assert "CDS_STORE_KEYS" in str(refused.value)
    assemble_delivery(replace(settings, store_keys=(NEW, OLD)), lambda: NOW).store.close()
    known = replace(settings, store_keys_lost=(fingerprint(OLD),))
    assemble_delivery(known, lambda: NOW).store.close()


def test_the_start_looks_into_an_index_only(opening: Any) -> None:
    store = opening(OLD)
    keep(store)
    with store.reading() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for table in ("assessment", "outbox"):
            explain = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
            query = f"{explain} SELECT sealed_by FROM {table} WHERE sealed_by > '' ORDER BY sealed_by LIMIT 1"  # noqa: E501, S608
            plan = str(connection.exec_driver_sql(query).all())
            assert f"{table}_sealed_by" in plan, plan


@pytest.fixture
def sealed(assembled: Parts, url: str) -> Iterator[Service]:
    store = Store.open(url, Sealing([OLD]))
    yield Service.of(replace(assembled, store=store, metrics=new_metrics()))
    store.close()


def test_calls_and_reads_are_as_without_and_a_damaged_row_is_a_500_that_says_nothing(
    sealed: Service,
) -> None:
    assert sealed.call(patient_view()).status_code == 200
    bundle = sealed.request("GET", "/fhir/RiskAssessment?patient=p1").json()
    (entry,) = bundle["entry"]
    path = f"/fhir/RiskAssessment/{entry['resource']['id']}"
    assert sealed.request("GET", path).json()["prediction"]
    execute(sealed.parts.store, "UPDATE assessment SET hook_instance = 'other', sealed_by = 'x'")
    assert sealed.request("GET", path).status_code == 200, "the value names its key itself"
    execute(
        sealed.parts.store,
        "UPDATE assessment SET resource = :value",
        value=json.dumps({"sealed": "A256GCM", "key": fingerprint(NEW), "value": "AAAA" * 9}),
    )
    for one in (path, "/fhir/RiskAssessment?patient=p1"):
        answer = sealed.request("GET", one)
        assert answer.status_code == 500
        assert "Retry-After" not in answer.headers
        assert fingerprint(NEW) not in answer.text
        assert "cannot be read" in answer.json()["issue"][0]["diagnostics"]
    assert sealed.audited()[0].status == 500
    # The clinician is answered all the same: same inputs, same model, same result.
    assert sealed.call(patient_view()).json()["cards"]


# The operator ----------------------------------------------------------------------------------


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CDS_DATABASE_URL", url)
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str, keys: tuple[bytes, ...]) -> Any:
        monkeypatch.setenv("CDS_STORE_KEYS", as_text(*keys))
        return CliRunner().invoke(cli.program, [*arguments])

    return invoke


def test_check_says_how_many_rows_have_which_key(opening: Any, run: Any) -> None:
    keep(opening())
    keep(opening(OLD))
    said = run("store", "check", keys=(NEW, OLD))
    assert said.exit_code == 1
    assert fingerprint(OLD) in said.output
    assert "plain" in said.output
    assert "4 rows are not" in said.output
    read = json.loads(run("store", "check", "--json", keys=(NEW,)).stdout)
    assert read["rows"] == {
        table: {"plain": 1, fingerprint(OLD): 1} for table in ("assessment", "outbox")
    }
    assert read["seals_with"] == fingerprint(NEW)
    assert "key is not given" in run("store", "check", keys=()).output


def test_rekey_is_on_record_and_check_is_content_afterwards(opening: Any, run: Any) -> None:
    store = opening()
    keep(store)
    keep(opening(OLD))
    said = run("store", "rekey", keys=(NEW, OLD))
    assert said.exit_code == 0, said.output
    assert "4 rows" in said.output
    assert run("store", "check", "--open", keys=(NEW,)).exit_code == 0
    (entry,) = [e for e in store.audit_trail(count=9) if e.action == "store-rekey"]
    assert json.loads(entry.detail or "") == {"key": fingerprint(NEW), "rows": 4}
    again = run("store", "rekey", keys=(NEW,))
    assert again.exit_code == 0
    assert "0 rows" in again.output


def test_rows_without_their_key_are_named_and_exit_1(opening: Any, run: Any) -> None:
    kept = keep(opening(STRANGE))
    said = run("store", "rekey", keys=(NEW,))
    assert said.exit_code == 1
    assert kept.id in said.output
    assert fingerprint(STRANGE) in said.output
    assert run("store", "check", "--open", keys=(NEW,)).exit_code == 1
    none = run("store", "rekey", keys=())
    assert none.exit_code == 2
    assert "no key" in none.output


def test_replay_says_that_it_cannot_and_never_why_not_in_a_trace(opening: Any, run: Any) -> None:
    kept = keep(opening(OLD))
    for arguments in (
        (kept.id,),
        ("--all",),
        ("--hook-instance", kept.hook_instance),
    ):
        said = run("replay", *arguments, keys=(NEW,))
        assert said.exit_code == 2, said.output
        assert "cannot be opened" in said.output.replace("\n", " ")
        assert "Traceback" not in said.output


def test_an_outbox_without_its_key_is_listed_and_a_message_is_one_line(
    opening: Any, run: Any
) -> None:
    keep(opening(OLD))
    listed = run("outbox", "list", "--json", keys=(NEW,))
    assert listed.exit_code == 0
    shown = run("outbox", "show", json.loads(listed.stdout)["id"], keys=(NEW,))
    assert shown.exit_code == 2
    assert fingerprint(OLD) in shown.output
    assert run("audit", "verify", keys=()).exit_code == 0, "it needs no key"
