"""docs/conformance.md: each row of the specification, its strength, and the tests that prove it.

Read from the tests' source rather than from a run: `@pytest.mark.proves(12, 29)` above a test, and
`"proves": [29]` in a vector's file. So the document is the same on every machine, whatever part of
the tests that machine can run.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.vectors import read_vectors

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "conformance.md"
ROWS = Path(__file__).with_name("rows.toml")
VECTOR_TEST = "tests/conformance/test_vectors.py::test_a_vector_is_answered_as_its_file_says"

HEAD = """# Conformance to CDS Hooks

Written by `python -m tests.conformance.write` from the tests; a test fails when it is not up to
date. CDS Hooks 2.0.1, with what the 3.0 ballot of June 2026 adds that a 2.0 client ignores.
Strength in the specification's words; *policy*: it is silent, and this is ours; *practice*: its
best-practices page. Below the table of every part stand the tests that prove its rows.

Besides what is named here, every answer of a CDS Hooks or FHIR route that any test receives goes
through the checker in `tests/wire.py` (`tests/conformance/listen.py` sees to that), and
`tests/conformance/test_wire_rules.py` proves of each of its rules that it can fail. The
request vectors are files with their expected answers in `tests/payloads/vectors`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rule; `reason` says why no test proves it."""

    number: int
    part: str
    text: str
    strength: str
    version: str
    reason: str | None


def read_rows() -> tuple[Row, ...]:
    """The rows in their order; a row without a part belongs to that of the row before it."""
    rows: list[Row] = []
    for number, said in tomllib.loads(ROWS.read_text(encoding="utf-8")).items():
        part = said.get("part") or rows[-1].part
        rows.append(
            Row(
                number=int(number),
                part=part,
                text=said["text"],
                strength=said["strength"],
                version=said["version"],
                reason=said.get("reason"),
            )
        )
    return tuple(rows)


def proofs() -> dict[int, list[str]]:
    """Row -> node ids of the tests that say they prove it, in the order of their names."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node_id, numbers in marked(path.read_text(encoding="utf-8"), path):
            for number in numbers:
                found[number].append(node_id)
    for vector in read_vectors():
        for number in vector.proves:
            found[number].append(f"{VECTOR_TEST} ({vector.file})")
    return dict(found)


def marked(source: str, path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Node id and rows of each test in `source` that has the mark."""
    if "proves" not in source:
        return
    where = path.relative_to(ROOT).as_posix()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            numbers = tuple(n for mark in node.decorator_list for n in _rows_of(mark))
            if numbers:
                yield f"{where}::{node.name}", numbers


def _rows_of(mark: ast.expr) -> Iterator[int]:
    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.proves":
        yield from (ast.literal_eval(argument) for argument in mark.args)


def faults(rows: tuple[Row, ...], proven: Mapping[int, list[str]]) -> list[str]:
    """What is wrong: a row with neither test nor reason, or with both; a test of no row."""
    numbers = [row.number for row in rows]
    said = [f"row {row.number} has neither test nor reason" for row in rows if _bare(row, proven)]
    said += [f"row {row.number} has a reason and tests" for row in rows if _both(row, proven)]
    said += [f"there is no row {number}" for number in sorted(set(proven) - set(numbers))]
    if numbers != list(range(1, 79)):
        said.append("the rows are not 1 to 78")
    return said


def _bare(row: Row, proven: Mapping[int, list[str]]) -> bool:
    return row.reason is None and not proven.get(row.number)


def _both(row: Row, proven: Mapping[int, list[str]]) -> bool:
    return row.reason is not None and bool(proven.get(row.number))


def render(rows: tuple[Row, ...], proven: Mapping[int, list[str]]) -> str:
    """The whole document."""
    parts = dict.fromkeys(row.part for row in rows)
    sections = [_section(part, [r for r in rows if r.part == part], proven) for part in parts]
    return "\n".join([HEAD, *sections, _vectors()])


def _section(part: str, rows: list[Row], proven: Mapping[int, list[str]]) -> str:
    lines = [
        f"## {part}",
        "",
        "| row | rule | strength | since | proven by |",
        "|---:|---|---|---|---|",
    ]
    for row in rows:
        how = f"no test: {row.reason}" if row.reason else _count(len(proven[row.number]))
        lines.append(f"| {row.number} | {row.text} | {row.strength} | {row.version} | {how} |")
    lines.append("")
    for row in rows:
        lines += [f"- {row.number}: `{node_id}`" for node_id in proven.get(row.number, ())]
    return "\n".join([*lines, ""])


def _count(tests: int) -> str:
    return "1 test" if tests == 1 else f"{tests} tests"


def _vectors() -> str:
    lines = ["## Request vectors", "", "| file | fact | cases |", "|---|---|---:|"]
    for vector in read_vectors():
        lines.append(f"| `{vector.file}` | {vector.fact} | {len(vector.cases)} |")
    differing = [case for vector in read_vectors() for case in vector.cases if case.differs]
    lines += ["", f"Answered otherwise than expected today: {len(differing)}."]
    lines += [f"- {case.id}: {case.differs}" for case in differing]
    return "\n".join([*lines, ""])
