"""Prefetch templates are answered as a FHIR server and a careful EHR would."""

from __future__ import annotations

from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from cds_service.demo.prefetch import UnsupportedQuery, answer_query, resolve_prefetch

LOINC = "http://loinc.org"
PATIENT = {"resourceType": "Patient", "id": "p1"}


def observation(id_: str, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "2345-7"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2024-03-01T08:00:00Z",
    } | changes


def found(query: str, *resources: dict[str, Any]) -> list[str]:
    answer = answer_query(query, resources)
    assert answer is not None
    return [entry["resource"]["id"] for entry in answer.get("entry", [])]


def test_a_read_gives_the_resource_itself() -> None:
    assert resolve_prefetch({"patient": "Patient/{{context.patientId}}"}, [PATIENT]) == {
        "patient": PATIENT
    }


def test_a_search_gives_a_valid_searchset_with_its_total() -> None:
    prefetch = resolve_prefetch(
        {"obs": "Observation?patient={{context.patientId}}"}, [PATIENT, observation("a")]
    )
    bundle = Bundle.model_validate(prefetch["obs"])
    assert (bundle.type, bundle.total, len(bundle.entry)) == ("searchset", 1, 1)


def test_a_search_without_matches_is_an_empty_searchset_not_a_missing_key() -> None:
    prefetch = resolve_prefetch({"c": "Condition?patient={{context.patientId}}"}, [PATIENT])
    assert prefetch["c"]["total"] == 0
    assert "entry" not in prefetch["c"]  # FHIR JSON has no empty arrays


def test_a_token_that_is_not_known_leaves_its_key_out() -> None:
    templates = {
        "encounter": "Encounter/{{context.encounterId}}",
        "recent": "Observation?patient={{context.patientId}}&date=ge{{today() - 730 days}}",
    }
    assert resolve_prefetch(templates, [PATIENT]) == {}


def test_a_resource_that_does_not_exist_leaves_its_key_out() -> None:
    context = {"patientId": "nobody"}
    templates = {"patient": "Patient/{{context.patientId}}"}
    assert resolve_prefetch(templates, [PATIENT], context=context) == {}


def test_two_patients_among_the_resources_need_a_context() -> None:
    with pytest.raises(ValueError, match="found 2"):
        resolve_prefetch({}, [PATIENT, PATIENT | {"id": "p2"}])


@pytest.mark.parametrize(
    "reference", ["Patient/p1", "https://ehr.example/Patient/p1", "urn:uuid:p1"]
)
def test_the_subject_is_found_in_every_form_of_reference(reference: str) -> None:
    assert found("Observation?patient=p1", observation("a", subject={"reference": reference}))


def test_another_patients_results_are_not_given() -> None:
    other = observation("b", subject={"reference": "Patient/p11"})
    assert found("Observation?patient=p1", observation("a"), other) == ["a"]


@pytest.mark.parametrize(
    ("code", "matches"),
    [
        (f"{LOINC}|2345-7", True),
        ("2345-7", True),
        (f"{LOINC}|1-1,{LOINC}|2345-7", True),
        ("http://other.example|2345-7", False),
        ("|2345-7", False),
        (f"{LOINC}|2345", False),
    ],
)
def test_codes_match_whole_system_and_code(code: str, matches: bool) -> None:
    assert bool(found(f"Observation?code={code}", observation("a"))) is matches


def test_every_coding_is_looked_at() -> None:
    codings = [{"system": "urn:vendor", "code": "GLU"}, {"system": LOINC, "code": "2345-7"}]
    assert found(f"Observation?code={LOINC}|2345-7", observation("a", code={"coding": codings}))


def test_the_date_parameter_keeps_what_its_prefix_says() -> None:
    old, new = observation("old", effectiveDateTime="2021-05-01"), observation("new")
    assert found("Observation?date=ge2024-03-01", old, new) == ["new"]
    assert found("Observation?date=lt2024-03-01", old, new) == ["old"]
    assert found("Observation?date=2021-05", old, new) == ["old"]


def test_newest_first_and_one_page() -> None:
    old, new = observation("old", effectiveDateTime="2021-05-01"), observation("new")
    assert found("Observation?_sort=-date&_count=1", old, new) == ["new"]
    answer = answer_query("Observation?_count=1", [old, new])
    assert answer is not None
    assert answer["total"] == 2


@pytest.mark.parametrize(
    "query",
    [
        "Observation?_include=Observation:subject",
        "Observation?_sort=code",
        "Observation?_count=many",
        "Observation?date=sa2024-01-01",
        "Patient/p1/_history/2",
        "Patient/p1?x=y",
        "../secrets",
        "",
    ],
)
def test_what_it_does_not_understand_it_refuses_by_name(query: str) -> None:
    with pytest.raises(UnsupportedQuery):
        answer_query(query, [PATIENT])
