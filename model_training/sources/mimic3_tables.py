"""The tables of MIMIC-III behind one face: PhysioNet's files under DuckDB, or PostgreSQL."""

from __future__ import annotations

import csv
import gzip
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pandas as pd
import sqlalchemy as sa
from sqlalchemy import exc, pool

from model_training.dataset import DatasetError, Reporter
from model_training.sources.csv_end import ends_inside_a_line

SCHEMA = "mimiciii"
MIMIC3_FILE = Path(__file__).with_name("mimic3.toml")
_SQL_FILE = Path(__file__).with_name("mimic3.sql")
_SUFFIXES = (".csv.gz", ".csv")
# CHARTEVENTS is streamed, and what is kept of it goes to disk beyond this.
MEMORY_LIMIT = "1GB"
_SETTINGS = (
    # Progress is known only where a bar would be drawn; nothing is printed.
    "enable_progress_bar = true",
    "enable_progress_bar_print = false",
    "preserve_insertion_order = false",
    # How many rows a packed file holds, DuckDB canX
    # of a join and kept it in memory. Joined in the order of the text, files are only streamed.
    "disabled_optimizers = 'join_order,build_side_probe_side'",
)
_CONNECT_SECONDS = 10
_GLANCE_SECONDS = 0.5
_TYPES = {"i": "BIGINT", "f": "DOUBLE PRECISION"}
_SOURCE = "https://physionet.org/content/mimiciii/"


class Tables(Protocol):
    """A place that holds MIMIC-III, and takes temporary tables beside it."""

    def run(self, statement: str, reporter: Reporter, what: str) -> None:
        """Runs a statement of mimic3.sql; says in between how far it has come with `what`."""

    def fetch(self, statement: str) -> pd.DataFrame:
        """The rows of a query of mimic3.sql."""

    def put(self, name: str, frame: pd.DataFrame) -> None:
        """A temporary table of whole numbers, fractions and texts."""


def load_layout() -> dict[str, Any]:
    """mimic3.toml."""
    return tomllib.loads(MIMIC3_FILE.read_text(encoding="utf-8"))


def load_statements() -> dict[str, str]:
    """mimic3.sql, by name."""
    parts = re.split(r"^-- name: (\w+)\n", _SQL_FILE.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


@contextmanager
def open_tables(source: str | Path) -> Iterator[Tables]:
    """A folder of CSV or CSV.gz files, or an SQLAlchemy URL of PostgreSQL.

    Raises DatasetError where it cannot be opened, lacks a table or column, or fails while it is
    read. Nothing is left behind: temporary tables and files end with the block.
    """
    if "://" in str(source):
        with _postgresql(str(source)) as tables:
            yield tables
    else:
        with _folder(Path(source)) as tables:
            yield tables


# ------------------------------------------------------------------------------------ files


@dataclass(frozen=True, slots=True)
class _Files:
    connection: duckdb.DuckDBPyConnection

    def run(self, statement: str, reporter: Reporter, what: str) -> None:
        def done() -> str:
            # -1 before the query has begun and after it has ended.
            share = self.connection.query_progress()
            return f"{what}: {share:.0f} %" if share >= 0 else what

        _watched(
            lambda: self.connection.execute(statement),
            lambda _: reporter.detail(done()),
            self.connection.interrupt,
        )

    def fetch(self, statement: str) -> pd.DataFrame:
        return self.connection.execute(statement).df()

    def put(self, name: str, frame: pd.DataFrame) -> None:
        columns = ", ".join(f"{column} {kind}" for column, kind in _column_types(frame))
        self.connection.execute(f"CREATE TEMPORARY TABLE {name} ({columns})")
        self.connection.register("given", frame)
        self.connection.execute(f"INSERT INTO {name} SELECT * FROM given")  # noqa: S608 - our names
        self.connection.unregister("given")


@contextmanager
def _folder(folder: Path) -> Iterator[Tables]:
    views = _views(folder)
    with tempfile.TemporaryDirectory(prefix="mimic3-") as spill, ExitStack() as opened:
        connection = duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill})
        opened.callback(connection.close)
        for setting in _SETTINGS:
            connection.execute(f"SET {setting}")
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
        for view in views:
            connection.execute(view)
        try:
            yield _Files(connection)
        except duckdb.Error as fault:
            raise DatasetError(_file_fault(folder, fault)) from fault


def _file_fault(folder: Path, fault: duckdb.Error) -> str:
    text = str(fault)
    named = re.search(r"[^\s\"':/]+\.csv(?:\.gz)?", text)
    file = folder / named.group() if named else folder
    if "GZIP" in text.upper():
        return (
            f"{file} is cut off or damaged ({_first_line(text)}): download it again from {_SOURCE}."
        )
    # What stands in the line is a patient's, and is not said.
    placed = re.search(r"on Line: (\d+).*converting column \"(\w+)\".* to '(\w+)'", text, re.S)
    if placed:
        line, column, kind = placed.groups()
        return f"{file} cannot be read as MIMIC-III: {column} in line {line} is no {kind}."
    return f"{file} cannot be read as MIMIC-III: {_first_line(text)}"


def _views(folder: Path) -> list[str]:
    """One view per table, with the columns that are read in the types of the standard schema."""
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} is not a folder: give the one that holds MIMIC-III's ADMISSIONS.csv.gz and "
            "so on, or the URL of a PostgreSQL that holds it (postgresql://…)."
        )
    present = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    return [
        _view(name, _file_of(name, folder, present), columns)
        for name, columns in load_layout()["tables"].items()
    ]


def _file_of(table: str, folder: Path, present: Mapping[str, Path]) -> Path:
    found = [present[table + suffix] for suffix in _SUFFIXES if table + suffix in present]
    if not found:
        raise DatasetError(
            f"{folder} holds no {table.upper()}.csv.gz (nor {table.upper()}.csv): it is part of "
            f"MIMIC-III, {_SOURCE}."
        )
    return found[0]


