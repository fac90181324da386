"""Pages that quote a model card: marked blocks are rewritten from it, so that nobody types figures.

    <!-- card: Levels -->           the first table of that section
    <!-- card: By group > Sex -->              the first table of that part of the section
    <!-- card: Limits / - **Groups.** -->      the block or line that begins so
    <!-- end -->

`python -m model_training.model_card.quote` rewrites docs/clinical.md from the card of the version
that hooks.json serves.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
PAGE = _ROOT / "docs" / "clinical.md"
ARTIFACTS = _ROOT / "model_artifacts"

_QUOTED = re.compile(
    r"(?P<open><!-- card: (?P<where>.+?) -->\n)(?P<held>.*?)(?P<close><!-- end -->)", re.DOTALL
)
_HEADING = re.compile(r"(#+) (.+)")
_TABLE = "|"
ABSENT = "*The card of this version has no such part.*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """The page with its blocks rewritten; `absent`: places that the card does not have."""

    text: str
    absent: tuple[str, ...]


def quote(page: str, card: str, *, folder: str) -> Quoted:
    """Every marked block from the card, and every link into `folder`'s model at its version.

    `folder`: model and version, such as diabetes-undiagnosed/2.0.0. The same page comes out when
    it is quoted again.
    """
    absent = [where for where in _places(page) if find(card, where) is None]

    def rewritten(block: re.Match[str]) -> str:
        found = find(card, block["where"]) or ABSENT
        return f"{block['open']}\n{found}\n\n{block['close']}"

    model = folder.split("/")[0]
    linked = re.sub(rf"(model_artifacts/){re.escape(model)}/[^/\s)`]+", rf"\1{folder}", page)
    return Quoted(text=_QUOTED.sub(rewritten, linked), absent=tuple(absent))


def find(card: str, where: str) -> str | None:
    """What a marker names, or None. Section titles as in the card, without their #."""
    path, _, opening = where.partition(" / ")
    text: str | None = card
    for title in path.split(" > "):
        text = None if text is None else _section(text, title)
    if text is None:
        return None
    wanted = opening or _TABLE
    blocks = [*text.split("\n\n"), *text.splitlines()]
    return next(
        (block.strip("\n") for block in blocks if block.lstrip("\n").startswith(wanted)), None
    )


def served_version(model: str = "diabetes-undiagnosed", hooks: Path = _ROOT / "hooks.json") -> str:
    """The version of the model that hooks.json serves; LookupError where it serves none."""
    for service in json.loads(hooks.read_text("utf-8"))["services"]:
        if service["serving"]["model"] == model:
            return str(service["serving"]["modelVersion"])
    raise LookupError(f"{hooks} serves no model {model}.")


def main() -> int:
    folder = f"diabetes-undiagnosed/{served_version()}"
    card = (ARTIFACTS / folder / "MODEL_CARD.md").read_text("utf-8")
    quoted = quote(PAGE.read_text("utf-8"), card, folder=folder)
    PAGE.write_text(quoted.text, encoding="utf-8")
    for where in quoted.absent:
        sys.stderr.write(f"The card of {folder} has no part: {where}\n")
    return 1 if quoted.absent else 0


def _places(page: str) -> Iterator[str]:
    return (block["where"] for block in _QUOTED.finditer(page))


def _section(text: str, title: str) -> str | None:
    """What stands under a heading, down to the next one of its rank or above."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        heading = _HEADING.fullmatch(line)
        if heading and heading[2] == title:
            rest = lines[start + 1 :]
            return "\n".join(rest[: _end(rest, len(heading[1]))])
    return None


def _end(lines: list[str], rank: int) -> int:
    for number, line in enumerate(lines):
        heading = _HEADING.fullmatch(line)
        if heading and len(heading[1]) <= rank:
            return number
    return len(lines)


if __name__ == "__main__":
    sys.exit(main())
