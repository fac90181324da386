"""An artifact that is not exactly what was published is refused, with the file and the remedy."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_training.artifact import folders
from model_training.model_card.quote import ARTIFACTS
from risk_model import ArtifactError, load_model, parse_manifest
from tests.manifests import raw_manifest
from tests.shipped import NAME, SHIPPED, VERSION


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / VERSION
    shutil.copytree(SHIPPED, folder)
    return folder


def refusal(folder: Path) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        load_model(folder)
    return caught.value


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Changes a file and the digest that covers it, as somebody would who rebuilt by hand."""
    (folder / name).write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(folder, lambda manifest: manifest["files"].update({name: entry}))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_the_shipped_artifact_loads() -> None:
    model = load_model(SHIPPED)
    assert (model.manifest.name, model.manifest.version) == (NAME, VERSION)


@pytest.mark.parametrize("folder", folders(ARTIFACTS), ids=lambda folder: folder.name)
def test_every_published_version_loads(folder: Path) -> None:
    """A version stays what it was, and the service can go back to it."""
    assert load_model(folder).manifest.version == folder.name


@pytest.mark.parametrize("name", ["model.ubj", "calibration.json", "MODEL_CARD.md"])
def test_one_changed_byte_is_noticed(artifact: Path, name: str) -> None:
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(content)
    fault = refusal(artifact)
    assert fault.file == name
    assert "sha256" in fault.problem
    assert "Restore the folder" in fault.remedy


def test_a_truncated_file_is_noticed_by_its_size(artifact: Path) -> None:
    (artifact / "model.ubj").write_bytes(b"")
    assert "has 0 bytes" in refusal(artifact).problem


def test_a_missing_file_is_named(artifact: Path) -> None:
    (artifact / "golden_scores.json").unlink()
    fault = refusal(artifact)
    assert (fault.file, fault.problem) == (
        "golden_scores.json",
        "is named in the manifest and missing",
    )


def test_a_missing_folder_says_where_it_looked(tmp_path: Path) -> None:
    fault = refusal(tmp_path / "nowhere")
    assert fault.file == "manifest.json"
    assert "nowhere" in fault.problem


def test_a_file_that_no_digest_covers_is_refused(artifact: Path) -> None:
    (artifact / "report" / "notes.txt").write_text("hello")
    fault = refusal(artifact)
    assert (fault.file, fault.problem) == ("report/notes.txt", "is not named in the manifest")


@pytest.mark.parametrize(
    "path", ["../1.0.0/model.ubj", "/etc/passwd", "report/../model.ubj", "./model.ubj", "a\\b", ""]
)
def test_paths_that_could_lead_out_of_the_folder_are_refused(artifact: Path, path: str) -> None:
    edit(artifact, lambda m: m["files"].update({path: m["files"]["model.ubj"]}))
    fault = refusal(artifact)
    assert fault.file == "manifest.json"
    assert "no file of this folder" in fault.problem


def test_a_symbolic_link_is_refused(artifact: Path, tmp_path: Path) -> None:
    outside = tmp_path / "model.ubj"
    shutil.move(artifact / "model.ubj", outside)
    (artifact / "model.ubj").symlink_to(outside)
    fault = refusal(artifact)
    assert (fault.file, fault.problem) == ("model.ubj", "is reached through a symbolic link")


def test_a_linked_inner_folder_is_refused(artifact: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    shutil.move(artifact / "report", outside)
    (artifact / "report").symlink_to(outside, target_is_directory=True)
    assert refusal(artifact).file.startswith("report")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"format": NaN}', b"[" * 100_000],
    ids=["empty", "cut off", "a list", "not UTF-8", "NaN", "deeply nested"],
)
def test_a_manifest_that_is_no_json_object_is_refused(artifact: Path, content: bytes) -> None:
    (artifact / "manifest.json").write_bytes(content)
    assert refusal(artifact).file == "manifest.json"


def test_bytes_that_are_no_model_are_refused_even_with_the_right_digest(artifact: Path) -> None:
    rewrite(artifact, "model.ubj", b"{not a model")
    fault = refusal(artifact)
    assert fault.file == "model.ubj"
    assert "cannot be loaded" in fault.problem


