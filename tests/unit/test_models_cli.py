"""`cds-service models`: list, show and diff, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from model_training.commands.models_cli import models
from model_training.predictions import PREDICTIONS, Predictions, predictions_bytes
from model_training.publish import json_bytes
from tests.artifacts import SHIPPED, artifact_files, write_artifact
from tests.data import data_folder
from tests.report_json import made_up_report

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
NAME = "diabetes-undiagnosed"
RECIPE = Path(__file__).parents[2] / "model_training" / "recipes" / "diabetes_undiagnosed.toml"
LEVELS = [
    {"level": "low", "below": 0.02},
    {"level": "moderate", "below": 0.12},
    {"level": "high"},
]
GATES = [
    {
        "id": "auroc",
        "title": "AUROC",
        "measured": 0.91,
        "rule": "at_least",
        "required": 0.85,
        "passed": True,
        "note": None,
    },
    {
        "id": "groups",
        "title": "Groups",
        "measured": -0.2,
        "rule": "at_least",
        "required": -0.05,
        "passed": False,
        "note": "Age: 60–69",
    },
]


def predictions(blur: float, count: int = 500) -> Predictions:
    truth = np.random.default_rng(3).normal(-3.5, 1.5, count)
    chance = np.random.default_rng(4)
    events = (chance.random(count) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    log_odds = truth + chance.normal(0, 1, count) * blur
    return Predictions(
        records=tuple(f"{at:06d}" for at in range(count)),
        events=events,
        scenarios={"complete": 1 / (1 + np.exp(-log_odds))},
        comparators={},
    )


def second_version(**entries: Any) -> dict[str, bytes]:
    more = {
        "report/report.json": json_bytes(made_up_report() | {"gates": GATES}),
        PREDICTIONS: predictions_bytes(predictions(0.3)),
        "recipe.toml": RECIPE.read_bytes(),
    }
    return artifact_files(more=more, **{"version": "2.0.0", "levels": LEVELS, **entries})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """1.1.0 with stored predictions, and 2.0.0 published against a gate."""
    stored = {PREDICTIONS: predictions_bytes(predictions(0.6))}
    write_artifact(tmp_path, artifact_files(more=stored, version="1.1.0"))
    forced = {"reason": "a pilot in one clinic", "failed": ["groups"]}
    write_artifact(tmp_path, second_version(forced=forced))
    return tmp_path


def shipped_files() -> dict[str, bytes]:
    """1.0.0 with its report, which `artifact_files` leaves out."""
    report = "report/report.json"
    return artifact_files(more={report: (SHIPPED / report).read_bytes()})


def hooks_file(folder: Path, *, version: str) -> Path:
    serving = {"model": NAME, "modelVersion": version}
    path = folder / "hooks.json"
    path.write_text(json.dumps({"services": [{"id": "diabetes-risk", "serving": serving}]}))
    return path


def said(*arguments: str | Path, code: int = 0) -> str:
    done = RUNNER.invoke(models, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def parsed(*arguments: str | Path) -> Any:
    done = RUNNER.invoke(models, [*(str(argument) for argument in arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


# ------------------------------------------------------------------------------------ list and show
def test_the_list_says_which_version_is_served(folder: Path) -> None:
    write_artifact(folder, shipped_files())
    hooks = ("--hooks", hooks_file(folder, version="1.0.0"))
    value, low, high = json.loads((SHIPPED / "manifest.json").read_text())["performance"]["auroc"]
    text = said("list", "--models", folder, *hooks)
    assert f"1.0.0 {value:.3f} ({low:.3f} to {high:.3f}) 16 none set diabetes-risk" in text
    listed = parsed("list", "--models", folder, *hooks)
    served = {entry["version"]: entry["served_as"] for entry in listed}
    assert served == {"1.0.0": ["diabetes-risk"], "1.1.0": [], "2.0.0": []}


def test_a_version_published_against_its_gates_is_marked(folder: Path) -> None:
    assert "1 of 2, forced" in said("list", "--models", folder)
    entry = parsed("list", "--models", folder)[-1]
    assert entry["forced"] == {"reason": "a pilot in one clinic", "failed": ["groups"]}
    text = said("show", NAME, "--models", folder)
    assert "Published against its gates (groups): a pilot in one clinic" in text
    assert "failed Groups" in text
    assert "Age: 60–69" in text


def test_a_damaged_version_is_listed_with_what_is_wrong(folder: Path) -> None:
    (folder / NAME / "1.1.0" / "model.ubj").write_bytes(b"")
    text = said("list", "--models", folder)
    assert "1.1.0 damaged" in text
    assert "model.ubj: has 0 bytes" in text
    assert "has 0 bytes" in parsed("list", "--models", folder)[0]["damaged"]


def test_a_folder_without_models_says_so(tmp_path: Path) -> None:
    assert said("list", "--models", tmp_path) == f"No models in {tmp_path}."


def test_show_gives_question_figures_levels_and_files(folder: Path) -> None:
    write_artifact(folder, shipped_files())
    hooks = ("--hooks", hooks_file(folder, version="1.0.0"))
    text = said("show", f"{NAME}/1.0.0", "--models", folder, *hooks)
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    assert manifest["question"] in text
    assert "Served as diabetes-risk." in text
    test = manifest["cohort"]["test"]
    assert f"Test {test['people']:,} ({test['events']:,}) 2015-2016" in text
    assert "Moderate 0.035 to below 0.12" in text
    assert f"All {len(shipped_files()) - 1} files have their digests" in text
    shown = parsed("show", f"{NAME}/1.0.0", "--models", folder, *hooks)
    assert shown["figures"]["AUROC, complete record"] == manifest["performance"]["auroc"]
    assert shown["digests_checked"] is True


def test_show_takes_the_newest_version_of_a_name(folder: Path) -> None:
    assert parsed("show", NAME, "--models", folder)["version"] == "2.0.0"


def test_show_refuses_a_version_that_the_service_would_refuse(folder: Path) -> None:
    (folder / NAME / "2.0.0" / "calibration.json").write_bytes(b"{}")
    text = said("show", NAME, "--models", folder, code=2)
    assert text.startswith("calibration.json: has 2 bytes")


@pytest.mark.parametrize("command", [["show", "asthma"], ["diff", "asthma/1", "asthma/2"]])
def test_an_unknown_model_is_told_what_there_is(command: list[str], folder: Path) -> None:
    text = said(*command, "--models", folder, code=2)
    assert text.startswith("There is no model asthma")
    assert f"There are: {NAME}/1.1.0, {NAME}/2.0.0." in text


def test_a_hooks_file_that_says_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "hooks.json").write_text("{}")
    assert "does not say what is served" in said("list", "--hooks", tmp_path / "hooks.json", code=2)


# -------------------------------------------------------------------------------------------- diff
def test_diff_counts_the_people_whose_level_changes(folder: Path) -> None:
    found = parsed("diff", f"{NAME}/1.1.0", f"{NAME}/2.0.0", "--models", folder)["people"]
    was, now = predictions(0.6).scenarios["complete"], predictions(0.3).scenarios["complete"]
    events = predictions(0.3).events
    up = ((was < 0.035) & (now >= 0.02)) | ((was < 0.12) & (now >= 0.12))
    down = ((was >= 0.035) & (now < 0.02)) | ((was >= 0.12) & (now < 0.12))
    moved = found["reclassified"]
    assert moved["events_up"] == int((up & (events == 1)).sum())
    assert moved["others_down"] == int((down & (events == 0)).sum())
    by_hand = (up.astype(int) - down.astype(int))[events == 1].mean()
    assert moved["events"][0] == pytest.approx(by_hand)
    assert sum(cell["people"] for cell in found["cells"]) == 500
    assert found["correlation"] == pytest.approx(np.corrcoef(was, now)[0, 1], abs=1e-6)


def test_diff_shows_what_changed_to_people(folder: Path) -> None:
    text = said("diff", f"{NAME}/1.1.0", f"{NAME}/2.0.0", "--models", folder, "--movers", "1")
    assert "Moderate 0.035 0.02" in text
    assert "The same 500 people" in text
    assert "Sum (NRI)" in text
    assert text.count(" → ") >= 3


def test_diff_names_the_inputs_that_came_and_went(folder: Path) -> None:
    write_artifact(folder, second_version(version="2.1.0"))
    manifest = folder / NAME / "2.1.0" / "manifest.json"
    raw = json.loads(manifest.read_text())
    raw["features"][-1] |= {"name": "sodium", "title": "Sodium"}
    manifest.write_text(json.dumps(raw))
    text = said("diff", f"{NAME}/2.0.0", f"{NAME}/2.1.0", "--models", folder)
    assert "Added: Sodium Removed: White cells" in text


def test_without_stored_predictions_diff_says_how_people_are_compared(folder: Path) -> None:
    write_artifact(folder, artifact_files(version="1.0.0"))
    arguments = ("diff", f"{NAME}/1.0.0", f"{NAME}/2.0.0", "--models", folder)
    text = said(*arguments)
    assert f"No person was compared: {NAME}/1.0.0 stored no predictions. Give --data" in text
    assert parsed(*arguments)["people"] is None


def test_predictions_of_other_people_are_not_compared(folder: Path) -> None:
    others = {PREDICTIONS: predictions_bytes(predictions(0.3, count=400))}
    write_artifact(folder, artifact_files(more=others, version="1.2.0"))
    text = said("diff", f"{NAME}/1.2.0", f"{NAME}/2.0.0", "--models", folder)
    assert "their stored predictions are of different people" in text


def test_data_without_a_recipe_cannot_be_scored(folder: Path, tmp_path: Path) -> None:
    write_artifact(folder, artifact_files(version="1.0.0"))
    arguments = ("diff", f"{NAME}/1.0.0", f"{NAME}/1.1.0", "--models", folder)
    assert "holds a recipe.toml" in said(*arguments, "--data", tmp_path, code=2)
    assert "is no folder" in said(*arguments, "--data", tmp_path / "nowhere", code=2)


def test_an_unknown_kind_of_record_is_told_which_there_are(folder: Path) -> None:
    arguments = ("diff", f"{NAME}/1.1.0", f"{NAME}/2.0.0", "--models", folder)
    assert "There are: complete." in said(*arguments, "--scenario", "no_urine", code=2)


def test_every_command_shows_an_example() -> None:
    for command in ("list", "show", "diff"):
        assert f"Example: cds-service models {command}" in said(command, "--help")


def test_on_nhanes_the_first_version_scores_as_it_was_published(folder: Path) -> None:
    """Without stored predictions both are scored: 1.0.0 gives each level the people of its own
    report, and the AUROC that it was published with."""
    write_artifact(folder, artifact_files(version="1.0.0"))
    found = parsed(
        *("diff", f"{NAME}/1.0.0", f"{NAME}/2.0.0", "--models", folder),
        *("--data", data_folder("nhanes")),
    )["people"]
    published = json.loads((SHIPPED / "manifest.json").read_text())["performance"]
    assert (found["people"], found["events"]) == (published["people"], published["events"])
    assert found["auroc_before"] == pytest.approx(published["auroc"][0], abs=5e-5)
    for level, band in published["levels"]["bands"].items():
        cells = [cell for cell in found["cells"] if cell["before"] == level]
        assert sum(cell["people"] for cell in cells) == band["people"]
        assert sum(cell["events"] for cell in cells) == band["events"]
