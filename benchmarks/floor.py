"""The floor: a server that reads the same body, parses the JSON and answers a fixed card.

FastAPI on uvicorn, with the event loop and the HTTP parser that the service runs on. Nothing that
reads its request can do less, so it is what the service is measured against.
"""

from __future__ import annotations

import argparse

import orjson
from fastapi import FastAPI, Request, Response

from benchmarks.serving import serve

CARD = orjson.dumps(
    {
        "cards": [
            {
                "uuid": "00000000-0000-4000-8000-000000000000",
                "summary": "A fixed card: nothing of the request was looked at.",
                "detail": "**A fixed card**, of about the length of a real one.\n\n"
                + "- text\n" * 90,
                "indicator": "info",
                "source": {
                    "label": "floor",
                    "topic": {"system": "http://snomed.info/sct", "code": "44054006"},
                },
            }
        ]
    }
)


def application() -> FastAPI:
    """Two routes: ready, and the call."""
    app = FastAPI(openapi_url=None)

    @app.get("/readyz")
    async def ready() -> Response:
        return Response(b"{}", media_type="application/json")

    @app.post("/cds-services/{service_id}")
    async def call(request: Request, service_id: str) -> Response:
        orjson.loads(await request.body())
        return Response(CARD, media_type="application/json")

    return app


def main() -> None:
    """`python -m benchmarks.floor --port 8001`"""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    serve(application(), parser.parse_args().port)


if __name__ == "__main__":
    main()
