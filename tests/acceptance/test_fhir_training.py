"""What is trained on NHANES is what is trained on the same people written as a FHIR export."""

from __future__ import annotations

import gzip
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pytest

from model_training.dataset import DEVELOPMENT, TEST, Dataset, Part, Silent
from model_training.export import model_files
from model_training.pipeline import build
from model_training.recipe import Recipe, load_recipe
from model_training.sample import sample_from
from model_training.sources.fhir_ndjson import read_fhir
from model_training.sources.fhir_writer import write_nhanes_as_fhir
from model_training.sources.nhanes import load_cycles, read_cycle, read_nhanes
from tests.data import data_folder

pytestmark = pytest.mark.xdist_group("fhir-training")
# One of them with its creatinine and its question about pills spelled in another way.
PARTS = {DEVELOPMENT: ("2005-2006", "2013-2014"), TEST: ("2015-2016",)}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """The model's own, with one trial of the search in place of many."""
    recipe = load_recipe()
    return replace(recipe, raw={**recipe.raw, "search": {**recipe.raw["search"], "trials": 1}})


@pytest.fixture(scope="module")
def nhanes(recipe: Recipe) -> Dataset:
    return read_nhanes(data_folder("nhanes"), recipe, Silent(), parts=PARTS)


@pytest.fixture(scope="module")
def fhir(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("export")
    periods = {period for part in PARTS.values() for period in part}
    cycles = [cycle for cycle in load_cycles() if cycle.years in periods]
    people = pd.concat([read_cycle(data_folder("nhanes"), cycle) for cycle in cycles])
    write_nhanes_as_fhir(people, folder, recipe)
    return read_fhir(folder, recipe, Silent(), parts=PARTS)


@pytest.mark.parametrize("part", [*PARTS, "treated"])
def test_the_same_people_come_back_in_the_same_order(
    nhanes: Dataset, fhir: Dataset, part: str
) -> None:
    ours, theirs = nhanes.parts[part].people, fhir.parts[part].people
    assert len(theirs) > 40
    for column in ("record", "person", "period", "event", "weight", "stratum", "sampling_unit"):
        assert theirs[column].tolist() == ours[column].tolist(), column
    assert [_told(group) for group in theirs["ethnicity"]] == ours["ethnicity"].tolist()


@pytest.mark.parametrize("part", [*PARTS, "treated"])
def test_every_input_comes_back_as_the_service_rounds_it(
    nhanes: Dataset, fhir: Dataset, recipe: Recipe, part: str
) -> None:
    ours, theirs = nhanes.parts[part].people, fhir.parts[part].people
    expected = sample_from(ours, recipe).values
    np.testing.assert_array_equal(sample_from(theirs, recipe).values, expected)


@pytest.mark.parametrize("part", list(PARTS))
def test_the_cohort_counts_are_the_same(nhanes: Dataset, fhir: Dataset, part: str) -> None:
    """From adults with a result on; who was examined is not in an export."""
    ours, theirs = _counts(nhanes.parts[part]), _counts(fhir.parts[part])
    assert theirs[2:] == ours[3:]
    everybody = [_counts(nhanes.parts[one])[0][0] for one in PARTS]
    assert theirs[0][0] == sum(everybody)


def test_the_same_model_is_made_to_the_byte(nhanes: Dataset, fhir: Dataset, recipe: Recipe) -> None:
    ours = _model(nhanes.parts[DEVELOPMENT].people, recipe)
    theirs = _model(fhir.parts[DEVELOPMENT].people, recipe)
    assert set(theirs) >= {"model.ubj", "calibration.json", "golden_scores.json"}
    assert [name for name in ours if theirs[name] != ours[name]] == []


def test_synthetic_records_are_read_without_a_fault(recipe: Recipe, tmp_path: Path) -> None:
    """Whole Synthea records of 120 patients, their Bundles taken apart into one file per type."""
    _flatten(data_folder("synthea_r4"), tmp_path)
    part = read_fhir(tmp_path, recipe, Silent(), parts={TEST: ()}).parts[TEST]
    assert part.flow[0].people == 120
    counts = [step.people for step in part.flow]
    assert counts == sorted(counts, reverse=True)
    assert len(part.people) == counts[-1] > 20
    known = part.people[recipe.columns].notna()
    assert known[["age", "sex"]].all(axis=None)
    for name in ("body_mass_index", "systolic_blood_pressure", "glucose", "total_cholesterol"):
        assert known[name].any(), name
    # Synthea finds a diabetic HbA1c only in whom it has already diagnosed.
    assert part.flow[1].events > 0
    assert part.people["event"].sum() == 0


def _told(group: object) -> object:
    return None if pd.isna(group) else group  # type: ignore[call-overload]


def _counts(part: Part) -> list[tuple[int, int]]:
    return [(step.people, step.events) for step in part.flow]


def _model(people: pd.DataFrame, recipe: Recipe) -> dict[str, bytes]:
    development = sample_from(people, recipe)
    return model_files(build(development, recipe, Silent()).model, development, recipe)


def _flatten(bundles: Path, folder: Path) -> None:
    files: dict[str, IO[str]] = {}
    with ExitStack() as stack:
        for path in sorted(bundles.glob("*.json.gz")):
            with gzip.open(path) as file:
                entries: list[dict[str, Any]] = json.load(file)["entry"]
            for resource in (entry["resource"] for entry in entries):
                type_ = resource["resourceType"]
                if type_ not in files:
                    files[type_] = stack.enter_context(
                        (folder / f"{type_}.ndjson").open("w", encoding="utf-8")
                    )
                files[type_].write(json.dumps(resource) + "\n")
