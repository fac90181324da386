"""The service starts with parts that fit together, or says which do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cds_service.app import START_FAULTS, StartRefused, create_app, utc_now
from cds_service.hooks import HooksFileError, read_hooks_file
from cds_service.settings import Settings
from tests.conftest import ROOT
from tests.shipped import VERSION

Change = Callable[[dict[str, Any]], Any]


def settings(tmp_path: Path, change: Change | None = None, **others: Any) -> Settings:
    """Settings whose hooks.json is the served one after `change`."""
    document = json.loads((ROOT / "hooks.json").read_text())
    if change:
        change(document)
    hooks_file = tmp_path / "hooks.json"
    hooks_file.write_text(json.dumps(document))
    values: dict[str, Any] = {
        "profile": "demo",
        "hooks_file": hooks_file,
        "model_dir": ROOT / "model_artifacts",
        "database_url": f"sqlite:///{tmp_path}/cds.db",
    }
    return Settings(**values | others)


def test_it_starts_with_what_is_served(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path))
    assert list(app.state.parts.services) == ["diabetes-risk"]
    app.state.parts.store.close()


def test_the_clock_tells_aware_utc() -> None:
    offset = utc_now().utcoffset()
    assert offset is not None
    assert not offset


def _first(document: dict[str, Any]) -> dict[str, Any]:
    service: dict[str, Any] = document["services"][0]
    return service


REFUSED: dict[str, tuple[Change, str]] = {
    "no services": (lambda d: d.update(services=[]), "no service is defined"),
    "misspelt member": (lambda d: _first(d).update(titel="x"), "services.*titel"),
    "no title": (lambda d: _first(d).pop("title"), "title"),
    "hook that is not read": (lambda d: _first(d).update(hook="order-sign"), "hook"),
    "id that is no path": (lambda d: _first(d).update(id="a/b"), "id"),
    "same id twice": (lambda d: d["services"].append(_first(d)), "same id"),
    "required key without template": (
        lambda d: _first(d)["serving"].update(requiredPrefetch=["labs"]),
        "labs",
    ),
    "unknown model": (lambda d: _first(d)["serving"].update(model="gout"), f"gout/{VERSION}"),
    "unknown version": (lambda d: _first(d)["serving"].update(modelVersion="9.9.9"), "9.9.9"),
    "two versions": (
        lambda d: d["services"].append(
            {
                **_first(d),
                "id": "second",
                "serving": {**_first(d)["serving"], "modelVersion": "9.9.9"},
            }
        ),
        "two versions",
    ),
    "part of a key without template": (
        lambda d: _first(d)["serving"].update(wholePrefetch=["labs"]),
        "labs",
    ),
    "a level that the model never says": (
        lambda d: _first(d)["serving"]["cards"]["levels"].update(
            severe=_first(d)["serving"]["cards"]["levels"]["high"]
        ),
        "severe",
    ),
    "an unknown placeholder": (
        lambda d: _first(d)["serving"]["cards"]["levels"]["high"].update(summary="{risk}"),
        "risk",
    ),
    "other codes than the mapping's": (
        lambda d: _first(d)["prefetch"].update(observations="Observation?code=1"),
        "hooks write",
    ),
    "a template too many": (
        lambda d: _first(d)["prefetch"].update(coverage="Coverage?patient={{context.patientId}}"),
        "coverage",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hooks_file_that_does_not_fit_is_refused_with_the_reason(
    tmp_path: Path, name: str
) -> None:
    change, reason = REFUSED[name]
    with pytest.raises(START_FAULTS, match=reason):
        create_app(settings(tmp_path, change))
    assert not (tmp_path / "cds.db").exists(), "nothing is opened before everything fits"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"services": {}}'])
def test_a_hooks_file_that_is_no_hooks_file_names_itself(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hooks.json"
    path.write_text(text)
    with pytest.raises(HooksFileError, match=str(path)):
        read_hooks_file(path)


def test_a_folder_with_the_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    served = ROOT / "model_artifacts" / "diabetes-undiagnosed"
    version = next(served.iterdir()).name
    shutil.copytree(served / version, tmp_path / "models" / "diabetes-undiagnosed" / "9.9.9")
    other = settings(
        tmp_path,
        lambda d: _first(d)["serving"].update(modelVersion="9.9.9"),
        model_dir=tmp_path / "models",
    )
    with pytest.raises(StartRefused, match=f"is that of diabetes-undiagnosed {version}"):
        create_app(other)


def test_a_damaged_artifact_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "model_artifacts", tmp_path / "models")
    model = next((tmp_path / "models").rglob("model.ubj"))
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(StartRefused, match=r"model\.ubj"):
        create_app(settings(tmp_path, model_dir=tmp_path / "models"))


@pytest.mark.parametrize(
    "url", ["mysql://db/cds", "sqlite://", "nonsense://", "sqlite:////proc/none/cds.db"]
)
def test_a_database_that_cannot_be_opened_names_its_variable(tmp_path: Path, url: str) -> None:
    with pytest.raises(StartRefused, match=r"^CDS_DATABASE_URL: "):
        create_app(settings(tmp_path, database_url=url))
