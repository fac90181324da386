"""CDC's NHANES tables, fetched: `cds-service data nhanes --to DIR`.

What breaks off goes on where it stopped, and a table has its name only once it is whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import httpx
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from model_training.dataset import DEVELOPMENT, TEST, DatasetError
from model_training.recipe import load_recipe
from model_training.sources.nhanes_cycles import Cycle, load_cycles
from model_training.sources.sas_transport import START, is_whole

# A table is at <first year>/DataFiles/<TABLE>.xpt below it.
CDC = "https://wwwn.cdc.gov/Nchs/Data/Nhanes/Public"

# Seconds before each further try of a table; a server's own Retry-After may make them longer.
PAUSES = (1.0, 3.0, 10.0, 30.0)
_LONGEST_PAUSE = 120.0
_TIMEOUT = httpx.Timeout(60.0, connect=20.0)
_MISSING = frozenset({404, 410})
_LATER = frozenset({408, 425, 429})  # and every 5xx: the server may do better in a while


class Watcher(Protocol):
    """Who is told of the download's progress."""

    def begins(self, title: str, number: int, of: int) -> None:
        """The next table, counted from 1."""

    def holds(self, received: int, total: int | None) -> None:
        """So many bytes of the table are here; `total` is None where the server did not tell."""


class Unwatched:
    """A Watcher for callers that do not look."""

    def begins(self, title: str, number: int, of: int) -> None:
        del title, number, of

    def holds(self, received: int, total: int | None) -> None:
        del received, total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """One table to fetch; what has come of it is in `part`, of which version says `version`."""

    title: str
    url: str
    path: Path

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def version(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part.version")

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


class _Interrupted(Exception):
    """This try failed and another one may not; `pause` is what the server asked for, in seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def download_nhanes(
    folder: Path,
    cycles: Sequence[str],
    watcher: Watcher | None = None,
    *,
    base_url: str = CDC,
    rest: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Every table that the cycles ("2015-2016", …) are read from, as `folder`/TABLE.XPT.

    Whole tables that are there already stay as they are. Returns those that were fetched. Raises
    DatasetError; what was received until then is kept, beside the tables, for the next run.
    """
    tables = _tables(folder, cycles, base_url)
    wanted = [table for table in tables if not is_whole(table.path)]
    watcher = watcher or Unwatched()
    with _writing(folder), httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
        folder.mkdir(parents=True, exist_ok=True)
        for number, table in enumerate(wanted, start=1):
            watcher.begins(table.title, number, len(wanted))
            _fetch(client, table, watcher, rest)
    return [table.path for table in wanted]


def _tables(folder: Path, cycles: Sequence[str], base_url: str) -> list[_Table]:
    known = {cycle.years: cycle for cycle in load_cycles()}
    unknown = [years for years in cycles if years not in known]
    if unknown:
        raise DatasetError(
            f"NHANES has no cycle {', '.join(unknown)}: those known are {', '.join(known)}"
        )
    return [
        table
        for years in cycles
        for table in _tables_of(folder, known[years], base_url.rstrip("/"))
    ]


def _tables_of(folder: Path, cycle: Cycle, base_url: str) -> Iterator[_Table]:
    first_year = cycle.years.split("-")[0]
    for name in cycle.columns:
        yield _Table(
            title=f"{name} ({cycle.years})",
            url=f"{base_url}/{first_year}/DataFiles/{name}.xpt",
            path=folder / f"{name}.XPT",
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise DatasetError(f"{folder} cannot be written to: {fault.strerror or fault}") from fault


def _fetch(
    client: httpx.Client, table: _Table, watcher: Watcher, rest: Callable[[float], None]
) -> None:
    for pause in (*PAUSES, None):
        try:
            _try(client, table, watcher)
        except _Interrupted as fault:
            if pause is None:
                raise DatasetError(
                    f"{table.url} could not be fetched in {len(PAUSES) + 1} tries: {fault}. "
                    "What came of it is kept: run the same command again to go on from there"
                ) from fault
            rest(min(max(pause, fault.pause), _LONGEST_PAUSE))
        else:
            return


def _try(client: httpx.Client, table: _Table, watcher: Watcher) -> None:
    """One request, from where the last one broke off. Raises _Interrupted or DatasetError."""
    held, headers = _resumption(table)
    try:
        with client.stream("GET", table.url, headers=headers) as response:
            _require_success(response, table)
            total = _receive(response, table, held, watcher)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as fault:
        raise DatasetError(f"{table.url} is no address to fetch from: {fault}") from fault
    except httpx.HTTPError as fault:
        raise _Interrupted(str(fault) or type(fault).__name__) from fault
    if total is not None and table.part.stat().st_size != total:
        raise _Interrupted(f"{table.part.stat().st_size} of {total} bytes came")
    if not is_whole(table.part):
        table.forget()
        raise _Interrupted("what came is not a whole SAS transport file")
    os.replace(table.part, table.path)
    table.forget()


def _resumption(table: _Table) -> tuple[int, dict[str, str]]:
    """How much is held, and the headers that ask for the rest.

    If-Range (RFC 9110, section 13.1.5): the rest only of the version that the held bytes are of,
    else the whole. Without a version the held bytes are of no use.
    """
    headers = {"Accept-Encoding": "identity"}
    if not (table.part.is_file() and table.version.is_file()):
        table.forget()
        return 0, headers
    held = table.part.stat().st_size
    version = table.version.read_text(encoding="ascii")
    if not held:
        return 0, headers
    return held, headers | {"Range": f"bytes={held}-", "If-Range": version}


def _require_success(response: httpx.Response, table: _Table) -> None:
    status = response.status_code
    if status in _MISSING:
        raise DatasetError(f"There is no table {table.title} at {table.url} (HTTP {status})")
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        table.forget()
        raise _Interrupted("what was held is not a beginning of it")
    if status in _LATER or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise _Interrupted(f"HTTP {status}", _retry_after(response))
    if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        raise DatasetError(f"{table.url} was refused (HTTP {status})")


def _retry_after(response: httpx.Response) -> float:
    told = response.headers.get("Retry-After", "")
    return float(told) if told.isascii() and told.isdigit() else 0.0


def _receive(response: httpx.Response, table: _Table, held: int, watcher: Watcher) -> int | None:
    """Adds to the part, or begins it anew where the server sends the whole; its size if told."""
    resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
    if resumed:
        total = _total_of_range(response, table, held)
    else:
        held, total = 0, _length(response)
        table.forget()
        _keep_version(response, table)
    watcher.holds(held, total)
    with table.part.open("ab") as file:
        for chunk in response.iter_raw():
            if held == 0:
                _require_transport_file(chunk, response, table)
            file.write(chunk)
            held += len(chunk)
            watcher.holds(held, total)
        file.flush()
        os.fsync(file.fileno())
    return total


def _total_of_range(response: httpx.Response, table: _Table, held: int) -> int | None:
    """Content-Range: bytes <first>-<last>/<total or *> (RFC 9110, section 14.4)."""
    told = response.headers.get("Content-Range", "")
    span, _, total = told.removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(held):
        table.forget()
        raise _Interrupted(f"another part came than the one asked for ({told or 'untold'})")
    return int(total) if total.isdigit() else None


def _length(response: httpx.Response) -> int | None:
    told = response.headers.get("Content-Length", "")
    return int(told) if told.isdigit() else None


def _keep_version(response: httpx.Response, table: _Table) -> None:
    """A strong ETag or a date: If-Range takes no weak ones."""
    tag = response.headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    if version and version.isascii():
        table.version.write_text(version, encoding="ascii")


def _require_transport_file(chunk: bytes, response: httpx.Response, table: _Table) -> None:
    """The first bytes tell; CDC's page for what is not there comes with status 200."""
    start = START[: len(chunk)]
    if chunk.startswith(start):
        return
    table.forget()
    kind = response.headers.get("Content-Type", "of no type").partition(";")[0]
    raise DatasetError(
        f"{table.url} is not a table: what came is {kind}, no SAS transport file. Is the "
        "address right, and is there nothing between here and CDC that asks to log in?"
    )


class _Bars:
    """A Watcher: the table on its way, and how many are left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("Looking", total=None)

    def begins(self, title: str, number: int, of: int) -> None:
        self._progress.reset(
            self._task, total=None, description=f"{title}, {number} of {of}", completed=0
        )

    def holds(self, received: int, total: int | None) -> None:
        self._progress.update(self._task, completed=received, total=total)


def nhanes_download(
    to: Annotated[Path, typer.Option("--to", help="Folder for the tables; made if need be.")],
    cycle: Annotated[
        list[str] | None,
        typer.Option(
            metavar="YEARS",
            help="A cycle, as in 2015-2016; may be repeated.",
            show_default="those that diabetes-undiagnosed is trained and measured on",
        ),
    ] = None,
    base_url: Annotated[
        str, typer.Option("--from", help="Where the tables are; a copy of CDC's folders will do.")
    ] = CDC,
) -> None:
    """Fetch CDC's NHANES tables. What breaks off goes on where it stopped when called again."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            fetched = download_nhanes(to, cycle or _trained(), _Bars(progress), base_url=base_url)
    except DatasetError as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(code=2) from fault
    size = sum(path.stat().st_size for path in fetched)
    typer.echo(
        f"{len(fetched)} tables fetched ({size / 1e6:.1f} MB); all that is asked for is in {to}"
    )


def _trained() -> list[str]:
    split = load_recipe().raw["split"]
    return [*split[DEVELOPMENT], *split[TEST]]
