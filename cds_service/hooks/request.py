"""The request of a CDS Hooks call, parsed at the rim: inside there are only values."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel

from cds_service.errors import BadRequest
from cds_service.hooks.definition import ServiceDefinition
from cds_service.hooks.faults import bad_request
from cds_service.hooks.primitives import Bearer, FhirId, FhirServer, FilledText, Text, UserId, Uuid


class _Wire(BaseModel):
    # Unknown members are ignored: later versions of the specification add some.
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class FhirAuthorization(BaseModel):
    """`fhirAuthorization`: the token lives as long as this call and is never stored or logged."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    access_token: FilledText = Field(repr=False)
    token_type: Bearer
    expires_in: StrictInt
    scope: Text
    subject: Text
    patient: FhirId | None = None

    @property
    def usable(self) -> bool:
        """False when the token had expired as it was sent."""
        return self.expires_in > 0


class PatientViewContext(_Wire):
    """`context` of patient-view 1.0."""

    user_id: UserId
    patient_id: FhirId
    encounter_id: FhirId | None = None


def _objects_or_null(prefetch: Any, published: ValidationInfo) -> Any:
    # Values can be megabytes of FHIR, so pydantic is kept out of them: only the outermost type
    # is looked at here, and fhir_mapping reads what it needs and no more. A key that discovery
    # does not name is ignored, whatever it holds, and what it is called is not repeated.
    if not isinstance(prefetch, dict):
        return prefetch
    for key in published.context or prefetch:
        if not isinstance(prefetch.get(key), dict | None):
            raise ValueError(f"the value of '{key}' must be an object or null")
    return prefetch


def _none_if_empty(prefetch: dict[str, Any] | None) -> dict[str, Any] | None:
    # CDS Hooks, "Use of JSON": an element must not be empty. A client that sends {} means none.
    return prefetch or None


Prefetch = Annotated[
    dict[str, Any] | None, BeforeValidator(_objects_or_null), AfterValidator(_none_if_empty)
]


class HookRequest(_Wire):
    """One call of a patient-view service, as far as its form can be judged without data.

    `prefetch` is None when absent, null or empty; a key whose value is None was sent as null.
    """

    hook: FilledText
    hook_instance: Uuid
    fhir_server: FhirServer | None = None
    fhir_authorization: FhirAuthorization | None = None
    context: PatientViewContext
    prefetch: Prefetch = None

    @model_validator(mode="after")
    def _authorization_fits(self) -> Self:
        if self.fhir_authorization is None:
            return self
        # Invariant cds-r-1 of the CDS Hooks logical model.
        if self.fhir_server is None:
            raise ValueError("fhirAuthorization needs fhirServer")
        patient = self.fhir_authorization.patient
        # Safety: a token for one patient must never read into the chart of another.
        if patient is not None and patient != self.context.patient_id:
            raise ValueError("fhirAuthorization.patient is not context.patientId")
        return self


def parse_hook_request(body: dict[str, Any], definition: ServiceDefinition) -> HookRequest:
    """The request in `body`, meant for `definition`; raises BadRequest naming every bad field."""
    _check_hook(body.get("hook"), definition)
    try:
        return HookRequest.model_validate(body, context=definition.prefetch)
    except ValidationError as fault:
        raise bad_request(fault) from None


def _check_hook(hook: Any, definition: ServiceDefinition) -> None:
    # First, because the context of another hook has other fields.
    if isinstance(hook, str) and hook and hook != definition.hook:
        raise BadRequest(f"This service answers the hook '{definition.hook}'.", expression="hook")
