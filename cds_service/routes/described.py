"""Bodies as OpenAPI describes them.

Routes read theirs themselves, past FastAPI: it would parse first and look for limits afterwards,
and answers faults in a form of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def reads(schema: Mapping[str, Any], *, kind: str = JSON) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a body of this schema."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """What `model` reads, with its definitions in place: OpenAPI keeps its own elsewhere."""
    schema = model.model_json_schema(by_alias=True)
    whole = _filled(schema, schema.pop("$defs", {}))
    assert isinstance(whole, dict)  # noqa: S101 - a model is an object
    return whole


def _filled(part: Any, definitions: Mapping[str, Any]) -> Any:
    match part:
        case {"$ref": str(name)}:
            return _filled(definitions[name.rsplit("/", 1)[-1]], definitions)
        case dict():
            return {key: _filled(value, definitions) for key, value in part.items()}
        case list():
            return [_filled(item, definitions) for item in part]
    return part
