"""Each prefetch key is satisfied, null, missing, or an OperationOutcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cds_service.errors import BadRequest, PrefetchUnavailable
from cds_service.hooks import read_hooks_file
from cds_service.prefetch import (
    Failed,
    KeyState,
    Missing,
    Null,
    Satisfied,
    check_available,
    check_patient,
    query_of,
    resources,
    state_of,
    unread,
)
from tests.fhir import observation, patient, searchset

DEFINITION = read_hooks_file(Path(__file__).parents[2] / "hooks.json")["diabetes-risk"]
READ = "Patient/{{context.patientId}}"
SEARCH = "Observation?patient={{context.patientId}}&code=x"
OUTCOME = {"resourceType": "OperationOutcome", "issue": []}
HINT = {"resourceType": "OperationOutcome", "issue": [{"severity": "information"}]}
RESULT = observation("2345-7", 99, "mg/dL")


@pytest.mark.proves(31, 32, 33, 34)
@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        (READ, patient(), Satisfied((patient(),))),
        (READ, searchset(patient()), Satisfied((patient(),))),
        (READ, searchset(patient(), patient()), Missing),
        (READ, RESULT, Missing),
        (READ, None, Null()),
        (READ, OUTCOME, Failed()),
        (READ, {}, Missing),
        (SEARCH, searchset(RESULT), Satisfied((RESULT,))),
        (SEARCH, searchset(), Satisfied(())),
        (SEARCH, {"resourceType": "Bundle", "entry": None}, Satisfied(())),
        (
            SEARCH,
            {"resourceType": "Bundle", "entry": [None, {}, {"resource": 3}]},
            Satisfied((), incomplete=True),
        ),
        (SEARCH, {"resourceType": "Bundle", "entry": {"resource": RESULT}}, Missing),
        (SEARCH, searchset(patient()), Missing),
        (SEARCH, {**searchset(RESULT), "total": 5}, Satisfied((RESULT,), incomplete=True)),
        (SEARCH, searchset(RESULT, HINT), Satisfied((RESULT,))),
        (SEARCH, searchset(HINT), Satisfied(())),
        (SEARCH, searchset(OUTCOME), Failed()),
        (
            SEARCH,
            searchset(RESULT, OUTCOME),
            Satisfied((RESULT,), incomplete=True, told=True),
        ),
        (SEARCH, searchset(RESULT, patient()), Satisfied((RESULT,))),
        (SEARCH, RESULT, Missing),
        (SEARCH, None, Null()),
        (SEARCH, OUTCOME, Failed()),
        (
            SEARCH,
            {**searchset(RESULT), "link": [{"relation": "next", "url": "x"}]},
            Satisfied((RESULT,), incomplete=True),
        ),
    ],
)
def test_the_state_of_a_key(template: str, value: Any, expected: Any) -> None:
    state = state_of(template, value)
    assert isinstance(state, expected) if isinstance(expected, type) else state == expected


def test_a_412_names_what_is_required_and_not_there() -> None:
    states: dict[str, KeyState] = {
        "patient": Null(),
        "observations": Null(),
        "conditions": Failed(),
        "medications": Missing(),
    }
    with pytest.raises(PrefetchUnavailable) as refused:
        check_available(states, DEFINITION)
    assert set(refused.value.reasons) == {"patient", "conditions"}
    assert unread(states) == ("conditions", "medications")


def test_another_patient_under_the_patient_key_is_refused() -> None:
    check_patient({"patient": Satisfied((patient(),))}, "p1")
    check_patient({"patient": Satisfied((patient(id=None),))}, "p1")
    with pytest.raises(BadRequest):
        check_patient({"patient": Satisfied((patient(id="p2"),))}, "p1")


def test_queries_and_resources() -> None:
    assert query_of(SEARCH, "a b") == "Observation?patient=a%20b&code=x"
    both: dict[str, KeyState] = {
        "a": Satisfied((patient(),)),
        "b": Null(),
        "c": Satisfied((RESULT,)),
    }
    assert list(resources(both)) == [patient(), RESULT]


def test_a_part_of_the_diagnoses_is_not_enough() -> None:
    states: dict[str, KeyState] = {
        "patient": Satisfied((patient(),)),
        "observations": Satisfied((RESULT,), incomplete=True),
        "conditions": Satisfied((), incomplete=True),
        "medications": Missing(),
    }
    with pytest.raises(PrefetchUnavailable) as refused:
        check_available(states, DEFINITION)
    assert refused.value.reasons == {"conditions": "is not complete"}
