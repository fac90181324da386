"""docs/conformance.md is what the tests say, and every row has a test or a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance import write
from tests.conformance.document import (
    DOCUMENT,
    ROOT,
    Row,
    faults,
    marked,
    proofs,
    read_rows,
    render,
)

MARKED = """
@pytest.mark.parametrize("x", [1])
@pytest.mark.proves(12, 29)
def test_one(x): ...

@pytest.mark.proves(7)
async def test_two(): ...

def test_three(): ...
"""


def a_row(**change: object) -> Row:
    values = {
        "number": 1,
        "part": "x",
        "text": "x",
        "strength": "SHALL",
        "version": "2.0",
        "reason": None,
    }
    return Row(**{**values, **change})  # type: ignore[arg-type]


def test_the_document_is_up_to_date() -> None:
    """`python -m tests.conformance.write` makes it so."""
    assert DOCUMENT.read_text(encoding="utf-8") == render(read_rows(), proofs())


def test_every_row_has_a_test_or_a_reason() -> None:
    assert faults(read_rows(), proofs()) == []


def test_a_row_with_neither_or_with_both_is_a_fault() -> None:
    bare, both = a_row(), a_row(number=2, reason="no")
    said = faults((bare, both), {2: ["x"], 99: ["y"]})
    assert said == [
        "row 1 has neither test nor reason",
        "row 2 has a reason and tests",
        "there is no row 99",
        "the rows are not 1 to 78",
    ]


def test_marks_are_read_from_source() -> None:
    where = ROOT / "tests" / "test_x.py"
    found = dict(marked(MARKED, where))
    assert found == {"tests/test_x.py::test_one": (12, 29), "tests/test_x.py::test_two": (7,)}


def test_a_document_that_lacks_a_proof_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write, "DOCUMENT", tmp_path / "conformance.md")
    assert write.main() == 0
    assert (tmp_path / "conformance.md").read_text() == render(read_rows(), proofs())
    monkeypatch.setattr(write, "proofs", dict)
    assert write.main() == 1
    assert "row 8 has neither test nor reason" in capsys.readouterr().err


def test_the_files_that_the_security_document_names_exist() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:cds_service|risk_model|tests|\.ci)/[\w./-]+)`", text))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
