"""The wire of CDS Hooks: hooks.json, the request of a hook, feedback, and the answer."""

from __future__ import annotations

from cds_service.hooks.definition import HooksFileError, ServiceDefinition, read_hooks_file
from cds_service.hooks.feedback import CardFeedback, Feedback, parse_feedback
from cds_service.hooks.request import (
    FhirAuthorization,
    HookRequest,
    PatientViewContext,
    parse_hook_request,
)
from cds_service.hooks.response import hook_response

__all__ = [
    "CardFeedback",
    "Feedback",
    "FhirAuthorization",
    "HookRequest",
    "HooksFileError",
    "PatientViewContext",
    "ServiceDefinition",
    "hook_response",
    "parse_feedback",
    "parse_hook_request",
    "read_hooks_file",
]
