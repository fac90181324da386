"""Cross-origin calls: browser-based CDS clients need them (CDS Hooks, "Cross-Origin Resource
Sharing"). Outermost of all, so that errors carry the headers too and preflights need no JWT."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cds_service.errors import BadRequest
from cds_service.routes.answers import fault_answer
from cds_service.settings import Settings

DAY = 86_400


class Cors(CORSMiddleware):
    """Starlette's, except that a preflight is answered without text, or with an OperationOutcome.

    Credentials are never allowed: a JWT in a header is not what browsers mean by them.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        super().__init__(
            app,
            allow_origins=allowed_origins(settings),
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Authorization", "Content-Type", "Accept"),
            expose_headers=("WWW-Authenticate", "Retry-After", "Allow"),
            max_age=DAY,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"origin" not in dict(scope["headers"]):
            await self._without_origin(scope, receive, send)
            return

        async def varied(message: Message) -> None:
            if message["type"] == "http.response.start" and not self.allow_all_origins:
                _vary_by_origin(MutableHeaders(scope=message))
            await send(message)

        await super().__call__(scope, receive, varied)

    async def _without_origin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What Starlette does then, without its copies: most calls come from no browser."""

        async def varied(message: Message) -> None:
            if message["type"] == "http.response.start":
                _vary(message)
            await send(message)

        await self.app(scope, receive, varied)

    def preflight_response(self, request_headers: Headers) -> Response:
        plain = super().preflight_response(request_headers)
        kept = {
            name: value
            for name, value in plain.headers.items()
            if name not in ("content-type", "content-length")
        }
        if plain.status_code < 400:
            return Response(status_code=204, headers=kept)
        refusal = fault_answer(BadRequest("This origin, method or header is not allowed."))
        refusal.headers.update(kept)
        return refusal


def _vary(start: Message) -> None:
    headers = start.get("headers", ())
    if b"vary" in dict(headers):
        _vary_by_origin(MutableHeaders(scope=start))
    else:
        start["headers"] = [*headers, (b"vary", b"Origin")]


def _vary_by_origin(headers: MutableHeaders) -> None:
    # Also where no origin was sent or allowed: a cache must not give that answer to one who is
    # (https://fetch.spec.whatwg.org/#cors-protocol-and-http-caches).
    named = [name.strip().lower() for name in headers.get("vary", "").split(",")]
    if "origin" not in named:
        headers.add_vary_header("Origin")


def allowed_origins(settings: Settings) -> tuple[str, ...]:
    """Those of CDS_CORS_ORIGINS; with none set, any in the demo profile and none in production."""
    return settings.cors_origins or (("*",) if settings.demo else ())
