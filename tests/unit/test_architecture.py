"""The house keeps its shape: arrows between packages, and documents that name real modules."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[2]
OURS = {"cds_service", "fhir_mapping", "risk_model", "model_training"}
MAY_IMPORT = {
    "fhir_mapping": {"fhir_mapping"},
    "risk_model": {"risk_model"},
    "model_training": {"model_training", "fhir_mapping", "risk_model"},
    "cds_service": {"cds_service", "fhir_mapping", "risk_model"},
}


def imports_of(package: str) -> Iterator[tuple[Path, str]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield path, node.module


@pytest.mark.parametrize("package", sorted(OURS))
def test_arrows_point_inwards(package: str) -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for path, name in imports_of(package)
        if name.split(".")[0] in OURS - MAY_IMPORT[package]
    }
    assert found == set()


def test_mapping_needs_the_standard_library_only() -> None:
    foreign = {
        name.split(".")[0]
        for _, name in imports_of("fhir_mapping")
        if name.split(".")[0] not in sys.stdlib_module_names | {"fhir_mapping"}
    }
    assert foreign == set()


def test_the_model_needs_numpy_and_xgboost_only() -> None:
    foreign = {
        name.split(".")[0]
        for _, name in imports_of("risk_model")
        if name.split(".")[0] not in sys.stdlib_module_names | {"risk_model"}
    }
    assert foreign <= {"numpy", "xgboost"}


def test_the_core_never_asks_for_the_time() -> None:
    clock = re.compile(r"\b(?:date\.today|datetime\.(?:now|utcnow|today)|time\.time)\(")
    for package in ("fhir_mapping", "risk_model"):
        for path in (ROOT / package).rglob("*.py"):
            assert not clock.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("document", ["journey.md", "why.md", "operations.md", "clinical.md"])
def test_documents_name_modules_and_files_that_exist(document: str) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:cds_service|fhir_mapping|risk_model|model_training)[\w.]*)`", text
    ):
        assert importlib.util.find_spec(name) is not None, name
    for path in re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", text):
        if path.split("/")[0] in OURS | {"tests", "docs", "benchmarks"}:
            assert (ROOT / path).exists(), path


def test_the_readme_quotes_the_model_card() -> None:
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    figures = re.findall(r"\d+\.\d+ \(\d+\.\d+ to \d+\.\d+\)", readme)
    assert len(figures) == 7
    assert [figure for figure in figures if figure not in card] == []


def test_the_readme_quotes_the_benchmarks() -> None:
    published = (ROOT / "docs/performance.md").read_text(encoding="utf-8").splitlines()
    speed = (
        (ROOT / "README.md").read_text(encoding="utf-8").split("## Speed")[1].split("## More")[0]
    )
    rows = [line for line in speed.splitlines() if line.startswith("|") or "rounds" in line]
    assert len(rows) > 10
    assert [row for row in rows if row not in published] == []
