"""The model card page: Markdown without raw HTML, pictures from the manifest only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cds_service.model_card import ModelCard, render_model_card
from cds_service.routes.pages import wants_json

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


def card_from(directory: Path, *, files: tuple[str, ...], title: str = "Diabetes") -> ModelCard:
    raw = {"name": "m", "question": "Has this adult diabetes?", "performance": {"auroc": 0.9}}
    manifest: Any = SimpleNamespace(name="m", version="1.0.0", title=title, raw=raw, files=files)
    model: Any = SimpleNamespace(manifest=manifest, directory=directory)
    return render_model_card(model)


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
