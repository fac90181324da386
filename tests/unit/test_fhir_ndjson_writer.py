"""What NHANES' people become as FHIR is valid FHIR, and is read back as the people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fhir.resources.R4B import get_fhir_model_class

from model_training.dataset import TEST, DatasetError, Silent
from model_training.recipe import Recipe, load_recipe
from model_training.sources.fhir_ndjson import read_fhir
from model_training.sources.fhir_writer import write_nhanes_as_fhir

PARTS = {TEST: ("2015-2016",)}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe()


def people(recipe: Recipe, *changes: dict[str, Any]) -> pd.DataFrame:
    """As read_cycle has them: a woman of 50, with a plausible value of everything but glucose."""
    measured = {f.name: sum(f.plausible) / 2 for f in recipe.features} | {"glucose": None}
    first: dict[str, Any] = {
        **measured,
        "urine_albumin": 1.0,
        "urine_creatinine": 100.0,
        "hba1c": 5.0,
        "age": 50.0,
        "gender": 2.0,
        "ethnicity": 2.0,
        "survey_weight": 1234.56789,
        "stratum": 119.0,
        "sampling_unit": 2.0,
        "told_diabetes": 2.0,
        "takes_insulin": 2.0,
        "takes_pills": None,
        "pregnant": None,
        "cycle": "2015-2016",
    }
    rows = [first | change | {"SEQN": 9 + n} for n, change in enumerate(changes)]
    return pd.DataFrame(rows).astype({"glucose": float})


def test_every_resource_is_valid_fhir(recipe: Recipe, tmp_path: Path) -> None:
    asked = {"told_diabetes": 1, "takes_insulin": 1, "takes_pills": 1, "pregnant": 1}
    rows = people(recipe, {"ethnicity": 1}, {"ethnicity": 4, "gender": 1} | asked)
    write_nhanes_as_fhir(rows, tmp_path, recipe)
    counts = {}
    for path in tmp_path.iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            get_fhir_model_class(path.stem).model_validate(json.loads(line))
        counts[path.name] = len(lines)
    assert counts == {
        "Patient.ndjson": 2,
        # Every input but age, sex and the glucose that is unknown, and the outcome.
        "Observation.ndjson": 2 * (len(recipe.features) - 2),
        "Condition.ndjson": 2,
        "MedicationRequest.ndjson": 2,
    }


def test_people_are_read_back(recipe: Recipe, tmp_path: Path) -> None:
    rows = people(recipe, {}, {"hba1c": 6.5, "ethnicity": 5, "age": 80, "SEQN": 100}, {"age": 17})
    write_nhanes_as_fhir(rows, tmp_path, recipe)
    back = read_fhir(tmp_path, recipe, Silent(), parts=PARTS).parts[TEST].people
    assert back["record"].tolist() == ["000009", "000010"]
    assert back["age"].tolist() == [50, 80]
    assert back["sex"].tolist() == [1, 1]
    assert back["event"].tolist() == [0, 1]
    assert back["ethnicity"].tolist() == ["Other Hispanic", "Other or multiple"]
    assert back["weight"].tolist() == [1234.56789] * 2
    assert (back["stratum"].tolist(), back["sampling_unit"].tolist()) == ([119] * 2, [2] * 2)
    assert back["glucose"].isna().all()
    assert back["body_mass_index"].tolist() == rows["body_mass_index"].tolist()[:2]


@pytest.mark.parametrize("answer", ["told_diabetes", "takes_insulin", "takes_pills", "pregnant"])
def test_whoever_the_cohort_leaves_out_is_left_out(
    recipe: Recipe, tmp_path: Path, answer: str
) -> None:
    write_nhanes_as_fhir(people(recipe, {}, {answer: 1}), tmp_path, recipe)
    part = read_fhir(tmp_path, recipe, Silent(), parts=PARTS).parts[TEST]
    assert part.people["record"].tolist() == ["000009"]
    assert (part.flow[0].people, part.flow[-1].people) == (2, 1)


def test_an_input_that_is_lacking_is_named_and_nothing_written(
    recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    with pytest.raises(DatasetError, match="lack creatinine: nothing was written"):
        write_nhanes_as_fhir(people(recipe, {}).drop(columns="creatinine"), folder, recipe)
    assert not folder.exists()
