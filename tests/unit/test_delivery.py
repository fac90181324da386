"""RiskAssessments on their way to a FHIR server that fails in every manner it can."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from cds_service.clients import Backend, Client, Clients
from cds_service.clients.addresses import Reach
from cds_service.clients.outbound import open_http
from cds_service.delivery import InlineResult, dispatch, inline, run, worker, write_back
from cds_service.delivery.bell import Bell
from cds_service.delivery.dispatch import Dispatch
from cds_service.delivery.retry import RetryPolicy
from cds_service.delivery.tokens import BackendTokens, TokenUnavailable
from cds_service.delivery.worker import Outcome, Worker
from cds_service.errors import StoreUnavailable
from cds_service.fhir_client import FhirClient
from cds_service.hooks import HookRequest
from cds_service.metrics import new_metrics
from cds_service.parts import Parts
from cds_service.settings import Settings
from cds_service.store import AssessmentRecord, MessageState, MessageStatus, OutboxMessage, Store
from fhir_mapping.versions import FhirVersion
from tests.fakes.ehr import FakeEhr, Fault
from tests.fakes.records import NOON, a_message, an_assessment, an_audit_entry, an_id
from tests.fakes.tokens import a_key

LOOPBACK = Reach(demo=True)
CREATES = "user/RiskAssessment.c user/Patient.rs"


@dataclass(slots=True)
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass(slots=True, kw_only=True)
class House:
    """The parts that delivery works with, on a real file and against a real socket."""

    ehr: FakeEhr
    clock: Clock
    store: Store
    client: Client
    policy: RetryPolicy

    @property
    def parts(self) -> Parts:
        return Parts(
            settings=Settings(profile="demo"),
            services={},
            models={},
            store=self.store,
            clients=Clients((self.client,), demo=True),
            fhir=FhirClient(reach=LOOPBACK),
            clock=self.clock,
            metrics=new_metrics(),
        )

    def keep(self, **changed: Any) -> AssessmentRecord:
        assessment = an_assessment()
        values = {"fhir_base": self.ehr.base, "client": self.client.name} | changed
        message = a_message(assessment, **values)
        self.store.record(assessment, [], an_audit_entry(), message)
        return assessment

    def work(self, *, rounds: int = 1, wait: timedelta = timedelta(0)) -> list[MessageStatus]:
        """Deliver what is due, `rounds` times with `wait` after each; what became of it."""

        async def all_rounds(worker: Worker) -> None:
            for _ in range(rounds):
                await deliver_due(worker)
                self.clock.now += wait

        self.with_worker(all_rounds)
        return self.store.messages(count=99)

    def with_worker(self, work: Callable[[Worker], Coroutine[Any, Any, Any]]) -> Any:
        async def whole() -> Any:
            parts = self.parts
            async with open_http(reach=LOOPBACK) as http:
                tokens = BackendTokens(http, self.clock)
                try:
                    return await work(Worker(parts=parts, tokens=tokens, policy=self.policy))
                finally:
                    await parts.fhir.close()

        return asyncio.run(whole())


async def deliver_due(worker: Worker) -> Counter[Outcome]:
    """What a worker that was just started does first; what came of it."""
    started = Dispatch(worker)
    await started.once(asyncio.Event())
    return started.outcomes


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with FakeEhr() as ehr:
        store = Store.open(f"sqlite:///{tmp_path}/cds.db")
        client = Client(name="Demo", fhir_servers=(ehr.base,), write_back="backend")
        yield House(ehr=ehr, clock=Clock(), store=store, client=client, policy=RetryPolicy())
        store.close()


def a_backend(ehr: FakeEhr, algorithm: Any = "ES384", **changed: Any) -> Backend:
    return Backend(
        token_url=f"{ehr.url}/token",
        client_id="cds",
        private_key=a_key(algorithm),
        algorithm=algorithm,
        **changed,
    )


# The outbox ----------------------------------------------------------------------------------


def test_a_message_is_delivered_once_and_the_servers_answer_is_kept(house: House) -> None:
    assessment = house.keep()
    (status,) = house.work(rounds=3)
    assert status.state is MessageState.DELIVERED
    assert status.location == f"{house.ehr.base}/RiskAssessment/1/_history/1"
    assert (status.version, status.attempts, status.settled_at) == ("1", 1, NOON)
    (received,) = house.ehr.resources
    assert received == assessment.resource | {"id": "1"}
    (asked,) = house.ehr.fhir_requests
    assert asked.headers["if-none-exist"] == (
        f"identifier=urn:cds-service:risk-assessment|{assessment.identifier}"
    )
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    "fault", [500, 502, 503, 429, 409, 412, 401, "close", "close-after-commit"]
)
def test_what_may_pass_is_tried_again_and_arrives_once(house: House, fault: Fault) -> None:
    house.keep()
    house.ehr.faults.append(fault)
    (status,) = house.work()
    assert status.state is MessageState.READY
    assert status.reason
    assert NOON + timedelta(seconds=1) <= status.available_at <= NOON + timedelta(seconds=2)
    house.clock.now += timedelta(seconds=2)
    (status,) = house.work()
    assert (status.state, status.attempts) == (MessageState.DELIVERED, 2)
    assert status.reason is None
    assert len(house.ehr.resources) == 1


def test_the_servers_retry_after_is_respected(house: House) -> None:
    house.keep()
    house.ehr.faults.append((503, {"Retry-After": "600"}))
    (status,) = house.work()
    assert status.available_at == NOON + timedelta(seconds=600)


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_may_be_a_date_by_the_servers_clock_or_without_one_by_ours(
    house: House, status: int
) -> None:
    house.keep()
    # The fake says `Date` too, by the machine's clock, which is not that of the test.
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    house.ehr.faults.append((status, {"Retry-After": later}))
    (message,) = house.work()
    wait = message.available_at - NOON
    assert timedelta(minutes=9, seconds=55) <= wait <= timedelta(minutes=10)


@pytest.mark.parametrize("fault", ["unnamed", "body-only"])
def test_where_the_resource_is_is_kept_though_the_answer_has_no_location(
    house: House, fault: Fault
) -> None:
    house.keep()
    house.ehr.faults.append(fault)
    (status,) = house.work()
    assert status.state is MessageState.DELIVERED
    history = "/_history/3" if fault == "body-only" else ""
    assert status.location == f"{house.ehr.base}/RiskAssessment/1{history}"
    assert len(house.ehr.resources) == 1


def test_a_server_that_names_nothing_and_lets_nobody_search_is_believed(house: House) -> None:
    house.keep()
    house.ehr.faults.extend(["unnamed", 403])
    (status,) = house.work()
    assert (status.state, status.location) == (MessageState.DELIVERED, None)


@pytest.mark.parametrize("faults", [["html", "html"], ["html", None], ["html", "close"]])
def test_a_page_to_sign_in_at_is_no_delivery(house: House, faults: list[Fault | None]) -> None:
    house.keep()
    house.ehr.faults.extend(faults)
    (status,) = house.work()
    assert status.state is MessageState.READY
    assert status.reason == "the answer names no resource"
    house.clock.now += timedelta(seconds=2)
    assert house.work()[0].state is MessageState.DELIVERED
    assert len(house.ehr.resources) == 1


def test_what_a_server_holds_twice_is_retried_and_a_person_is_told_where(house: House) -> None:
    assessment = house.keep()
    house.ehr.resources += [assessment.resource | {"id": id} for id in ("1", "2")]
    (status,) = house.work()
    assert status.state is MessageState.READY
    base = house.ehr.base
    assert status.reason == (
        "HTTP 412: it is there 2 times\n"
        f"error multiple-matches {base}/RiskAssessment/1, {base}/RiskAssessment/2"
    )
    # Somebody removes one of them.
    del house.ehr.resources[0]
    house.clock.now += timedelta(seconds=2)
    (status,) = house.work()
    assert (status.state, status.location) == (
        MessageState.DELIVERED,
        f"{base}/RiskAssessment/2/_history/1",
    )


def test_a_412_for_what_is_there_once_is_a_delivery(house: House) -> None:
    assessment = house.keep()
    house.ehr.resources.append(assessment.resource | {"id": "7"})
    house.ehr.faults.append(412)
    (status,) = house.work()
    assert (status.state, status.attempts) == (MessageState.DELIVERED, 1)
    assert status.location == f"{house.ehr.base}/RiskAssessment/7"


@pytest.mark.parametrize("fault", [400, 403, 404, 422, "redirect"])
def test_what_can_never_succeed_is_dead_at_once_with_the_servers_words(
    house: House, fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    house.keep()
    house.ehr.faults.append(fault)
    (status,) = house.work(rounds=2, wait=timedelta(days=1))
    assert status.state is MessageState.DEAD
    assert status.attempts == 1
    if isinstance(fault, int):
        assert status.reason == f"HTTP {fault}\nerror processing because {fault}"
    assert "because" not in capsys.readouterr().out


def test_a_message_is_given_up_after_the_last_attempt(house: House) -> None:
    house.policy = RetryPolicy(most_attempts=3)
    house.keep()
    house.ehr.faults.extend([500] * 9)
    (status,) = house.work(rounds=9, wait=timedelta(hours=1))
    assert (status.state, status.attempts) == (MessageState.DEAD, 3)
    assert status.reason is not None
    assert status.reason.startswith("given up after 3 attempts: HTTP 500")


def test_a_message_that_no_worker_survives_is_given_up_too(house: House) -> None:
    house.policy = RetryPolicy(most_attempts=3)
    house.keep()
    for _ in range(3):
        house.store.claim(now=house.clock(), lease=timedelta(minutes=1), count=1, claim_id=an_id())
        house.clock.now += timedelta(minutes=1)
    (status,) = house.work()
    assert (status.state, status.reason) == (MessageState.DEAD, "given up after 3 attempts")
    assert house.ehr.asked == []


def test_a_server_that_stalls_costs_one_try_and_no_message(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        house.keep()
    house.ehr.faults.append("stall")
    with monkeypatch.context() as patched:
        patched.setattr(dispatch, "TRY_SECONDS", 0.5)
        statuses = house.work()
    stalled = [status for status in statuses if status.state is MessageState.READY]
    assert stalled
    assert stalled[0].reason in ("no answer in time", "the deadline has passed")
    house.clock.now += timedelta(seconds=2)
    house.work()
    assert house.store.outbox_figures(now=NOON).depth == {
        "ready": 0,
        "claimed": 0,
        "delivered": 4,
        "dead": 0,
    }
    assert len(house.ehr.resources) == 4


@pytest.mark.parametrize(
    "changed", [{"client": "Gone"}, {"client": None}, {"fhir_base": "http://127.0.0.1:1/fhir"}]
)
def test_a_server_that_the_clients_file_no_longer_allows_gets_nothing(
    house: House, changed: dict[str, Any]
) -> None:
    house.keep(**changed)
    (status,) = house.work()
    assert status.state is MessageState.DEAD
    assert status.reason == "the clients file no longer allows this FHIR server"
    assert house.ehr.asked == []


@pytest.mark.parametrize("now", ["off", "inline", "system-action"])
def test_what_waits_is_not_sent_when_writing_back_was_switched_off(house: House, now: Any) -> None:
    house.keep()
    house.client = replace(house.client, write_back=now, backend=None)
    (status,) = house.work()
    assert status.state is MessageState.DEAD
    assert status.reason == "the clients file no longer has this service write back"
    assert house.ehr.asked == []


def test_a_worker_that_dies_after_the_create_leads_to_no_second_resource(house: House) -> None:
    house.keep()
    # It claimed, created, and was killed before it could settle.
    (held,) = house.store.claim(
        now=house.clock(), lease=timedelta(minutes=1), count=1, claim_id="killed"
    )
    house.ehr.faults.append("close-after-commit")

    async def deliver(worker: Worker) -> None:
        until = asyncio.get_running_loop().time() + 20
        await worker.deliver(replace(held, claim_id="elsewhere"), until)

    house.with_worker(deliver)
    assert len(house.ehr.resources) == 1
    assert house.work()[0].state is MessageState.CLAIMED
    house.clock.now += timedelta(minutes=1)
    assert house.work()[0].state is MessageState.DELIVERED
    assert len(house.ehr.resources) == 1


def test_a_store_that_fails_at_the_end_of_a_try_loses_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.keep()

    def fail(*_: Any, **__: Any) -> bool:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(Store, "settle", fail)
        patched.setattr(worker, "RECORDING_PAUSES", (0.01, 0.01))
        assert house.work()[0].state is MessageState.CLAIMED
    house.clock.now += timedelta(minutes=1)
    assert house.work()[0].state is MessageState.DELIVERED
    assert len(house.ehr.resources) == 1


def test_workers_side_by_side_send_each_message_once(house: House) -> None:
    for _ in range(30):
        house.keep()

    async def both(worker: Worker) -> None:
        other = replace(worker, parts=replace(worker.parts, bell=Bell()))
        await asyncio.gather(deliver_due(worker), deliver_due(other))

    house.with_worker(both)
    assert len(house.ehr.fhir_requests) == len(house.ehr.resources) == 30


def test_a_message_without_an_identifier_is_never_sent(house: House) -> None:
    # Without one a repeat would create it twice.
    house.keep(resource={"resourceType": "RiskAssessment"})
    (status,) = house.work()
    assert (status.state, status.attempts) == (MessageState.READY, 1)
    assert status.reason == "a fault of this program: ValueError"
    assert house.ehr.asked == []


def test_the_loop_delivers_until_it_is_stopped_and_outlives_a_fault(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.02)
    claim, faults = Store.claim, [StoreUnavailable(), StoreUnavailable()]

    def claim_after_faults(store: Store, **arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return claim(store, **arguments)

    monkeypatch.setattr(Store, "claim", claim_after_faults)
    house.keep()

    async def whole() -> None:
        stop, parts = asyncio.Event(), house.parts
        running = asyncio.create_task(run(parts, stop))
        async with asyncio.timeout(30):
            while not house.ehr.resources:
                await asyncio.sleep(0.01)
            stop.set()
            await running
        await parts.fhir.close()

    asyncio.run(whole())
    assert house.store.messages(count=1)[0].state is MessageState.DELIVERED


# Tokens of its own ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_backend_client_gets_a_token_by_a_signed_assertion(house: House, algorithm: str) -> None:
    house.client = replace(house.client, backend=a_backend(house.ehr, algorithm, key_id="kid-7"))
    house.ehr.tokens = set()
    house.keep()
    (status,) = house.work()
    assert status.state is MessageState.DELIVERED
    form = next(asked.form for asked in house.ehr.asked if asked.path == "/token")
    assert form["grant_type"] == "client_credentials"
    assert form["scope"] == "system/RiskAssessment.cs"
    assert form["client_assertion_type"].endswith(":jwt-bearer")
    key = a_key(algorithm)
    public = (RSAKey if algorithm == "RS384" else ECKey).import_key(key.as_dict(private=False))
    said = jwt.decode(form["client_assertion"], public, algorithms=[algorithm])
    assert said.header == {"alg": algorithm, "kid": "kid-7", "typ": "JWT"}
    assert said.claims["iss"] == said.claims["sub"] == "cds"
    assert said.claims["aud"] == f"{house.ehr.url}/token"
    assert said.claims["exp"] - NOON.timestamp() == 300


def test_a_token_is_kept_for_many_messages_and_renewed_before_its_end(house: House) -> None:
    backend = replace(house.client, backend=a_backend(house.ehr))
    seconds = 0.0

    async def work() -> list[str | None]:
        nonlocal seconds
        async with open_http(reach=LOOPBACK) as http:
            tokens = BackendTokens(http, house.clock, monotonic=lambda: seconds)
            first = await asyncio.gather(*(tokens.token(backend) for _ in range(9)))
            seconds = 269.0
            late = await tokens.token(backend)
            seconds = 271.0
            renewed = await tokens.token(backend)
            tokens.forget(backend, "token-1")
            return [*set(first), late, renewed, await tokens.token(backend)]

    assert asyncio.run(work()) == ["token-1", "token-1", "token-2", "token-2"]


def test_a_token_that_the_server_withdrew_is_replaced_at_once(house: House) -> None:
    house.client = replace(house.client, backend=a_backend(house.ehr))
    house.ehr.tokens = set()
    house.keep()

    async def both(worker: Worker) -> None:
        await worker.tokens.token(house.client)
        assert house.ehr.tokens is not None
        house.ehr.tokens.clear()
        await deliver_due(worker)

    house.with_worker(both)
    (status,) = house.store.messages(count=9)
    assert (status.state, status.attempts) == (MessageState.DELIVERED, 1)
    assert sum(asked.path == "/token" for asked in house.ehr.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 500, 302])
def test_without_a_token_the_message_waits_and_nothing_is_sent(house: House, status: int) -> None:
    house.client = replace(house.client, backend=a_backend(house.ehr))
    house.ehr.token_status = status
    house.keep()
    (message,) = house.work()
    assert message.state is MessageState.READY
    assert message.reason == f"token endpoint: HTTP {status}"
    assert house.ehr.fhir_requests == []


def test_a_token_endpoint_that_is_down_is_asked_once_for_all_who_wait(house: House) -> None:
    house.client = replace(house.client, backend=a_backend(house.ehr))
    house.ehr.token_status = 503
    house.ehr.token_headers = {"Retry-After": "30"}
    for _ in range(100):
        house.keep()
    outcomes = house.with_worker(deliver_due)
    asked = sum(asked.path == "/token" for asked in house.ehr.asked)
    assert asked == 1
    assert 1 <= outcomes[Outcome.RESCHEDULED] <= 8
    tried = [message for message in house.store.messages(count=999) if message.attempts]
    assert {message.reason for message in tried} == {"token endpoint: HTTP 503"}
    assert {message.available_at for message in tried} == {NOON + timedelta(seconds=30)}
    # When it is back, everything goes out: nothing was used up meanwhile.
    house.ehr.token_status = 200
    house.clock.now += timedelta(minutes=1)
    assert house.with_worker(deliver_due) == {Outcome.CREATED: 100}


def test_why_a_token_was_refused_is_told_in_the_codes_of_oauth_only(house: House) -> None:
    house.client = replace(house.client, backend=a_backend(house.ehr))
    house.ehr.token_status, house.ehr.token_error = 400, "invalid_client"
    house.keep()
    (message,) = house.work()
    assert message.reason == "token endpoint: HTTP 400 invalid_client"


def test_a_token_that_is_refused_twice_is_asked_for_no_third_time(house: House) -> None:
    house.client = replace(house.client, backend=a_backend(house.ehr))
    house.keep()
    house.ehr.faults.extend([401, 401])
    (message,) = house.work()
    assert (message.state, message.attempts) == (MessageState.READY, 1)
    assert (message.reason or "").startswith("HTTP 401")
    assert [asked.path for asked in house.ehr.asked].count("/token") == 2
    assert len(house.ehr.fhir_requests) == 2


def test_one_who_stops_waiting_for_a_token_does_not_stop_the_others(house: House) -> None:
    backend = replace(house.client, backend=a_backend(house.ehr))

    async def work() -> list[Any]:
        async with open_http(reach=LOOPBACK) as http:
            tokens = BackendTokens(http, house.clock)
            waiting = [asyncio.create_task(tokens.token(backend)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            return await asyncio.gather(*waiting, return_exceptions=True)

    left, *others = asyncio.run(work())
    assert isinstance(left, asyncio.CancelledError)
    assert others == ["token-1", "token-1"]


@pytest.mark.parametrize("lifetime", [0, -5, "x", None])
def test_a_token_without_a_lifetime_serves_once(house: House, lifetime: Any) -> None:
    backend = replace(house.client, backend=a_backend(house.ehr))
    house.ehr.token_lifetime = lifetime

    async def work() -> list[str | None]:
        async with open_http(reach=LOOPBACK) as http:
            tokens = BackendTokens(http, house.clock)
            return [await tokens.token(backend), await tokens.token(backend)]

    if isinstance(lifetime, int):
        assert asyncio.run(work()) == ["token-1", "token-2"]
    else:
        with pytest.raises(TokenUnavailable):
            asyncio.run(work())


# Within the call -----------------------------------------------------------------------------


def write_inline(
    house: House, record: AssessmentRecord, token: str | None, scope: str, seconds: float = 20
) -> InlineResult:
    async def whole() -> InlineResult:
        parts = house.parts
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            base, r4 = house.ehr.base, FhirVersion.R4
            return await inline(parts, record, base, token, scope, deadline, r4)
        finally:
            await parts.fhir.close()

    return asyncio.run(whole())


def test_inline_creates_with_the_calls_own_token(house: House) -> None:
    record = an_assessment()
    result = write_inline(house, record, "call-token", CREATES)
    assert result.created is not None
    assert not result.created.existing
    (asked,) = house.ehr.asked
    assert asked.headers["authorization"] == "Bearer call-token"
    assert house.ehr.resources[0]["identifier"] == record.resource["identifier"]


@pytest.mark.parametrize(
    ("token", "scope", "fault", "reason"),
    [
        (None, CREATES, None, "the call brought no token"),
        ("t", "user/RiskAssessment.rs", None, "the token's scope does not allow"),
        ("t", CREATES, 403, "HTTP 403"),
        ("t", CREATES, 500, "HTTP 500"),
        ("t", CREATES, "close", "no answer"),
        ("t", CREATES, "stall", "the deadline has passed"),
        ("t\n", CREATES, None, "the access token is not usable"),
    ],
)
def test_inline_that_fails_says_why_and_raises_nothing(
    house: House, token: str | None, scope: str, fault: Fault | None, reason: str
) -> None:
    house.ehr.faults.append(fault)
    seconds = 0.3 if fault == "stall" else 20
    result = write_inline(house, an_assessment(), token, scope, seconds)
    assert result.created is None
    assert result.reason is not None
    assert result.reason.startswith(reason)


# A call --------------------------------------------------------------------------------------


def a_call(house: House, token: str = "call-token") -> Any:  # noqa: S107
    request = HookRequest.model_validate(
        {
            "hook": "patient-view",
            "hookInstance": an_id(),
            "fhirServer": house.ehr.base + "/",
            "fhirAuthorization": {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": CREATES,
                "subject": "cds",
            },
            "context": {"userId": "Practitioner/1", "patientId": "p1"},
        }
    )
    caller = SimpleNamespace(client=house.client)
    return SimpleNamespace(request=request, caller=caller, received_at=NOON)


def write_back_of(
    house: House, record: AssessmentRecord, version: FhirVersion = FhirVersion.R4
) -> tuple[OutboxMessage | None, Any]:
    async def whole() -> tuple[OutboxMessage | None, Any]:
        parts, call = house.parts, a_call(house)
        message = write_back.message(parts, call, record, version)
        house.store.record(record, [], an_audit_entry(), message)
        try:
            return message, await write_back.inline(parts, call, record, version)
        finally:
            await parts.fhir.close()

    return asyncio.run(whole())


@pytest.mark.proves(44, 58)
@pytest.mark.parametrize(
    ("way", "messages", "requests"),
    [("backend", 1, 0), ("inline", 0, 1), ("system-action", 0, 0), ("off", 0, 0)],
)
def test_a_call_is_written_back_in_one_way_only(
    house: House, way: Any, messages: int, requests: int
) -> None:
    house.client = replace(house.client, write_back=way)
    write_back_of(house, an_assessment())
    assert len(house.store.messages(count=9)) == messages
    assert len(house.ehr.asked) == requests


def test_the_message_of_a_call_is_the_stored_resource_for_its_own_server(house: House) -> None:
    record = an_assessment()
    message, _ = write_back_of(house, record)
    assert message is not None
    assert (message.fhir_base, message.client) == (house.ehr.base, "Demo")
    assert message.resource == record.resource


IN_ENCOUNTER = {"resourceType": "RiskAssessment", "encounter": {"reference": "Encounter/e1"}}


def in_encounter() -> AssessmentRecord:
    identifier = {"system": "urn:cds-service:risk-assessment", "value": "a1"}
    return an_assessment(identifier="a1", resource=IN_ENCOUNTER | {"identifier": [identifier]})


@pytest.mark.parametrize("way", ["backend", "inline"])
def test_a_server_gets_the_version_of_the_call(house: House, way: Any) -> None:
    house.client = replace(house.client, write_back=way)
    write_back_of(house, in_encounter(), FhirVersion.STU3)
    house.work()
    (received,) = house.ehr.resources
    assert received["context"] == {"reference": "Encounter/e1"}
    assert received["identifier"]["value"] == "a1"
    (asked,) = house.ehr.fhir_requests
    assert asked.headers["if-none-exist"] == "identifier=urn:cds-service:risk-assessment|a1"


def test_a_version_that_was_wrong_is_mended_in_the_clients_file(house: House) -> None:
    write_back_of(house, in_encounter(), FhirVersion.STU3)
    house.client = replace(house.client, fhir_version=FhirVersion.R5)
    house.work()
    (received,) = house.ehr.resources
    assert "context" not in received
    assert received["encounter"] == {"reference": "Encounter/e1"}


@pytest.mark.proves(39)
def test_no_token_of_a_call_is_ever_stored(
    house: House, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for way in ("backend", "inline", "system-action", "off"):
        backend = a_backend(house.ehr) if way == "backend" else None
        house.client = replace(house.client, write_back=way, backend=backend)  # type: ignore[arg-type]
        for fault in (None, 401, 403, 500, "close"):
            house.ehr.faults.append(fault)  # type: ignore[arg-type]
            write_back_of(house, an_assessment())
            house.work()
        house.ehr.faults.clear()
    assert any(asked.headers.get("authorization") for asked in house.ehr.fhir_requests)
    # While it is open, with its write-ahead log, and closed.
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    house.store.close()
    stored += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    logged = "".join(capfd.readouterr())
    assert b"RiskAssessment" in stored
    assert "delivered" in logged
    for secret in ("call-token", "token-1", "Bearer", "eyJ"):
        assert secret.encode() not in stored
        assert secret not in logged


def test_what_came_of_an_inline_write_back_is_kept(house: House) -> None:
    house.client = replace(house.client, write_back="inline")
    record = an_assessment()
    house.ehr.faults.append(403)
    write_back_of(house, record)
    kept = house.store.inline_result(record.id)
    assert kept is not None
    assert (kept.fhir_base, kept.attempted_at) == (house.ehr.base, NOON)
    assert kept.reason == "HTTP 403\nerror processing because 403"
    # The chart is opened again, with the same inputs.
    write_back_of(house, record)
    kept = house.store.inline_result(record.id)
    assert kept is not None
    assert kept.location == f"{house.ehr.base}/RiskAssessment/1/_history/1"
    assert (kept.reason, kept.version) == (None, "1")
    # And again: it is there, and nobody is asked.
    _, result = write_back_of(house, record)
    assert result is None
    assert len(house.ehr.fhir_requests) == 2


def test_a_result_that_cannot_be_kept_costs_the_clinician_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.client = replace(house.client, write_back="inline")
    monkeypatch.setattr(write_back, "KEEPING_SECONDS", 0.2)

    def slow(*_: Any) -> None:
        time.sleep(2)
        raise StoreUnavailable

    def away(*_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(Store, "inline_result", away)
    for keeping in (away, slow):
        monkeypatch.setattr(Store, "keep_inline_result", keeping)
        started = time.monotonic()
        _, result = write_back_of(house, an_assessment())
        assert result.created is not None
    assert time.monotonic() - started < 5


def test_a_call_that_has_used_up_its_time_is_not_written_back_inline(house: House) -> None:
    house.client = replace(house.client, write_back="inline")
    house.clock.now += timedelta(minutes=1)
    _, result = write_back_of(house, an_assessment())
    assert result.reason == "the deadline has passed"
    assert house.ehr.asked == []
