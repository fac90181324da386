"""What surrounds every call stays small: counted in calls of functions, since clocks tell of the
machine. The bounds leave room for a few more, and none for a second look at everything."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# In a process of its own: logging is configured for a whole process.
SCRIPT = '''
import asyncio, json, sys
from datetime import UTC, datetime

from cds_service.audit.facts import begin
from cds_service.clients import Caller, Clients
from cds_service.cors import Cors
from cds_service.log import configure_logging
from cds_service.metrics import new_metrics
from cds_service.observe import Observe
from cds_service.settings import Settings

INSTANCE = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
SENT = {
    "host": "127.0.0.1:8000", "user-agent": "python-httpx/0.28.1", "connection": "keep-alive",
    "accept": "application/json, application/fhir+json, */*", "accept-encoding": "gzip, deflate",
    "content-type": "application/json", "content-length": "48211", "x-request-id": INSTANCE,
}
BODY = {
    "hook": "patient-view", "hookInstance": INSTANCE, "fhirServer": "https://ehr.example.org/fhir",
    "context": {"userId": "Practitioner/1", "patientId": "p1", "encounterId": "e1"},
    "fhirAuthorization": {"token_type": "Bearer", "scope": "patient/*.read", "subject": "cds"},
}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Route:
    path = "/cds-services/{service_id}"


scope = {
    "type": "http", "method": "POST", "path": "/cds-services/diabetes-risk", "query_string": b"",
    "raw_path": b"/cds-services/diabetes-risk", "client": ("127.0.0.1", 1), "route": Route,
    "headers": [(name.encode(), value.encode()) for name, value in SENT.items()],
    "cds_service.notes": {
        "service": "diabetes-risk", "hook_instance": INSTANCE, "outcome": "scored"
    },
}


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def send(message):
    pass


def calls(what):
    what()  # once before: what is made at the first call is not made again
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    what()
    sys.setprofile(None)
    return counted


def driven(coroutine):
    """Nothing here waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return


def facts():
    found = begin(scope, "hook-call", NOW)
    found.caller = Caller(client=None, address="127.0.0.1")
    found.read_hook_call(BODY)
    found.entry(outcome="scored", status=200)


def count_all():
    metrics.count_request(route=Route.path, method="POST", status=200, seconds=0.01)
    metrics.count_assessment(service="diabetes-risk", outcome="scored")
    metrics.count_card(service="diabetes-risk", kind="level:high")


configure_logging("INFO")
metrics = new_metrics()
observe = Observe(app, metrics=metrics)
cors = Cors(app, settings=Settings(profile="demo"))
clients = Clients((), demo=True)
json.dump(
    {
        "a request, logged and counted": calls(lambda: driven(observe(scope, None, send))),
        "metrics of a call": calls(count_all),
        "facts of a call": calls(facts),
        "cors without an origin": calls(lambda: driven(cors(scope, None, send))),
        "a caller of the demo profile": calls(
            lambda: driven(clients.authenticate(None, endpoint="", now=NOW, address=None))
        ),
    },
    sys.stdout,
)
'''
BOUNDS = {
    "a request, logged and counted": 100,
    "metrics of a call": 40,
    "facts of a call": 130,
    "cors without an origin": 20,
    "a caller of the demo profile": 8,
}


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("what", BOUNDS)
def test_what_surrounds_a_call_is_few_calls_of_functions(
    counted: dict[str, int], what: str
) -> None:
    assert counted[what] <= BOUNDS[what]
