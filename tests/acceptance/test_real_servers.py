"""A RiskAssessment reaches FHIR servers that this project did not write, whole and once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.ehr import FakeEhr
from tests.fakes.tokens import a_key
from tests.fhir import observation, patient, searchset
from tests.process import ServiceProcess
from tests.servers import FhirServer, HapiServer, MedplumServer

IDENTIFIER_SYSTEM = "urn:cds-service:risk-assessment"
SEEN = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 30 * 86400))
RESOURCE = dict[str, Any]


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    """Only its token endpoint is asked; what it issues is shown to the real server."""
    with FakeEhr() as ehr:
        yield ehr


@pytest.fixture
def patient_id() -> str:
    """Tests share a server: each has a patient of its own."""
    return f"p-{uuid.uuid4()}"


def clients_file(folder: Path, ehr: FakeEhr, base: str) -> str:
    folder.mkdir(exist_ok=True)
    key = folder / "key.pem"
    key.write_bytes(a_key("ES384").as_pem(private=True))
    path = folder / "clients.toml"
    path.write_text(
        f'[[client]]\nname = "Test Hospital"\nfhir_servers = ["{base}"]\nfhir_version = "R4"\n'
        'write_back = "backend"\n'
        f'[client.backend]\ntoken_url = "{ehr.url}/token"\nclient_id = "cds"\n'
        f"private_key_file = '{key.name}'\n"
    )
    return str(path)


def chart(patient_id: str, *, glucose: float = 131) -> list[RESOURCE]:
    """A Patient and the Observations that a high estimate rests on."""
    drawn = {"subject": {"reference": f"Patient/{patient_id}"}, "effectiveDateTime": SEEN}
    return [
        patient(id=patient_id),
        observation("2345-7", glucose, "mg/dL", id=f"g-{patient_id}", **drawn),
        observation("39156-5", 36.2, "kg/m2", id=f"b-{patient_id}", **drawn),
    ]


def opened(service: ServiceProcess, base: str, resources: list[RESOURCE]) -> None:
    who, *observations = resources
    body = {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "fhirServer": base,
        "context": {"userId": "Practitioner/1", "patientId": who["id"]},
        "prefetch": {
            "patient": who,
            "observations": searchset(*observations),
            "conditions": searchset(),
            "medications": searchset(),
        },
    }
    answer = httpx.post(f"{service.url}/cds-services/diabetes-risk", json=body, timeout=30)
    assert answer.status_code == 200, answer.text


def stored(service: ServiceProcess, patient_id: str) -> list[RESOURCE]:
    bundle = httpx.get(f"{service.url}/fhir/RiskAssessment", params={"patient": patient_id}).json()
    return [entry["resource"] for entry in bundle.get("entry", ())]


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    give_up = time.monotonic() + seconds
    while not holds() and time.monotonic() < give_up:
        time.sleep(0.1)
    return holds()


def settled(service: ServiceProcess, state: str) -> int:
    """How many messages the worker has brought to `state`, from its own figures."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    (line,) = [line for line in lines if "outbox" in line and f'state="{state}"' in line]
    return int(float(line.rpartition(" ")[2]))


def without_the_servers_own(resource: RESOURCE) -> RESOURCE:
    """FHIR R4, http.html#create: the id, and meta's version and time, are the server's to give."""
    return {name: value for name, value in resource.items() if name not in ("id", "meta")}


def arrives_whole_and_once(
    server: FhirServer, ehr: FakeEhr, folder: Path, patient_id: str
) -> RESOURCE:
    """One assessment, twice; then one with another glucose. Returns the first, as read back."""
    first, changed = chart(patient_id), chart(patient_id, glucose=140)
    server.put(*first)
    with ServiceProcess(folder, CDS_CLIENTS_FILE=clients_file(folder, ehr, server.base)) as service:
        for _ in range(2):
            opened(service, server.base, first)
        assert eventually(lambda: settled(service, "delivered") == 1)
        (kept,) = stored(service, patient_id)
        (written,) = server.search("RiskAssessment", subject=f"Patient/{patient_id}")
        opened(service, server.base, changed)
        assert eventually(lambda: settled(service, "delivered") == 2)
    assert without_the_servers_own(written) == without_the_servers_own(kept)
    identifier = f"{IDENTIFIER_SYSTEM}|{kept['identifier'][0]['value']}"
    assert server.search("RiskAssessment", identifier=identifier) == [written]
    assert len(server.search("RiskAssessment", subject=f"Patient/{patient_id}")) == 2
    assert any(asked.path == "/token" for asked in ehr.asked)
    return written


