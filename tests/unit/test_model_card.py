"""The model card page: Markdown without raw HTML, pictures from the manifest only."""

from __future__ import annotations

import asyncio
import html
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cds_service.errors import ServiceError
from cds_service.model_card import ModelCard, read_model_card
from cds_service.routes import pages
from cds_service.routes.answers import answer_service_error
from cds_service.routes.pages import wants_json
from cds_service.settings import Settings
from tests.shipped import SHIPPED

CARD = """# Undiagnosed <b>type 2</b> diabetes

Intended for adults. [Source](https://example.org) [bad](javascript:alert(1))

## Performance

| People | AUROC |
|---:|---|
| 4,536 | 0.9 |

![ROC curve](report/roc.svg)
![Someone else's](https://elsewhere.example/spy.png)
![Not listed](report/unlisted.png)
"""


def card_of(tmp_path: Path, *, markdown: str = CARD, title: str = "Diabetes") -> ModelCard:
    (tmp_path / "MODEL_CARD.md").write_text(markdown)
    files = ("MODEL_CARD.md", "model.ubj", "report/roc.svg", "report/report.json")
    return card_from(tmp_path, files=files, title=title)


def answer_of(directory: Path, files: tuple[str, ...], route: str) -> httpx.Response:
    """What the pages alone answer, around a model of these files."""
    manifest = SimpleNamespace(name="m", version="1.0.0", title="M", raw={}, files=files)
    model = SimpleNamespace(manifest=manifest, directory=directory)
    parts: Any = SimpleNamespace(
        settings=Settings(profile="production"),
        services={"s": SimpleNamespace(model="m")},
        models={"m": SimpleNamespace(model=model)},
    )
    app = FastAPI(exception_handlers={ServiceError: answer_service_error})
    app.include_router(pages.router(parts))

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(route)

    return asyncio.run(send())


def card_from(directory: Path, *, files: tuple[str, ...], title: str = "Diabetes") -> ModelCard:
    raw = {"name": "m", "question": "Has this adult diabetes?", "performance": {"auroc": 0.9}}
    manifest: Any = SimpleNamespace(name="m", version="1.0.0", title=title, raw=raw, files=files)
    model: Any = SimpleNamespace(manifest=manifest, directory=directory)
    return read_model_card(model)


def test_raw_html_is_shown_as_text(tmp_path: Path) -> None:
    html = card_of(tmp_path).html
    assert "<b>type 2</b>" not in html
    assert "&lt;b&gt;type 2&lt;/b&gt;" in html


def test_the_title_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    assert "<script>" not in card_of(tmp_path, title="</title><script>").html


def test_links_keep_to_safe_schemes(tmp_path: Path) -> None:
    html = card_of(tmp_path).html
    assert 'href="https://example.org"' in html
    assert 'href="javascript' not in html


def test_tables_are_aligned_without_inline_styles(tmp_path: Path) -> None:
    """The page's Content-Security-Policy would drop them, and report each one."""
    html = card_of(tmp_path).html
    assert 'class="align-right"' in html
    assert "style=" not in html


def test_headings_are_listed_as_contents(tmp_path: Path) -> None:
    html = card_of(tmp_path).html
    assert '<a href="#performance">Performance</a>' in html
    assert '<h2 id="performance">' in html


def test_only_pictures_that_the_manifest_lists_are_shown(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    assert list(card.pictures) == ["report/roc.svg"]
    assert 'src="model-card/files/report/roc.svg?model=m"' in card.html
    assert "elsewhere.example" not in card.html
    assert "unlisted.png" not in card.html
    assert "Not listed" in card.html  # the alternative text stands in for it


def test_the_full_report_is_linked_where_the_artifact_has_one(tmp_path: Path) -> None:
    without = card_of(tmp_path)
    assert "report/report.html" not in without.documents
    assert "report.html" not in without.html
    card = card_from(tmp_path, files=("model.ubj", "report/report.html"))
    assert card.documents["report/report.html"] == tmp_path / "report" / "report.html"
    assert 'href="model-card/files/report/report.html?model=m"' in card.html
    assert card.pictures == {}


def test_a_link_of_the_card_to_the_report_leads_to_its_route(tmp_path: Path) -> None:
    """On disk the two lie side by side; the service gives every file a route."""
    (tmp_path / "MODEL_CARD.md").write_text("# A card\n\n[All figures](report/report.html)\n")
    card = card_from(tmp_path, files=("MODEL_CARD.md", "report/report.html"))
    assert '<a href="model-card/files/report/report.html?model=m">All figures</a>' in card.html


def test_the_report_is_served_with_a_policy_of_its_own(tmp_path: Path) -> None:
    """Styles inside the file apply; nothing in it runs, fetches or is framed."""
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("<!doctype html><title>R</title>")
    answer = answer_of(tmp_path, ("report/report.html",), "/model-card/files/report/report.html")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text == "<!doctype html><title>R</title>"
    directives = answer.headers["content-security-policy"].split("; ")
    assert directives[:3] == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src 'self' data:",
    ]
    assert "frame-ancestors 'none'" in directives


def test_a_report_that_the_manifest_does_not_list_is_not_served(tmp_path: Path) -> None:
    """Only what a digest covers leaves the artifact; version 1.0.0 has no report."""
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("<!doctype html><title>R</title>")
    answer = answer_of(tmp_path, ("model.ubj",), "/model-card/files/report/report.html")
    assert answer.status_code == 404


def test_the_json_is_the_manifest_with_its_performance(tmp_path: Path) -> None:
    assert card_of(tmp_path).json["performance"] == {"auroc": 0.9}


def test_the_json_of_an_artifact_that_has_one_is_its_model_card(tmp_path: Path) -> None:
    (tmp_path / "model_card.json").write_text('{"name": "m", "card": {"warnings": []}}')
    card = card_from(tmp_path, files=("model.ubj", "model_card.json"))
    assert card.json == {"name": "m", "card": {"warnings": []}}


def test_a_model_card_json_that_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "model_card.json").write_text('{"name": "smuggled"}')
    assert card_from(tmp_path, files=("model.ubj",)).json["name"] == "m"


def test_a_model_without_a_card_says_so(tmp_path: Path) -> None:
    """An artifact of an operator's own may lack one; the page must not pretend otherwise."""
    html = card_from(tmp_path, files=("model.ubj",)).html
    assert "Has this adult diabetes?" in html
    assert "published without a card" in html


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("text/html, application/json;q=0.5", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_html_unless_json_is_asked_for(accept: str, json: bool) -> None:
    assert wants_json(accept) is json


def test_every_link_of_the_shipped_card_leads_to_a_file_that_is_served() -> None:
    """The card names files as they lie beside it; a page at another address needs their routes."""
    shipped = SHIPPED
    manifest = json.loads((shipped / "manifest.json").read_text("utf-8"))
    files = tuple(manifest["files"])
    page = card_from(shipped, files=files).html
    own = [link for link in re.findall(r'(?:href|src)="([^"]+)"', page) if "report/" in link]
    assert any("report.json" in link for link in own)
    for link in own:
        answer = answer_of(shipped, files, f"/{html.unescape(link)}")
        assert answer.status_code == 200, link
