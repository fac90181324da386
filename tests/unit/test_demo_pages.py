"""Which pages exist in which profile, and under which policy."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cds_service.errors import ServiceError
from cds_service.routes import pages
from cds_service.routes.answers import answer_service_error
from cds_service.settings import Settings

STATIC = Path(pages.STATIC)
DEMO_ROUTES = ["/", "/static/demo.js", "/demo/patients", "/demo/fhir/Patient/okafor-amara"]


def site(directory: Path, *, profile: Any = "demo") -> FastAPI:
    """The pages alone, around a model that has a card and one picture."""
    (directory / "report").mkdir()
    (directory / "report" / "roc.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (directory / "report" / "unlisted.svg").write_text("<svg/>")
    (directory / "MODEL_CARD.md").write_text("# A card\n")
    manifest = SimpleNamespace(
        name="m",
        version="1",
        title="M",
        raw={"name": "m"},
        files=("MODEL_CARD.md", "report/roc.svg"),
    )
    model = SimpleNamespace(manifest=manifest, directory=directory)
    parts: Any = SimpleNamespace(
        settings=Settings(profile=profile),
        services={"s": SimpleNamespace(model="m")},
        models={"m": SimpleNamespace(model=model)},
        clock=lambda: datetime(2024, 3, 1, tzinfo=UTC),
    )
    app = FastAPI(exception_handlers={ServiceError: answer_service_error})
    app.include_router(pages.router(parts))
    return app


def get(app: FastAPI, path: str, **headers: str) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(send())


@pytest.fixture
def demo(tmp_path: Path) -> FastAPI:
    return site(tmp_path)


@pytest.fixture
def production(tmp_path: Path) -> FastAPI:
    return site(tmp_path, profile="production")


@pytest.mark.parametrize("path", DEMO_ROUTES)
def test_the_demo_profile_has_the_demo(demo: FastAPI, path: str) -> None:
    assert get(demo, path).status_code == 200


@pytest.mark.parametrize("path", DEMO_ROUTES)
def test_production_has_no_demo(production: FastAPI, path: str) -> None:
    assert get(production, path).status_code == 404


def test_production_has_the_model_card_and_its_styles(production: FastAPI) -> None:
    page = get(production, "/model-card")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for name in re.findall(r'href="(static/[^"]+)"', page.text):
        assert get(production, f"/{name}").status_code == 200


def test_the_model_card_is_json_for_those_who_ask(production: FastAPI) -> None:
    answer = get(production, "/model-card", accept="application/json")
    assert answer.json() == {"name": "m"}
    assert "Accept" in answer.headers["vary"]


def test_an_unknown_model_has_no_card(production: FastAPI) -> None:
    assert get(production, "/model-card?model=other").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("report/roc.svg", 200),
        ("report/unlisted.svg", 404),
        ("MODEL_CARD.md", 404),
        ("report/../MODEL_CARD.md", 404),
        ("%2e%2e/%2e%2e/etc/passwd", 404),
    ],
)
def test_only_listed_pictures_are_served(demo: FastAPI, path: str, status: int) -> None:
    assert get(demo, f"/model-card/files/{path}").status_code == status


@pytest.mark.parametrize("path", ["/", "/model-card", "/static/demo.js"])
def test_pages_run_nothing_from_elsewhere_and_nothing_inline(demo: FastAPI, path: str) -> None:
    policy = get(demo, path).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_no_file_of_the_page_names_another_host() -> None:
    """No fonts, scripts or pictures from elsewhere: a hospital's network may have no internet."""
    for path in STATIC.iterdir():
        hosts = set(re.findall(r"https?://([\w.-]+)", path.read_text()))
        assert hosts <= {"www.w3.org"}, path.name  # SVG's namespace, never fetched


def test_every_file_of_the_page_is_served_and_every_import_exists() -> None:
    names = {path.name for path in STATIC.iterdir()} - {"index.html"}
    assert names == set(pages.SHARED_FILES | pages.DEMO_FILES)
    for script in STATIC.glob("*.js"):
        assert set(re.findall(r'from "\./([^"]+)"', script.read_text())) <= names


def test_a_query_that_the_demo_server_does_not_know_is_refused_in_words(demo: FastAPI) -> None:
    answer = get(demo, "/demo/fhir/Observation?_include=Observation:subject")
    assert answer.status_code == 400
    assert "_include" in answer.json()["issue"][0]["diagnostics"]


def test_a_patient_who_does_not_exist_is_404_with_an_operation_outcome(demo: FastAPI) -> None:
    answer = get(demo, "/demo/fhir/Patient/nobody")
    assert answer.status_code == 404
    assert answer.json()["resourceType"] == "OperationOutcome"
