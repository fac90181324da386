"""JSON as it is stored: what RFC 8259 has, and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

# What the standard library would refuse is not to be written in some other way.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_STANDARD = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def json_text(value: Any) -> str:
    """`value` as JSON; raises ValueError for a number that JSON does not have, TypeError for what
    is no JSON at all."""
    try:
        text = orjson.dumps(value, option=_OPTIONS | orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:
        # Half a surrogate pair, a number beyond 64 bits, a name that is no text: rare, and slow.
        return _STANDARD.encode(value)
    # orjson writes null for what is no number. https://github.com/ijl/orjson#float
    if b"null" in text and not _is_finite(value):
        raise ValueError("JSON has no NaN and no infinity")
    return text.decode()


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return all(_is_finite(each) for each in value if not isinstance(each, str))
