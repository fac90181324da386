"""Every answer of a CDS Hooks or FHIR route that a test receives is checked, whoever asked.

Tests call the application over httpx: in this process through `ASGITransport`, in a process of its
own through `HTTPTransport`. Both are watched for as long as the tests run, so that no test can
forget the checker, and a test written tomorrow has it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.wire import check_answer


@contextmanager
def every_answer_checked() -> Iterator[None]:
    """Within the block an answer that breaks a rule of the wire raises AssertionError."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.ASGITransport, "handle_async_request", _in_this_process)
        patch.setattr(httpx.HTTPTransport, "handle_request", _in_another_process)
        yield


_asgi = httpx.ASGITransport.handle_async_request
_http = httpx.HTTPTransport.handle_request


async def _in_this_process(
    transport: httpx.ASGITransport, request: httpx.Request
) -> httpx.Response:
    answer = await _asgi(transport, request)
    assert isinstance(answer.stream, httpx.AsyncByteStream)
    content = b"".join([chunk async for chunk in answer.stream])
    return _checked(request, answer, content)


def _in_another_process(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
    answer = _http(transport, request)
    # The EHR of the tests has the same paths; only the service runs under uvicorn.
    if answer.headers.get("server") != "uvicorn":
        return answer
    assert isinstance(answer.stream, httpx.SyncByteStream)
    try:
        content = b"".join(answer.stream)
    finally:
        answer.close()
    return _checked(request, answer, content)


def _checked(request: httpx.Request, answer: httpx.Response, content: bytes) -> httpx.Response:
    check_answer(
        request.method,
        request.url.path,
        answer.status_code,
        answer.headers.get("content-type", ""),
        content,
    )
    return httpx.Response(
        answer.status_code,
        headers=answer.headers,
        stream=httpx.ByteStream(content),
        extensions=answer.extensions,
    )
