"""Every shortcut of the mapping says what the rule beside it says."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mapping import load_catalog
from fhir_mapping.codes import plain_words, word_pattern
from fhir_mapping.resources import Reading
from fhir_mapping.selection import Candidate, Report, Selections
from fhir_mapping.times import at_instant, in_utc, read_datetime, read_effective, read_instant
from fhir_mapping.units import UCUM, Unit, fold, recognise
from tests.property.test_mapping_properties import json, records, vector

CATALOG = load_catalog()
READERS = [concept.reader for concept in CATALOG.concepts.values() if concept.reader]
TABLE = READERS[0].table
WORDS = [
    pattern
    for rule in CATALOG.findings.values()
    for pattern in (rule.words, rule.medicine_words)
    if pattern
]

# ------------------------------------------------------------------------------------------- units

spellings = sorted({text for way in TABLE.usual for text in way if text})
parts = st.one_of(
    st.sampled_from([*spellings, None, "", UCUM, UCUM + "/"]),
    st.sampled_from(spellings).map(lambda text: f" {text.upper()} "),
    json,
)


def test_the_usual_ways_to_write_a_unit_are_recognised_as_the_rule_does() -> None:
    for (system, code, text), unit in TABLE.usual.items():
        for quantity in (
            {"system": system, "code": code, "unit": text},
            {k: v for k, v in (("system", system), ("code", code), ("unit", text)) if v},
        ):
            assert recognise(quantity, TABLE) is unit


def test_each_unit_s_own_code_is_among_the_usual_ways() -> None:
    for code, unit in TABLE.by_code.items():
        assert TABLE.usual[UCUM, code, None] is unit
        assert TABLE.usual[UCUM, code, code] is unit


@given(st.sampled_from(READERS), parts, parts, parts)
@settings(max_examples=300)
def test_any_other_way_is_read_by_the_rule(reader: Any, system: Any, code: Any, text: Any) -> None:
    quantity = {"system": system, "code": code, "unit": text}
    expected = recognise(quantity, TABLE)
    found = reader.read(quantity)
    if isinstance(expected, Unit) and expected.code in reader.conversions:
        assert found is expected
    else:
        assert not isinstance(found, Unit)


# ------------------------------------------------------------------------------------------- times

WEST = timezone(timedelta(hours=-9, minutes=-30))
zones = st.sampled_from([UTC, ZoneInfo("Europe/Vienna"), WEST])
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=zones)  # noqa: DTZ001
written = st.one_of(
    moments.map(lambda moment: moment.isoformat()),
    moments.map(lambda moment: moment.isoformat(timespec="minutes")),
    moments.map(lambda moment: f" {moment:%Y-%m-%dT%H:%M:%S.%f}Z"),
    st.from_regex(r"\A\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d*)?)?(Z|[+-]\d\d:?\d\d)?\Z"),
    st.sampled_from(
        ["2026", "2026-11", "2026-11-01", "20261101T100000Z", "2026-W45-1T10:00:00Z", ""]
    ),
    st.text(max_size=25),
    json,
)


@given(written, zones)
@settings(max_examples=400)
def test_an_instant_is_what_a_time_is_read_as(text: Any, zone: Any) -> None:
    moment = read_instant(text)
    whole = read_datetime(text, zone)
    if moment is not None:
        assert (
            at_instant(text, moment)
            == whole
            == read_effective(
                {"effectiveDateTime": text, "effectivePeriod": {"start": "2020"}}, zone
            )
        )
    elif whole is not None:
        assert "T" not in whole.text, "it is of a day, a month or a year"


@given(moments, moments)
def test_moments_compare_in_utc_as_in_their_zones(one: datetime, other: datetime) -> None:
    assert (in_utc(one) < in_utc(other)) == (one < other)


# ------------------------------------------------------------------------------------------- words

ascii_texts = st.text(st.characters(max_codepoint=127), max_size=40)
named = st.sampled_from(
    ["Type 2 Diabetes", "T2DM", "NIDDM", "Pre-diabetes", "No DM", "Pregnancy", "33. SSW", "IUP",
     "Metformin 500", "zuckerkrank", "ozempic", "GRAVIDITY", "gestation's", "LADA", "MODY 2"]
)  # fmt: skip


@given(st.one_of(ascii_texts, st.text(max_size=40), named, st.tuples(ascii_texts, named).map(str)))
@settings(max_examples=400)
def test_plain_words_are_found_with_and_without_case_alike(text: str) -> None:
    letters = unicodedata.normalize("NFKD", text.lower())
    whole = "".join(c for c in letters if not unicodedata.combining(c))
    plain = plain_words(text)
    assert plain == re.sub(r"[\s\-\u2010-\u2015_/'\u2019]+", " ", whole)
    for words in WORDS:
        assert bool(words.search(plain)) == bool(words.pattern.search(plain))


def test_the_catalog_s_words_have_the_shortcut() -> None:
    assert all(words.in_ascii is not words.pattern for words in WORDS)


OTHERS = ["DM", "[A-Z]m", "[!-~]", r"\x44m", "ıd", "ſa", "\u212a", "(?i:d)"]


@pytest.mark.parametrize("source", OTHERS)
def test_a_pattern_in_which_case_may_matter_has_none(source: str) -> None:
    assert word_pattern(source).in_ascii is word_pattern(source).pattern


# ---------------------------------------------------------------------------------------- selection

reports = st.builds(
    lambda status, issued, id_, day: Report(
        {"resourceType": "Observation", "status": status, "issued": issued, "id": id_},
        datetime(2026, 11, day, tzinfo=UTC),
        None,
        UTC,
    ),
    st.sampled_from(["final", " final", "corrected", "amended"]),
    st.sampled_from([None, "2026", "2026-11-02T10:00:00Z", "2026-11-02T11:00:00+01:00"]),
    st.sampled_from(["a", "b", "é", None]),
    st.integers(1, 2),
)
candidates = st.builds(
    lambda value, report: Candidate(value, report, Reading(value, value, "1", None), "x"),
    st.sampled_from([1.0, 2.0]),
    reports,
)


@given(candidates, candidates)
def test_after_is_the_whole_order(one: Candidate, other: Candidate) -> None:
    assert one.is_after(other) == (one.order() > other.order())
    assert not (one.is_after(other) and other.is_after(one))


@given(records)
@settings(max_examples=300)
def test_what_is_settled_would_not_have_changed(record: list[Any]) -> None:
    shortened = vector(record)
    with patch.object(Selections, "_settled_before", lambda self: None):
        assert vector(record) == shortened


def test_folded_texts_are_the_table_s() -> None:
    assert all(fold(text) == text for text in TABLE.by_text)
