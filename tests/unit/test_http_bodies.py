"""A body that is not plain, bounded, strict JSON is refused, and nothing is stored of it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cds_service.body import (
    BYTES_PER_CONTAINER,
    check_containers,
    members,
    members_written,
    parse_object,
)
from cds_service.errors import BadRequest
from tests.fhir import observation, searchset
from tests.service import FEEDBACK_URL, HOOK_URL, Service, patient_view

MALFORMED = sorted((Path(__file__).parents[1] / "payloads" / "malformed").glob("*.json"))
URLS = (HOOK_URL, FEEDBACK_URL, "/predict")


@pytest.mark.proves(5)
@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("path", MALFORMED, ids=lambda path: path.stem)
def test_malformed_json_is_400(app_client: Service, path: Path, url: str) -> None:
    answer = app_client.request(
        "POST", url, content=path.read_bytes(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert app_client.stored() == 0
    assert [entry.status for entry in app_client.audited()] == [400]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_hundred_thousand_levels_are_400(app_client: Service, opening: bytes) -> None:
    assert app_client.call_bytes(opening * 100_000).status_code == 400
    assert app_client.call_bytes(b'{"prefetch":' + opening * 100_000).status_code == 400


def test_the_depth_bound_is_the_one_that_was_set() -> None:
    nested = b'{"a":' * 8 + b"1" + b"}" * 8
    assert parse_object(nested, 8)
    with pytest.raises(BadRequest, match="deeper than 7"):
        parse_object(nested, 7)


@pytest.mark.parametrize("container", [b"[]", b"{}", b'{"a":[]}', b"[[]]"])
def test_a_body_of_nothing_but_containers_is_400(app_client: Service, container: bytes) -> None:
    body = b'{"prefetch":[' + b",".join([container] * 100_000) + b"]}"
    for url in URLS:
        answer = app_client.request(
            "POST", url, content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400
        assert [issue["code"] for issue in answer.json()["issue"]] == ["too-long"]
        assert "more than 100000 objects and arrays" in answer.text
    assert [entry.status for entry in app_client.audited()] == [400] * len(URLS)


def test_containers_are_counted_before_anything_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cds_service.body.orjson.loads", pytest.fail)
    with pytest.raises(BadRequest, match="objects and arrays"):
        parse_object(b'{"a":[' + b",".join([b"[]"] * 100_000) + b"]}", 64)


def test_brackets_within_strings_are_no_containers() -> None:
    text = '[{"\\' * 100_000
    assert parse_object(orjson.dumps({"a": text, "b": [text]}), 64) == {"a": text, "b": [text]}


def test_a_record_of_the_barest_results_has_a_quarter_of_the_containers_it_may_have() -> None:
    result = observation("2345-7", 141, "mg/dL")
    body = orjson.dumps(patient_view(prefetch={"observations": searchset(*[result] * 50_000)}))
    assert body.count(b"{") + body.count(b"[") < len(body) / BYTES_PER_CONTAINER / 4
    check_containers(body)


def test_strings_full_of_quotes_and_colons_are_no_repeated_members() -> None:
    tricky = {'"': "\\", "\\": '":"', "a:b": ['\\"', {"c": "\\\\"}], "": "{:}"}
    body = orjson.dumps(tricky)
    assert members(tricky, 64) == members_written(body) == 5
    assert parse_object(body, 64) == tricky


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/html",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/jsonp",
        "json",
        "",
    ],
)
def test_what_is_not_utf_8_json_is_415(app_client: Service, content_type: str) -> None:
    body = orjson.dumps(patient_view())
    assert app_client.call_bytes(body, content_type).status_code == 415
    assert app_client.stored() == 0


def test_no_content_type_at_all_is_415(app_client: Service) -> None:
    answer = app_client.request("POST", HOOK_URL, content=orjson.dumps(patient_view()))
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/fhir+json",
        "application/json+fhir+json; fhirVersion=4.0",
    ],
)
def test_every_name_of_utf_8_json_is_read(app_client: Service, content_type: str) -> None:
    body = orjson.dumps(patient_view())
    assert app_client.call_bytes(body, content_type).status_code == 200


def test_a_compressed_body_is_415_before_it_is_unpacked(app_client: Service) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    answer = app_client.request(
        "POST",
        HOOK_URL,
        content=bomb,
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert answer.status_code == 415


class Endless:
    """A body of unknown length that never ends, and counts what was read of it."""

    def __init__(self) -> None:
        self.bytes_read = 0

    async def chunks(self) -> Iterator[bytes]:  # type: ignore[misc]
        while True:
            self.bytes_read += 10_000
            yield b" " * 10_000


def test_a_body_without_a_length_is_413_as_soon_as_it_is_too_long(app_client: Service) -> None:
    small = _bounded(app_client, 50_000)
    endless = Endless()
    answer = small.request(
        "POST", HOOK_URL, content=endless.chunks(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert endless.bytes_read <= 70_000


def test_an_announced_length_is_413_before_anything_is_read(app_client: Service) -> None:
    small = _bounded(app_client, 50_000)
    endless = Endless()
    answer = small.request(
        "POST",
        HOOK_URL,
        content=endless.chunks(),
        headers={"Content-Type": "application/json", "Content-Length": "9" * 30},
    )
    assert answer.status_code == 413
    assert endless.bytes_read == 0


def test_five_megabytes_are_read(app_client: Service) -> None:
    body = patient_view()
    body["extension"] = {"org.example.padding": "x" * 5_000_000}
    assert app_client.call(body).status_code == 200


def _bounded(service: Service, max_bytes: int) -> Service:
    settings = replace(service.parts.settings, max_body_bytes=max_bytes)
    return Service.of(replace(service.parts, settings=settings))
