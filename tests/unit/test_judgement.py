"""Scored, outside the question, already answered, or too little known."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from cds_service import judgement
from cds_service.judgement import InsufficientData, OutOfDomain, Settled, judge, outcome_name
from fhir_mapping import compile_mapping, load_catalog, map_features
from risk_model import parse_manifest
from tests.fhir import condition, observation, patient
from tests.manifests import raw_manifest

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MAPPING = compile_mapping(load_catalog(), raw_manifest())
MODEL: Any = SimpleNamespace(manifest=parse_manifest(raw_manifest()))
ENOUGH = (observation("39156-5", 31.2, "kg/m2"),)


def judged(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, Any]) -> Any:
    """The judgement; a call of the model itself is a plain marker here."""
    marker = InsufficientData(missing=("the model was asked",), groups=())
    monkeypatch.setattr(judgement, "score", lambda model, values: marker)
    return judge(map_features(MAPPING, resources, as_of=NOW, patient_id="p1"), MODEL)


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ((patient(deceasedBoolean=True),), "deceased"),
        ((patient(), condition("http://snomed.info/sct", "44054006")), "known_diabetes"),
        ((patient(), condition("http://snomed.info/sct", "77386006")), "pregnancy"),
        ((patient(birthDate="2010-01-01"),), "minimum_age"),
        ((patient(birthDate="2008"),), "minimum_age"),
    ],
)
def test_outside_the_domain_the_model_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, resources: tuple[dict[str, Any], ...], reason: str
) -> None:
    assert judged(monkeypatch, *resources, *ENOUGH) == OutOfDomain(reason)
    # A result that would settle the question does not bring a patient back into the domain.
    settling = observation("4548-4", 8.0, "%")
    assert judged(monkeypatch, *resources, *ENOUGH, settling) == OutOfDomain(reason)


@pytest.mark.parametrize(
    ("number", "unit", "when", "more", "band"),
    [
        (6.5, "%", "2026-11-01", {}, "hba1c-diabetic"),
        (48, "mmol/mol", "2026-11-01", {}, "hba1c-diabetic"),
        (7.2, "%", "2019-01-01", {}, "hba1c-diabetic"),
        (6.4, "%", "2026-11-01", {}, "hba1c-intermediate"),
        (5.7, "%", "2026-11-01", {}, "hba1c-intermediate"),
        (5.6, "%", "2026-11-01", {}, "hba1c-normal"),
        (6.1, "%", "2024-11-01", {}, None),
        (5.2, "%", "2024-11-01", {}, None),
        (7.2, "%", "2010-01-01", {}, None),
        (14.0, "%", "2026-11-01", {"comparator": ">"}, "hba1c-diabetic"),
        (6.0, "%", "2026-11-01", {"comparator": ">"}, None),
        (4.0, "%", "2026-11-01", {"comparator": "<"}, "hba1c-normal"),
        (5.7, "%", "2026-11-01", {"comparator": "<"}, "hba1c-normal"),
        (5.7, "%", "2026-11-01", {"comparator": "<="}, None),
        (7.0, "%", "2026-11-01", {"comparator": "<"}, None),
        (48, "furlong", "2026-11-01", {}, None),
    ],
)
def test_an_hba1c_on_record_settles_the_question_where_it_is_certain(
    monkeypatch: pytest.MonkeyPatch,
    number: float,
    unit: str,
    when: str,
    more: dict[str, Any],
    band: str | None,
) -> None:
    sent = observation("4548-4", number, unit, effectiveDateTime=when)
    sent["valueQuantity"] |= more
    found = judged(monkeypatch, patient(), *ENOUGH, sent)
    assert (found.band if isinstance(found, Settled) else None) == band


def test_the_most_recent_hba1c_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    old = observation("4548-4", 7.0, "%", id="a", effectiveDateTime="2024-01-01")
    new = observation("4548-4", 5.4, "%", id="b", effectiveDateTime="2026-10-01")
    bound = observation("4548-4", 14, "%", id="c", effectiveDateTime="2026-11-01")
    bound["valueQuantity"]["comparator"] = ">"
    assert judged(monkeypatch, patient(), old, new).band == "hba1c-normal"
    assert judged(monkeypatch, patient(), old, new, bound).band == "hba1c-diabetic"


def test_a_bound_that_says_nothing_does_not_hide_the_exact_result_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = observation("4548-4", 9.0, "%", id="a", effectiveDateTime="2026-10-01")
    vague = observation("4548-4", 4, "%", id="b", effectiveDateTime="2026-11-10")
    vague["valueQuantity"]["comparator"] = ">"
    assert judged(monkeypatch, patient(), exact, vague).band == "hba1c-diabetic"


@pytest.mark.parametrize(
    ("number", "unit", "band"),
    [
        (48, "mmol/mol", "hba1c-diabetic"),
        (47, "mmol/mol", "hba1c-intermediate"),
        (39, "mmol/mol", "hba1c-intermediate"),
        (38, "mmol/mol", "hba1c-normal"),
        (6.45, "%", "hba1c-intermediate"),
        (5.69, "%", "hba1c-normal"),
    ],
)
def test_bands_meet_where_laboratories_put_them_in_either_unit(
    monkeypatch: pytest.MonkeyPatch, number: float, unit: str, band: str
) -> None:
    assert judged(monkeypatch, patient(), observation("4548-4", number, unit)).band == band


def test_outcomes_have_names_without_patient_data(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = observation("4548-4", 7.0, "%")
    assert outcome_name(judged(monkeypatch, patient(), sent)) == "settled:hba1c-diabetic"
    assert outcome_name(OutOfDomain("pregnancy")) == "out-of-domain:pregnancy"
    assert outcome_name(judged(monkeypatch, patient())) == "insufficient-data"
