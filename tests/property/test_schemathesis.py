"""schemathesis asks every operation of the service's own OpenAPI, within its schema and outside it.

The routes read their bodies themselves, so FastAPI knows none of them: the schemas of bodies are
those of the models that read them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.schemas import BaseSchema

from cds_service.app import application, assemble
from cds_service.hooks.request import HookRequest
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
    """The service's own description, with the bodies that its routes read."""
    app = application(parts)
    with warnings.catch_warnings():
        # GET and HEAD of a route are one function, which FastAPI names once.
        warnings.filterwarnings("ignore", "Duplicate Operation ID")
        described: dict[str, Any] = app.openapi()
    for operation in (each for path in described["paths"].values() for each in path.values()):
        operation["responses"] = {"default": {"description": "any"}}
        operation.pop("operationId", None)
    for path, kind, schema in bodies(parts):
        content = {kind: {"schema": schema}}
        described["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
    for path in (HOOK, FEEDBACK):
        (service_id,) = described["paths"][path]["post"]["parameters"]
        service_id["schema"] = {"type": "string", "enum": [*parts.services, "unknown"]}
    return described


def bodies(parts: Parts) -> Iterator[tuple[str, str, dict[str, Any]]]:
    request = HookRequest.model_json_schema(by_alias=True, ref_template="#/x-defs/{model}")
    yield HOOK, "application/json", _inlined(request)
    item = {
        "type": "object",
        "required": ["card", "outcome", "outcomeTimestamp"],
        "properties": {
            "card": {"type": "string", "format": "uuid"},
            "outcome": {"enum": ["accepted", "overridden"]},
            "outcomeTimestamp": {"type": "string", "format": "date-time"},
            "acceptedSuggestions": {"type": "array", "items": {"type": "object"}},
            "overrideReason": {"type": "object"},
        },
    }
    feedback = {"type": "array", "items": item}
    yield FEEDBACK, "application/json", {"type": "object", "properties": {"feedback": feedback}}
    (loaded,) = parts.models.values()
    features = {each.name: {"type": ["number", "null"]} for each in loaded.model.manifest.features}
    yield "/predict", "application/json", {"type": "object", "properties": features}
    words = {name: {"type": "string"} for name in ("patient", "identifier", "_count")}
    form = "application/x-www-form-urlencoded"
    yield SEARCH, form, {"type": "object", "properties": words}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with its definitions in place: OpenAPI keeps its own elsewhere."""
    definitions = schema.pop("$defs", {})

    def filled(part: Any) -> Any:
        match part:
            case {"$ref": str(name)}:
                return filled(definitions[name.rsplit("/", 1)[-1]])
            case dict():
                return {key: filled(value) for key, value in part.items()}
            case list():
                return [filled(item) for item in part]
        return part

    whole = filled(schema)
    assert isinstance(whole, dict)
    return whole


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
