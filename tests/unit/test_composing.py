"""What a scored call composes after its score: how much work it is, and what is shared by calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest

from cds_service import cards
from cds_service.hooks import hook_response, read_hooks_file
from cds_service.hooks.response import without_empties
from cds_service.inputs import identifier_of, inputs_of
from cds_service.judgement import Scored
from cds_service.once import once
from cds_service.risk_assessment import id_of, risk_assessment
from fhir_mapping import FeatureVector, compile_mapping, load_catalog, map_features
from fhir_mapping.risk_assessment import About
from fhir_mapping.versions import FhirVersion, rendered
from risk_model import Contribution, RiskEstimate, parse_manifest
from tests.fhir import observation, patient
from tests.shipped import shipped_json

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
WORDING = read_hooks_file(ROOT / "hooks.json")["diabetes-risk"].wording
RAW = shipped_json("manifest.json")
MANIFEST = parse_manifest(RAW)
MAPPING = compile_mapping(load_catalog(), RAW)
# Everything that the shipped model asks for, some of it old, some missing.
RECORD = (
    observation("2345-7", 131, "mg/dL"),
    observation("39156-5", 34.8, "kg/m2", effectiveDateTime="2025-06-01"),
    observation("8480-6", 151, "mm[Hg]", effectiveDateTime="2025-06-01"),
    observation("8462-4", 93, "mm[Hg]", effectiveDateTime="2025-06-01"),
    observation("2093-3", 190, "mg/dL"),
    observation("2085-9", 37, "mg/dL"),
    observation("2571-8", 241, "mg/dL"),
    observation("2160-0", 0.9, "mg/dL"),
    observation("1742-6", 44, "U/L"),
    observation("1920-8", 31, "U/L"),
    observation("2324-2", 55, "U/L", effectiveDateTime="2020-01-01"),
    observation("3084-1", 6.1, "mg/dL"),
)
# Calls of Python functions: 250 today, and 647 when every call read the manifest and the wording
# anew. Counted and not timed, so that it says the same on every machine.
MOST_FUNCTION_CALLS = 300


def seen() -> FeatureVector:
    return map_features(MAPPING, [patient(), *RECORD], as_of=NOW, patient_id="p1")


def scored() -> Scored:
    shares = tuple(
        Contribution(feature=feature.name, value=None, log_odds=(-0.7) ** place)
        for place, feature in enumerate(MANIFEST.features)
    )
    estimate = RiskEstimate(
        probability=0.125, level="high", relative_risk=4.2, baseline=-3.0, contributions=shares
    )
    return Scored(estimate)


def frame(**change: Any) -> cards.Frame:
    given = cards.Frame(
        card_uuid="c",
        suggestion_uuid="s",
        patient_id="p1",
        encounter_id="e1",
        model_card_url="https://cds.example.org/model-card",
    )
    return replace(given, **change)


def card(judgement: Scored, vector: FeatureVector, **change: Any) -> dict[str, Any]:
    (shown,) = cards.compose(
        judgement,
        vector=vector,
        manifest=MANIFEST,
        wording=WORDING,
        unread=(),
        frame=frame(**change),
    )
    return shown.body


def composed(judgement: Scored, vector: FeatureVector) -> bytes:
    """As `assess` does it: the card, the record of the assessment, the answer."""
    shown = card(judgement, vector)
    identifier = identifier_of(
        origin="", patient_id="p1", model=MANIFEST.name, version=MANIFEST.version, vector=vector
    )
    about = About(
        id=id_of(identifier),
        identifier=identifier,
        patient_id="p1",
        encounter_id="e1",
        occurrence=vector.as_of,
        mitigation="Order an HbA1c",
    )
    inputs_of(vector, mitigation=about.mitigation)
    risk_assessment(about, judgement.estimate, vector, MANIFEST)
    return hook_response([shown])


def function_calls(work: Callable[[], object]) -> int:
    """How many functions written in Python `work` calls; those in C are not counted."""
    count = 0

    def counting(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_what_does_not_change_from_call_to_call_is_not_made_again() -> None:
    judgement, vector = scored(), seen()
    composed(judgement, vector)
    assert function_calls(lambda: composed(judgement, vector)) <= MOST_FUNCTION_CALLS


def test_where_nothing_is_said_next_to_nothing_is_done() -> None:
    vector = seen()
    low = Scored(replace(scored().estimate, level="low"))

    def nothing() -> None:
        assert not cards.compose(
            low, vector=vector, manifest=MANIFEST, wording=WORDING, unread=(), frame=frame()
        )

    assert function_calls(nothing) < 20


def test_a_card_takes_nothing_over_from_the_card_before_it() -> None:
    vector = seen()
    first = card(scored(), vector)
    before = deepcopy(first)
    others: list[dict[str, Any]] = [
        {"patient_id": "p2", "encounter_id": None},
        {"fhir_version": FhirVersion.STU3},
        {"fhir_version": FhirVersion.R5, "encounter_id": None},
    ]
    for other in others:
        card(scored(), vector, **other)
    assert first == before == card(scored(), vector)
    assert list(first) == list(before)


@pytest.mark.parametrize("version", FhirVersion)
@pytest.mark.parametrize("encounter", ["e1", None])
def test_the_draft_order_is_what_the_whole_of_it_is_in_that_version(
    version: FhirVersion, encounter: str | None
) -> None:
    vector = seen()
    in_r4 = card(scored(), vector, encounter_id=encounter)
    in_version = card(scored(), vector, encounter_id=encounter, fhir_version=version)
    order = in_r4["suggestions"][0]["actions"][0]["resource"]
    found = in_version["suggestions"][0]["actions"][0]["resource"]
    assert found == rendered(order, version)
    assert ("Encounter/e1" in str(found)) is (encounter is not None)


def test_what_is_made_once_is_made_for_each_object_and_not_for_its_equals() -> None:
    made: list[list[int]] = []

    @once
    def noted(loaded: list[int]) -> int:
        made.append(loaded)
        return len(made)

    one, same = [1], [1]
    assert (noted(one), noted(same), noted(one)) == (1, 2, 1)
    assert made[0] is one
    assert made[1] is same


# ---------------------------------------------------------------------------------- the answer


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"a": ""},
        {"a": None, "b": [None, "", [], {}, ()], "c": {"d": {"e": []}}},
        {"a": ({"b": ""}, "x"), "b": 0, "c": False, "d": 0.0},
        {"a": 'null, "", [] and {} in words', "b": "null"},
    ],
)
def test_an_answer_holds_nothing_empty_but_its_cards(body: dict[str, Any]) -> None:
    assert hook_response([]) == b'{"cards":[]}'
    cleaned = without_empties(body)
    assert hook_response([body], [body]) == orjson.dumps(
        {"cards": [cleaned], "systemActions": [cleaned]}
    )
