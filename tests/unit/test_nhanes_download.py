"""Fetching CDC's tables, from a real server that breaks off, forgets and answers with pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from model_training.dataset import DatasetError
from model_training.sources.nhanes import read_cycle
from model_training.sources.nhanes_download import PAUSES, download_nhanes, nhanes_download
from tests.fakes.cdc import Cdc, answering, breaking_after
from tests.nhanes import cycle, transport_file, write_cycle, write_xpt

YEARS = "2015-2016"
PAGE = b"<!DOCTYPE html><html><body>The page you requested cannot be found.</body></html>"


class Seen:
    """A Watcher that remembers."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.held: list[tuple[int, int | None]] = []

    def begins(self, title: str, number: int, of: int) -> None:
        self.titles.append(f"{title} {number}/{of}")

    def holds(self, received: int, total: int | None) -> None:
        self.held.append((received, total))


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, bytes]:
    """A whole cycle, and its HbA1c long enough to come in several pieces."""
    (tmp_path / "made").mkdir()
    write_cycle(tmp_path / "made", YEARS, 3, write_xpt, LBXGH=[7, 5, 5])
    made = {path.stem: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    many = list(range(1, 30001))
    return made | {"GHB_I": transport_file({"SEQN": many, "LBXGH": [5.5] * len(many)})}


@pytest.fixture
def cdc(tables: dict[str, bytes]) -> Iterator[Cdc]:
    with Cdc(tables) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "nhanes"


def download(cdc: Cdc, folder: Path, **others: Seen) -> list[float]:
    """Returns the seconds that it would have rested."""
    rests: list[float] = []
    download_nhanes(folder, [YEARS], others.get("watcher"), base_url=cdc.url, rest=rests.append)
    return rests


def ranges(cdc: Cdc, table: str) -> list[str | None]:
    return [asked for path, asked in cdc.asked if path.endswith(f"/{table}.xpt")]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_table_of_a_cycle_comes_whole_and_can_be_read(
    cdc: Cdc, folder: Path, tables: dict[str, bytes]
) -> None:
    assert download(cdc, folder) == []
    assert {path.stem: path.read_bytes() for path in folder.iterdir()} == tables
    assert names(folder) == {f"{table}.XPT" for table in cycle(YEARS).columns}
    assert len(read_cycle(folder, cycle(YEARS))) == 3
    assert cdc.asked[0] == ("/2015/DataFiles/DEMO_I.xpt", None)


def test_what_is_there_is_not_fetched_again(cdc: Cdc, folder: Path) -> None:
    download(cdc, folder)
    cdc.asked.clear()
    (folder / "BMX_I.XPT").write_bytes(b"HEADER RECORD*** half of a table")
    seen = Seen()
    download(cdc, folder, watcher=seen)
    assert [path for path, _ in cdc.asked] == ["/2015/DataFiles/BMX_I.xpt"]
    assert seen.titles == ["BMX_I (2015-2016) 1/1"]
    assert len(read_cycle(folder, cycle(YEARS))) == 3


def test_a_broken_connection_goes_on_where_it_stopped(
    cdc: Cdc, folder: Path, tables: dict[str, bytes]
) -> None:
    cdc.faults["GHB_I"] = [breaking_after(100_000), breaking_after(50_000)]
    seen = Seen()
    assert download(cdc, folder, watcher=seen) == list(PAUSES[:2])
    assert ranges(cdc, "GHB_I") == [None, "bytes=100000-", "bytes=150000-"]
    assert (folder / "GHB_I.XPT").read_bytes() == tables["GHB_I"]
    whole = len(tables["GHB_I"])
    assert {(100_000, whole), (150_000, whole), (whole, whole)} <= set(seen.held)


def test_the_next_run_goes_on_where_the_last_one_gave_up(
    cdc: Cdc, folder: Path, tables: dict[str, bytes]
) -> None:
    cdc.faults["GHB_I"] = [breaking_after(10_000)] * (len(PAUSES) + 1)
    with pytest.raises(DatasetError, match=r"GHB_I\.xpt could not be fetched in 5 tries.*again"):
        download(cdc, folder)
    assert "GHB_I.XPT" not in names(folder)
    assert (folder / "GHB_I.XPT.part").stat().st_size == 50_000
    cdc.asked.clear()
    download(cdc, folder)
    assert ranges(cdc, "GHB_I") == ["bytes=50000-"]
    assert (folder / "GHB_I.XPT").read_bytes() == tables["GHB_I"]
    assert not any(".part" in name for name in names(folder))


def test_a_table_that_changed_meanwhile_is_fetched_from_the_start(cdc: Cdc, folder: Path) -> None:
    cdc.faults["GHB_I"] = [breaking_after(10_000)] * (len(PAUSES) + 1)
    with pytest.raises(DatasetError):
        download(cdc, folder)
    newer = transport_file({"SEQN": [1, 2, 3], "LBXGH": [8, 8, 8]})
    cdc.tables["GHB_I"], cdc.version = newer, '"2"'
    download(cdc, folder)
    assert (folder / "GHB_I.XPT").read_bytes() == newer


def test_a_server_without_ranges_sends_the_whole_again(
    cdc: Cdc, folder: Path, tables: dict[str, bytes]
) -> None:
    cdc.ranges = False
    cdc.faults["GHB_I"] = [breaking_after(100_000)]
    download(cdc, folder)
    assert ranges(cdc, "GHB_I") == [None, "bytes=100000-"]
    assert (folder / "GHB_I.XPT").read_bytes() == tables["GHB_I"]


@pytest.mark.parametrize("version", [None, 'W/"1"'])
def test_without_a_version_nothing_is_pieced_together(
    cdc: Cdc, folder: Path, tables: dict[str, bytes], version: str | None
) -> None:
    cdc.version = version
    cdc.faults["GHB_I"] = [breaking_after(100_000)]
    download(cdc, folder)
    assert ranges(cdc, "GHB_I") == [None, None]
    assert (folder / "GHB_I.XPT").read_bytes() == tables["GHB_I"]


def test_a_part_of_another_place_than_asked_for_is_not_taken(
    cdc: Cdc, folder: Path, tables: dict[str, bytes]
) -> None:
    whole = tables["GHB_I"]
    wrong = answering(206, whole[90_000:], Content_Range=f"bytes 90000-{len(whole) - 1}/*")
    cdc.faults["GHB_I"] = [breaking_after(100_000), wrong]
    download(cdc, folder)
    assert ranges(cdc, "GHB_I") == [None, "bytes=100000-", None]
    assert (folder / "GHB_I.XPT").read_bytes() == whole


def test_a_range_that_is_refused_begins_anew(
    cdc: Cdc, folder: Path, tables: dict[str, bytes]
) -> None:
    cdc.faults["GHB_I"] = [breaking_after(100_000), answering(416)]
    download(cdc, folder)
    assert ranges(cdc, "GHB_I") == [None, "bytes=100000-", None]
    assert (folder / "GHB_I.XPT").read_bytes() == tables["GHB_I"]


def test_a_server_that_is_busy_is_asked_again_when_it_says(cdc: Cdc, folder: Path) -> None:
    cdc.faults["GHB_I"] = [answering(500), answering(503, Retry_After="20"), answering(429)]
    assert download(cdc, folder) == [PAUSES[0], 20, PAUSES[2]]
    assert "GHB_I.XPT" in names(folder)


def test_a_server_that_stays_broken_is_named_and_nothing_has_the_tables_name(
    cdc: Cdc, folder: Path
) -> None:
    cdc.faults["GHB_I"] = [answering(500)] * (len(PAUSES) + 1)
    with pytest.raises(DatasetError, match=r"2015/DataFiles/GHB_I\.xpt .* 5 tries: HTTP 500"):
        download(cdc, folder)
    assert not any(name.startswith("GHB_I") for name in names(folder))


def test_a_missing_table_is_named_at_once(cdc: Cdc, folder: Path) -> None:
    del cdc.tables["GHB_I"]
    with pytest.raises(DatasetError, match=r"no table GHB_I \(2015-2016\) at http.*\(HTTP 404\)"):
        download(cdc, folder)
    assert len(ranges(cdc, "GHB_I")) == 1


def test_a_refusal_is_not_asked_again(cdc: Cdc, folder: Path) -> None:
    cdc.faults["GHB_I"] = [answering(403)]
    with pytest.raises(DatasetError, match=r"GHB_I\.xpt was refused \(HTTP 403\)"):
        download(cdc, folder)
    assert len(ranges(cdc, "GHB_I")) == 1


def test_a_web_page_in_the_place_of_a_table_is_not_kept(cdc: Cdc, folder: Path) -> None:
    cdc.faults["GHB_I"] = [answering(200, PAGE, Content_Type="text/html; charset=utf-8")]
    with pytest.raises(DatasetError, match=r"GHB_I\.xpt is not a table: what came is text/html"):
        download(cdc, folder)
    assert not any(name.startswith("GHB_I") for name in names(folder))


def test_a_table_that_was_cut_on_the_server_is_not_kept(cdc: Cdc, folder: Path) -> None:
    cdc.tables["GHB_I"] = cdc.tables["GHB_I"][:-37]
    with pytest.raises(DatasetError, match="not a whole SAS transport file"):
        download(cdc, folder)
    assert not any(name.startswith("GHB_I") for name in names(folder))


def test_a_server_that_is_not_there_is_named(folder: Path) -> None:
    with Cdc({}) as gone:
        url = gone.url
    rests: list[float] = []
    with pytest.raises(DatasetError, match=r"DEMO_I\.xpt could not be fetched in 5 tries"):
        download_nhanes(folder, [YEARS], base_url=url, rest=rests.append)
    assert rests == list(PAUSES)


@pytest.mark.parametrize("address", ["ftp://cdc.example", "http://cdc.example:port", "cdc"])
def test_what_is_no_address_is_refused_at_once(folder: Path, address: str) -> None:
    rests: list[float] = []
    with pytest.raises(DatasetError, match="no address to fetch from"):
        download_nhanes(folder, [YEARS], base_url=address, rest=rests.append)
    assert rests == []


def test_a_folder_that_cannot_be_made_is_named(cdc: Cdc, folder: Path) -> None:
    folder.write_text("a file", encoding="utf-8")
    with pytest.raises(DatasetError, match="nhanes cannot be written to"):
        download(cdc, folder)


def test_an_unknown_cycle_is_refused_before_anything_is_written(cdc: Cdc, folder: Path) -> None:
    with pytest.raises(DatasetError, match="no cycle 2018: those known are"):
        download_nhanes(folder, ["2018"], base_url=cdc.url)
    assert not folder.exists()
    assert cdc.asked == []


def program() -> typer.Typer:
    app = typer.Typer()
    app.command()(nhanes_download)
    return app


def test_the_command_fetches_the_cycles_asked_for(cdc: Cdc, folder: Path) -> None:
    given = ["--to", str(folder), "--cycle", YEARS, "--from", cdc.url]
    result = CliRunner().invoke(program(), given)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{len(cycle(YEARS).columns)} tables fetched (")
    again = CliRunner().invoke(program(), given)
    assert again.stdout.startswith("0 tables fetched (0.0 MB)")


def test_the_command_says_in_one_sentence_what_cannot_be_done(cdc: Cdc, folder: Path) -> None:
    del cdc.tables["GHB_I"]
    given = ["--to", str(folder), "--cycle", YEARS, "--from", cdc.url]
    result = CliRunner().invoke(program(), given)
    assert result.exit_code == 2
    assert "There is no table GHB_I (2015-2016) at" in result.stderr


def test_without_cycles_the_command_asks_for_those_of_the_recipe(cdc: Cdc, folder: Path) -> None:
    result = CliRunner().invoke(program(), ["--to", str(folder), "--from", cdc.url])
    assert result.exit_code == 2  # this server has one cycle only
    assert cdc.asked == [("/1999/DataFiles/DEMO.xpt", None)]