def a_repeat_creates_nothing(
    server: FhirServer, ehr: FakeEhr, folders: tuple[Path, Path], patient_id: str
) -> None:
    """Two stores that know nothing of each other: only the server can see that it is the same."""
    server.put(*chart(patient_id))
    for folder in folders:
        file = clients_file(folder, ehr, server.base)
        with ServiceProcess(folder, CDS_CLIENTS_FILE=file) as service:
            opened(service, server.base, chart(patient_id))
            assert eventually(lambda of=service: settled(of, "delivered") == 1)  # type: ignore[misc]
        assert len(server.search("RiskAssessment", subject=f"Patient/{patient_id}")) == 1


def test_hapi_has_what_was_stored_equal_and_once(
    hapi: HapiServer, ehr: FakeEhr, tmp_path: Path, patient_id: str
) -> None:
    written = arrives_whole_and_once(hapi, ehr, tmp_path, patient_id)
    place = f"{hapi.base}/RiskAssessment/{written['id']}"
    version = f"{place}/_history/{written['meta']['versionId']}"
    assert httpx.get(place).json() == httpx.get(version).json() == written


def test_medplum_has_what_was_stored_equal_and_once(
    medplum: MedplumServer, ehr: FakeEhr, tmp_path: Path, patient_id: str
) -> None:
    written = arrives_whole_and_once(medplum, ehr, tmp_path, patient_id)
    place = f"{medplum.base}/RiskAssessment/{written['id']}"
    version = f"{place}/_history/{written['meta']['versionId']}"
    assert httpx.get(place).json() == httpx.get(version).json() == written


def test_hapi_keeps_one_of_a_repeat(
    hapi: HapiServer, ehr: FakeEhr, tmp_path: Path, patient_id: str
) -> None:
    a_repeat_creates_nothing(hapi, ehr, (tmp_path / "a", tmp_path / "b"), patient_id)


def test_medplum_keeps_one_of_a_repeat(
    medplum: MedplumServer, ehr: FakeEhr, tmp_path: Path, patient_id: str
) -> None:
    a_repeat_creates_nothing(medplum, ehr, (tmp_path / "a", tmp_path / "b"), patient_id)


def test_hapi_refuses_what_rests_on_nothing_and_says_so(
    hapi: HapiServer, ehr: FakeEhr, tmp_path: Path, patient_id: str
) -> None:
    """A patient whom the FHIR server does not have: no retry can help, and a person is told."""
    with ServiceProcess(
        tmp_path, CDS_CLIENTS_FILE=clients_file(tmp_path, ehr, hapi.base)
    ) as service:
        opened(service, hapi.base, chart(patient_id))
        assert eventually(lambda: settled(service, "dead") == 1)
        assert len(stored(service, patient_id)) == 1


@pytest.mark.parametrize("wrong", [{"colour": "blue"}, {"subject": None}, {"basis": "g"}])
def test_medplum_refuses_what_is_not_r4(medplum: MedplumServer, wrong: RESOURCE) -> None:
    """So that what it takes from the service is more than JSON."""
    right = {"resourceType": "RiskAssessment", "status": "final", "subject": {"display": "Ann"}}
    answers = [
        httpx.post(f"{medplum.base}/RiskAssessment", json=body) for body in (right, right | wrong)
    ]
    assert [answer.status_code for answer in answers] == [201, 400]
    assert answers[1].json()["resourceType"] == "OperationOutcome"


def test_hapi_is_killed_and_comes_back_and_what_waited_arrives_once(
    hapi: HapiServer, ehr: FakeEhr, tmp_path: Path, patient_id: str
) -> None:
    hapi.put(*chart(patient_id))
    with ServiceProcess(
        tmp_path, CDS_CLIENTS_FILE=clients_file(tmp_path, ehr, hapi.base)
    ) as service:
        opened(service, hapi.base, chart(patient_id))
        assert eventually(lambda: settled(service, "delivered") == 1)
        hapi.kill()
        opened(service, hapi.base, chart(patient_id, glucose=140))
        assert len(stored(service, patient_id)) == 2
        hapi.start()
        assert eventually(lambda: settled(service, "delivered") == 2, seconds=300)
    assert len(hapi.search("RiskAssessment", subject=f"Patient/{patient_id}")) == 2
