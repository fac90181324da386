"""Two spellings of one place are equal; a spelling with two readings is no base."""

from __future__ import annotations

import weakref
from typing import NoReturn

import pytest

from cds_service.clients.urls import LONGEST_URL, parse_base

SAME = [
    ("https://ehr.example.org/fhir", "https://ehr.example.org/fhir"),
    ("https://ehr.example.org/fhir/", "https://ehr.example.org/fhir"),
    ("HTTPS://EHR.Example.ORG/fhir", "https://ehr.example.org/fhir"),
    ("https://ehr.example.org:443/fhir", "https://ehr.example.org/fhir"),
    ("https://ehr.example.org:/fhir", "https://ehr.example.org/fhir"),
    ("https://ehr.example.org./fhir", "https://ehr.example.org/fhir"),
    ("https://ehr.example.org/%66hir", "https://ehr.example.org/fhir"),
    ("https://ehr.example.org/a%2fb", "https://ehr.example.org/a%2Fb"),
    ("https://ehr.example.org", "https://ehr.example.org"),
    ("https://ehr.example.org/", "https://ehr.example.org"),
    ("https://ehr.example.org:8443/FHIR", "https://ehr.example.org:8443/FHIR"),
    ("http://127.0.0.1:80/fhir", "http://127.0.0.1/fhir"),
    ("http://[0:0:0:0:0:0:0:1]:8080/fhir", "http://[::1]:8080/fhir"),
    ("https://[2001:DB8::0:1]/fhir", "https://[2001:db8::1]/fhir"),
]

NO_BASE = [
    "",
    "fhir",
    "//ehr.example.org/fhir",
    "ftp://ehr.example.org/fhir",
    "file:///etc/passwd",
    "https:///fhir",
    "https:ehr.example.org/fhir",
    "https://user@ehr.example.org/fhir",
    "https://ehr.example.org@evil.example/fhir",
    "https://ehr.example.org:pw@evil.example/fhir",
    "https://ehr.example.org/fhir?x=1",
    "https://ehr.example.org/fhir?",
    "https://ehr.example.org/fhir#x",
    "https://evil.example#@ehr.example.org/fhir",
    "https://evil.example\\@ehr.example.org/fhir",
    "https://ehr.example.org\\.evil.example/fhir",
    "https://ehr.example.org/fhir/../admin",
    "https://ehr.example.org/fhir/%2e%2e/admin",
    "https://ehr.example.org/fhir/.%2E/admin",
    "https://ehr.example.org/./fhir",
    "https://ehr.example.org//fhir",
    "https://ehr.example.org/fhir//",
    "https://ehr.example.org/fh%0dir",
    "https://ehr.example.org/fh%ir",
    "https://ehr.example.org/fhir%2",
    "https://ehr.example.org/fh ir",
    "https://ehr.example.org/fh\tir",
    "https://ehr.exam\nple.org/fhir",
    " https://ehr.example.org/fhir",
    "https://ehr.example.org/fhïr",
    "https://еhr.example.org/fhir",
    "https://ⓔhr.example.org/fhir",
    "https://127%2e0.0.1/fhir",
    "https://ehr..example.org/fhir",
    "https://.example.org/fhir",
    "https://-ehr.example.org/fhir",
    "https://" + "a" * 64 + ".org/fhir",
    "https://ehr.example.org:0/fhir",
    "https://ehr.example.org:65536/fhir",
    "https://ehr.example.org:+443/fhir",
    "https://ehr.example.org:443:443/fhir",
    "http://127.1/fhir",
    "http://2130706433/fhir",
    "http://0177.0.0.1/fhir",
    "http://0x7f000001/fhir",
    "http://0x7f.0.0.1/fhir",
    "http://127.0.0.1.2/fhir",
    "http://127.0.0.0x1/fhir",
    "http://[::1/fhir",
    "http://::1/fhir",
    "http://[::1]x/fhir",
    "http://[fe80::1%25eth0]/fhir",
    "http://[fe80::1%eth0]/fhir",
    "http://[127.0.0.1]/fhir",
    "http://[v1.x]/fhir",
    "https://ehr.example.org/fhir/..;/admin",
    "https://ehr.example.org/fhir/..;a=1/admin",
    "https://ehr.example.org/fhir/..%2Fadmin",
    "https://ehr.example.org/fhir/%2e%2e%2fadmin",
    "https://ehr.example.org/fhir/x%2f..%2f..%2fadmin",
    "https://ehr.example.org/fhir/..%5Cadmin",
    "https://ehr.example.org/fhir/%252e%252e/admin",
    "https://ehr.example.org/fhir/%2525252e/admin",
]


@pytest.mark.parametrize(("spelling", "normal"), SAME)
def test_spellings_of_one_place_are_equal(spelling: str, normal: str) -> None:
    base = parse_base(spelling)
    assert base is not None
    assert base.text == normal


@pytest.mark.parametrize("spelling", NO_BASE)
def test_a_spelling_with_two_readings_is_no_base(spelling: str) -> None:
    assert parse_base(spelling) is None


@pytest.mark.parametrize("path", ["a;b=1", "a%2Fb", "...", "..a", "100%25", "%E4%BD%A0"])
def test_what_no_server_takes_for_a_step_up_is_left_as_it_is(path: str) -> None:
    base = parse_base(f"https://ehr.example.org/fhir/{path}")
    assert base is not None
    assert base.text.endswith(f"/fhir/{path}")


class Looked(Exception):
    """At the characters of a URL."""


class Watched(str):
    """A URL that tells when its characters are looked at."""

    __slots__ = ()

    def __iter__(self) -> NoReturn:
        raise Looked


def test_a_url_of_megabytes_is_not_even_looked_at() -> None:
    """It came in a body of 20 MB, and its parsing held up everyone else for 20 seconds."""
    longest = "https://ehr.example.org/" + "a" * (LONGEST_URL - 24)
    assert parse_base(longest) is not None
    with pytest.raises(Looked):
        parse_base(Watched(longest))
    assert parse_base(Watched(longest + "a")) is None


class Sent(str):
    """A URL of which one can ask whether anybody still holds it."""


def test_a_url_of_megabytes_is_not_kept() -> None:
    """Sixty-four of them would be a gigabyte."""
    url = Sent("https://ehr.example.org/" + "a" * LONGEST_URL)
    held = weakref.ref(url)
    assert parse_base(url) is None
    del url
    assert held() is None


@pytest.mark.parametrize("spelling", [normal for _, normal in SAME])
def test_a_normal_form_is_its_own_normal_form(spelling: str) -> None:
    base = parse_base(spelling)
    assert base is not None
    assert base.text == spelling


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]", False),
        ("[::]", False),
        ("0.0.0.0", False),  # noqa: S104
        ("128.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
    ],
)
def test_loopback_is_this_machine_and_no_lookalike(host: str, loopback: bool) -> None:
    base = parse_base(f"http://{host}:8080/fhir")
    assert base is not None
    assert base.loopback is loopback
