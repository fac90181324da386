"""What an assessment was made from, as JSON: enough to compute it again, and to name it."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from fhir_mapping import FeatureVector, Present, Source


def inputs_of(vector: FeatureVector) -> dict[str, Any]:
    """Every feature with its value and sources, or with the reason for its absence."""
    return {
        name: _present(entry) if isinstance(entry, Present) else {"absent": entry.reason.value}
        for name, entry in vector.entries.items()
    }


def identifier_of(
    *, origin: str, patient_id: str, model: str, version: str, vector: FeatureVector
) -> str:
    """The same for the same patient, model version and inputs: a repeated call is no new fact.

    Inputs are values with their sources, so that a new result of the same size is a new
    assessment. `origin` keeps apart patients of two EHRs who happen to share an id.
    """
    inputs = {n: _present(e) for n, e in vector.entries.items() if isinstance(e, Present)}
    facts = [origin, patient_id, model, version, inputs]
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _present(entry: Present) -> dict[str, Any]:
    return {
        "value": entry.value,
        "unit": entry.unit,
        "sources": [_source(source) for source in entry.sources],
    }


def _source(source: Source) -> dict[str, Any]:
    return {
        "reference": source.reference,
        "effective": source.effective.text if source.effective else None,
        "recorded": [source.recorded_value, source.recorded_unit],
    }
