"""Valid requests, damaged: whatever arrives, the answer is well-formed JSON and never a 5xx.

    python -m tests.conformance.mutations --count 100000

Mutation number `n` of a seed is always the same request, so that a finding can be looked at alone:
`--seed 7 --only 4711` sends it again and shows it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx

from cds_service.app import create_app
from cds_service.log import configure_logging
from cds_service.settings import Settings
from tests.fhir import condition, medication, observation, searchset
from tests.service import FEEDBACK_URL, HOOK_URL, authorization, patient_view, prefetch
from tests.wire import check_answer

ROOT = Path(__file__).parents[2]
# The day of the resources in tests/fhir.py is within the model's look-back window.
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DECLARED = frozenset({200, 400, 412, 413, 415})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as bytes; `how` names what was done to it."""

    url: str
    body: bytes
    content_type: str
    how: str


def record() -> dict[str, Any]:
    """A record with one of everything that is read."""
    return prefetch(
        observations=searchset(
            observation("2345-7", 141, "mg/dL"),
            observation("39156-5", 34.2, "kg/m2"),
            observation("2085-9", 44, "mg/dL", effectiveDateTime="2026-03-02"),
        ),
        conditions=searchset(condition("http://snomed.info/sct", "38341003")),
        medications=searchset(medication({"text": "ramipril"})),
    )


def feedback() -> dict[str, Any]:
    card, suggestion = (
        "f6b95768-b1c8-40b9-8e58-11f7e8ac3b4b",
        "1c7e8b4e-6c46-4a79-8ef8-0b7a87a0f7a3",
    )
    accepted = {
        "card": card,
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": suggestion}],
        "outcomeTimestamp": "2026-11-20T11:59:00Z",
    }
    overridden = {
        "card": suggestion,
        "outcome": "overridden",
        "overrideReason": {"reason": {"code": "x", "system": "urn:x"}, "userComment": "later"},
        "outcomeTimestamp": "2026-11-20T12:59:00+01:00",
    }
    return {"feedback": [accepted, overridden]}


# Each valid request with its address; hooks come first and most often.
VALID: tuple[tuple[str, dict[str, Any]], ...] = (
    (HOOK_URL, patient_view(prefetch=record())),
    (HOOK_URL, patient_view(prefetch=record(), extension={"org.example": {"a": [1, "x"]}})),
    (HOOK_URL, authorization(patient="p1")),
    (FEEDBACK_URL, feedback()),
)

# What parsers, calendars, databases and people get wrong.
AWKWARD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**53, -(2**63), 2**64 - 1, 1e308, -1e-308, 0.1,
    "", " ", "0", "null", "\x00", "\u202e", "é" * 200, "x" * 5_000, "{{context.patientId}}",
    "../../etc/passwd", "' OR 1=1 --", "<script>alert(1)</script>", "](javascript:alert(1))",
    "${jndi:ldap://x}", "%s%n", "1970", "1970-13-40", "9999-12-31T23:59:60Z",
    "0000-00-00", "2026-02-30T25:61:61+99:99", "Patient/p1", "urn:uuid:x", "http://[::1",
    [], {}, [[]], [None], {"": ""}, {"resourceType": "Bundle"}, {"reference": "Patient/other"},
    {"coding": [{"system": None, "code": 1}]}, [{"resource": None}] * 3,
)  # fmt: skip

# Pieces of JSON that end, open or confuse a document.
TOKENS: tuple[bytes, ...] = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"NaN", b"-Infinity",
    b"1e999", b"//", b"/*", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\x00", b"\r\n", b"true", b"0x1",
    b'"patient":null,', b'"hook":"x",',
)  # fmt: skip

CONTENT_TYPES = (
    "application/json", "application/json; charset=utf-8", "application/fhir+json",
    "application/json; charset=utf-16", "text/plain", "application/json;;=", "", "a" * 3_000,
)  # fmt: skip

Holder = dict[str, Any] | list[Any]


def mutation(seed: int, number: int) -> Request:
    """Request `number` of `seed`: a valid one with one to four faults."""
    # Not for secrets: the same numbers again are what is wanted.
    chance = Random(f"{seed}:{number}")  # noqa: S311
    url, valid = VALID[chance.choice((0, 0, 0, 1, 2, 3))]
    document: Any = _copy(valid)
    how: list[str] = []
    body = b""
    if chance.random() < 0.75:
        for _ in range(chance.randint(1, 4)):
            change = chance.choice(IN_STRUCTURE)
            change(chance, document)
            how.append(change.__name__)
        body = _written(document)
    else:
        body = _written(document)
        for _ in range(chance.randint(1, 4)):
            alter = chance.choice(IN_BYTES)
            body = alter(chance, body)
            how.append(alter.__name__)
    content_type = "application/json"
    if chance.random() < 0.03:
        content_type = chance.choice(CONTENT_TYPES)
        how.append("content_type")
    return Request(url=url, body=body, content_type=content_type, how=" ".join(how))


