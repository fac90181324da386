"""Any JSON may arrive: the answer is 200 or a declared 4xx with an outcome, never a 5xx."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cds_service.app import create_app
from cds_service.settings import Settings
from tests.fhir import condition, medication, observation, patient, searchset

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
DECLARED = {400, 412}


class Ehr:
    """The service in this process, called over ASGI; errors of the app become its 500."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        options = Settings(
            profile="demo",
            database_url=f"sqlite:///{folder}/cds.db",
            hooks_file=ROOT / "hooks.json",
            model_dir=ROOT / "model_artifacts",
        )
        app = create_app(options, clock=lambda: NOW)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url=options.public_url)

    def post(self, body: Any) -> httpx.Response:
        return self.runner.run(
            self.client.post(
                "/cds-services/diabetes-risk",
                content=orjson.dumps(body),
                headers={"Content-Type": "application/json"},
            )
        )


@pytest.fixture(scope="module")
def ehr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ehr]:
    client = Ehr(tmp_path_factory.mktemp("any-json"))
    with client.runner:
        yield client


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
KINDS = ["Patient", "Observation", "Condition", "MedicationRequest", "Bundle", "OperationOutcome"]
MEMBERS = [
    "id", "status", "code", "subject", "valueQuantity", "component", "effectiveDateTime",
    "effectivePeriod", "birthDate", "gender", "meta", "verificationStatus", "clinicalStatus",
    "medicationCodeableConcept", "medicationReference", "contained", "entry", "link", "issued",
    "onsetDateTime", "abatementDateTime", "deceasedBoolean", "modifierExtension",
]  # fmt: skip
resources = st.builds(
    lambda kind, members: {**members, "resourceType": kind},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(MEMBERS), json, max_size=5),
)
bundles = st.builds(
    lambda entries: {"resourceType": "Bundle", "entry": [{"resource": e} for e in entries]},
    st.lists(resources | json, max_size=4),
)
KEYS = ("patient", "observations", "conditions", "medications", "unheard-of")
prefetches = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, json | resources | bundles))


def request(prefetch: Any, **change: Any) -> dict[str, Any]:
    return {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/1", "patientId": "p1"},
        "prefetch": prefetch,
        **change,
    }


def check(answer: httpx.Response) -> None:
    assert answer.status_code == 200 or answer.status_code in DECLARED, answer.text
    body = answer.json()
    if answer.status_code == 200:
        assert isinstance(body["cards"], list)
    else:
        assert body["resourceType"] == "OperationOutcome"


RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(prefetch=prefetches | json)
@RELAXED
def test_any_json_in_prefetch(ehr: Ehr, prefetch: Any) -> None:
    check(ehr.post(request(prefetch)))


@given(name=st.sampled_from(["hook", "hookInstance", "context", "fhirServer"]), value=json)
@RELAXED
def test_any_json_in_the_request(ehr: Ehr, name: str, value: Any) -> None:
    check(ehr.post(request(whole_record(), **{name: value})))


@given(data=st.data())
@RELAXED
def test_a_good_record_with_any_member_replaced(ehr: Ehr, data: st.DataObject) -> None:
    record = whole_record()
    found = [record["patient"], *(e["resource"] for e in record["observations"]["entry"])]
    found += [record[key]["entry"][0]["resource"] for key in ("conditions", "medications")]
    resource = data.draw(st.sampled_from(found))
    resource[data.draw(st.sampled_from(sorted(resource)))] = data.draw(json)
    check(ehr.post(request(record)))


def whole_record() -> dict[str, Any]:
    return {
        "patient": patient(),
        "observations": searchset(
            observation("2345-7", 118, "mg/dL"), observation("39156-5", 31.2, "kg/m2")
        ),
        "conditions": searchset(condition("http://snomed.info/sct", "38341003")),
        "medications": searchset(medication({"text": "ramipril"})),
    }


def test_the_good_record_itself_is_scored(ehr: Ehr) -> None:
    assert ehr.post(request(whole_record())).json()["cards"]
