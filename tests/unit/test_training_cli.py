"""`cds-service train` and `cds-service data`: their help, and what they say of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model_training.cli import data, train
from model_training.recipe import DIABETES_UNDIAGNOSED

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
SOURCES = ("nhanes", "mimic3", "fhir")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command writes by default lands in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CDS_DATA_DIR", raising=False)


def refused(*arguments: str | Path) -> str:
    """What `train` said on stderr: one sentence, exit code 2, and nothing beside it."""
    before = sorted(Path.cwd().rglob("*"))
    done = RUNNER.invoke(train, [str(argument) for argument in arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before
    return done.stderr


# --------------------------------------------------------------------------------------------- help


def test_help_lists_the_data_sets() -> None:
    shown = RUNNER.invoke(train, ["--help"]).output
    assert [source for source in SOURCES if f"│ {source} " not in shown] == []
    assert "Example: cds-service train nhanes --data" in shown
    assert "Example: cds-service data nhanes --to" in RUNNER.invoke(data, ["--help"]).output


def test_without_a_data_set_the_help_is_shown() -> None:
    done = RUNNER.invoke(train, [])
    assert done.exit_code == 2
    assert [source for source in SOURCES if f"│ {source} " not in done.output] == []


@pytest.mark.parametrize("source", SOURCES)
def test_every_data_set_shows_an_example_and_says_how_to_publish(source: str) -> None:
    shown = RUNNER.invoke(train, [source, "--help"]).output
    assert f"Example: cds-service train {source} --data" in shown
    for option in ("--data", "--out", "--recipe", "--settings-of", "--force", "--drafts"):
        assert option in shown
    assert "Publish although a gate fails" in shown


def test_defaults_that_depend_on_something_are_said() -> None:
    assert "CDS_DATA_DIR" in RUNNER.invoke(train, ["nhanes", "--help"]).output
    of_mimic = RUNNER.invoke(train, ["mimic3", "--help"]).output
    assert "the recipe's: first" in of_mimic
    assert "mimic3_demo" in of_mimic


def test_fetching_shows_an_example() -> None:
    assert (
        "Example: cds-service data nhanes --to" in RUNNER.invoke(data, ["nhanes", "--help"]).output
    )


# ----------------------------------------------------------------------------------------- the data


@pytest.mark.parametrize("source", ["nhanes", "mimic3"])
def test_without_data_it_says_how_to_give_them(source: str) -> None:
    assert "Give --data DIR or set CDS_DATA_DIR." in refused(source)


def test_an_export_has_to_be_named() -> None:
    done = RUNNER.invoke(train, ["fhir"])
    assert done.exit_code == 2
    assert "--data" in done.stderr


@pytest.mark.parametrize("source", SOURCES)
def test_a_folder_that_is_not_there_is_named(source: str, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(source, "--data", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("source", "words"),
    [("nhanes", "DEMO.XPT"), ("mimic3", "ADMISSIONS.csv.gz"), ("fhir", "*.ndjson")],
)
def test_a_folder_without_the_data_names_what_is_missing(
    source: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert words in refused(source, "--data", tmp_path / "empty", "--out", tmp_path / "out")


def test_the_data_folder_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDS_DATA_DIR", str(tmp_path))
    for source, folder in (("nhanes", "nhanes"), ("mimic3", "mimic3_demo")):
        (tmp_path / folder).mkdir()
        assert str(tmp_path / folder) in refused(source)


def test_a_window_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    done = RUNNER.invoke(train, ["mimic3", "--data", str(tmp_path), "--window", "after"])
    assert done.exit_code == 2
    assert "'after' is not one of 'first', 'before'" in done.stderr


# --------------------------------------------------------------------------------- recipe, settings


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "ours.toml cannot be read" in refused("nhanes", "--recipe", tmp_path / "ours.toml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[cohort]", "[cohort"), "is not TOML"),
        (('name = "glucose"\n', 'name = "glocuse"\n'), "'glocuse'"),
        (("[calibration]", "[calibrating]"), "lacks [calibration]."),
        (("in_the_large = 0.1", "in_the_large = 'large'"), "[calibration] in_the_large should be"),
        (("outcome_at_least = 6.5\n", ""), "[cohort] lacks outcome_at_least"),
        (
            ('kind = "period"', 'kind = "person"\ntest_share = 0.3\nseed = 1'),
            "[split] is by person",
        ),
    ],
    ids=["no TOML", "an unknown concept", "section", "type", "rule of the cohort", "split"],
)
def test_a_recipe_that_cannot_be_used_says_why(
    change: tuple[str, str], words: str, tmp_path: Path
) -> None:
    text = DIABETES_UNDIAGNOSED.read_text("utf-8")
    assert change[0] in text
    (tmp_path / "ours.toml").write_text(text.replace(*change, 1), encoding="utf-8")
    said = refused("nhanes", "--recipe", tmp_path / "ours.toml", "--data", tmp_path)
    assert str(tmp_path / "ours.toml") in said
    assert words in said


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        {"choices": None},
        {"choices": {"search": {}}},
        {"choices": {"search": {"chosen": {"max_depth": 3}}}},
        {"choices": {"search": {"chosen": {"rounds": "many"}}}},
        {"choices": {"search": {"chosen": [1]}}},
    ],
    ids=str,
)
def test_settings_of_what_is_no_report_are_refused(content: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        report.write_text(text, encoding="utf-8")
    said = refused("nhanes", "--settings-of", report, "--data", tmp_path)
    assert f"{report} is no report.json of a training run with a search" in said


@pytest.mark.parametrize("option", ["--out", "--drafts"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_place_that_cannot_be_written_is_named_before_the_data_are_read(
    source: str, option: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    said = refused(source, "--data", tmp_path, option, tmp_path / "taken")
    assert f"{tmp_path / 'taken'}" in said
    assert f"Give another {option}." in said


def test_force_without_a_reason_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    said = refused("nhanes", "--data", tmp_path, "--force", " ")
    assert "needs a reason: --force REASON" in said
