"""FHIR servers that this project did not write, as a run needs them: away at times, and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.servers import FhirServer, HapiServer, MedplumServer

PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServer:
    """A running server; `stop` is how it goes away, and `start` how it comes back."""

    base: str
    stop: Callable[[], None]
    start: Callable[[], None]

    def risk_assessments(self) -> list[dict[str, Any]]:
        """All of them, page by page."""
        found: list[dict[str, Any]] = []
        first = f"{self.base}/RiskAssessment?_count={PAGE}&_sort=_lastUpdated"
        url = first
        with httpx.Client(timeout=60, trust_env=False) as http:
            while True:
                bundle = http.get(url).raise_for_status().json()
                page = [entry["resource"] for entry in bundle.get("entry", ())]
                found += page
                links = [one["url"] for one in bundle.get("link", ()) if one["relation"] == "next"]
                if not links and len(page) < PAGE:
                    return found
                # Medplum's repository in memory links to no next page, and knows offsets.
                url = links[0] if links else f"{first}&_offset={len(found)}"


def away_and_back(server: FhirServer) -> RealServer:
    """HAPI is killed, and has what it committed; Medplum, which is in memory, only stalls."""
    if isinstance(server, HapiServer):
        return RealServer(base=server.base, stop=server.kill, start=server.start)
    assert isinstance(server, MedplumServer)
    return RealServer(base=server.base, stop=server.stall, start=server.resume)
