"""Do the subjects compute the same thing? Asked before any time is taken.

A patient with one result of each kind, whom every subject can read: no blood pressure, which comes
as a panel that HealthChain's mapper does not look into, and no second result of a kind, of which
HealthChain takes the last in the Bundle and the service the newest.
"""

from __future__ import annotations

import random

import orjson

from benchmarks import calls
from benchmarks.subjects import Subject, SubjectFailed, get, send

PATIENTS = 5
# Every kind of relevant result once: see `calls`.
OBSERVATIONS = calls.EVERY * len(calls.RELEVANT)
# The service gives a probability in per cent with six decimals; XGBoost computes in 32 bits.
TOLERANCE = 1e-5


def check_agreement(service: Subject, others: list[Subject]) -> float:
    """The largest difference of a probability; raises SubjectFailed beyond TOLERANCE."""
    largest = 0.0
    for number in range(PATIENTS):
        call = a_call(number)
        body = orjson.dumps(call)
        ours = _of_service(service, body, call["context"]["patientId"])
        for other in others:
            theirs = _of_other(other, body)
            largest = max(largest, abs(ours - theirs))
            if not abs(ours - theirs) <= TOLERANCE:
                raise SubjectFailed(
                    f"for the same patient {service.name} gives {ours:.6f} and {other.name} "
                    f"{theirs:.6f}: they do not compute the same"
                )
    return largest


def a_call(number: int) -> calls.Resource:
    """About a patient whom every subject reads alike."""
    chance = random.Random(f"agreement-{number}")  # noqa: S311 (not a secret)
    call = calls.call(chance, observations=OBSERVATIONS, now=calls.utc_now())
    chart = call["prefetch"]["observations"]
    chart["entry"] = [
        entry
        for entry in chart["entry"]
        if entry["resource"]["code"]["coding"][0]["code"] != calls.BLOOD_PRESSURE
    ]
    chart["total"] = len(chart["entry"])
    return call


def _of_service(service: Subject, body: bytes, patient_id: str) -> float:
    """As it is on record: a card shows whole per cents, and not every patient has one."""
    _called(service, body)
    found = orjson.loads(get(service.port, f"/fhir/RiskAssessment?patient={patient_id}")[1])
    resource = found["entry"][0]["resource"]
    per_cent: float = resource["prediction"][0]["probabilityDecimal"]
    return per_cent / 100


def _of_other(other: Subject, body: bytes) -> float:
    before = other.scored()
    _called(other, body)
    probability = other.figure("last_probability")
    if probability is None or other.scored() != before + 1:
        raise other.failed("answered, but did not score the call")
    return probability


def _called(subject: Subject, body: bytes) -> None:
    status, answer = send(subject, body)
    if status != 200:
        raise subject.failed(f"answered {status}: {answer[:400]!r}")