def test_a_pickle_is_no_model(artifact: Path) -> None:
    rewrite(artifact, "model.ubj", b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.")
    assert refusal(artifact).file == "model.ubj"


def test_columns_in_another_order_are_refused(artifact: Path) -> None:
    edit(artifact, lambda manifest: manifest["features"].reverse())
    fault = refusal(artifact)
    assert fault.file == "model.ubj"
    assert "has columns" in fault.problem


@pytest.mark.parametrize(
    "calibration",
    [
        {},
        {"method": "isotonic"},
        {"method": "sigmoid", "slope": -1, "intercept": 0},
        {"method": "sigmoid", "slope": "1", "intercept": 0},
        {"method": "sigmoid", "slope": 1},
        [],
    ],
)
def test_a_calibration_that_is_not_understood_is_refused(artifact: Path, calibration: Any) -> None:
    rewrite(artifact, "calibration.json", json.dumps(calibration).encode())
    assert refusal(artifact).file == "calibration.json"


def test_a_score_off_by_more_than_a_millionth_is_noticed(artifact: Path) -> None:
    golden = json.loads((artifact / "golden_scores.json").read_text(encoding="utf-8"))
    golden["cases"][3]["probability"] += 2e-6
    rewrite(artifact, "golden_scores.json", json.dumps(golden).encode())
    fault = refusal(artifact)
    assert fault.file == "golden_scores.json"
    assert golden["cases"][3]["name"] in fault.problem
    assert "xgboost version" in fault.remedy


def test_a_changed_calibration_is_noticed_by_the_golden_scores(artifact: Path) -> None:
    other = {"method": "sigmoid", "slope": 0.5, "intercept": 0}
    rewrite(artifact, "calibration.json", json.dumps(other).encode())
    assert refusal(artifact).file == "golden_scores.json"


@pytest.mark.parametrize(
    "cases", [[], [{}], "none", [{"name": "x", "values": {}, "probability": 0}]]
)
def test_golden_scores_that_prove_nothing_are_refused(artifact: Path, cases: Any) -> None:
    rewrite(artifact, "golden_scores.json", json.dumps({"cases": cases}).encode())
    assert refusal(artifact).file == "golden_scores.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format is 2"),
        ({"name": None}, "name is None"),
        ({"features": []}, "features is empty"),
        ({"features": [1]}, "an object was expected"),
        ({"levels": [{"level": "low", "below": 0.5}]}, "levels must rise"),
        ({"levels": [{"level": "a", "below": 0.5}, {"level": "b", "below": 0.4}]}, "levels must"),
        ({"levels": [{"below": 0.4}]}, "levels"),
        ({"levels": [3]}, "levels"),
        ({"prevalence": 0}, "prevalence"),
        ({"prevalence": "often"}, "prevalence"),
        ({"files": {}}, "files does not name"),
        ({"files": {"model.ubj": 3}}, "files: model.ubj"),
        ({"sufficiency": {"at_least_one_of": [["waist"]]}}, "waist"),
        ({"sufficiency": 3}, "sufficiency"),
        ({"panels": 3}, "panels is 3, not a list"),
        ({"panels": [3]}, "an object was expected"),
        ({"panels": [{"id": "a", "title": "A", "features": ["waist"]}]}, "panel a names unknown"),
        ({"panels": [{"id": "a", "title": "A", "features": [["age"]]}]}, "panel a names unknown"),
        ({"panels": [{"id": "a", "features": ["age"]}]}, "title is None"),
    ],
)
def test_a_manifest_entry_that_cannot_be_used_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ArtifactError, match="manifest") as caught:
        parse_manifest(raw_manifest(**change))
    assert words in caught.value.problem


@pytest.mark.parametrize(
    "change",
    [
        {"plausible": [5]},
        {"plausible": None},
        {"plausible": [9, 3]},
        {"clip": [None, "eighty"]},
        {"clip": 80},
        {"required": "yes"},
        {"categories": {"male": "zero"}},
        {"categories": 3},
        {"name": 7},
    ],
)
def test_a_feature_that_cannot_be_used_is_refused(change: dict[str, Any]) -> None:
    raw = raw_manifest()
    raw["features"][2] |= change
    with pytest.raises(ArtifactError, match="manifest"):
        parse_manifest(raw)


def test_features_of_one_name_are_refused() -> None:
    raw = raw_manifest()
    raw["features"].append(raw["features"][0])
    with pytest.raises(ArtifactError, match="share a name"):
        parse_manifest(raw)
