"""What a card may draw on: manifest, report, the recipe's sentences, and the files beside it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

REPORT_PAGE = "report/report.html"
REPORT_FIGURES = "report/report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`pictures`: paths inside the artifact that the card may show."""

    manifest: Json
    report: Json
    statements: Json
    pictures: frozenset[str]

    @property
    def test(self) -> Json:
        """The figures of the test people; empty where nothing was measured."""
        return self.find("test") or {}

    @property
    def complete(self) -> Json | None:
        """The figures for complete records: the first scenario, which lacks nothing."""
        return next(iter((self.find("test", "scenarios") or {}).values()), None)

    @property
    def parts(self) -> Json:
        """The groups of people, development (absent where only evaluated) and test."""
        return self.find("data", "parts") or {}

    @property
    def is_external(self) -> bool:
        """The figures are of data that the model was not made from: no development people."""
        return "test" in self.parts and "development" not in self.parts

    def find(self, *path: str) -> Any:
        """What stands at this path of the report; None where any step of it is absent or null."""
        return _find(self.report, path)

    def said(self, *path: str) -> Any:
        """What the recipe's card file states at this path, or None."""
        return _find(self.statements, path)


def evidence(
    manifest: Json, report: Json, statements: Json, pictures: Collection[str] | None
) -> Evidence:
    listed = manifest.get("files", {}) if pictures is None else pictures
    return Evidence(
        manifest=manifest, report=report, statements=statements, pictures=frozenset(listed)
    )


def _find(found: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found
