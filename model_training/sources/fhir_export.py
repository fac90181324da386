"""The files of a FHIR Bulk Data export, line by line: what matters of them, and what is broken.

https://hl7.org/fhir/uv/bulkdata/: newline-delimited JSON, one resource a line, any number of files
of any name, of one type or of several.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from model_training.dataset import DatasetError, Reporter

_SUFFIXES = (".ndjson", ".ndjson.gz")
# Of a line that holds none of these words no resource that matters can be made, and it is not
# parsed: claims and encounters are most of an export.
TYPES = (
    "Patient",
    "Observation",
    "Condition",
    "MedicationRequest",
    "MedicationStatement",
    "Medication",
)
_WORDS = tuple(f'"{type_}"'.encode() for type_ in TYPES)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_MALFORMED = 0.01
_PLACES = 5
_LINES_BETWEEN_DETAILS = 20_000


@dataclass(slots=True)
class Lines:
    """How many lines were read, and how many are no resource, with where the first of them are."""

    read: int = 0
    malformed: int = 0
    places: list[str] = field(default_factory=list)

    def note_malformed(self, place: str) -> None:
        self.malformed += 1
        if len(self.places) < _PLACES:
            self.places.append(place)

    def where(self) -> str:
        more = ", …" if self.malformed > len(self.places) else ""
        return ", ".join(self.places) + more


def export_files(folder: Path) -> list[Path]:
    """Raises DatasetError where the folder holds no export."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder: name the one that holds the export's files.")
    files = sorted(
        path for path in folder.rglob("*") if path.name.endswith(_SUFFIXES) and path.is_file()
    )
    if not files:
        raise DatasetError(
            f"{folder} holds no *.ndjson and no *.ndjson.gz: a FHIR Bulk Data export is expected "
            "there, one resource a line."
        )
    return files


def read_export(
    folder: Path, lines: Lines, reporter: Reporter
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each resource of a type that matters, with its line (without the line's end).

    Fills `lines`. Raises DatasetError for a file that was cut short, and where more than one line
    in a hundred is not a resource.
    """
    files = export_files(folder)
    total = sum(path.stat().st_size for path in files)
    done = 0
    for path in files:
        yield from _resources(path, lines, _Progress(reporter, done, total))
        done += path.stat().st_size
    if lines.malformed > _MOST_MALFORMED * lines.read:
        raise DatasetError(
            f"{lines.malformed} of {lines.read} lines in {folder} are not FHIR resources "
            f"({lines.where()}): is it a Bulk Data export, one resource a line?"
        )
    if lines.malformed:
        reporter.step(
            f"Passed over {lines.malformed} of {lines.read} lines that are not FHIR resources: "
            f"{lines.where()}"
        )


@dataclass(frozen=True, slots=True)
class _Progress:
    reporter: Reporter
    before: int
    total: int

    def tell(self, path: Path, position: int) -> None:
        read = (self.before + position) / 1e6
        self.reporter.detail(f"{path.name}: {read:,.0f} of {self.total / 1e6:,.0f} MB read")


def _resources(
    path: Path, lines: Lines, progress: _Progress
) -> Iterator[tuple[dict[str, Any], bytes]]:
    try:
        with path.open("rb") as raw:
            opened: IO[bytes] = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw  # type: ignore[assignment]
            for number, line in enumerate(opened, start=1):
                if number % _LINES_BETWEEN_DETAILS == 0:
                    progress.tell(path, raw.tell())
                content = line.strip().removeprefix(_BYTE_ORDER_MARK)
                if not content:
                    continue
                lines.read += 1
                resource = _parsed(content, whole=line.endswith(b"\n"))
                if resource is not None:
                    yield resource, content
                elif not line.endswith(b"\n"):
                    raise _cut(path, f"line {number}, the last, ends in the middle")
                else:
                    _judge(content, f"{path.name}:{number}", lines)
    except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise _cut(path, str(fault)) from fault
    except OSError as fault:
        raise DatasetError(f"{path} cannot be read: {fault.strerror or fault}.") from fault


def _parsed(content: bytes, *, whole: bool) -> dict[str, Any] | None:
    """The resource, if it may matter; a line without its end is parsed whatever it is about."""
    if whole and not any(word in content for word in _WORDS):
        return None
    try:
        resource = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    is_resource = isinstance(resource, dict) and isinstance(resource.get("resourceType"), str)
    return resource if is_resource else None


def _judge(content: bytes, place: str, lines: Lines) -> None:
    """A line that was not taken: of a type that does not matter, or not a resource at all.

    Of the former only the brackets are looked at.
    """
    of_a_type_that_matters = any(word in content for word in _WORDS)
    if of_a_type_that_matters or not (
        content.startswith(b"{") and content.endswith(b"}") and b'"resourceType"' in content
    ):
        lines.note_malformed(place)


def _cut(path: Path, how: str) -> DatasetError:
    return DatasetError(
        f"{path} is not whole ({how}): it was probably not downloaded to its end. Fetch it again."
    )
