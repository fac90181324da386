"""Which one way a RiskAssessment takes to the EHR: exactly one for each client. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cds_service.clients import Client
from cds_service.clients.urls import allowed_in, parse_base


class Way(StrEnum):
    """OUTBOX: by this service, later. INLINE: within the call, with the call's own token.
    SYSTEM_ACTION: the EHR writes it. NONE: nobody writes it; it can be read here."""

    OUTBOX = "outbox"
    INLINE = "inline"
    SYSTEM_ACTION = "system-action"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBackPlan:
    """The way, and for OUTBOX and INLINE the FHIR base (normal form) that it leads to."""

    way: Way
    base: str | None = None


_NOWHERE = WriteBackPlan(way=Way.NONE)


def write_back_plan(
    client: Client | None, *, profile: str, fhir_server: str | None
) -> WriteBackPlan:
    """The plan for one call. A call without a client is never written back.

    The base is the call's `fhirServer` when the client's entry lists it; for a call that names
    none it is the client's only one. A server that is not listed gets nothing, and no other
    server gets it instead: its patient's id means somebody else there.
    """
    if client is None or client.write_back == "off":
        return _NOWHERE
    if client.write_back == "system-action":
        return WriteBackPlan(way=Way.SYSTEM_ACTION)
    base = _listed_base(client, fhir_server, demo=profile == "demo")
    if base is None:
        return _NOWHERE
    return WriteBackPlan(
        way=Way.OUTBOX if client.write_back == "backend" else Way.INLINE, base=base
    )


def _listed_base(client: Client, fhir_server: str | None, *, demo: bool) -> str | None:
    named = fhir_server or (client.fhir_servers[0] if len(client.fhir_servers) == 1 else "")
    base = parse_base(named)
    if base is None or base.text not in client.fhir_servers or not allowed_in(base, demo=demo):
        return None
    return base.text
