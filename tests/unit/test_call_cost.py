"""What a whole call costs, from its first byte to its answer: counted in calls of functions and in
modules, since clocks tell of the machine. The bounds leave room for a few more."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.process import ROOT

# In a process of its own, that of a service: nothing is loaded that a service does not load.
SCRIPT = """
import asyncio, json, os, sys

from benchmarks.calls import bodies, utc_now
from benchmarks.stages import call_once
from cds_service.app import create_app_from_environment

app = create_app_from_environment()
at_start = sorted(sys.modules)


async def cost(size):
    first, counted_one = bodies(2, observations=size, seed="cost", now=utc_now())
    assert await call_once(app, first) == 200  # what is made at the first call is not made again
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    status = await call_once(app, counted_one)
    sys.setprofile(None)
    assert status == 200
    return counted


async def main():
    return {size: await cost(size) for size in (20, 100, 200, 500, 5000)}


calls = asyncio.run(main())
print(json.dumps({"calls": calls, "at_start": at_start, "modules": sorted(sys.modules)}))
"""
# They take seconds to import and hundreds of megabytes to hold.
OFFLINE = {"pandas", "sklearn", "shap", "numba", "matplotlib", "fhir", "duckdb", "optuna"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = tmp_path_factory.mktemp("cost") / "cds.db"
    environment = {
        "CDS_PROFILE": "demo",
        "CDS_DATABASE_URL": f"sqlite:///{store}",
        "CDS_LOG_LEVEL": "ERROR",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
    }
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize(("size", "most"), [("20", 4_500), ("100", 9_500)])
def test_a_call_costs_so_many_calls_of_functions(
    found: dict[str, Any], size: str, most: int
) -> None:
    assert found["calls"][size] <= most


def test_it_grows_with_its_observations_and_no_faster(found: dict[str, Any]) -> None:
    calls = {int(size): count for size, count in found["calls"].items()}
    assert calls[200] - calls[100] <= 1.1 * (calls[100] - calls[20]) * 100 / 80
    assert calls[5000] - calls[500] <= 1.1 * (calls[500] - calls[200]) * 4500 / 300
    assert calls[5000] <= 10.5 * calls[500]


def test_no_process_that_serves_loads_what_only_training_needs(found: dict[str, Any]) -> None:
    assert "cds_service.app" in found["at_start"]
    for loaded in (found["at_start"], found["modules"]):
        assert not OFFLINE & {name.partition(".")[0] for name in loaded}
