"""What a model said of each person it was measured on, stored so that others can count again.

One gzipped CSV: `record,event`, a probability for every scenario, a score for every comparator.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_training.dataset import DatasetError

PREDICTIONS = "report/predictions.csv.gz"
_COMPARATOR = "comparator:"
# A float32 margin carries no more than this.
_DIGITS = 9

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """One entry per person in every array, in the order of `records`.

    `records` say nothing but which row is which. `scenarios`: scenario id → probability, the
    complete record first; `comparators`: title → score on the comparator's own scale. NaN where
    there was no figure.
    """

    records: tuple[str, ...]
    events: Ints
    scenarios: Mapping[str, Floats]
    comparators: Mapping[str, Floats]

    def same_people(self, other: Predictions) -> bool:
        """Whether row for row the same records are meant, with the same outcomes."""
        return self.records == other.records and bool(np.array_equal(self.events, other.events))


def predictions_of(
    records: Sequence[str], events: Ints, columns: Mapping[str, Floats]
) -> Predictions:
    """From scores by scenario id, and by `comparator:<title>`: the file's columns."""
    return Predictions(
        records=tuple(records),
        events=events,
        scenarios={name: v for name, v in columns.items() if not name.startswith(_COMPARATOR)},
        comparators={
            name.removeprefix(_COMPARATOR): values
            for name, values in columns.items()
            if name.startswith(_COMPARATOR)
        },
    )


def predictions_bytes(predictions: Predictions) -> bytes:
    """The same bytes for the same predictions: no clock and no name in gzip's header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns(predictions)
    writer.writerow(["record", "event", *columns])
    cells = [[_cell(value) for value in column.tolist()] for column in columns.values()]
    writer.writerows(zip(predictions.records, predictions.events.tolist(), *cells, strict=True))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(text.getvalue().encode())
    return packed.getvalue()


def read_predictions(content: bytes) -> Predictions:
    """Raises DatasetError where the bytes are no such file."""
    try:
        rows = csv.reader(io.StringIO(gzip.decompress(content).decode()), strict=True)
        header = next(rows)
        return _read(header, list(rows))
    except (EOFError, OSError, StopIteration, ValueError, csv.Error) as fault:
        raise DatasetError(
            f"{PREDICTIONS} cannot be read ({fault or 'it is empty'}): restore it from a release."
        ) from fault


def rounded(values: Floats) -> Floats:
    """As they will be read back; figures that are computed from these can be computed again."""
    return np.array([float(_cell(value) or "nan") for value in values.tolist()], dtype=np.float64)


def _columns(predictions: Predictions) -> dict[str, Floats]:
    comparators = {f"{_COMPARATOR}{title}": s for title, s in predictions.comparators.items()}
    return {**predictions.scenarios, **comparators}


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.{_DIGITS}g}"


def _read(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Predictions:
    if list(header[:2]) != ["record", "event"] or any(len(row) != len(header) for row in rows):
        raise ValueError("its columns are not record, event and one per scenario")
    events = np.array([int(row[1]) for row in rows], dtype=np.int64)
    return predictions_of([row[0] for row in rows], events, dict(_numbers(header, rows)))


def _numbers(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, Floats]]:
    for at, name in enumerate(header[2:], start=2):
        yield name, np.array([float(row[at] or "nan") for row in rows], dtype=np.float64)
