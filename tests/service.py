"""The whole application in this process, called over ASGI; every answer's form is checked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from cds_service.app import application
from cds_service.parts import Parts
from cds_service.store import AuditEntry
from tests.fhir import observation, patient, searchset
from tests.wire import check_hook_answer, check_operation_outcome

HOOK_URL = "/cds-services/diabetes-risk"
FEEDBACK_URL = f"{HOOK_URL}/feedback"
# Not the public URL: behind a proxy that strips a path prefix the two differ.
BEHIND_PROXY = "http://service.internal:8000"
INSTANCE = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """`request` is what a client sees; the rest is what the service did."""

    parts: Parts
    app: FastAPI

    @classmethod
    def of(cls, parts: Parts) -> Service:
        return cls(parts=parts, app=application(parts))

    def request(self, method: str, url: str, **how: Any) -> httpx.Response:
        """One call; whatever comes back that is not a 2xx must be an OperationOutcome in JSON."""
        answer = asyncio.run(self._request(method, url, **how))
        assert answer.status_code != 422, "FastAPI's own validation reached the client"
        if answer.status_code >= 400 and method != "HEAD" and "/readyz" not in url:
            assert answer.headers["content-type"] == "application/fhir+json"
            check_operation_outcome(answer.json())
        if answer.status_code == 200 and url == HOOK_URL:
            check_hook_answer(answer.json())
        return answer

    async def _request(self, method: str, url: str, **how: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=BEHIND_PROXY) as client:
            return await client.request(method, url, **how)

    def call(self, body: Any, **how: Any) -> httpx.Response:
        return self.request("POST", HOOK_URL, json=body, **how)

    def call_bytes(self, body: bytes, content_type: str = "application/json") -> httpx.Response:
        return self.request("POST", HOOK_URL, content=body, headers={"Content-Type": content_type})

    def stored(self) -> int:
        total, _ = self.parts.store.search(count=0)
        return total

    def audited(self) -> list[AuditEntry]:
        return self.parts.store.audit_trail(count=100)

    def metrics(self) -> str:
        return self.request("GET", "/metrics").text


def patient_view(**change: Any) -> dict[str, Any]:
    """A call that is scored high; `ABSENT` leaves a member out."""
    body = {
        "hook": "patient-view",
        "hookInstance": INSTANCE,
        "context": {"userId": "Practitioner/1", "patientId": "p1"},
        "prefetch": prefetch(),
        **change,
    }
    return {name: value for name, value in body.items() if value is not ABSENT}


def with_context(**change: Any) -> dict[str, Any]:
    context = {"userId": "Practitioner/1", "patientId": "p1", **change}
    return patient_view(
        context={name: value for name, value in context.items() if value is not ABSENT}
    )


def authorization(**change: Any) -> dict[str, Any]:
    """A call with `fhirServer` and a token."""
    granted = {
        "access_token": "secret-token-of-the-call",
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "patient/*.read",
        "subject": "cds-service",
        **change,
    }
    return patient_view(
        fhirServer="https://ehr.example.org/fhir",
        fhirAuthorization={name: value for name, value in granted.items() if value is not ABSENT},
    )


def prefetch(**change: Any) -> dict[str, Any]:
    """Everything that discovery asks for, about a 58-year-old with a high glucose."""
    return {
        "patient": patient(),
        "observations": searchset(
            observation("2345-7", 141, "mg/dL"), observation("39156-5", 34.2, "kg/m2")
        ),
        "conditions": searchset(),
        "medications": searchset(),
        **change,
    }
