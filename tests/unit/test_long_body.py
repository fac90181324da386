"""A long body that is read a hundred entries at a time is judged as one that is read as one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from benchmarks.calls import bodies, utc_now
from cds_service import long_body
from cds_service.body import parse_object
from cds_service.errors import BadRequest
from cds_service.long_body import parse_call
from cds_service.prefetch import without_the_unread
from fhir_mapping import compile_mapping, load_catalog, map_features
from fhir_mapping.version_marks import version_of
from tests.fhir import observation, searchset
from tests.service import patient_view
from tests.shipped import shipped_json

DEEPEST = 64
NOW = utc_now()
LONG = next(bodies(1, observations=450, seed="long", now=NOW))
MAPPING = compile_mapping(load_catalog(), shipped_json("manifest.json"))


def as_it_is(resource: dict[str, Any]) -> dict[str, Any]:
    return resource


def test_the_same_document_comes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(LONG) > long_body.LONG_BYTES
    whole = parse_object(LONG, DEEPEST)
    monkeypatch.setattr(long_body, "parse_object", pytest.fail)
    assert parse_call(LONG, DEEPEST, as_it_is) == whole


def test_of_what_nobody_reads_only_the_type_is_kept_and_every_value_is_the_same() -> None:
    whole, reduced = parse_object(LONG, DEEPEST), parse_call(LONG, DEEPEST, reduction())
    vectors = [mapped(document) for document in (whole, reduced)]
    assert vectors[0] == vectors[1]
    assert versions(whole) == versions(reduced)
    held = [len(resource) for resource in resources(reduced)]
    assert len(held) == len(resources(whole))
    assert held.count(1) == pytest.approx(300, abs=1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (LONG[:-1], "not valid JSON"),
        (LONG.replace(b'"status":"final"', b'"status":"final","status":"final"', 1), "twice"),
        (LONG.replace(b'"fullUrl":', b'"resource":{},"fullUrl":', 1), "twice"),
        (LONG.replace(b'"entry":[', b'"entry":[],"entry":[', 1), "twice"),
        (LONG.replace(b'"prefetch":{', b'"prefetch":{},"prefetch":{', 1), "twice"),
        (LONG.replace(b'"value":', b'"value":NaN,"x":', 1), "not valid JSON"),
        (LONG.replace(b'"display":"', b'"display":"\\ud800', 1), "not valid JSON"),
        (LONG.replace(b'"display":"', b'"display":"\xff', 1), "not valid JSON"),
        (
            LONG.replace(b'"display":', b'"x":' + b"[" * 300 + b"]" * 300 + b',"display":', 1),
            "deep",
        ),
        (b"[" + LONG + b"]", "must be a JSON object"),
        (b'{"prefetch":' + b'{"a":' * 40_000, "not valid JSON"),
    ],
    ids=[
        "cut off",
        "a member of a resource",
        "a member of an entry",
        "a member of a Bundle",
        "a member of the request",
        "no number",
        "half a character",
        "no UTF-8",
        "nested",
        "a list",
        "without end",
    ],
)
def test_what_is_wrong_with_a_part_is_wrong_with_the_whole(wrong: bytes, said: str) -> None:
    assert wrong != LONG
    with pytest.raises(BadRequest, match=said) as refused:
        parse_call(wrong, DEEPEST, as_it_is)
    with pytest.raises(BadRequest) as refused_whole:
        parse_object(wrong, DEEPEST)
    assert refused.value.message == refused_whole.value.message


@pytest.mark.parametrize("depth", [12, 13, 20, 64, 254])
def test_the_depth_of_an_entry_counts_from_the_outside(depth: int) -> None:
    """The request, prefetch, Bundle, its entries, one of them and its resource are six levels."""

    def nested(levels: int) -> bytes:
        return LONG.replace(
            b'"status":', b'"x":' + b"[" * levels + b"]" * levels + b',"status":', 1
        )

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(long_body, "parse_object", pytest.fail)
        assert parse_call(nested(depth - 6 - 1), depth, as_it_is)
    assert parse_call(nested(depth - 6), depth, as_it_is)
    with pytest.raises(BadRequest, match=f"deeper than {depth}"):
        parse_call(nested(depth - 6 + 1), depth, as_it_is)


@pytest.mark.parametrize(
    "change",
    [
        {"prefetch": None},
        {"prefetch": {}},
        {"prefetch": {"observations": None}},
        {"prefetch": {"observations": {"resourceType": "Bundle", "entry": None}}},
        {"prefetch": {"observations": {"resourceType": "Bundle", "entry": [None, 1, "a", []]}}},
        {"prefetch": {"observations": searchset(observation("2345-7", 141, "mg/dL"))}},
        {"prefetch": {"observations": {"entry": [{"resource": 1}, {"resource": None}, {}]}}},
    ],
    ids=str,
)
def test_whatever_stands_in_it(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_body, "LONG_BYTES", 0)
    for option in (0, orjson.OPT_INDENT_2):
        body = orjson.dumps(patient_view(**change), option=option)
        assert parse_call(body, DEEPEST, as_it_is) == parse_object(body, DEEPEST)


def reduction() -> Any:
    return without_the_unread(MAPPING)


def resources(document: dict[str, Any]) -> list[dict[str, Any]]:
    bundles = [value for value in document["prefetch"].values() if "entry" in value]
    return [entry["resource"] for bundle in bundles for entry in bundle["entry"]]


def mapped(document: dict[str, Any]) -> Any:
    patient = document["prefetch"]["patient"]
    return map_features(
        MAPPING, [patient, *resources(document)], as_of=NOW, patient_id=patient["id"]
    )


def versions(document: dict[str, Any]) -> Any:
    return version_of(resources(document))