# In structure: each changes the document in place -------------------------------------------------


def replace_value(chance: Random, document: Holder) -> None:
    holder, key = _place(chance, document)
    holder[key] = _copy(chance.choice(AWKWARD))


def remove_value(chance: Random, document: Holder) -> None:
    holder, key = _place(chance, document)
    del holder[key]
    if not document and isinstance(document, dict):
        document["hook"] = "patient-view"


def wrap_value(chance: Random, document: Holder) -> None:
    holder, key = _place(chance, document)
    holder[key] = chance.choice(([holder[key]], {"value": holder[key]}, [holder[key]] * 2))


def move_value(chance: Random, document: Holder) -> None:
    """A copy of one part stands in the place of another."""
    source, name = _place(chance, document)
    copy = _copy(source[name])
    holder, key = _place(chance, document)
    holder[key] = copy


def repeat_item(chance: Random, document: Holder) -> None:
    lists = [part for part in _parts(document) if isinstance(part, list) and part]
    if lists:
        items = chance.choice(lists)
        items += [chance.choice(items)] * chance.randint(1, 30)


def rename_member(chance: Random, document: Holder) -> None:
    objects = [part for part in _parts(document) if isinstance(part, dict) and part]
    holder = chance.choice(objects)
    name = chance.choice(list(holder))
    holder[chance.choice((name.upper(), name + " ", "_" + name, "", "é"))] = holder.pop(name)


def bend_text(chance: Random, document: Holder) -> None:
    places = [
        (part, key)
        for part in _parts(document)
        for key, value in _items(part)
        if isinstance(value, str)
    ]
    holder, key = chance.choice(places or [_place(chance, document)])
    text = str(holder[key])
    at = chance.randint(0, len(text))
    piece = chance.choice(("\u0000", " ", "/", "'", "\u00e9", "\U0001f600", "<b>", "|", "\n", "9"))
    holder[key] = chance.choice((text[:at], text[:at] + piece + text[at:], text[::-1], text * 3))


def bend_number(chance: Random, document: Holder) -> None:
    places = [
        (part, key)
        for part in _parts(document)
        for key, value in _items(part)
        if isinstance(value, int | float)
    ]
    holder, key = chance.choice(places or [_place(chance, document)])
    holder[key] = chance.choice((0, -1, 1e-9, 1e300, 2**63 - 1, 99.99, -0.0, "1", [1]))


def nest_deeply(chance: Random, document: Holder) -> None:
    holder, key = _place(chance, document)
    inside = holder[key]
    for _ in range(chance.choice((5, 60, 70, 120))):
        inside = [inside] if chance.random() < 0.5 else {"extension": inside}
    holder[key] = inside


IN_STRUCTURE: tuple[Callable[[Random, Holder], None], ...] = (
    replace_value, replace_value, remove_value, wrap_value, move_value, repeat_item,
    rename_member, bend_text, bend_number, nest_deeply,
)  # fmt: skip


# In bytes: each gives a new body ------------------------------------------------------------------


def flip_bit(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) or 1)
    return (
        body[:at]
        + bytes(byte ^ 1 << chance.randrange(8) for byte in body[at : at + 1])
        + body[at + 1 :]
    )


def cut(chance: Random, body: bytes) -> bytes:
    at = chance.randint(0, len(body))
    return body[:at] + body[at + chance.choice((1, 2, 10, 200)) :]


def truncate(chance: Random, body: bytes) -> bytes:
    return body[: chance.randint(0, len(body))]


def insert_token(chance: Random, body: bytes) -> bytes:
    at = chance.randint(0, len(body))
    return body[:at] + chance.choice(TOKENS) * chance.choice((1, 1, 1, 2, 300)) + body[at:]


def insert_noise(chance: Random, body: bytes) -> bytes:
    at = chance.randint(0, len(body))
    return body[:at] + chance.randbytes(chance.randint(1, 20)) + body[at:]


