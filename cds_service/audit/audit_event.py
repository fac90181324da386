"""An audit row as a FHIR R4 AuditEvent: http://hl7.org/fhir/R4/auditevent.html"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cds_service.store import audit_rows

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
REST = {"system": f"{_TERMINOLOGY}/audit-event-type", "code": "rest"}
# DICOM PS3.15 A.5.3.2: the log itself was used.
LOG_USED = {"system": _DICOM, "code": "110101", "display": "Audit Log Used"}
INTERACTIONS = "http://hl7.org/fhir/restful-interaction"
# Neither FHIR nor DICOM has codes for these, and CDS Hooks names its hooks in no code system; the
# binding is extensible: http://hl7.org/fhir/R4/valueset-audit-event-sub-type.html
HOOKS = "urn:cds-service:hook"
OURS = "urn:cds-service:audit-action"

_REST_ACTIONS = {"read": "R", "search-type": "E", "capabilities": "R"}
_OUR_ACTIONS = {
    "discovery": "R",
    "predict": "E",
    "feedback": "C",
    "replay": "E",
    "outbox-show": "R",
    "store-rekey": "U",
    "hook-call": "E",
    audit_rows.SEAL: "E",
    audit_rows.EXPORT: "R",
    audit_rows.PRUNE: "D",
    audit_rows.RETRY: "U",
    audit_rows.DISCARD: "U",
}
_ABOUT_THE_LOG = frozenset((audit_rows.SEAL, audit_rows.EXPORT, audit_rows.PRUNE))
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_USER = re.compile(r"(?:Practitioner|PractitionerRole|Patient|RelatedPerson)/[A-Za-z0-9\-.]{1,64}")


def audit_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` as the database holds it; valid in R4 and R4B."""
    action = _said(row["action"]) or "hook-call"
    event = {
        "resourceType": "AuditEvent",
        "id": f"{row['chain']}-{row['seq']}" if row["chain"] else f"row-{row['id']}",
        "type": LOG_USED if action in _ABOUT_THE_LOG else REST,
        "subtype": [_subtype(action)],
        "action": _REST_ACTIONS.get(action) or _OUR_ACTIONS.get(action, "E"),
        "recorded": row["recorded_at"],
        "outcome": _outcome(row["status"]),
        "outcomeDesc": f"{row['status']} {_said(row['outcome']) or 'unknown'}",
        "agent": list(_agents(row)),
        "source": {
            "observer": {"display": "cds-service"},
            "type": [{"system": f"{_TERMINOLOGY}/security-source-type", "code": "4"}],
        },
        "entity": list(_entities(row)),
    }
    return {name: value for name, value in event.items() if value}


def _subtype(action: str) -> dict[str, str]:
    if action in _REST_ACTIONS:
        return {"system": INTERACTIONS, "code": action}
    return {"system": OURS if action in _OUR_ACTIONS else HOOKS, "code": action}


def _outcome(status: int) -> str:
    # http://hl7.org/fhir/R4/valueset-audit-event-outcome.html
    if status < 400:
        return "0"
    return "4" if status < 500 else "8"


def _agents(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The person at the keyboard where one is named, and the system that called."""
    user = _said(row["user"])
    if user:
        who = {"reference": user} if _USER.fullmatch(user) else {"display": user}
        yield {"who": who, "requestor": True}
    names = [part for part in (_said(row["client"]), _said(row["tenant"])) if part]
    caller: dict[str, Any] = {"requestor": user is None}
    if names:
        caller["who"] = {"display": " / ".join(names)}
    if address := _said(row["address"]):
        # http://hl7.org/fhir/R4/valueset-network-type.html: 2 is an IP address.
        caller["network"] = {"address": address, "type": "2"}
    if names or address or not user:
        yield caller


def _entities(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if patient := _said(row["patient_id"]):
        yield {
            "what": _reference("Patient", patient),
            "type": {"system": f"{_TERMINOLOGY}/audit-entity-type", "code": "1"},
            "role": {"system": f"{_TERMINOLOGY}/object-role", "code": "1"},
        }
    if resource := _said(row["resource_id"]):
        yield {
            "what": _reference("RiskAssessment", resource),
            "type": {"system": f"{_TERMINOLOGY}/audit-entity-type", "code": "2"},
            "role": {"system": f"{_TERMINOLOGY}/object-role", "code": "4"},
        }
    details = list(_details(row))
    if details:
        about = {"type": {"system": f"{_TERMINOLOGY}/audit-entity-type", "code": "2"}}
        name = _said(row["service_id"])
        yield about | ({"name": name} if name else {}) | {"detail": details}


def _details(row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    names = ("hook_instance", "service_id", "model", "model_version", "suspicious", "calls")
    for name in (*names, "detail", "digest"):
        said = _said(row[name])
        if said:
            yield {"type": name, "valueString": said}


def _reference(kind: str, id: str) -> dict[str, Any]:
    """A reference where `id` is one; what a refused caller sent in its place is only shown."""
    return {"reference": f"{kind}/{id}"} if _ID.fullmatch(id) else {"display": id}


def _said(value: object) -> str | None:
    # FHIR strings have a character that is not white space, and no control characters:
    # http://hl7.org/fhir/R4/datatypes.html#string
    if value is None:
        return None
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in str(value))
    return text if text.strip() else None
