"""HTTP itself: methods, paths, CORS, faults of ours; every answer is JSON, none is a redirect."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from cds_service.errors import StoreUnavailable
from cds_service.routes import services
from cds_service.store import Store
from tests.service import BEHIND_PROXY, FEEDBACK_URL, HOOK_URL, INSTANCE, Service, patient_view
from tests.wire import check_discovery

ORIGIN = "https://ehr.example.org"


@pytest.mark.proves(8, 9, 10, 11, 12, 13, 14, 18, 19, 20, 21, 22, 23, 24)
def test_discovery_lists_each_service_and_each_can_be_called(app_client: Service) -> None:
    answer = app_client.request("GET", "/cds-services")
    assert answer.status_code == 200
    check_discovery(answer.json())
    assert [service["id"] for service in answer.json()["services"]] == ["diabetes-risk"]
    assert "serving" not in answer.text
    for service in answer.json()["services"]:
        called = app_client.request("POST", f"/cds-services/{service['id']}", json=patient_view())
        assert called.status_code == 200


@pytest.mark.proves(14, 15)
def test_discovery_says_which_specification_and_which_hook_it_speaks(app_client: Service) -> None:
    for service in app_client.request("GET", "/cds-services").json()["services"]:
        assert (service["version"], service["hookVersion"]) == ("2.0.1", "1.0")


@pytest.mark.proves(8)
@pytest.mark.parametrize(
    ("method", "url", "allow"),
    [
        ("POST", "/cds-services", "GET, HEAD"),
        ("DELETE", "/cds-services", "GET, HEAD"),
        ("OPTIONS", "/cds-services", "GET, HEAD"),
        ("GET", HOOK_URL, "POST"),
        ("HEAD", HOOK_URL, "POST"),
        ("PUT", HOOK_URL, "POST"),
        ("GET", FEEDBACK_URL, "POST"),
        ("GET", "/predict", "POST"),
        ("POST", "/fhir/RiskAssessment", "GET, HEAD"),
        ("PUT", "/fhir/RiskAssessment/1", "GET, HEAD"),
        ("DELETE", "/fhir/RiskAssessment/1", "GET, HEAD"),
        ("BREW", "/healthz", "GET, HEAD"),
    ],
)
def test_another_method_is_405_and_says_which(
    app_client: Service, method: str, url: str, allow: str
) -> None:
    answer = app_client.request(method, url)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow


@pytest.mark.proves(8)
@pytest.mark.parametrize(
    "url",
    [
        "/cds-services/",
        "//cds-services",
        f"{HOOK_URL}/",
        f"{HOOK_URL}/feedback/",
        "/fhir",
        "/fhir/Patient/1",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/predict/",
        "/.env",
    ],
)
def test_other_paths_are_404_and_never_a_redirect(app_client: Service, url: str) -> None:
    address = f"{BEHIND_PROXY}{url}"
    for method in ("GET", "POST"):
        assert app_client.request(method, address).status_code == 404


@pytest.mark.parametrize(
    "url", ["/cds-services", "/fhir/metadata", "/fhir/RiskAssessment", "/healthz", "/readyz"]
)
def test_head_is_get_without_a_body(app_client: Service, url: str) -> None:
    head, get = app_client.request("HEAD", url), app_client.request("GET", url)
    assert head.status_code == get.status_code == 200
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.content == b""


def _preflight(service: Service, url: str, method: str = "POST") -> Any:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return service.request("OPTIONS", url, headers=headers)


@pytest.mark.proves(76)
@pytest.mark.parametrize("url", ["/cds-services", HOOK_URL, FEEDBACK_URL, "/nowhere"])
def test_a_preflight_needs_no_token(production: Service, url: str) -> None:
    allowing = _with_origins(production, ORIGIN)
    answer = _preflight(allowing, url)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert {"GET", "POST"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type"} <= set(allowed)
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.proves(77)
@pytest.mark.parametrize("url", ["/cds-services", "/nowhere", HOOK_URL])
def test_errors_carry_the_cors_headers_too(production: Service, url: str) -> None:
    answer = _with_origins(production, ORIGIN).request("GET", url, headers={"Origin": ORIGIN})
    assert answer.status_code in (401, 404, 405)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "Origin" in answer.headers["vary"]


@pytest.mark.proves(78)
def test_an_unknown_origin_is_given_no_header(production: Service) -> None:
    for service in (production, _with_origins(production, "https://other.example.org")):
        refused = _preflight(service, HOOK_URL)
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        for headers in ({"Origin": ORIGIN}, {}):
            answer = service.request("GET", "/healthz", headers=headers)
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["vary"] == "Origin", "a cache must keep the answers apart"


@pytest.mark.proves(78)
def test_the_demo_answers_any_origin_without_credentials(app_client: Service) -> None:
    answer = app_client.call(patient_view(), headers={"Origin": "http://localhost:8080"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def _with_origins(service: Service, *origins: str) -> Service:
    settings = replace(service.parts.settings, cors_origins=origins)
    return Service.of(replace(service.parts, settings=settings))


@pytest.mark.proves(46, 77)
def test_a_fault_of_ours_is_a_500_with_an_incident_and_no_data(
    app_client: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("Müller, Anna has a glucose of 141")

    monkeypatch.setattr(services, "assess", broken)
    with capture_logs(processors=[_as_configured]) as logs:
        answer = app_client.call(patient_view(), headers={"Origin": ORIGIN})
    assert answer.status_code == 500
    assert "Müller" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "*", "W-49: on a 500 too"
    fault = next(entry for entry in logs if entry["event"] == "internal fault")
    assert fault["incident"] in answer.text
    assert fault["exception"] == "RuntimeError"
    assert any("test_http_protocol.py" in frame for frame in fault["frames"])
    assert "Müller" not in str(logs)


def _as_configured(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    from cds_service.log import exception_frames

    return exception_frames(logger, method, event)


class BrokenStore:
    """A store whose database has gone away."""

    def __getattr__(self, name: str) -> Any:
        def gone(*_: Any, **__: Any) -> None:
            raise StoreUnavailable

        return gone


@pytest.mark.proves(46)
def test_a_store_that_does_not_answer_is_503_and_never_an_empty_list(app_client: Service) -> None:
    store: Any = BrokenStore()
    broken = Service.of(replace(app_client.parts, store=store))
    answers = [
        broken.call(patient_view()),
        broken.request("POST", FEEDBACK_URL, json={"feedback": []}),
        broken.request("GET", "/fhir/RiskAssessment?patient=p1"),
        broken.request("GET", "/fhir/RiskAssessment/1"),
    ]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert all(answer.headers["retry-after"].isdigit() for answer in answers)
    assert broken.request("GET", "/healthz").status_code == 200
    ready = broken.request("GET", "/readyz")
    assert ready.status_code == 503
    assert ready.json() == {
        "status": "unavailable",
        "checks": {"model": "ok", "store": "unavailable"},
    }


def test_ready_when_model_and_store_are(app_client: Service) -> None:
    assert app_client.request("GET", "/healthz").json() == {"status": "alive"}
    assert app_client.request("GET", "/readyz").json() == {
        "status": "ready",
        "checks": {"model": "ok", "store": "ok"},
    }


def test_metrics_count_templates_cards_and_outcomes_but_no_paths(app_client: Service) -> None:
    app_client.call(patient_view())
    app_client.call({})
    app_client.request("GET", "/fhir/RiskAssessment/some-patient-7")
    app_client.request("GET", "/secret-path-of-p1")
    app_client.request("BREW", "/healthz")
    text = app_client.metrics()
    hook = 'method="POST",route="/cds-services/{service_id}"'
    assert f'cds_http_requests_total{{{hook},status="200"}} 1.0' in text
    assert f'cds_http_requests_total{{{hook},status="400"}} 1.0' in text
    assert f"cds_http_request_seconds_count{{{hook}}} 2.0" in text
    assert 'route="/fhir/RiskAssessment/{id}",status="404"' in text
    assert 'method="GET",route="unknown",status="404"' in text
    assert 'method="other",route="/healthz",status="405"' in text
    assert 'cds_assessments_total{outcome="scored",service="diabetes-risk"} 1.0' in text
    assert 'cds_cards_total{kind="level:high",service="diabetes-risk"} 1.0' in text
    assert "p1" not in text.replace("p10", "")
    assert "some-patient" not in text


def test_the_log_names_the_call_and_no_patient(app_client: Service) -> None:
    with capture_logs() as logs:
        app_client.call(patient_view())
        app_client.request("GET", "/fhir/RiskAssessment?patient=p1&identifier=secret")
        app_client.call(patient_view(prefetch={}))
    called, searched, refused = (entry for entry in logs if entry["event"] == "request")
    assert called["hook_instance"] == INSTANCE
    assert called["service"] == "diabetes-risk"
    assert called["outcome"] == "scored"
    assert called["status"] == 200
    assert refused["outcome"] == "refused:PrefetchUnavailable"
    assert searched["route"] == "/fhir/RiskAssessment"
    assert "p1" not in str(searched)
    assert "secret" not in str(logs)


@pytest.mark.proves(39)
def test_a_token_reaches_neither_log_nor_store_nor_answer(app_client: Service) -> None:
    from tests.service import authorization

    with capture_logs() as logs:
        answer = app_client.call(authorization())
    assert "secret-token" not in str(logs)
    assert "secret-token" not in answer.text
    _, records = app_client.parts.store.search(count=10)
    assert "secret-token" not in str(records)
    assert "secret-token" not in str(app_client.audited())


def test_uvicorns_own_access_log_is_off_and_lines_are_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cds_service.log import configure_logging

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logging("INFO")
        assert not logging.getLogger("uvicorn.access").hasHandlers()
        logging.getLogger("uvicorn.error").info("started")
        logging.getLogger("httpx").info("GET https://ehr/Patient/p1")
        line = capsys.readouterr().err
        assert '"event": "started"' in line
        assert "Patient/p1" not in line
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()
        for name in ("uvicorn.access", "httpx", "httpcore"):
            logging.getLogger(name).propagate = True
            logging.getLogger(name).setLevel(logging.NOTSET)


def test_the_store_is_closed_and_delivery_stopped_at_the_end(
    app_client: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from cds_service import app as root
    from cds_service.app import lifespan

    seen: list[str] = []

    async def run(_parts: Any, stop: asyncio.Event) -> None:
        seen.append("started")
        await stop.wait()
        seen.append("stopped")

    def close(_: Store) -> None:
        seen.append("closed")

    monkeypatch.setattr(root.delivery, "run", run)
    monkeypatch.setattr(Store, "close", close)

    async def whole() -> None:
        async with lifespan(app_client.app):
            await asyncio.sleep(0)

    asyncio.run(whole())
    assert seen == ["started", "stopped", "closed"]
