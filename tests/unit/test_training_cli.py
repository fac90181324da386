"""`cds-service train`: its help, and what it says when the data are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_training.cli import train

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def test_help_lists_the_data_sets_and_shows_an_example() -> None:
    assert "nhanes" in RUNNER.invoke(train, ["--help"]).output
    shown = RUNNER.invoke(train, ["nhanes", "--help"]).output
    assert "Example: cds-service train nhanes --data" in shown
    assert "CDS_DATA_DIR" in shown


def test_without_data_it_says_how_to_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDS_DATA_DIR", raising=False)
    done = RUNNER.invoke(train, ["nhanes"])
    assert done.exit_code == 2
    assert "--data DIR or set CDS_DATA_DIR" in done.output


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = RUNNER.invoke(train, ["nhanes", "--data", str(tmp_path / "nowhere")])
    assert done.exit_code == 2
    assert "nowhere is no folder" in done.output.replace("\n", "")


def test_a_folder_without_tables_names_the_first_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = RUNNER.invoke(train, ["nhanes", "--data", str(tmp_path), "--out", str(out)])
    assert done.exit_code == 2
    assert "DEMO.XPT" in done.output
    assert not out.exists()


def test_the_data_folder_may_come_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "nhanes").mkdir()
    done = RUNNER.invoke(train, ["nhanes"], env={"CDS_DATA_DIR": str(tmp_path)})
    assert str(tmp_path / "nhanes") in done.output.replace("\n", "")
