"""The subjects of the benchmarks: what each is, and that they compute the same."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks import agreement, healthchain_process
from benchmarks.subjects import file_name
from benchmarks.tokens import Ehr
from cds_service.clients import Clients
from cds_service.errors import Unauthenticated
from cds_service.parts import Parts
from fhir_mapping import map_features
from risk_model import RiskEstimate, score

URL = "http://127.0.0.1:8000/cds-services/diabetes-risk"


def test_the_ehr_s_tokens_open_the_service_once_each(tmp_path: Path) -> None:
    ehr = Ehr(tmp_path)
    clients = Clients.from_file(Path(ehr.settings["CDS_CLIENTS_FILE"]), "production")
    sign = ehr.signs(URL)
    first, second = sign(), sign()

    async def call(token: str | None, url: str = URL) -> str | None:
        caller = await clients.authenticate(token, endpoint=url, now=datetime.now(UTC))
        return caller.client.name if caller.client else None

    async def calls() -> list[str | None]:
        names = [await call(first), await call(second)]
        for refused in (first, None):
            with pytest.raises(Unauthenticated):
                await call(refused)
        with pytest.raises(Unauthenticated):
            await call(sign(), "http://127.0.0.1:8000/predict")
        await clients.close()
        return names

    assert ehr.settings["CDS_PROFILE"] == "production"
    assert asyncio.run(calls()) == ["General Hospital", "General Hospital"]


def test_the_patients_of_the_agreement_have_one_result_of_each_kind(parts: Parts) -> None:
    (loaded,) = parts.models.values()
    for number in range(agreement.PATIENTS):
        call = agreement.a_call(number)
        chart = [entry["resource"] for entry in call["prefetch"]["observations"]["entry"]]
        vector = map_features(
            loaded.mapping,
            [call["prefetch"]["patient"], *chart],
            as_of=datetime.now(UTC),
            patient_id=call["context"]["patientId"],
        )
        pressures = {"systolic_blood_pressure", "diastolic_blood_pressure"}
        assert set(vector.absences()) == pressures
        relevant = [
            coding["code"]
            for found in chart
            for coding in found["code"]["coding"]
            if (coding["system"], coding["code"]) in loaded.mapping.concept_of
        ]
        assert len(relevant) == len(set(relevant)) == len(vector.values()) - 2


def test_eager_scores_and_explains_as_the_service_does(parts: Parts) -> None:
    eager = pytest.importorskip("benchmarks.eager")
    (loaded,) = parts.models.values()
    values = {"age": 61.0, "sex": 1.0, "glucose": 118.0, "body_mass_index": 33.0}
    ours = score(loaded.model, values)
    assert isinstance(ours, RiskEstimate)
    theirs = eager.Scorer(loaded.model).estimate(values)
    assert theirs.probability == pytest.approx(ours.probability, abs=1e-6)
    assert (theirs.level, theirs.baseline) == (ours.level, pytest.approx(ours.baseline, abs=1e-4))
    shares = {share.feature: share.log_odds for share in ours.contributions}
    for share in theirs.contributions:
        assert share.log_odds == pytest.approx(shares[share.feature], abs=1e-4)


def test_eager_answers_and_stores_what_the_service_does(parts: Parts) -> None:
    eager = pytest.importorskip("benchmarks.eager")
    (definition,) = parts.services.values()
    scorer = eager.Scorer(parts.model_of(definition).model)
    live = replace(parts, clock=lambda: datetime.now(UTC))
    call = agreement.a_call(0)
    eager.answer(live, definition, scorer, eager.HookCall.model_validate(call))
    (record,) = parts.store.assessment_of_call(call["hookInstance"])
    assert record.probability == pytest.approx(scorer.last)
    del call["prefetch"]["observations"]["entry"][0]["resource"]["code"]
    with pytest.raises(ValueError, match="code"):
        eager.answer(live, definition, scorer, eager.HookCall.model_validate(call))


def test_every_package_of_healthchain_is_pinned_by_its_digest() -> None:
    text = healthchain_process.REQUIREMENTS.read_text(encoding="utf-8")
    packages = re.findall(
        r"^([\w.-]+)==(\S+)[^\n]*\\\n((?:    --hash=sha256:\S+.*\n?)+)", text, re.M
    )
    assert len(packages) == len(re.findall(r"^[\w.-]+==", text, re.M)) > 50
    versions = {name: version for name, version, _ in packages}
    assert versions["healthchain"] == "0.15.0"


def test_healthchain_is_given_a_code_for_every_feature_of_the_model(parts: Parts) -> None:
    # Its application cannot be imported here: it runs in an environment of its own.
    tree = ast.parse(healthchain_process.APPLICATION.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("CODES", "ELEMENTS", "LOINC")
    }
    (loaded,) = parts.models.values()
    features = {
        feature["name"]: feature["concept"] for feature in loaded.model.manifest.raw["features"]
    }
    assert {*constants["CODES"], *constants["ELEMENTS"]} == set(features)
    for feature, code in constants["CODES"].items():
        assert loaded.mapping.concept_of[constants["LOINC"], code] == features[feature]


def test_healthchain_that_cannot_be_installed_is_left_out_with_what_pip_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(arguments: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(1, arguments, stderr="Looking\nERROR: no network\n")

    monkeypatch.setattr(healthchain_process, "ROOT", tmp_path)
    monkeypatch.setattr("venv.create", lambda *_, **__: None)
    monkeypatch.setattr("subprocess.run", refuse)
    with pytest.raises(healthchain_process.CannotBeInstalled, match=r"^ERROR: no network$"):
        healthchain_process.environment()


def test_a_subject_s_files_have_plain_names() -> None:
    assert file_name("service, PostgreSQL") == "service-postgresql"
