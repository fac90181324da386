"""`cds-service`: each command has an example, and a fault is one line on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cds_service import cli
from tests.conftest import ROOT
from tests.service import patient_view

RUN = CliRunner()
FEATURES = {"age": 58, "sex": "female", "glucose": 141, "body_mass_index": 34.2}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CDS_PROFILE", "demo")
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: str, stdin: str | None = None) -> Any:
    return RUN.invoke(cli.program, list(arguments), input=stdin)


OUTBOX = [["outbox", name] for name in ("list", "show", "retry", "discard", "deliver")]


@pytest.mark.parametrize(
    "command", [["serve"], ["score"], ["hooks", "check"], ["hooks", "write"], *OUTBOX]
)
def test_each_commands_help_shows_an_example(command: list[str]) -> None:
    said = run(*command, "--help")
    assert said.exit_code == 0
    assert f"cds-service {' '.join(command)}" in said.output.split("Example:")[1]


def test_features_are_scored_from_a_file_and_from_stdin(tmp_path: Path) -> None:
    file = tmp_path / "features.json"
    file.write_text(json.dumps(FEATURES))
    from_file = run("score", str(file), "--json")
    from_stdin = run("score", "-", "--json", stdin=json.dumps(FEATURES))
    assert from_file.output == from_stdin.output
    assert json.loads(from_file.output)["risk_level"] == "high"
    table = run("score", str(file))
    assert "Glucose" in table.output
    assert "141 mg/dL" in table.output
    assert "female" in table.output


def test_a_request_is_scored_as_the_service_would(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    body = patient_view()
    for entry in body["prefetch"]["observations"]["entry"]:
        entry["resource"]["effectiveDateTime"] = "2020"
    file.write_text(json.dumps(body))
    old = json.loads(run("score", str(file), "--json").output)
    assert old["outcome"] == "insufficient-data"
    assert old["absent"]["glucose"] == "too-old"
    assert "No figure" in run("score", str(file)).output


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"glucose": 100}', "age is required"),
        ('{"hook": "order-sign"}', "patient-view"),
        (json.dumps(patient_view(prefetch={})), "Prefetch key 'patient'"),
    ],
)
def test_what_cannot_be_scored_is_said_and_fails(body: str, said: str) -> None:
    result = run("score", "-", stdin=body)
    assert result.exit_code == 1
    assert said in result.output


def test_hooks_check_finds_other_codes_and_hooks_write_mends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = (ROOT / "hooks.json").read_text()
    document = json.loads(served)
    document["services"][0]["prefetch"]["observations"] = "Observation?code=1"
    copy = tmp_path / "hooks.json"
    copy.write_text(json.dumps(document))
    monkeypatch.setenv("CDS_HOOKS_FILE", str(copy))
    assert run("hooks", "check").exit_code == 1
    assert run("hooks", "write").exit_code == 0
    assert run("hooks", "check").exit_code == 0
    assert json.loads(copy.read_text()) == json.loads(served)


def test_the_served_hooks_file_asks_for_what_the_mapping_reads() -> None:
    assert run("hooks", "check").exit_code == 0


def test_an_offline_command_whose_packages_are_missing_says_what_to_install() -> None:
    entry = EntryPoint("train", "package_that_is_not_there.cli:train", cli.COMMANDS)
    program = typer.Typer()
    cli.add_offline_command(program, entry)
    program.command("other")(lambda: None)
    for arguments in (["train"], ["train", "nhanes", "--data", "x"]):
        said = RUN.invoke(program, arguments)
        assert said.exit_code == 2
        assert "cds-service[training]" in said.output
    listed = RUN.invoke(program, ["--help"])
    assert "train" in listed.output


def test_listing_the_commands_loads_no_training_code() -> None:
    code = (
        "import sys; from cds_service import cli\n"
        "cli.add_offline_commands(cli.program, ['--help'])\n"
        "assert 'train' in {command.name for command in cli.program.registered_commands}\n"
        "assert not {'pandas', 'sklearn', 'model_training'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CDS_PROFILE", "prod"), ("CDS_HOOKS_FILE", "/nowhere.json"), ("CDS_MODEL_DIR", "/nowhere")],
)
def test_a_start_that_is_refused_is_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "argv", ["cds-service", "hooks", "check"])
    commands = list(cli.program.registered_commands)
    monkeypatch.setattr(cli.program, "registered_commands", commands)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert value in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("host", "in_url"),
    [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]"), ("a.org", "a.org")],
)
def test_the_url_that_is_printed_can_be_opened(host: str, in_url: str) -> None:
    assert cli.reachable(host) == in_url
