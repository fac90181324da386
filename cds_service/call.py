"""One call, with everything that its answer depends on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cds_service.audit.facts import CallFacts
from cds_service.clients import Caller
from cds_service.hooks import HookRequest, ServiceDefinition
from cds_service.parts import Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`received_at` is the clock's word when the call came; nothing below asks again."""

    parts: Parts
    request: HookRequest
    definition: ServiceDefinition
    caller: Caller
    received_at: datetime
    facts: CallFacts

    @property
    def patient_id(self) -> str:
        return self.request.context.patient_id

    @property
    def origin(self) -> str:
        """Whose patient this is: ids are unique within one EHR only."""
        if self.caller.client:
            return self.caller.client.name
        return (self.request.fhir_server or "").rstrip("/")
