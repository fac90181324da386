"""A card written anew: the sentences change, what scores does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import risk_model
from model_training.dataset import DatasetError
from model_training.model_card.quote import ARTIFACTS
from model_training.model_card.rewrite import main, rewritten
from model_training.publish import json_bytes, seal
from risk_model.verify import read_verified
from tests.report_json import made_up_report

SHIPPED = ARTIFACTS / "diabetes-undiagnosed" / "1.0.0"
SCORING = ("model.ubj", "calibration.json", "golden_scores.json")


def artifact(root: Path, *, report: object) -> Path:
    """A model that loads, with a report of this content."""
    verified = read_verified(SHIPPED)
    contents = {**verified.contents, "report/report.json": json_bytes(report)}
    folder = root / "diabetes-undiagnosed" / "1.0.0"
    for path, content in seal(contents, verified.manifest.raw).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_the_card_is_new_and_what_scores_is_the_same(tmp_path: Path) -> None:
    folder = artifact(tmp_path, report=made_up_report())
    before = {name: (folder / name).read_bytes() for name in SCORING}
    assert main([str(folder)]) == 0
    assert "## Source attributes" in (folder / "MODEL_CARD.md").read_text("utf-8")
    assert len(json.loads((folder / "model_card.json").read_bytes())["card"]["tripod_ai"]) == 52
    assert {name: (folder / name).read_bytes() for name in SCORING} == before
    assert "model_card.json" in risk_model.load_model(folder).manifest.files


def test_a_card_written_twice_is_the_same(tmp_path: Path) -> None:
    folder = artifact(tmp_path, report=made_up_report())
    main([str(folder)])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    main([str(folder)])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_force_that_the_manifest_tells_of_stands_on_the_card(tmp_path: Path) -> None:
    folder = artifact(tmp_path, report=made_up_report())
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["forced"] = {"reason": "asked for by the site", "failed": ["auroc"]}
    (folder / "manifest.json").write_bytes(json_bytes(manifest))
    card = rewritten(folder, {})["MODEL_CARD.md"].decode()
    assert "> **Published in spite of that: asked for by the site.**" in card


def test_an_older_report_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = artifact(tmp_path, report={"format": 1})
    before = (folder / "MODEL_CARD.md").read_bytes()
    assert main([str(folder)]) == 2
    assert "is not of format 2" in capsys.readouterr().err
    assert (folder / "MODEL_CARD.md").read_bytes() == before


def test_a_folder_that_is_not_as_its_manifest_says_is_refused(tmp_path: Path) -> None:
    folder = artifact(tmp_path, report=made_up_report())
    (folder / "calibration.json").write_text("{}")
    assert main([str(folder)]) == 2


def test_a_report_of_another_kind_is_named(tmp_path: Path) -> None:
    folder = artifact(tmp_path, report={})
    with pytest.raises(DatasetError, match=r"report\.json is not of format 2"):
        rewritten(folder, {})


def test_without_a_folder_it_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Name a folder" in capsys.readouterr().err
