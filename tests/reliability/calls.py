"""The EHR's calls: new patients, repeats of a call, charts that have changed, side by side.

Each version of a patient's chart has a glucose result of its own, which the RiskAssessment names
as its basis: what was answered can be found on a FHIR server without asking the service's store.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.fakes.tokens import a_key, a_token
from tests.fhir import observation, patient, searchset

ISSUER = "https://ehr.example.org"
HOOK_PATH = "/cds-services/diabetes-risk"
# So few are seen often, and by several callers at the same moment.
PATIENTS_AT_ONCE = 8
CALLERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One patient's record as it was at one time."""

    patient_id: str
    version: int

    @property
    def glucose_id(self) -> str:
        return f"g-{self.patient_id}-{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A call that was answered 200."""

    hook_instance: str
    chart: Chart


@dataclass(slots=True, kw_only=True)
class Calls:
    """Made by several callers until told to stop. `outcomes` counts statuses and missing answers;
    `unexpected` are answers that no fault of this run explains."""

    seed: str
    service_url: str
    fhir_base: str
    pause: float
    outcomes: Counter[str] = field(default_factory=Counter)
    answered: list[Answered] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    # One day for a whole run, which may go past midnight: a repeat has the same inputs.
    drawn: str = field(default_factory=lambda: _days_ago(30))
    _patients: deque[list[Chart]] = field(default_factory=lambda: deque(maxlen=PATIENTS_AT_ONCE))
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, over: threading.Event) -> None:
        """Return when it is `over` and every caller has its last answer."""
        callers = [
            threading.Thread(target=self._call_on, args=(number, over)) for number in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    def _call_on(self, number: int, over: threading.Event) -> None:
        chance = random.Random(f"{self.seed} caller {number}")
        with httpx.Client(timeout=60, trust_env=False) as http:
            for chart in self._charts(chance):
                if over.is_set():
                    return
                self._call(http, chart, chance, over)
                time.sleep(chance.uniform(0, 2 * self.pause))

    def _charts(self, chance: random.Random) -> Iterator[Chart]:
        while True:
            with self._lock:
                draw = chance.random()
                if draw < 0.5 or not self._patients:
                    self._number += 1
                    versions = [Chart(patient_id=f"{self.seed}-{self._number}", version=1)]
                    self._patients.append(versions)
                    chart = versions[0]
                elif draw < 0.7:
                    chart = chance.choice(chance.choice(self._patients))
                else:
                    versions = chance.choice(self._patients)
                    chart = Chart(patient_id=versions[0].patient_id, version=len(versions) + 1)
                    versions.append(chart)
            yield chart

    def _call(
        self, http: httpx.Client, chart: Chart, chance: random.Random, over: threading.Event
    ) -> None:
        """Once, or again like an EHR whose call was cut off and whose clinician tries again."""
        hook_instance = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        while True:
            try:
                answer = http.post(
                    f"{self.service_url}{HOOK_PATH}",
                    json=self._body(chart, hook_instance),
                    headers={"Authorization": f"Bearer {self._token()}"},
                )
            except httpx.TransportError:
                with self._lock:
                    self.outcomes["no answer"] += 1
                if over.is_set() or chance.random() < 0.2:
                    return
                time.sleep(chance.uniform(0.05, 0.3))
                continue
            self._keep(answer, Answered(hook_instance=hook_instance, chart=chart))
            return

    def _keep(self, answer: httpx.Response, call: Answered) -> None:
        with self._lock:
            self.outcomes[str(answer.status_code)] += 1
            if answer.status_code == 200 and answer.json()["cards"]:
                self.answered.append(call)
            elif answer.status_code != 503:
                self.unexpected.append(f"{answer.status_code}: {answer.text[:300]}")

    def _body(self, chart: Chart, hook_instance: str) -> dict[str, Any]:
        seen = {
            "subject": {"reference": f"Patient/{chart.patient_id}"},
            "effectiveDateTime": self.drawn,
        }
        glucose = round(120 + 0.1 * chart.version, 1)
        return {
            "hook": "patient-view",
            "hookInstance": hook_instance,
            "fhirServer": self.fhir_base,
            "context": {"userId": "Practitioner/1", "patientId": chart.patient_id},
            "prefetch": {
                "patient": patient(id=chart.patient_id),
                "observations": searchset(
                    observation("2345-7", glucose, "mg/dL", id=chart.glucose_id, **seen),
                    observation("39156-5", 36.2, "kg/m2", id=f"b-{chart.patient_id}", **seen),
                ),
                "conditions": searchset(),
                "medications": searchset(),
            },
        }

    def _token(self) -> str:
        now = int(time.time())
        return a_token(
            key=a_key("ES384"),
            iss=ISSUER,
            aud=f"{self.service_url}{HOOK_PATH}",
            iat=now,
            exp=now + 300,
            jti=str(uuid.uuid4()),
        )


def _days_ago(days: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - days * 86400))
