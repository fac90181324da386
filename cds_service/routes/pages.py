"""Pages for people: the model card in every profile, the demo EHR and its data in the demo one."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from cds_service import demo
from cds_service.demo.patients import demo_patients
from cds_service.demo.prefetch import UnsupportedQuery, answer_query
from cds_service.errors import BadRequest, NotFound
from cds_service.model_card import DOCUMENT_TYPES, PICTURE_TYPES, ModelCard, read_model_card
from cds_service.parts import Parts
from cds_service.routes.answers import fhir_answer, json_answer

READS = ["GET", "HEAD"]
STATIC = Path(demo.__file__).parent / "static"
SHARED_FILES = {
    "page.css": "text/css",
    "model-card.css": "text/css",
    "icon.svg": "image/svg+xml",
}
DEMO_FILES = {
    "demo.css": "text/css",
    "demo.js": "text/javascript",
    "chart.js": "text/javascript",
    "decision-support.js": "text/javascript",
    "elements.js": "text/javascript",
    "ehr.js": "text/javascript",
    "exchange.js": "text/javascript",
    "markdown.js": "text/javascript",
}

# Scripts, styles, pictures and calls from this origin only, and nothing inline: text that reaches
# a page from a record, a card or a model card cannot become code.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # A page of an older version with a script of a newer one would be nobody's version.
    "Cache-Control": "no-cache",
}
# Plots are SVG with styles of their own; opened by itself, such a file may style and do no more.
PICTURE_HEADERS = PAGE_HEADERS | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"
}
# The report is one file with its styles and pictures inside; it runs nothing and fetches nothing.
REPORT_HEADERS = PAGE_HEADERS | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}


def router(parts: Parts) -> APIRouter:
    """The pages of this profile."""
    pages = APIRouter(include_in_schema=False)
    _add_model_card(pages, parts)
    if parts.settings.demo:
        _add_demo(pages, parts)
    _add_static(pages, SHARED_FILES | (DEMO_FILES if parts.settings.demo else {}))
    return pages


def _add_model_card(pages: APIRouter, parts: Parts) -> None:
    cards = {name: read_model_card(loaded.model) for name, loaded in parts.models.items()}
    served = [definition.model for definition in parts.services.values()]

    def find(model: str | None) -> ModelCard:
        name = model or next(iter(served), "")
        if name not in cards:
            raise NotFound("There is no model of this name.")
        return cards[name]

    @pages.api_route("/model-card", methods=READS)
    def model_card(request: Request, model: str | None = None) -> Response:
        card = find(model)
        headers = PAGE_HEADERS | {"Vary": "Accept"}
        if wants_json(request.headers.get("accept", "")):
            answer = json_answer(card.json)
            answer.headers.update(headers)
            return answer
        return HTMLResponse(card.html, headers=headers)

    @pages.api_route("/model-card/files/{path:path}", methods=READS)
    def model_card_file(path: str, model: str | None = None) -> Response:
        card = find(model)
        if path in card.documents:
            return FileResponse(
                card.documents[path], media_type=DOCUMENT_TYPES[path], headers=REPORT_HEADERS
            )
        picture = card.pictures.get(path)
        if picture is None:
            raise NotFound("The model card has no such file.")
        return FileResponse(
            picture, media_type=PICTURE_TYPES[picture.suffix], headers=PICTURE_HEADERS
        )


def wants_json(accept: str) -> bool:
    """Browsers name text/html among many; a client that names JSON and not HTML wants JSON."""
    return "application/json" in accept and "text/html" not in accept


def _add_demo(pages: APIRouter, parts: Parts) -> None:
    @pages.api_route("/", methods=READS)
    def demo_ehr() -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html", headers=PAGE_HEADERS)

    @pages.api_route("/demo/patients", methods=READS)
    def patient_list() -> Response:
        people = demo_patients(parts.clock())
        return json_answer(
            [{"story": person.story, "patient": person.resources[0]} for person in people]
        )

    @pages.api_route("/demo/fhir/{query:path}", methods=READS)
    def demo_fhir_server(request: Request, query: str) -> Response:
        resources = [
            resource for person in demo_patients(parts.clock()) for resource in person.resources
        ]
        parameters = f"?{request.url.query}" if request.url.query else ""
        try:
            answer = answer_query(query + parameters, resources)
        except UnsupportedQuery as fault:
            raise BadRequest(str(fault)) from fault
        if answer is None:
            raise NotFound("The demo EHR holds no such resource.")
        return fhir_answer(answer)


def _add_static(pages: APIRouter, files: dict[str, str]) -> None:
    @pages.api_route("/static/{name}", methods=READS)
    def static_file(name: str) -> Response:
        if name not in files:
            raise NotFound("There is no such file.")
        return FileResponse(STATIC / name, media_type=files[name], headers=PAGE_HEADERS)
