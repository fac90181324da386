"""`cds-service outbox`: an operator sees what waits and why, and does something about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cds_service import cli, outbox_cli
from cds_service.store import MessageState, Store
from tests.fakes.ehr import FakeEhr
from tests.fakes.records import a_message, an_assessment, an_audit_entry, an_id

RUN = CliRunner()
NOW = datetime.now(UTC)
WORDS = "HTTP 422\nerror processing Observation/o1 not found (RiskAssessment.basis[0])"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("CDS_DATABASE_URL", f"sqlite:///{tmp_path}/cds.db")
    monkeypatch.setenv("COLUMNS", "250")
    store = Store.open(f"sqlite:///{tmp_path}/cds.db")
    yield store
    store.close()


def run(*arguments: str, stdin: str | None = None) -> Any:
    return RUN.invoke(cli.program, ["outbox", *arguments], input=stdin)


def keep(store: Store, state: MessageState = MessageState.READY, **changed: Any) -> str:
    """A message, an hour old, in a state; its id."""
    assessment = an_assessment()
    message = a_message(assessment, **changed)
    entry = an_audit_entry(recorded_at=NOW - timedelta(hours=1))
    store.record(assessment, [], entry, message)
    if state is MessageState.READY:
        return message.id
    claimed = store.claim(now=NOW, lease=timedelta(minutes=1), count=99, claim_id=an_id())
    for held in claimed:
        if held.id != message.id:
            store.reschedule(held, available_at=NOW, reason="HTTP 503")
        elif state is MessageState.DEAD:
            store.park(held, reason=WORDS, settled_at=NOW)
        elif state is MessageState.DELIVERED:
            store.settle(held, location="RiskAssessment/7", version="2", settled_at=NOW)
    return message.id


def listed(*arguments: str) -> list[str]:
    said = run("list", "--json", *arguments)
    assert said.exit_code == 0
    return [json.loads(line)["id"] for line in said.output.splitlines()]


def actions(store: Store) -> list[tuple[str | None, str | None]]:
    trail = reversed(store.audit_trail(count=99))
    return [(e.action, e.patient_id) for e in trail if (e.action or "").startswith("outbox")]


def test_what_is_not_delivered_is_listed_oldest_first_with_its_reason(store: Store) -> None:
    dead = keep(store, MessageState.DEAD)
    keep(store, MessageState.DELIVERED)
    ready = keep(store)
    said = run("list")
    assert said.exit_code == 0
    assert set(listed()) == {dead, ready}
    assert "HTTP 422" in said.output
    # The server's words may hold patient data: `show` has them, and is on record.
    assert "Observation/o1" not in said.output
    assert "1 ready, 0 claimed, 1 delivered, 1 dead, 0 discarded" in said.output
    # An hour, and as long as the tests before this one took.
    assert re.search(r"done so for \d+ min", said.output)


def test_the_list_is_narrowed_by_state_client_and_number(store: Store) -> None:
    dead = keep(store, MessageState.DEAD, client="A")
    other = keep(store, MessageState.DEAD, client="B")
    delivered = keep(store, MessageState.DELIVERED, client="A")
    assert listed("--state", "delivered") == [delivered]
    assert set(listed("--state", "dead")) == {dead, other}
    assert listed("--state", "dead", "--client", "B") == [other]
    assert len(listed("--count", "1")) == 1
    assert listed("--state", "claimed") == []


def test_a_message_is_shown_with_the_servers_words_and_the_look_is_on_record(store: Store) -> None:
    dead = keep(store, MessageState.DEAD)
    said = run("show", dead)
    assert said.exit_code == 0
    assert "Observation/o1 not found (RiskAssessment.basis[0])" in said.output
    assert "RiskAssessment" in said.output
    assert actions(store) == [("outbox-show", "p1")]
    as_json = json.loads(run("show", dead, "--json", "--resource").output)
    assert as_json["reason"] == WORDS
    assert as_json["resource"]["resourceType"] == "RiskAssessment"
    assert '"identifier"' in run("show", dead, "--resource").output


def test_words_of_a_server_do_not_steer_the_terminal(store: Store) -> None:
    keep(store)
    (held,) = store.claim(now=NOW, lease=timedelta(minutes=1), count=1, claim_id="w")
    store.park(held, reason="HTTP 400\n\x1b]0;owned\x07 [bold]", settled_at=NOW)
    for said in (run("list"), run("show", held.id)):
        assert "\x1b]0" not in said.output
    assert "[bold]" in run("show", held.id).output


def test_a_message_that_is_not_there_is_exit_1(store: Store) -> None:
    said = run("show", "nonsense")
    assert (said.exit_code, said.stderr) == (1, "There is no message nonsense in the outbox.\n")


def test_the_dead_are_made_due_again_and_it_is_on_record(store: Store) -> None:
    dead = [keep(store, MessageState.DEAD) for _ in range(2)]
    said = run("retry", "--all-dead", "--yes")
    assert (said.exit_code, said.output) == (0, "Retried: 2 of 2.\n")
    assert set(listed("--state", "ready")) == set(dead)
    assert actions(store) == [("outbox-retry", "p1")] * 2
    assert run("retry", "--all-dead").output == "Retried: 0 of 0.\n"


def test_an_operator_is_asked_first_and_may_say_no(store: Store) -> None:
    dead = keep(store, MessageState.DEAD)
    said = run("discard", dead, stdin="n\n")
    assert said.exit_code == 1
    assert "Discard this message? [y/N]" in said.stderr
    assert listed("--state", "dead") == [dead]
    assert run("discard", dead, stdin="y\n").exit_code == 0
    assert listed("--state", "dead") == []
    assert listed("--state", "discarded") == [dead]
    assert "by operator:" in run("show", dead).output


def test_what_was_discarded_can_be_taken_back_by_id_only(store: Store) -> None:
    dead = keep(store, MessageState.DEAD)
    run("discard", dead, "--yes")
    assert run("retry", "--all-dead", "--yes").output == "Retried: 0 of 0.\n"
    assert run("retry", dead, "--yes").exit_code == 0
    assert listed("--state", "ready") == [dead]


def test_all_dead_may_be_those_of_one_client(store: Store) -> None:
    mended = keep(store, MessageState.DEAD, client="A")
    other = keep(store, MessageState.DEAD, client="B")
    assert run("retry", "--all-dead", "--client", "A", "--yes").exit_code == 0
    assert listed("--state", "ready") == [mended]
    assert listed("--state", "dead") == [other]


def test_those_with_which_nothing_can_be_done_are_named(store: Store) -> None:
    delivered = keep(store, MessageState.DELIVERED)
    dead = keep(store, MessageState.DEAD)
    said = run("discard", delivered, dead, "nonsense", "--yes", "--json")
    assert said.exit_code == 1
    assert json.loads(said.stdout) == {"discarded": 1, "asked": 3}
    assert f"{delivered}: is delivered." in said.stderr
    assert "nonsense: there is no such message." in said.stderr


@pytest.mark.parametrize("command", ["retry", "discard"])
def test_ids_or_all_dead_but_not_both_and_not_none(store: Store, command: str) -> None:
    for arguments in ([], ["x", "--all-dead"], ["x", "--client", "A"]):
        assert run(command, *arguments).exit_code == 2


def test_a_store_that_does_not_answer_is_exit_2(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDS_DATABASE_URL", "sqlite:////proc/none/cds.db")
    with pytest.raises(cli.START_FAULTS):
        raise run("list").exception


# The worker as a process of its own -------------------------------------------------------------


@pytest.fixture
def ehr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEhr]:
    with FakeEhr() as ehr:
        clients = tmp_path / "clients.toml"
        clients.write_text(
            f'[[client]]\nname = "General Hospital"\nfhir_servers = ["{ehr.base}"]\n'
            'write_back = "backend"\n'
        )
        monkeypatch.setenv("CDS_PROFILE", "demo")
        monkeypatch.setenv("CDS_CLIENTS_FILE", str(clients))
        monkeypatch.setattr(outbox_cli, "configure_logging", lambda level: None)
        yield ehr


def test_once_delivers_what_is_due_and_ends(store: Store, ehr: FakeEhr) -> None:
    for _ in range(20):
        keep(store, fhir_base=ehr.base)
    said = run("deliver", "--once", "--json")
    assert said.exit_code == 0
    counts = json.loads(said.stdout.splitlines()[-1])
    assert counts == {"created": 20, "existing": 0, "rescheduled": 0, "dead": 0, "lease-lost": 0}
    assert len(ehr.resources) == 20
    assert listed() == []


def test_once_is_exit_1_when_something_was_not_delivered(store: Store, ehr: FakeEhr) -> None:
    keep(store, fhir_base=ehr.base)
    ehr.faults.append(422)
    said = run("deliver", "--once")
    assert said.exit_code == 1
    assert said.stdout.splitlines()[-1] == (
        "0 created, 0 existing, 0 rescheduled, 1 dead, 0 lease-lost"
    )
