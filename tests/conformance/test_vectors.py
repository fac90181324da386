"""Each request vector of the checklist is answered as its file says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cds_service.app import application, assemble
from cds_service.clients import Clients
from cds_service.fhir_client import FhirClient
from cds_service.metrics import new_metrics
from cds_service.parts import Parts
from cds_service.settings import Settings
from cds_service.store import Store
from tests.conformance.vectors import Case, cases, http_call, read_vectors, usual_request
from tests.conftest import NOW, ROOT
from tests.fakes.ehr import FakeEhr
from tests.process import ServiceProcess
from tests.service import BEHIND_PROXY, HOOK_URL, patient_view

LEAVES = [case for case in cases() if case.request.get("leave")]
ANSWERED = [
    pytest.param(
        case,
        id=case.id,
        marks=[pytest.mark.xfail(reason=case.differs, strict=True)] if case.differs else [],
    )
    for case in cases()
    if case not in LEAVES
]


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The service on a loop of its own, so that its connections live as long as the tests."""

    runner: asyncio.Runner
    assembled: Parts


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = Settings(
        profile="demo",
        database_url=f"sqlite:///{tmp_path_factory.mktemp('vectors')}/cds.db",
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
        # Long enough for a busy machine: cases about time say their own.
        deadline_ms=20_000,
    )
    with asyncio.Runner() as runner:
        parts = assemble(settings, lambda: NOW)
        parts.store.close()
        yield House(runner=runner, assembled=parts)
        runner.run(parts.fhir.close())
        runner.run(parts.clients.close())


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What became of a case: the answers, and what the service did."""

    answers: list[httpx.Response]
    parts: Parts
    ehr: FakeEhr | None
    elsewhere: FakeEhr | None

    @property
    def last(self) -> httpx.Response:
        return self.answers[-1]


@pytest.fixture
def play(house: House, tmp_path: Path) -> Iterator[Any]:
    """Plays a case against a service with a store of its own."""
    with ExitStack() as open_things:

        def run(case: Case) -> Seen:
            store = Store.open(f"sqlite:///{tmp_path}/cds.db")
            open_things.callback(store.close)
            parts = replace(
                house.assembled,
                store=store,
                metrics=new_metrics(),
                settings=_settings(house.assembled.settings, case.request),
                # Of its own, and closed: the EHR of a case ends when its connections do.
                fhir=FhirClient(reach=house.assembled.clients.reach),
            )
            if case.request.get("profile") == "production":
                parts = replace(parts, clients=Clients((), demo=False))
            ehr, elsewhere = _servers(case.request, open_things)
            names = {
                "ehr": ehr.base if ehr else "",
                "elsewhere": elsewhere.url if elsewhere else "",
            }
            answers = house.runner.run(_send(parts, case.request, names))
            house.runner.run(parts.fhir.close())
            return Seen(answers=answers, parts=parts, ehr=ehr, elsewhere=elsewhere)

        yield run


def _settings(usual: Settings, request: dict[str, Any]) -> Settings:
    return replace(
        usual,
        deadline_ms=request.get("deadline_ms", usual.deadline_ms),
        profile=request.get("profile", usual.profile),
        cors_origins=tuple(request.get("origins", usual.cors_origins)),
    )


def _servers(
    request: dict[str, Any], open_things: ExitStack
) -> tuple[FakeEhr | None, FakeEhr | None]:
    if (said := request.get("ehr")) is None:
        return None, None
    usual = usual_request()["prefetch"]
    held = {
        "patient": [usual["patient"]],
        "observations": [entry["resource"] for entry in usual["observations"]["entry"]],
    }
    elsewhere = open_things.enter_context(FakeEhr())
    ehr = open_things.enter_context(
        FakeEhr(
            resources=[each for key in said.get("holds", ()) for each in held[key]],
            page_size=said.get("page_size", 1000),
        )
    )
    ehr.faults.extend(said.get("faults", ()))
    match said.get("next"):
        case "elsewhere":
            ehr.next_base = elsewhere.base
        case "own page":
            ehr.next_base = f"{ehr.base}/Observation?start=0&again="
    return ehr, elsewhere


async def _send(
    parts: Parts, request: dict[str, Any], names: dict[str, str]
) -> list[httpx.Response]:
    transport = httpx.ASGITransport(application(parts))
    async with httpx.AsyncClient(transport=transport, base_url=BEHIND_PROXY) as client:

        async def one() -> httpx.Response:
            call = http_call(request, names)
            return await client.request(
                call.method, call.url, headers=call.headers, content=call.content
            )

        times = request.get("times", 1)
        if request.get("together"):
            return list(await asyncio.gather(*(one() for _ in range(times))))
        return [await one() for _ in range(times)]


@pytest.fixture(scope="module")
def usual_cards(house: House, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The cards of the valid request: what an odd one must be answered with as well."""
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('usual')}/cds.db")
    parts = replace(house.assembled, store=store, metrics=new_metrics())
    (answer,) = house.runner.run(_send(parts, {}, {}))
    store.close()
    cards: list[dict[str, Any]] = answer.json()["cards"]
    return cards


@pytest.mark.parametrize("case", ANSWERED)
def test_a_vector_is_answered_as_its_file_says(
    case: Case, play: Any, usual_cards: list[dict[str, Any]]
) -> None:
    seen = play(case)
    assert [answer.status_code for answer in seen.answers] == [
        case.expect["status"] for _ in seen.answers
    ]
    left = dict(case.expect)
    del left["status"]
    for answer in seen.answers:
        _check_cards(answer, left.get("cards"), usual_cards)
    left.pop("cards", None)
    for name, wanted in left.items():
        CHECKS[name](seen, wanted)


