"""What a token's scope leaves out is not asked for when prefetch is completed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from cds_service.complete import complete
from cds_service.delivery.scopes import Reading, may_read
from cds_service.fhir_client import FetchRefused
from cds_service.prefetch import Failed, KeyState, Missing, Satisfied
from tests.fhir import observation


@pytest.mark.proves(42)
@pytest.mark.parametrize(
    ("scope", "read", "search"),
    [
        ("patient/Observation.read", True, True),
        ("user/*.read", True, True),
        ("system/Observation.*", True, True),
        ("patient/*.*", True, True),
        ("patient/Observation.rs", True, True),
        ("user/Observation.cruds", True, True),
        ("user/*.r", True, False),
        ("user/*.s", False, True),
        ("launch openid user/Patient.read patient/Observation.rs", True, True),
        ("patient/Observation.rs?category=laboratory", True, True),
        ("patient/Observation.write", False, False),
        ("patient/*.cud", False, False),
        ("patient/Observation.", False, False),
        ("patient/Observation.sr", False, False),
        ("patient/Patient.read", False, False),
        ("patient/ObservationX.read", False, False),
        ("Observation.read", False, False),
        ("*.*", False, False),
        ("launch openid fhirUser", False, False),
        ("user/*.read " + "x" * 40_000, False, False),
        ("", False, False),
    ],
)
def test_scopes_of_both_smart_versions_are_read(scope: str, read: bool, search: bool) -> None:
    assert (may_read(scope, "Observation") is not Reading.NONE) is read
    assert (may_read(scope, "Observation", search=True) is not Reading.NONE) is search


@pytest.mark.parametrize(
    ("scope", "extent"),
    [
        ("patient/Observation.rs?category=laboratory", Reading.SOME),
        ("patient/Observation.rs?category=a patient/Observation.rs?category=b", Reading.SOME),
        ("patient/Observation.rs?category=laboratory user/*.read", Reading.ALL),
        ("user/*.cruds patient/Observation.rs?category=laboratory", Reading.ALL),
        ("patient/Condition.rs patient/Observation.cu?x=y", Reading.NONE),
        ("patient/Observation.rs?", Reading.NONE),
    ],
)
def test_a_scope_with_a_query_allows_a_part(scope: str, extent: Reading) -> None:
    assert may_read(scope, "Observation", search=True) is extent


TEMPLATES = {
    "patient": "Patient/{{context.patientId}}",
    "observations": "Observation?patient={{context.patientId}}",
    "conditions": "Condition?patient={{context.patientId}}",
}
OUT_OF_SCOPE = Missing("is not in the scope of the token")


class Server:
    """A FHIR server that refuses everything, and counts what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, _base: str, query: str, _token: str, _deadline: float) -> Any:
        self.asked.append(query)
        raise FetchRefused("refused")


def completed(scope: str, states: dict[str, KeyState]) -> tuple[dict[str, KeyState], list[str]]:
    server = Server()
    authorization = SimpleNamespace(usable=True, access_token="secret", scope=scope)
    call = SimpleNamespace(
        request=SimpleNamespace(
            fhir_server="http://127.0.0.1:8080/fhir",
            fhir_authorization=authorization,
            prefetch=None,
        ),
        parts=SimpleNamespace(
            settings=SimpleNamespace(profile="demo", deadline_ms=1000), fhir=server
        ),
        caller=SimpleNamespace(client=None),
        definition=SimpleNamespace(prefetch=TEMPLATES),
        patient_id="p1",
    )
    return asyncio.run(complete(call, states)), server.asked  # type: ignore[arg-type]


@pytest.mark.proves(38, 42)
@pytest.mark.parametrize(
    ("scope", "asked"),
    [
        ("", []),
        ("launch openid", []),
        ("patient/*.write", []),
        ("patient/Patient.read", ["Patient/p1"]),
        ("patient/Patient.r patient/Condition.r", ["Patient/p1"]),
        ("user/Observation.rs?category=laboratory", ["Observation?patient=p1"]),
        ("user/*.read", ["Patient/p1", "Observation?patient=p1", "Condition?patient=p1"]),
        ("patient/*.*", ["Patient/p1", "Observation?patient=p1", "Condition?patient=p1"]),
    ],
)
def test_only_what_is_in_the_scope_is_asked_for(scope: str, asked: list[str]) -> None:
    states, was_asked = completed(scope, {key: Missing() for key in TEMPLATES})
    assert was_asked == asked
    assert sum(isinstance(state, Failed) for state in states.values()) == len(asked)
    assert sum(state == OUT_OF_SCOPE for state in states.values()) == len(TEMPLATES) - len(asked)


def test_what_was_sent_in_part_stays_where_the_rest_is_out_of_scope() -> None:
    part = Satisfied((observation("2345-7", 141, "mg/dL"),), incomplete=True)
    states, asked = completed("patient/Patient.read", {"observations": part})
    assert asked == []
    assert states == {"observations": part}
