"""MODEL_CARD.md → the page that a clinician or an auditor reads."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from markdown_it import MarkdownIt
from markdown_it.token import Token

from risk_model import Manifest, Model

CARD = "MODEL_CARD.md"
CARD_JSON = "model_card.json"
REPORT = "report/report.html"
DOCUMENT_TYPES = {REPORT: "text/html", "report/report.json": "application/json"}
PICTURE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".webp": "image/webp"}

_ALIGNMENT = re.compile(r"text-align:(left|center|right)")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """A model's card: `markdown` as its artifact has it; `json` holds the manifest's members, and
    where the artifact has a model_card.json, what that adds to them.

    `pictures` are the files that the page may show: path in the artifact → path on disk.
    `documents`, likewise, are the full report, for people and for machines.
    """

    manifest: Manifest
    markdown: str
    json: dict[str, Any]
    pictures: dict[str, Path]
    documents: dict[str, Path]

    @cached_property
    def html(self) -> str:
        """The whole page; rendered for its first reader, who may never come, not at start."""
        name = self.manifest.name
        shown = [*self.pictures, *self.documents]
        tokens = _tokens(self.markdown, routes={file: _route(name, file) for file in shown})
        body = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
        link = _REPORT_LINK.format(route=escape(_route(name, REPORT)))
        return _PAGE.format(
            title=escape(self.manifest.title),
            model=escape(f"{name} {self.manifest.version}"),
            report=link if REPORT in self.documents else "",
            contents=_contents(tokens),
            body=_scrolling_tables(body),
        )


def read_model_card(model: Model) -> ModelCard:
    """The card of a verified model. Only files that the manifest lists are ever read or served."""
    manifest = model.manifest
    listed = set(manifest.files)
    pictures = {
        name: model.directory / name
        for name in sorted(listed)
        if name.startswith("report/") and Path(name).suffix in PICTURE_TYPES
    }
    markdown = _read_card(model) if CARD in listed else _card_from_manifest(model)
    return ModelCard(
        manifest=manifest,
        markdown=markdown,
        json=_card_json(model),
        pictures=pictures,
        documents={name: model.directory / name for name in DOCUMENT_TYPES if name in listed},
    )


# Raw HTML is off, so a card is text whoever wrote it; links keep to the safe schemes.
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "typographer": False}).enable(
    ["table", "strikethrough"]
)


def _read_card(model: Model) -> str:
    return (model.directory / CARD).read_text(encoding="utf-8")


def _card_json(model: Model) -> dict[str, Any]:
    """Artifacts from before there was a model_card.json answer their manifest."""
    if CARD_JSON not in model.manifest.files:
        return dict(model.manifest.raw)
    card: dict[str, Any] = json.loads((model.directory / CARD_JSON).read_bytes())
    return card


def _card_from_manifest(model: Model) -> str:
    """What can be said of a model that comes without a card: its question, and that it has none."""
    question = model.manifest.raw.get("question", "")
    return f"# {model.manifest.title}\n\n{question}\n\nThis model was published without a card.\n"


def _tokens(markdown: str, *, routes: Mapping[str, str]) -> list[Token]:
    """Parsed Markdown, with ids on headings, no inline styles, and pictures at their route."""
    tokens = _MARKDOWN.parse(markdown)
    for heading, inline in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", _slug(inline.content))
    for token in tokens:
        _style_to_class(token)
        for child in token.children or ():
            _route_picture(child, routes)
            _route_link(child, routes)
    return tokens


def _route(model: str, file: str) -> str:
    """Relative to /model-card, so that a service behind a path prefix needs no setting."""
    return f"model-card/files/{quote(file)}?{urlencode({'model': model})}"


def _slug(heading: str) -> str:
    return "-".join(re.findall(r"\w+", heading.lower()))


def _style_to_class(token: Token) -> None:
    """Table alignment as a class: the page's Content-Security-Policy allows no inline style."""
    alignment = _ALIGNMENT.fullmatch(str(token.attrGet("style") or ""))
    if alignment:
        del token.attrs["style"]
        token.attrSet("class", f"align-{alignment.group(1)}")


def _route_picture(token: Token, routes: Mapping[str, str]) -> None:
    """A picture of the report is served at a route of its own; any other becomes its alt text."""
    if token.type != "image":
        return
    source = str(token.attrGet("src")).removeprefix("./")
    if source in routes:
        token.attrSet("src", routes[source])
        token.attrSet("loading", "lazy")
    else:
        token.type, token.tag = "text", ""


def _route_link(token: Token, routes: Mapping[str, str]) -> None:
    """A card names files of its artifact as they lie beside it; here they have routes."""
    if token.type == "link_open":
        target = str(token.attrGet("href")).removeprefix("./")
        token.attrSet("href", routes.get(target, str(token.attrGet("href"))))


def _contents(tokens: Sequence[Token]) -> str:
    """The second-level headings as a list of links."""
    items = [
        f'<li><a href="#{escape(str(heading.attrGet("id")))}">{escape(inline.content)}</a></li>'
        for heading, inline in itertools.pairwise(tokens)
        if heading.type == "heading_open" and heading.tag == "h2"
    ]
    return "\n".join(items)


def _scrolling_tables(html: str) -> str:
    """A wide table scrolls in its own box; a scrolling box must be reachable by keyboard."""
    opened = html.replace("<table>", '<div class="table-scroll" tabindex="0"><table>')
    return opened.replace("</table>", "</table></div>")


_REPORT_LINK = '<p class="topbar-links"><a href="{route}">Full report</a></p>'

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Model card: {title}</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="static/page.css">
<link rel="stylesheet" href="static/model-card.css">
</head>
<body class="model-card">
<a class="skip-link" href="#card">Skip to the card</a>
<header class="topbar">
<p class="topbar-title">Model card</p>
<p class="topbar-note"><code>{model}</code></p>
{report}
</header>
<div class="card-layout">
<nav class="card-contents" aria-label="Contents">
<ol>
{contents}
</ol>
</nav>
<main id="card" class="prose" tabindex="-1">
{body}
</main>
</div>
</body>
</html>
"""
