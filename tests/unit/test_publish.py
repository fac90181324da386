"""A version is published whole, past its gates or with a trace, and stays what it was."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_training.artifact import UnknownModel, find, newest, read_artifact
from model_training.dataset import DatasetError
from model_training.gate_rules import parse_gates
from model_training.gates import GateResult, judge
from model_training.predictions import (
    Predictions,
    predictions_bytes,
    predictions_of,
    read_predictions,
    rounded,
)
from model_training.publish import Held, Published, forced_trace, publish, require_places
from risk_model import ArtifactError, load_model
from tests.artifacts import artifact_files, write_artifact

NAME, VERSION = "diabetes-undiagnosed", "3.0.0"


def files(**entries: Any) -> dict[str, bytes]:
    return artifact_files(**{"version": VERSION, **entries})


def results(*passed: bool) -> tuple[GateResult, ...]:
    """One gate that passes or fails for each argument, called g0, g1 and so on."""
    gates = parse_gates(
        [
            {"id": f"g{at}", "title": f"Gate {at}", "measure": "auroc", "at_least": at_least}
            for at, at_least in enumerate(0.8 if passes else 0.95 for passes in passed)
        ]
    )
    return judge(gates, {"auroc": 0.9}, None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def drafts(tmp_path: Path) -> Path:
    return tmp_path / "drafts"


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ------------------------------------------------------------------------------------------- gates
def test_past_its_gates_it_is_where_the_service_loads_it(out: Path, drafts: Path) -> None:
    done = publish(files(), out, NAME, VERSION, results=results(True, True), drafts=drafts)
    assert isinstance(done, Published)
    assert done.folder == out / NAME / VERSION
    assert done.model.manifest.version == VERSION
    assert everything(done.folder) == files()
    assert sorted(path.name for path in done.folder.parent.iterdir()) == [VERSION]
    assert not drafts.exists()


def test_a_failed_gate_leaves_a_draft_and_says_by_how_much(out: Path, drafts: Path) -> None:
    done = publish(files(), out, NAME, VERSION, results=results(True, False), drafts=drafts)
    assert isinstance(done, Held)
    assert done.folder == drafts / NAME / VERSION
    assert load_model(done.folder).manifest.version == VERSION
    assert done.reasons == ("Gate 1: 0.9, at least 0.95 asked, missed by 0.05.",)
    assert not out.exists()


def test_force_publishes_and_leaves_a_trace(out: Path, drafts: Path) -> None:
    done = publish(
        files(), out, NAME, VERSION, results=results(False, True), force="a pilot", drafts=drafts
    )
    assert isinstance(done, Published)
    assert done.forced == ("g0",)
    assert read_artifact(done.folder).forced == {"reason": "a pilot", "failed": ["g0"]}
    changed = {name for name, c in everything(done.folder).items() if c != files()[name]}
    assert changed == {"manifest.json"}


def test_force_leaves_no_trace_where_nothing_was_overruled(out: Path) -> None:
    done = publish(files(), out, NAME, VERSION, results=results(True), force="to be sure")
    assert isinstance(done, Published)
    assert "forced" not in read_artifact(done.folder).manifest.raw


def test_force_without_a_reason_is_refused(out: Path) -> None:
    with pytest.raises(DatasetError, match="needs a reason"):
        publish(files(), out, NAME, VERSION, results=results(False), force=" ")
    assert not out.exists()


def test_the_trace_is_known_before_anything_is_written() -> None:
    """So that the model card can be made with it."""
    assert forced_trace(results(True, False), "a pilot") == {"reason": "a pilot", "failed": ["g1"]}
    assert forced_trace(results(True, False), None) is None
    assert forced_trace(results(True), "a pilot") is None


# ---------------------------------------------------------------------------- what stays as it was
def test_the_same_bytes_may_be_published_again(out: Path) -> None:
    publish(files(), out, NAME, VERSION, results=())
    assert isinstance(publish(files(), out, NAME, VERSION, results=()), Published)


def test_a_report_may_be_made_again(out: Path) -> None:
    publish(files(more={"MODEL_CARD.md": b"# Old\n"}), out, NAME, VERSION, results=())
    done = publish(files(more={"MODEL_CARD.md": b"# New\n"}), out, NAME, VERSION, results=())
    assert (done.folder / "MODEL_CARD.md").read_bytes() == b"# New\n"
    assert isinstance(done, Published)


OTHER_LEVELS = [{"level": "low", "below": 0.05}, {"level": "moderate", "below": 0.2}]


@pytest.mark.parametrize(
    "other",
    [{"levels": [*OTHER_LEVELS, {"level": "high"}]}, {"prevalence": 0.03}],
    ids=["levels", "prevalence"],
)
def test_a_published_version_does_not_become_another_model(
    out: Path, drafts: Path, other: dict[str, Any]
) -> None:
    publish(files(), out, NAME, VERSION, results=())
    held = publish(files(**other), out, NAME, VERSION, results=(), force="why not", drafts=drafts)
    assert isinstance(held, Held)
    assert "holds another model" in held.reasons[0]
    assert everything(out / NAME / VERSION) == files()
    assert everything(drafts / NAME / VERSION) == files(**other)


def test_replace_lets_go_of_what_was_published(out: Path) -> None:
    publish(files(), out, NAME, VERSION, results=())
    done = publish(files(prevalence=0.03), out, NAME, VERSION, results=(), replace=True)
    assert isinstance(done, Published)
    assert everything(out / NAME / VERSION) == files(prevalence=0.03)


def test_what_cannot_be_read_is_not_taken_for_the_same(out: Path, drafts: Path) -> None:
    publish(files(), out, NAME, VERSION, results=())
    (out / NAME / VERSION / "manifest.json").write_text("{")
    held = publish(files(), out, NAME, VERSION, results=(), drafts=drafts)
    assert isinstance(held, Held)


# ------------------------------------------------------------------------------ whole or not at all
def test_what_the_service_would_refuse_is_not_written(out: Path) -> None:
    broken = files() | {"calibration.json": b"{}"}
    with pytest.raises(ArtifactError, match=r"calibration\.json"):
        publish(broken, out, NAME, VERSION, results=())
    assert not out.exists()


def test_a_refused_version_leaves_the_published_one_alone(out: Path) -> None:
    publish(files(), out, NAME, VERSION, results=())
    broken = files() | {"report.txt": b"named nowhere"}
    with pytest.raises(ArtifactError, match=r"report\.txt"):
        publish(broken, out, NAME, VERSION, results=())
    assert everything(out) == {f"{NAME}/{VERSION}/{path}": c for path, c in files().items()}


def test_if_the_new_folder_cannot_be_moved_in_the_old_one_comes_back(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(files(), out, NAME, VERSION, results=())
    replace, calls = os.replace, []

    def full_disk(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(DatasetError, match="No space left on device"):
        publish(files(), out, NAME, VERSION, results=())
    assert everything(out) == {f"{NAME}/{VERSION}/{path}": c for path, c in files().items()}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(DatasetError, match="cannot be written"):
        publish(files(), tmp_path / "models", NAME, VERSION, results=())


def test_places_are_asked_for_and_left_as_they_were(out: Path, drafts: Path) -> None:
    require_places(out, drafts, NAME, VERSION)
    assert not out.exists()
    assert not drafts.exists()
    publish(files(), out, NAME, VERSION, results=())
    before = sorted(out.rglob("*"))
    require_places(out, drafts, NAME, VERSION)
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize("option", ["--out", "--drafts"])
def test_a_place_that_is_a_file_is_named_with_its_option(tmp_path: Path, option: str) -> None:
    places = {"--out": tmp_path / "models", "--drafts": tmp_path / "drafts"}
    places[option].write_text("a file")
    words = rf"{places[option]}/{NAME} cannot be written: .+\. Give another {option}\."
    with pytest.raises(DatasetError, match=words):
        require_places(places["--out"], places["--drafts"], NAME, VERSION)


def test_a_place_without_room_is_named_and_left_empty(
    out: Path, drafts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(DatasetError, match=r"No space left on device\. Give another --out"):
        require_places(out, drafts, NAME, VERSION)
    assert not out.exists()


def test_a_name_that_is_no_folder_is_refused_before_training(out: Path, drafts: Path) -> None:
    with pytest.raises(DatasetError, match="cannot name a folder"):
        require_places(out, drafts, "../elsewhere", VERSION)


@pytest.mark.parametrize("version", ["", "..", "../1.0.0", "a/b", ".hidden"])
def test_a_version_that_could_lead_elsewhere_is_refused(out: Path, version: str) -> None:
    with pytest.raises(DatasetError, match="cannot name a folder"):
        publish(files(), out, NAME, version, results=())


# --------------------------------------------------------------------------------------- read back
def test_the_newest_version_is_the_highest_number_and_no_candidate(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0", "1.10.0-rc.2"):
        write_artifact(tmp_path, artifact_files(version=version))
    found = newest(tmp_path, NAME)
    assert found is not None
    assert found.reference == f"{NAME}/1.10.0"
    assert newest(tmp_path, "other") is None
    assert find(tmp_path, NAME).name == "1.10.0"
    assert find(tmp_path, f"{NAME}/1.9.0").name == "1.9.0"


def test_a_version_is_held_against_the_one_before_it_and_not_against_itself(tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0", "2.1.0"):
        write_artifact(tmp_path, artifact_files(version=version))
    for version, expected in (("2.0.0", "1.0.0"), ("2.0.1", "2.0.0"), ("3.0.0", "2.1.0")):
        before = newest(tmp_path, NAME, before=version)
        assert before is not None
        assert before.manifest.version == expected
    assert newest(tmp_path, NAME, before="1.0.0") is None


def test_an_unknown_version_is_told_what_there_is(tmp_path: Path) -> None:
    write_artifact(tmp_path, artifact_files(version="1.9.0"))
    with pytest.raises(UnknownModel, match=r"There are: diabetes-undiagnosed/1\.9\.0"):
        find(tmp_path, f"{NAME}/2.0.0")
    with pytest.raises(UnknownModel, match=r"There are: diabetes-undiagnosed/1\.9\.0"):
        find(tmp_path, "another")


# ------------------------------------------------------------------------------------- predictions
PREDICTIONS = Predictions(
    records=("031416", 'a "b", c'),
    events=np.array([0, 1], dtype=np.int64),
    scenarios={"complete": np.array([0.012345678912, 1e-12]), "no_glucose": np.array([0.5, 0.25])},
    comparators={"Glucose alone": np.array([101.0, np.nan])},
)


def test_predictions_are_read_back_to_nine_digits() -> None:
    read = read_predictions(predictions_bytes(PREDICTIONS))
    assert read.records == PREDICTIONS.records
    assert read.same_people(PREDICTIONS)
    assert list(read.scenarios) == ["complete", "no_glucose"]
    assert read.scenarios["complete"].tolist() == [0.0123456789, 1e-12]
    assert read.comparators["Glucose alone"].tolist()[0] == 101.0
    assert np.isnan(read.comparators["Glucose alone"][1])
    assert rounded(PREDICTIONS.scenarios["complete"]).tolist() == [0.0123456789, 1e-12]


def test_the_same_predictions_are_the_same_bytes_and_carry_no_clock() -> None:
    content = predictions_bytes(PREDICTIONS)
    assert predictions_bytes(read_predictions(content)) == content
    assert content[4:8] == bytes(4)  # MTIME, RFC 1952
    assert content[3] == 0  # no file name, no comment


def test_columns_become_predictions_by_their_names() -> None:
    columns = {"complete": np.array([0.1]), "comparator:ADA": np.array([4.0])}
    made = predictions_of(["1"], np.array([1]), columns)
    assert list(made.scenarios) == ["complete"]
    assert list(made.comparators) == ["ADA"]


@pytest.mark.parametrize(
    "content",
    [b"", b"record,event\n", predictions_bytes(PREDICTIONS)[:40]],
    ids=["empty", "not compressed", "cut off"],
)
def test_bytes_that_are_no_predictions_are_refused(content: bytes) -> None:
    with pytest.raises(DatasetError, match=r"predictions\.csv\.gz cannot be read"):
        read_predictions(content)


def test_predictions_of_another_layout_are_refused() -> None:
    for text in ("event,record\n1,a\n", "record,event,complete\na,1\n", "record,event\na,yes\n"):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_predictions(gzip.compress(text.encode()))
