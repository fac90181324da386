"""The MIMIC-III demo through the command that is documented, as a process of its own.

From files and from PostgreSQL; a hundred patients make no model, and the command says so.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from model_training.artifact import read_artifact
from risk_model import RiskEstimate, load_model, score
from tests.data import data_folder
from tests.fakes.databases import POSTGRESQL_MISSING, postgresql_binaries
from tests.fakes.mimic3 import mimic3_in_postgresql

pytestmark = pytest.mark.xdist_group("mimic3-training")
MODEL = Path("diabetes-inpatient") / "1.0.0"
REASON = "a trial of the pipeline, for nobody's care"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of `cds-service train mimic3`; what it wrote is in `folder`."""

    folder: Path
    code: int
    said: str
    refused: str
    seconds: float

    @property
    def published(self) -> Path:
        return self.folder / "out" / MODEL

    @property
    def draft(self) -> Path:
        return self.folder / "drafts" / MODEL


def train(folder: Path, source: str | Path | None, *more: str) -> Run:
    given = [] if source is None else ["--data", str(source)]
    folder.mkdir(parents=True)
    began = time.monotonic()
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("cds-service"), "train", "mimic3", *given),
            *("--out", "out", "--drafts", "drafts", *more),
        ],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("CDS_")} | {"COLUMNS": "300"},
        capture_output=True,
        text=True,
    )
    run = Run(
        folder=folder,
        code=done.returncode,
        said=done.stdout,
        refused=done.stderr,
        seconds=time.monotonic() - began,
    )
    sys.stdout.write(f"train mimic3 {' '.join(more)}: exit {run.code}, {run.seconds:.0f} s\n")
    return run


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def demo() -> Path:
    return data_folder("mimic3_demo")


@pytest.fixture(scope="module")
def run(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("files") / "run", demo)


@pytest.fixture(scope="module")
def forced(run: Run, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With the settings that the first run's search found."""
    found = ("--settings-of", str(run.draft / "report" / "report.json"))
    return train(tmp_path_factory.mktemp("forced") / "run", demo, "--force", REASON, *found)


@pytest.fixture(scope="module")
def from_database(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    if postgresql_binaries() is None:
        pytest.skip(POSTGRESQL_MISSING)
    with mimic3_in_postgresql(demo) as url:
        source = url.replace("postgresql://", "postgresql+psycopg://")
        yield train(tmp_path_factory.mktemp("database") / "run", source)


# ------------------------------------------------------------------------------------- the draft


def test_it_ends_well_and_says_that_it_is_for_testing_only(run: Run) -> None:
    assert (run.code, run.refused) == (0, "")
    assert re.search(r"A model from \d+ people is for testing the pipeline only", run.said)
    assert "Traceback" not in run.said


def test_it_is_not_published_and_the_reasons_are_said(run: Run) -> None:
    assert "Not published:" in run.said
    people = json.loads((run.draft / "report/report.json").read_text("utf-8"))["test"]["people"]
    assert f"- Admissions measured on: {people}, at least 1,000 asked" in run.said
    assert f"The draft, with its report, is in drafts/{MODEL}" in run.said
    assert sorted(path.name for path in run.folder.iterdir()) == ["drafts"]


def test_the_draft_loads_and_scores(run: Run) -> None:
    model = load_model(run.draft)
    assert model.manifest.name == "diabetes-inpatient"
    got = score(model, {"age": 64, "sex": 1, "glucose": 180, "glucose_max": 260})
    assert isinstance(got, RiskEstimate)
    assert 0 < got.probability < 1


def test_the_draft_has_its_report_its_card_and_its_recipe(run: Run) -> None:
    held = files(run.draft)
    assert {
        "MODEL_CARD.md",
        "model_card.json",
        "recipe.toml",
        "report/report.html",
        "report/report.json",
        "report/predictions.csv.gz",
    } <= set(held)
    assert "For research and testing only" in held["MODEL_CARD.md"].decode()
    assert held["report/report.html"].startswith(b"<!doctype html>")
    report = json.loads(held["report/report.json"])
    assert [gate["id"] for gate in report["gates"] if not gate["passed"]] == ["people", "auroc"]
    artifact = read_artifact(run.draft)
    assert artifact.predictions is not None
    assert len(artifact.predictions.records) == report["test"]["people"]


def test_no_patient_of_the_test_part_was_fitted_and_no_identity_is_told(
    run: Run, demo: Path
) -> None:
    admissions = pd.read_csv(demo / "ADMISSIONS.csv.gz", dtype=str)
    identities = {*admissions["subject_id"], *admissions["hadm_id"], *admissions["admittime"]}
    artifact = read_artifact(run.draft)
    assert artifact.predictions is not None
    assert not {record.lstrip("0") for record in artifact.predictions.records} & identities
    card = artifact.contents["MODEL_CARD.md"].decode()
    page = artifact.contents["report/report.html"].decode()
    dates = {text[:10] for text in admissions["admittime"]}
    assert [date for date in dates if date in card or date in page] == []


def test_a_second_run_gives_the_same_bytes(run: Run, demo: Path, tmp_path: Path) -> None:
    again = train(tmp_path / "run", demo)
    assert again.code == 0
    assert files(again.draft) == files(run.draft)


def test_postgresql_gives_the_model_that_the_files_give(run: Run, from_database: Run) -> None:
    assert (from_database.code, from_database.refused) == (0, "")
    ours, theirs = files(run.draft), files(from_database.draft)
    assert [name for name in ours if theirs.get(name) != ours[name]] == []
    assert set(theirs) == set(ours)


# ---------------------------------------------------------------------------------------- --force


def test_force_publishes_and_leaves_a_trace(forced: Run, run: Run) -> None:
    assert forced.code == 0
    assert "Forced past: people, auroc" in forced.said
    assert f"Published out/{MODEL}, verified and loaded as the service does." in forced.said
    trace = {"reason": REASON, "failed": ["people", "auroc"]}
    assert json.loads((forced.published / "manifest.json").read_text("utf-8"))["forced"] == trace
    report = json.loads((forced.published / "report/report.json").read_text("utf-8"))
    assert report["forced"] == trace
    card = (forced.published / "MODEL_CARD.md").read_text("utf-8")
    assert f"**Published in spite of that: {REASON}.**" in card
    assert load_model(forced.published).manifest.version == "1.0.0"
    assert not forced.draft.exists()


def test_neither_force_nor_settings_found_earlier_change_the_model(forced: Run, run: Run) -> None:
    ours, theirs = files(run.draft), files(forced.published)
    assert set(theirs) == set(ours)
    told = {"manifest.json", "MODEL_CARD.md", "model_card.json", "report/report.json"}
    told |= {"report/report.html"}
    assert {name for name in ours if theirs[name] != ours[name]} == told
    before, after = (json.loads(held["report/report.json"]) for held in (ours, theirs))
    assert after == before | {"forced": after["forced"]}


# --------------------------------------------------------------------------------------- refused


def test_a_database_that_refuses_is_a_sentence_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        # Bound and not listening: whoever calls is refused.
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        source = f"postgresql+psycopg://reader:sesame@127.0.0.1:{port}/mimic"
        run = train(tmp_path / "run", source)
    assert (run.code, run.said) == (2, "")
    assert f"reader:***@127.0.0.1:{port}/mimic cannot be read" in run.refused
    assert "sesame" not in run.refused
    assert run.refused.count("\n") == 1
    assert list(run.folder.iterdir()) == []
