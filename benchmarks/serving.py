"""How the subjects that are written here are served: as the service is."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI


def serve(app: FastAPI, port: int) -> None:
    """`app` on the event loop and the HTTP parser that the service runs on."""
    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        server_header=False,
    )
