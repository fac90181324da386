"""CI says what it found, and what it could not look at; it never passes in silence."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SEEN = {"name": "a", "version": "1", "vulns": []}
UNSEEN = {"name": "b", "skip_reason": "not found"}
HOLED = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ci_audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks for its module by name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "ci_audit", module)
        spec.loader.exec_module(module)
    return module


def test_a_vulnerability_fails_and_is_named_with_its_remedy(audit: ModuleType) -> None:
    verdict = audit.read_audit({"dependencies": [SEEN, HOLED]})
    assert not verdict.passed
    assert verdict.lines[0] == "c 2: CVE-1, fixed in 3"
    assert verdict.lines[-1] == "known vulnerabilities: 2 packages looked up"


def test_packages_that_were_not_looked_up_are_said(audit: ModuleType) -> None:
    verdict = audit.read_audit({"dependencies": [SEEN, UNSEEN]})
    assert verdict.passed
    assert "NOT LOOKED UP: 1 of 2" in verdict.lines[0]
    assert "NOT LOOKED UP" not in str(audit.read_audit({"dependencies": [SEEN]}).lines)


@pytest.mark.parametrize(
    ("said", "complained", "passed"),
    [
        ("", "ConnectionError: HTTPSConnectionPool(host='pypi.org'): Max retries exceeded", True),
        ("", "Temporary failure in name resolution", True),
        ("", "ReadTimeout: timed out", True),
        ("", "error: unrecognized arguments: --format", False),
        ("", "", False),
        ("[1", "", False),
        ("{}", "", False),
        ("[]", "Traceback (most recent call last)", False),
    ],
)
def test_an_index_that_cannot_be_asked_is_said_and_a_broken_tool_fails(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, said: str, complained: str, passed: bool
) -> None:
    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, stdout=said, stderr=complained)

    monkeypatch.setattr(audit.subprocess, "run", run)
    verdict = audit.audit()
    assert (verdict.passed, verdict.whole) == (passed, False)
    assert "NOT LOOKED UP" in verdict.lines[0]


def test_a_tool_that_is_not_there_fails(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "BIN", Path("/nowhere"))
    assert not audit.audit().passed


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--strict",), 1)])
def test_a_release_wants_every_package_looked_up(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int
) -> None:
    monkeypatch.setattr(audit, "audit", lambda: audit.read_audit({"dependencies": [SEEN, UNSEEN]}))
    monkeypatch.setattr(audit, "scan", lambda: {"results": {}})
    monkeypatch.setattr(audit.sys, "argv", ["audit.py", *arguments])
    assert audit.main() == code


def a_scan(*digests: str) -> dict[str, Any]:
    return {"results": {"x.py": [{"type": "Key", "hashed_secret": each} for each in digests]}}


def test_a_secret_that_nobody_has_looked_at_fails(audit: ModuleType) -> None:
    verdict = audit.read_scan(a_scan("old", "new"), a_scan("old"))
    assert not verdict.passed
    assert verdict.lines == ("x.py: Key (new)", "secrets: 1 new, 1 known")
    assert audit.read_scan(a_scan("old"), a_scan("old", "gone")).passed


def test_ci_runs_it() -> None:
    assert "make audit" in (ROOT / ".ci" / "run").read_text()
    assert ".ci/audit.py" in (ROOT / "Makefile").read_text()
