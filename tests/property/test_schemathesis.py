"""schemathesis asks every operation of the service's own OpenAPI, within it and outside it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.schemas import BaseSchema

from cds_service.app import application, assemble
from cds_service.parts import Parts
from cds_service.settings import Settings
from tests.conftest import NOW, ROOT
from tests.wire import check_answer, check_operation_outcome

HOOK, FEEDBACK = "/cds-services/{service_id}", "/cds-services/{service_id}/feedback"
SEARCH = "/fhir/RiskAssessment/_search"
OPERATIONS = [
    ("/cds-services", "GET"),
    ("/cds-services", "HEAD"),
    (HOOK, "POST"),
    (FEEDBACK, "POST"),
    ("/predict", "POST"),
    ("/fhir/metadata", "GET"),
    ("/fhir/metadata", "HEAD"),
    ("/fhir/RiskAssessment", "GET"),
    ("/fhir/RiskAssessment", "HEAD"),
    (SEARCH, "POST"),
    ("/fhir/RiskAssessment/{id}", "GET"),
    ("/fhir/RiskAssessment/{id}", "HEAD"),
    ("/healthz", "GET"),
    ("/healthz", "HEAD"),
    ("/readyz", "GET"),
    ("/readyz", "HEAD"),
    ("/metrics", "GET"),
    ("/metrics", "HEAD"),
]
# The same examples in every run: what is found here is found again.
BOUNDED = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    options = Settings(
        profile="demo",
        database_url=f"sqlite:///{tmp_path_factory.mktemp('openapi')}/cds.db",
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
    )
    assembled = assemble(options, lambda: NOW)
    yield assembled
    assembled.store.close()


@pytest.fixture(scope="module")
def openapi(parts: Parts) -> dict[str, Any]:
    """The service's own description of itself."""
    app = application(parts)
    with warnings.catch_warnings():
        # GET and HEAD of a route are one function, which FastAPI names once.
        warnings.filterwarnings("ignore", "Duplicate Operation ID")
        described: dict[str, Any] = app.openapi()
    for operation in (each for path in described["paths"].values() for each in path.values()):
        operation["responses"] = {"default": {"description": "any"}}
        operation.pop("operationId", None)
    for path in (HOOK, FEEDBACK):
        (service_id,) = described["paths"][path]["post"]["parameters"]
        service_id["schema"] = {"type": "string", "enum": [*parts.services, "unknown"]}
    return described


@pytest.fixture(scope="module")
def schema(openapi: dict[str, Any], parts: Parts) -> BaseSchema:
    loaded = schemathesis.openapi.from_dict(openapi)
    loaded.app = application(parts)
    return loaded


def test_no_operation_is_left_out(openapi: dict[str, Any]) -> None:
    described = [
        (path, method.upper()) for path, methods in openapi["paths"].items() for method in methods
    ]
    assert sorted(described) == sorted(OPERATIONS)


@pytest.mark.parametrize("path", [path for path, method in OPERATIONS if method == "POST"])
def test_a_body_is_described_and_what_the_description_allows_is_taken(
    openapi: dict[str, Any], schema: BaseSchema, path: str
) -> None:
    """A description by which every call was refused would let the other tests prove nothing."""
    assert openapi["paths"][path]["post"]["requestBody"]["required"]
    mode = schemathesis.GenerationMode.POSITIVE
    seen: set[int] = set()

    @given(case=schema[path]["POST"].as_strategy(generation_mode=mode))
    @BOUNDED
    def every_case(case: schemathesis.Case) -> None:
        seen.add(case.call().status_code)

    every_case()
    # 412: the call is well formed, and brings no data.
    assert seen & {200, 412}


@pytest.mark.proves(1, 27, 46)
@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [(*operation, "positive") for operation in OPERATIONS]
    # Only what has a typed body can be asked outside of its schema: every other text is a text.
    + [(path, "POST", "negative") for path in (HOOK, FEEDBACK, "/predict")],
)
def test_every_operation_answers_in_form_and_never_with_a_5xx(
    schema: BaseSchema, path: str, method: str, mode: str
) -> None:
    cases = schema[path][method].as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @given(case=cases)
    @BOUNDED
    def every_case(case: schemathesis.Case) -> None:
        answer = case.call()
        assert answer.status_code < 500
        kind = answer.headers.get("content-type", [""])[0]
        route = case.formatted_path
        check_answer(method, route, answer.status_code, kind, answer.content)
        if answer.status_code >= 400 and method != "HEAD":
            check_operation_outcome(answer.json())

    every_case()