def _view(name: str, path: Path, columns: Mapping[str, str]) -> str:
    if path.suffix == ".csv" and ends_inside_a_line(path):
        raise DatasetError(
            f"{path} is cut off: it ends inside a line. Download it again from {_SOURCE}."
        )
    header = _header(path)
    lacking = sorted(set(columns) - set(header))
    if lacking:
        raise DatasetError(
            f"{path} has no column {', '.join(lacking)}: it is not MIMIC-III's {name.upper()}."
        )
    types = ", ".join(f"{_quoted(c)}: {_quoted(columns.get(c, 'VARCHAR'))}" for c in header)
    # Nothing is guessed from the first rows: a column that is empty there has a type all the same.
    return (
        f"CREATE VIEW {SCHEMA}.{name} AS SELECT {', '.join(columns)} "  # noqa: S608 - our names
        f"FROM read_csv({_quoted(str(path))}, auto_detect = false, header = true, delim = ',', "
        f"""quote = '"', escape = '"', columns = {{{types}}})"""
    )


def _header(path: Path) -> list[str]:
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, mode="rt", encoding="utf-8", newline="") as lines:
            return [column.strip().lower() for column in next(csv.reader(lines), [])]
    except (OSError, EOFError, UnicodeDecodeError) as fault:
        raise DatasetError(
            f"{path} is cut off or damaged ({_first_line(str(fault))}): download it again from "
            f"{_SOURCE}."
        ) from fault


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ------------------------------------------------------------------------------- PostgreSQL


@dataclass(frozen=True, slots=True)
class _Database:
    connection: sa.Connection

    def run(self, statement: str, reporter: Reporter, what: str) -> None:
        _watched(
            lambda: self.connection.exec_driver_sql(statement),
            lambda seconds: reporter.detail(f"{what}: PostgreSQL works, {seconds:.0f} s"),
            lambda: self._driver().cancel_safe(),
        )

    def fetch(self, statement: str) -> pd.DataFrame:
        result = self.connection.exec_driver_sql(statement)
        return pd.DataFrame(result.fetchall(), columns=list(result.keys()))

    def put(self, name: str, frame: pd.DataFrame) -> None:
        columns = ", ".join(f"{column} {kind}" for column, kind in _column_types(frame))
        self.connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {name} ({columns})")
        with (
            self._driver().cursor() as cursor,
            cursor.copy(f"COPY {name} FROM STDIN") as rows,
        ):
            for row in frame.astype(object).itertuples(index=False, name=None):
                rows.write_row(row)
        self.connection.exec_driver_sql(f"ANALYZE {name}")

    def _driver(self) -> Any:
        return self.connection.connection.driver_connection


@contextmanager
def _postgresql(source: str) -> Iterator[Tables]:
    address = _address(source)
    shown = address.render_as_string(hide_password=True)
    try:
        engine = sa.create_engine(
            address,
            poolclass=pool.NullPool,
            hide_parameters=True,
            connect_args={"connect_timeout": _CONNECT_SECONDS},
        )
        with engine.connect() as connection:
            _check_schema(connection, shown)
            # The transaction is never committed: the temporary tables go with it.
            yield _Database(connection)
    except ModuleNotFoundError as fault:
        raise DatasetError(
            f"{shown} needs PostgreSQL's driver: install cds-service[postgresql]."
        ) from fault
    except exc.SQLAlchemyError as fault:
        reason = getattr(fault, "orig", None) or fault
        raise DatasetError(f"{shown} cannot be read: {_first_line(str(reason))}") from fault


def _address(source: str) -> sa.URL:
    try:
        address = sa.make_url(source)
    except (exc.ArgumentError, ValueError) as fault:
        raise DatasetError(
            "The database's URL cannot be read: it looks like postgresql://user@host/database."
        ) from fault
    if address.get_backend_name() != "postgresql":
        raise DatasetError(
            f"{address.get_backend_name()} is not supported: MIMIC-III is read from PostgreSQL or "
            "from a folder of its files."
        )
    bare = address.drivername == "postgresql"
    return address.set(drivername="postgresql+psycopg") if bare else address


def _check_schema(connection: sa.Connection, shown: str) -> None:
    rows = connection.execute(
        sa.text(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = :schema"
        ),
        {"schema": SCHEMA},
    )
    held = {(str(table), str(column)) for table, column in rows}
    if not held:
        raise DatasetError(
            f"{shown} has no schema {SCHEMA} that this user may read: load MIMIC-III with the "
            "scripts of https://github.com/MIT-LCP/mimic-code, or grant the right to select."
        )
    for table, columns in load_layout()["tables"].items():
        lacking = sorted(column for column in columns if (table, column) not in held)
        if len(lacking) == len(columns):
            raise DatasetError(f"{shown} has no table {SCHEMA}.{table} that this user may read.")
        if lacking:
            raise DatasetError(f"{shown}: {SCHEMA}.{table} has no column {', '.join(lacking)}.")


# ------------------------------------------------------------------------------------- both


def _column_types(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return [(str(name), _TYPES.get(kind.kind, "VARCHAR")) for name, kind in frame.dtypes.items()]


def _watched(
    work: Callable[[], object], look: Callable[[float], None], stop: Callable[[], object]
) -> None:
    """Does `work` in a thread, looks at it twice a second, and stops it if we are stopped."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        running = worker.submit(work)
        try:
            seconds = 0.0
            while not wait([running], timeout=_GLANCE_SECONDS).done:
                seconds += _GLANCE_SECONDS
                look(seconds)
        except BaseException:
            stop()
            raise
        running.result()


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
