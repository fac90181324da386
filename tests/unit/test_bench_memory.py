"""The long run and the profile: slopes, patients and modules, without a clock."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest

from benchmarks import calls, memory, profile
from benchmarks.results import MemoryResult, MemorySample
from benchmarks.subjects import ROOT


def samples(*resident: float) -> list[MemorySample]:
    return [
        MemorySample(calls=1000 * number, seconds=float(number), resident=megabytes, store=1.0)
        for number, megabytes in enumerate(resident, start=1)
    ]


def test_the_slope_is_in_bytes_for_each_call() -> None:
    assert memory.slope(samples(100.0, 101.0, 102.0)) == pytest.approx(1000)
    assert memory.slope(samples(100.0, 100.0, 100.0)) == 0
    assert memory.slope(samples(100.0, 102.0, 100.0)) == pytest.approx(0)
    assert memory.slope(samples(100.0)) == 0


def test_every_call_of_the_long_run_is_about_another_patient() -> None:
    charts = list(calls.bodies(2, observations=3, seed="a", now=calls.utc_now()))
    made = memory.patients(charts, random.Random(1))  # noqa: S311 (not a secret)
    read = [orjson.loads(next(made)) for _ in range(6)]
    assert len({one["context"]["patientId"] for one in read}) == 6
    assert len({one["hookInstance"] for one in read}) == 6
    for one in read:
        subjects = {
            e["resource"]["subject"]["reference"] for e in one["prefetch"]["observations"]["entry"]
        }
        assert subjects == {f"Patient/{one['context']['patientId']}"}


def test_a_disk_that_is_too_small_is_said_before_it_is_full() -> None:
    memory.check_disk(10_000, 20_000)
    with pytest.raises(memory.NotEnoughDisk, match=r"needs 10\.0 GB .* 9\.0 GB"):
        memory.check_disk(10_000, 9_000)


def test_a_long_run_is_read_back_and_shown(tmp_path: Path) -> None:
    assert memory.read(tmp_path / "memory.json") is None
    found = MemoryResult(
        date="d", command="c", calls=40_000, warm_up=4_000, observations=20, seconds=60.0,
        bytes_a_call=2.0, peak=150.0, samples=samples(*[100.0] * 40),
    )  # fmt: skip
    (tmp_path / "memory.json").write_bytes(orjson.dumps(found))
    assert memory.read(tmp_path / "memory.json") == found
    rows = memory.grid(found).rows
    assert (rows[0][0], rows[-1][0]) == ("1,000", "40,000")
    assert len(rows) <= memory.SHOWN + 1
    assert "+2.0 bytes a call, +0.1 MB" in memory.told(found)


STACK = (
    "main (cds_service/cli.py);run (uvicorn/server.py:9);call (/x/cds_service/routes/services.py)"
)


@pytest.mark.parametrize(
    ("stack", "module"),
    [
        ("main (cds_service/cli.py:9);run (uvicorn/server.py:85)", "uvicorn"),
        (STACK, "cds_service.routes.services"),
        (f"{STACK};predict (xgboost/core.py)", "cds_service.routes.services"),
        (f"{STACK};<lambda> (/y/site-packages/anyio/a.py)", "cds_service.routes.services"),
        ("bootstrap (threading.py:3);get (queue.py:1)", "queue"),
        ("process 12", "not Python"),
    ],
)
def test_time_in_a_library_is_its_caller_s(stack: str, module: str) -> None:
    assert profile.module_of(stack) == module


def test_shares_add_up() -> None:
    found = profile.shares([f"{STACK} 3", "wait (threading.py) 1"])
    assert found == {"cds_service.routes.services": 0.75, "threading": 0.25}


def test_a_published_picture_says_no_place_on_this_machine() -> None:
    svg = f"<text>x/py-spy record --pid 1 --output /tmp/a</text><title>{ROOT}/a.py</title>"
    assert profile.titled(svg, "A") == "<text>A</text><title>a.py</title>"
