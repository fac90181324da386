"""Records as the service makes them, for tests that only care about one field."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from cds_service.store import AssessmentRecord, AuditEntry, FeedbackItem, IssuedCard, OutboxMessage

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FHIR_BASE = "http://127.0.0.1:8080/fhir"


def an_id() -> str:
    return str(uuid.uuid4())


def an_assessment(**changed: Any) -> AssessmentRecord:
    values: dict[str, Any] = {
        "id": an_id(),
        "identifier": an_id(),
        "origin": "https://ehr.example.org/fhir",
        "patient_id": "p1",
        "encounter_id": None,
        "service_id": "diabetes-risk",
        "model": "diabetes-undiagnosed",
        "model_version": "1.0.0",
        "as_of": NOON,
        "received_at": NOON,
        "hook_instance": an_id(),
        "probability": 0.1 + 0.2,
        "level": "moderate",
        "inputs": {"glucose": 5.1e-7, "absent": None, "name": "Zoë"},
    }
    values |= changed
    identifier = {"system": "urn:cds-service:risk-assessment", "value": values["identifier"]}
    resource = {"resourceType": "RiskAssessment", "identifier": [identifier], "status": "final"}
    return AssessmentRecord(**{"resource": resource} | values)


def a_card(assessment: AssessmentRecord | None, **changed: Any) -> IssuedCard:
    values: dict[str, Any] = {
        "uuid": an_id(),
        "kind": "risk",
        "indicator": "warning",
        "assessment_id": assessment.id if assessment else None,
        "hook_instance": an_id(),
        "service_id": "diabetes-risk",
    }
    return IssuedCard(**values | changed)


def an_audit_entry(**changed: Any) -> AuditEntry:
    return AuditEntry(**{"recorded_at": NOON, "outcome": "assessed", "status": 200} | changed)


def a_message(assessment: AssessmentRecord, **changed: Any) -> OutboxMessage:
    values: dict[str, Any] = {
        "id": an_id(),
        "assessment_id": assessment.id,
        "fhir_base": FHIR_BASE,
        "client": "General Hospital",
        "resource": assessment.resource,
    }
    return OutboxMessage(**values | changed)


def a_feedback_item(card: str, **changed: Any) -> FeedbackItem:
    values: dict[str, Any] = {
        "card": card,
        "outcome": "accepted",
        "outcome_timestamp": NOON,
        "service_id": "diabetes-risk",
        "received_at": NOON,
        "accepted_suggestions": (an_id(),),
    }
    return FeedbackItem(**values | changed)
