"""JSON is stored as the standard library would have it, and refused where it would refuse."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest

from cds_service.store.stored_json import json_text


class Word(StrEnum):
    READY = "ready"


TAKEN: list[Any] = [
    {"a": None, "b": [1, 2.5, True, "Zoë", {}], "c": ()},
    {"null": "null", "n": [None]},
    {"x": 0.1 + 0.2, "y": 5.1e-7, "z": -0.0, "big": 1e308, "small": 5e-324},
    {"beyond": 2**64, "far below": -(2**70)},
    {"half": "\ud800", "nul": "\x00", "\udfff": 1},
    {Word.READY: Word.READY},
    {1: "a", None: "b", False: "c"},
    [],
]


@pytest.mark.parametrize("value", TAKEN, ids=repr)
def test_it_reads_as_what_the_standard_library_writes(value: Any) -> None:
    assert json.loads(json_text(value)) == json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "place", [lambda x: x, lambda x: {"a": [None, x]}, lambda x: [({"b": x},)]]
)
def test_what_is_no_number_is_refused_wherever_it_is(place: Any, number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_text(place(number))


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), b"x", {1, 2}, object()])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        json_text({"value": value})