def _check_cards(answer: httpx.Response, wanted: str | None, usual: list[dict[str, Any]]) -> None:
    if wanted is None:
        return
    summaries = [card["summary"] for card in answer.json()["cards"]]
    usually = [card["summary"] for card in usual]
    match wanted:
        case "none":
            assert summaries == []
        case "some":
            assert summaries
        case "usual":
            assert summaries == usually != []
        case "other":
            assert summaries
            assert summaries != usually
        case _:
            raise ValueError(wanted)


def _expression(seen: Seen, wanted: list[str]) -> None:
    issues = seen.last.json()["issue"]
    assert sorted(where for issue in issues for where in issue["expression"]) == wanted


def _stored(seen: Seen, wanted: int) -> None:
    assert seen.parts.store.search(count=0)[0] == wanted


def _inputs(seen: Seen, wanted: dict[str, float | None]) -> None:
    """What reached the model, as it was stored with the assessment; null: it did not."""
    _, (record,) = seen.parts.store.search(count=1)
    features = record.inputs["features"]
    assert {name: features[name].get("value") for name in wanted} == pytest.approx(wanted)


def _headers(seen: Seen, wanted: dict[str, str]) -> None:
    assert {name: seen.last.headers.get(name) for name in wanted} == wanted


def _asked(seen: Seen, wanted: list[str]) -> None:
    assert _types_asked(seen) == wanted


def _asked_at_most(seen: Seen, wanted: int) -> None:
    assert 0 < len(_types_asked(seen)) <= wanted


def _types_asked(seen: Seen) -> list[str]:
    assert seen.ehr is not None
    paths = [asked.path.split("?")[0] for asked in seen.ehr.fhir_requests]
    return sorted(path.removeprefix("/fhir/").split("/")[0] for path in paths)


def _elsewhere(seen: Seen, wanted: int) -> None:
    assert seen.elsewhere is not None
    assert len(seen.elsewhere.asked) == wanted


def _token(seen: Seen, wanted: str) -> None:
    assert seen.ehr is not None
    sent = {asked.headers.get("authorization") for asked in seen.ehr.fhir_requests}
    assert sent == {f"Bearer {wanted}"}


def _not_echoed(seen: Seen, wanted: list[str]) -> None:
    assert [text for text in wanted if text in seen.last.text] == []


def _mentions(seen: Seen, wanted: list[str]) -> None:
    details = " ".join(card["detail"] for card in seen.last.json()["cards"])
    assert [text for text in wanted if text not in details] == []


def _feedback(seen: Seen, wanted: int) -> None:
    assert len(seen.parts.store.feedback(count=100)) == wanted


CHECKS: dict[str, Any] = {
    "expression": _expression,
    "stored": _stored,
    "inputs": _inputs,
    "headers": _headers,
    "asked": _asked,
    "asked_at_most": _asked_at_most,
    "elsewhere": _elsewhere,
    "token": _token,
    "not_echoed": _not_echoed,
    "mentions": _mentions,
    "feedback": _feedback,
}


@pytest.mark.parametrize("case", LEAVES, ids=lambda case: case.id)
def test_a_client_that_leaves_early_leaves_no_half_call(case: Case, tmp_path: Path) -> None:
    with FakeEhr() as ehr, ServiceProcess(tmp_path, CDS_DEADLINE_MS="5000") as service:
        ehr.faults.extend(case.request["ehr"]["faults"])
        call = http_call(case.request, {"ehr": ehr.base})
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                service.url + call.url, content=call.content, headers=call.headers, timeout=1
            )
        assert len(ehr.fhir_requests) == 1
        usual = httpx.post(service.url + HOOK_URL, json=usual_request(), timeout=30)
        assert usual.status_code == case.expect["status"]
        bundle = httpx.get(f"{service.url}/fhir/RiskAssessment").json()
        whole = [entry["resource"]["prediction"] for entry in bundle.get("entry", ())]
        assert len(whole) == bundle["total"] <= 1


def test_there_is_a_file_for_each_of_the_fifty_vectors() -> None:
    assert [vector.number for vector in read_vectors()] == list(range(1, 51))


def test_every_vector_has_cases_of_which_each_expects_a_status() -> None:
    assert all(vector.cases for vector in read_vectors())
    assert all(case.expect["status"] in range(200, 600) for case in cases())


def test_the_usual_request_is_that_of_the_other_tests() -> None:
    assert usual_request() == patient_view()


def test_a_case_that_expects_something_else_fails(play: Any) -> None:
    """The checks of this file can fail: one wrong wish for each of them."""
    (case,) = (each for each in cases() if each.id == "13-next-page-on-the-server: followed")
    seen = play(case)
    wrong = {
        "stored": 7,
        "inputs": {"glucose": 1},
        "headers": {"content-type": "text/html"},
        "asked": [],
        "asked_at_most": 0,
        "elsewhere": 1,
        "token": "another",
        "not_echoed": ["cards"],
        "mentions": ["what no card says"],
        "feedback": 1,
    }
    for name, wish in wrong.items():
        with pytest.raises(AssertionError):
            CHECKS[name](seen, wish)
    with pytest.raises(AssertionError):
        _check_cards(seen.last, "none", [])
