"""FHIR resources for tests: correct and complete unless an argument says otherwise."""

from __future__ import annotations

from typing import Any

UCUM = "http://unitsofmeasure.org"


def _without_none(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if value is not None}


def patient(**change: Any) -> dict[str, Any]:
    return _without_none(
        {
            "resourceType": "Patient",
            "id": "p1",
            "gender": "female",
            "birthDate": "1968-03-04",
            **change,
        }
    )


def observation(code: str, number: float, unit: str | None, /, **change: Any) -> dict[str, Any]:
    """An Observation with a LOINC code and a UCUM unit, of 1 November 2026."""
    quantity = {"value": number, "unit": unit, "system": UCUM, "code": unit}
    return _without_none(
        {
            "resourceType": "Observation",
            "id": f"o-{code}",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "subject": {"reference": "Patient/p1"},
            "effectiveDateTime": "2026-11-01T08:00:00Z",
            "valueQuantity": _without_none(quantity) if unit else {"value": number},
            **change,
        }
    )


def condition(
    system: str,
    code: str,
    /,
    *,
    clinical: str | None = "active",
    verification: str | None = "confirmed",
    **change: Any,
) -> dict[str, Any]:
    """An R4 Condition of the test patient."""
    base = "http://terminology.hl7.org/CodeSystem/condition"
    return _without_none(
        {
            "resourceType": "Condition",
            "id": f"c-{code}",
            "clinicalStatus": _status(f"{base}-clinical", clinical),
            "verificationStatus": _status(f"{base}-ver-status", verification),
            "code": {"coding": [{"system": system, "code": code}]},
            "subject": {"reference": "Patient/p1"},
            **change,
        }
    )


def _status(system: str, code: str | None) -> dict[str, Any] | None:
    return {"coding": [{"system": system, "code": code}]} if code else None


def medication(concept: dict[str, Any], **change: Any) -> dict[str, Any]:
    """An R4 MedicationRequest of the test patient."""
    return {
        "resourceType": "MedicationRequest",
        "id": "m1",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": concept,
        "subject": {"reference": "Patient/p1"},
        **change,
    }


def searchset(*resources: dict[str, Any]) -> dict[str, Any]:
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if resources:
        bundle["entry"] = [{"resource": resource} for resource in resources]
    return bundle
