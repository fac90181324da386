"""What was trained is what is served: NHANES rows written as FHIR come back as the same rows.

In conventional and in SI units, and the served probability is the training pipeline's to 1e-6.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xgboost

from cds_service.app import create_app
from cds_service.settings import Settings
from fhir_mapping import compile_mapping, load_catalog, map_features
from model_training.as_served import recipe_of
from model_training.calibration import calibrated
from model_training.dataset import TEST, Silent
from model_training.fitting import Fitted
from model_training.logistic import logistic
from model_training.preprocessing import fit_preprocessor
from model_training.recipe import Recipe, load_recipe
from model_training.sample import Floats, Sample, Values, as_values, sample_from
from model_training.sources.nhanes import read_nhanes
from risk_model import load_model
from tests.data import data_folder
from tests.fhir import observation, patient, searchset
from tests.shipped import SHIPPED, shipped_json

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CATALOG = load_catalog()
ROWS = 150
# Unit, decimals as laboratories report them (NHANES' own SI columns have as many or more).
SI = {
    "glucose": ("14749-6", "mmol/L", 2),
    "total_cholesterol": ("14647-2", "mmol/L", 2),
    "hdl_cholesterol": ("14646-4", "mmol/L", 2),
    "triglycerides": ("14927-8", "mmol/L", 2),
    "creatinine": ("14682-9", "umol/L", 1),
    "urate": ("14933-6", "umol/L", 0),
    "albumin": ("1751-7", "g/L", 0),
    "leukocytes": ("6690-2", "10*9/L", 1),
    "systolic_blood_pressure": ("8480-6", "kPa", 2),
    "diastolic_blood_pressure": ("8462-4", "kPa", 2),
    "gamma_glutamyl_transferase": ("2324-2", "ukat/L", 3),
    "alanine_aminotransferase": ("1742-6", "ukat/L", 3),
    "aspartate_aminotransferase": ("1920-8", "ukat/L", 3),
    "urine_albumin_creatinine_ratio": ("32294-1", "mg/mmol", 2),
}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """With the inputs of the model that is served."""
    return recipe_of(load_model(SHIPPED).manifest, load_recipe())


@pytest.fixture(scope="module")
def sample(recipe: Recipe) -> Sample:
    """The test cycle as the training pipeline sees it."""
    parts = {TEST: ("2015-2016",)}
    dataset = read_nhanes(data_folder("nhanes"), recipe, Silent(), parts=parts)
    return sample_from(dataset.parts[TEST].people, recipe)


@pytest.fixture(scope="module")
def rows(sample: Sample) -> list[int]:
    """Spread over the cohort, with everybody who has the outcome among the first thirty."""
    spread = np.linspace(0, len(sample) - 1, ROWS - 30).astype(int)
    return [*np.flatnonzero(sample.events)[:30].tolist(), *spread.tolist()]


def pipeline(rows: Values, recipe: Recipe) -> Floats:
    """The training pipeline's own predictor, without risk_model; that the shipped booster is what
    training makes is shown where the artifact is rebuilt."""
    assert not (SHIPPED / "preprocessing.json").exists()
    preprocessor = fit_preprocessor(rows, recipe, "native", recipe.raw["preprocessing"])
    booster = xgboost.Booster(model_file=SHIPPED / "model.ubj")
    margins = Fitted(preprocessor=preprocessor, booster=booster).margins(rows)
    return logistic(calibrated(shipped_json("calibration.json"), margins))


def as_fhir(values: dict[str, float], *, si: bool) -> list[dict[str, Any]]:
    resources = [
        patient(
            birthDate=f"{NOW.year - int(values['age'])}-01-01",
            gender="female" if values["sex"] else "male",
        )
    ]
    for name, value in values.items():
        if name in ("age", "sex"):
            continue
        concept = CATALOG.concepts[name]
        code, unit, written = concept.loinc[0], concept.unit, value
        if si and name in SI:
            code, unit, decimals = SI[name]
            assert concept.reader is not None
            known = concept.reader.table.by_code[unit].code
            written = round(value / concept.reader.conversions[known].factor, decimals)
        resources.append(observation(code, written, unit))
    return resources


@pytest.mark.parametrize("si", [False, True], ids=["conventional", "SI"])
def test_a_row_written_as_fhir_comes_back_as_the_row(
    sample: Sample, rows: list[int], recipe: Recipe, si: bool
) -> None:
    mapping = compile_mapping(CATALOG, shipped_json("manifest.json"))
    for row in rows:
        values = as_values(sample.values[row], recipe)
        vector = map_features(mapping, as_fhir(values, si=si), as_of=NOW, patient_id="p1")
        assert vector.values() == values


@pytest.mark.parametrize("si", [False, True], ids=["conventional", "SI"])
def test_the_served_probability_is_the_pipelines(
    sample: Sample, rows: list[int], recipe: Recipe, tmp_path: Path, si: bool
) -> None:
    trained = pipeline(sample.values[rows], recipe)
    records = [as_fhir(as_values(sample.values[row], recipe), si=si) for row in rows]
    served = asyncio.run(_served(records, tmp_path))
    scored = [n for n, probability in enumerate(served) if probability is not None]
    assert len(scored) > 0.9 * ROWS, "most rows have enough to be scored"
    for n in scored:
        assert served[n] == pytest.approx(trained[n], abs=1e-6)


async def _served(records: list[list[dict[str, Any]]], folder: Path) -> list[float | None]:
    settings = Settings(
        profile="demo",
        database_url=f"sqlite:///{folder}/cds.db",
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
    )
    transport = httpx.ASGITransport(create_app(settings, clock=lambda: NOW))
    async with httpx.AsyncClient(transport=transport, base_url=settings.public_url) as ehr:
        return [await _post(ehr, n, record) for n, record in enumerate(records)]


async def _post(ehr: httpx.AsyncClient, n: int, record: list[dict[str, Any]]) -> float | None:
    """The probability on record for one row; its own patient id keeps the rows apart."""
    patient_id = f"row-{n}"
    for resource in record:
        if resource["resourceType"] == "Patient":
            resource["id"] = patient_id
        else:
            resource["subject"] = {"reference": f"Patient/{patient_id}"}
    request = {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/1", "patientId": patient_id},
        "prefetch": {
            "patient": record[0],
            "observations": searchset(*record[1:]),
            "conditions": None,
            "medications": None,
        },
    }
    answer = await ehr.post("/cds-services/diabetes-risk", json=request)
    assert answer.status_code == 200
    bundle = (await ehr.get("/fhir/RiskAssessment", params={"patient": patient_id})).json()
    if not bundle["total"]:
        return None
    percent: float = bundle["entry"][0]["resource"]["prediction"][0]["probabilityDecimal"]
    return percent / 100
