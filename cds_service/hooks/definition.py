"""hooks.json: the services that are offered, and what each one is served by."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from cds_service.hooks.faults import expression
from cds_service.hooks.primitives import FilledText
from cds_service.hooks.wording import Wording


class HooksFileError(Exception):
    """hooks.json cannot be served. The message names the file and the field."""


class _Entry(BaseModel):
    # A field that is misspelt here would be silently without effect: extra members are an error.
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class _Serving(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    model: FilledText
    model_version: FilledText
    required_prefetch: tuple[FilledText, ...] = ()
    whole_prefetch: tuple[FilledText, ...] = ()
    cards: Wording


class _Service(_Entry):
    # The id is a path segment of the URL that clients call.
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    # The one hook whose context this service reads (hooks/request.py).
    hook: Literal["patient-view"]
    title: FilledText
    description: FilledText
    usage_requirements: FilledText | None = None
    version: FilledText | None = None
    # Of the 3.0 ballot, like `version`: clients of 2.0 pass over both. patient-view is at 1.0:
    # https://cds-hooks.hl7.org/hooks/STU1/patient-view.html
    hook_version: Literal["1.0"] | None = None
    prefetch: dict[str, FilledText]
    extension: dict[str, Any] | None = None
    serving: _Serving


class _HooksFile(_Entry):
    services: tuple[_Service, ...]


class ServiceDefinition(BaseModel):
    """One service: its public fields, and what serves it, which stays on this side of the wire.

    `required_prefetch`: keys without which there is no answer but 412. `whole_prefetch`: keys of
    which a part is not enough either, because what lacks could change the answer to "no figure".
    """

    model_config = ConfigDict(frozen=True)

    id: str
    hook: str
    title: str
    description: str
    usage_requirements: str | None
    prefetch: dict[str, str]
    required_prefetch: tuple[str, ...]
    whole_prefetch: tuple[str, ...]
    model: str
    model_version: str
    wording: Wording
    public: dict[str, Any] = Field(repr=False)

    def discovery(self) -> dict[str, Any]:
        """The entry of `GET /cds-services`; optional fields without a value are left out."""
        return self.public


def read_hooks_file(path: Path) -> dict[str, ServiceDefinition]:
    """Service id -> definition, in the order of the file; raises HooksFileError."""
    try:
        entries = _HooksFile.model_validate(orjson.loads(path.read_bytes())).services
    except OSError as fault:
        raise HooksFileError(f"{path}: {fault.strerror}") from fault
    except orjson.JSONDecodeError as fault:
        raise HooksFileError(f"{path}: not JSON: {fault}") from fault
    except ValidationError as fault:
        raise HooksFileError(f"{path}: {_first(fault)}") from fault
    definitions = [_definition(path, entry) for entry in entries]
    return _by_id(path, definitions)


def _first(fault: ValidationError) -> str:
    error = fault.errors()[0]
    return f"{expression(error['loc'])}: {error['msg']}"


def _by_id(path: Path, definitions: list[ServiceDefinition]) -> dict[str, ServiceDefinition]:
    services = {definition.id: definition for definition in definitions}
    if len(services) != len(definitions):
        raise HooksFileError(f"{path}: two services have the same id")
    return services


def _definition(path: Path, entry: _Service) -> ServiceDefinition:
    named = {*entry.serving.required_prefetch, *entry.serving.whole_prefetch}
    if unknown := named - set(entry.prefetch):
        raise HooksFileError(
            f"{path}: service '{entry.id}': requiredPrefetch or wholePrefetch names "
            f"{sorted(unknown)}, for which there is no prefetch template"
        )
    public = entry.model_dump(by_alias=True, exclude={"serving"}, exclude_none=True)
    return ServiceDefinition(
        id=entry.id,
        hook=entry.hook,
        title=entry.title,
        description=entry.description,
        usage_requirements=entry.usage_requirements,
        prefetch=entry.prefetch,
        required_prefetch=entry.serving.required_prefetch,
        whole_prefetch=entry.serving.whole_prefetch,
        model=entry.serving.model,
        model_version=entry.serving.model_version,
        wording=entry.serving.cards,
        # An empty object must not appear on the wire (CDS Hooks, "Use of JSON").
        public={name: value for name, value in public.items() if value != {}},
    )