def repeat_slice(chance: Random, body: bytes) -> bytes:
    at = chance.randint(0, len(body))
    length = chance.randint(1, 400)
    return body[:at] + body[at : at + length] * chance.randint(2, 5) + body[at + length :]


IN_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (
    flip_bit, cut, truncate, insert_token, insert_noise, repeat_slice,
)  # fmt: skip


def _written(document: Any) -> bytes:
    # Not by orjson: that refuses to write what is nested deeper than 254 levels.
    return json.dumps(document, ensure_ascii=False).encode()


def _copy(document: Any) -> Any:
    return json.loads(_written(document))


def _parts(document: Any) -> list[Any]:
    """Every object and array in `document`, itself first."""
    found, waiting = [], [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict | list):
            found.append(part)
            waiting += part.values() if isinstance(part, dict) else part
    return found


def _items(part: Any) -> Iterable[tuple[Any, Any]]:
    return part.items() if isinstance(part, dict) else enumerate(part)


def _place(chance: Random, document: Holder) -> tuple[Any, Any]:
    """An object or array that is not empty, and one of its keys."""
    holder = chance.choice([part for part in _parts(document) if part])
    return holder, chance.choice([key for key, _ in _items(holder)])


# Sending ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A request whose answer broke a rule."""

    number: int
    request: Request
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run."""

    statuses: Counter[int]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def sent(self) -> int:
        return self.statuses.total()


async def send(
    folder: Path, seed: int, numbers: Sequence[int], *, seconds: float | None = None
) -> Outcome:
    """Each of `numbers` once, to a service with a store in `folder`; no more after `seconds`."""
    settings = Settings(
        profile="demo",
        database_url=f"sqlite:///{folder}/cds.db",
        hooks_file=ROOT / "hooks.json",
        model_dir=ROOT / "model_artifacts",
    )
    transport = httpx.ASGITransport(
        create_app(settings, clock=lambda: NOW), raise_app_exceptions=False
    )
    statuses: Counter[int] = Counter()
    findings = []
    started = time.perf_counter()
    async with httpx.AsyncClient(transport=transport, base_url=settings.public_url) as client:
        for number in numbers:
            if seconds is not None and time.perf_counter() - started > seconds:
                break
            request = mutation(seed, number)
            status, fault = await _answer_to(client, request)
            statuses[status] += 1
            if fault is not None:
                findings.append(Finding(number=number, request=request, fault=fault))
    return Outcome(
        statuses=statuses,
        findings=tuple(findings),
        seconds=time.perf_counter() - started,
    )


async def _answer_to(client: httpx.AsyncClient, request: Request) -> tuple[int, str | None]:
    headers = {"Content-Type": request.content_type}
    try:
        answer = await client.post(request.url, content=request.body, headers=headers)
        check(request, answer)
    except (AssertionError, ValueError) as fault:
        return 0, str(fault)
    return answer.status_code, None


def check(request: Request, answer: httpx.Response) -> None:
    """A declared status and a well-formed answer; raises AssertionError."""
    assert answer.status_code in DECLARED, f"status {answer.status_code}: {answer.text[:300]}"
    kind = answer.headers.get("content-type", "")
    check_answer("POST", request.url, answer.status_code, kind, answer.content)


def main() -> int:
    """The command: prints how many requests were answered how, and every finding."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--count", type=int, default=100_000)
    reader.add_argument("--seed", type=int, default=1)
    reader.add_argument("--first", type=int, default=0, help="the number of the first mutation")
    reader.add_argument("--only", type=int, help="send this one mutation, and show it")
    reader.add_argument("--seconds", type=float, help="stop after this time")
    given = reader.parse_args()
    configure_logging("CRITICAL")
    whole = range(given.first, given.first + given.count)
    numbers = whole if given.only is None else [given.only]
    if given.only is not None:
        sys.stdout.write(f"{mutation(given.seed, given.only)}\n")
    with tempfile.TemporaryDirectory() as folder:
        run = send(Path(folder), given.seed, numbers, seconds=given.seconds)
        outcome = asyncio.run(run)
    for finding in outcome.findings:
        sys.stdout.write(f"{finding.number}: {finding.fault} ({finding.request.how})\n")
    told = ", ".join(f"{status}: {count}" for status, count in sorted(outcome.statuses.items()))
    sys.stdout.write(
        f"{outcome.sent} mutated requests (seed {given.seed}) in {outcome.seconds:.0f} s; "
        f"answers {told}; {len(outcome.findings)} findings\n"
    )
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
