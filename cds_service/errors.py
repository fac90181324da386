"""The error tree, and with it the one HTTP status table of the service.

ServiceError                  status  FHIR issue code
├── BadRequest                   400  invalid
├── Unauthenticated              401  login
├── NotFound                     404  not-found
├── MethodNotAllowed             405  not-supported
├── BodyTooSlow                  408  timeout
├── PrefetchUnavailable          412  required
├── BodyTooLarge                 413  too-long
├── NotJson                      415  structure
├── InternalFault                500  exception
├── Overloaded                   503  throttled
├── CallTimedOut                 503  timeout
└── StoreUnavailable             503  transient
    └── RowUnreadable            500  exception

CDS Hooks fixes only 200 and 412; the other rows are this service's policy, written here and
nowhere else. Every one of them is answered with an OperationOutcome: an empty card list means
"nothing to say" and must never stand for "it went wrong".
Issue codes: http://hl7.org/fhir/R4/valueset-issue-type.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

# Logged and audited, never sent: the caller left before the answer. No status of HTTP says so;
# nginx writes this one.
CLIENT_LEFT = 499


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One OperationOutcome.issue: what is wrong, and where in the request.

    `expression` is FHIRPath-like (`context.patientId`); `code` a FHIR IssueType.
    """

    text: str
    code: str
    expression: str | None = None


class ServiceError(Exception):
    """A fault that the caller is told about. `message` is public: no patient data, no secrets."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "exception"

    def __init__(
        self, message: str, *, expression: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expression = expression
        self.issues: tuple[Issue, ...] = (
            Issue(text=message, code=code or self.code, expression=expression),
        )

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that belong to this status."""
        return {}


class BadRequest(ServiceError):
    """The request is malformed, or contradicts itself."""

    status = 400
    code = "invalid"

    @classmethod
    def with_issues(cls, issues: tuple[Issue, ...]) -> BadRequest:
        """One 400 for several faults, so that a caller can mend them all at once."""
        fault = cls("; ".join(issue.text for issue in issues), expression=issues[0].expression)
        fault.issues = issues
        return fault


class Unauthenticated(ServiceError):
    """No valid client JWT. The body never says why (CDS Hooks best practices, "Security")."""

    status = 401
    code = "login"

    def __init__(self, reason: str = "") -> None:
        """`reason` is for the service's own log only; it never reaches the wire."""
        super().__init__("A valid client JWT is required.")
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class NotFound(ServiceError):
    """No such service, resource or page. What was asked for is not echoed."""

    status = 404
    code = "not-found"


class MethodNotAllowed(ServiceError):
    """The path exists; the method does not. `allow` names those that do."""

    status = 405
    code = "not-supported"

    def __init__(self, allow: str) -> None:
        super().__init__(f"This path answers {allow} only.")
        self.allow = allow

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self.allow}


class PrefetchUnavailable(ServiceError):
    """Required data was neither sent nor could be read: 412, one issue per prefetch key.

    CDS Hooks 2.0.1, "Prefetch Template" and "HTTP Status Codes".
    `reasons`: prefetch key -> why it is not there, in public words.
    """

    status = 412
    code = "required"

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("Required data is not available: " + ", ".join(reasons))
        self.reasons = dict(reasons)
        if self.reasons:
            self.issues = tuple(
                Issue(
                    text=f"Prefetch key '{key}': {why}",
                    code=self.code,
                    expression=f"prefetch.{key}",
                )
                for key, why in self.reasons.items()
            )


class BodyTooLarge(ServiceError):
    """The body exceeds CDS_MAX_BODY_BYTES."""

    status = 413
    code = "too-long"


class NotJson(ServiceError):
    """The body is declared to be something other than UTF-8 JSON, or is compressed."""

    status = 415
    code = "structure"


class BodyTooSlow(ServiceError):
    """The body did not arrive within CDS_READ_TIMEOUT_MS."""

    status = 408
    code = "timeout"

    def __init__(self) -> None:
        super().__init__("The body did not arrive in time.")

    @property
    def headers(self) -> dict[str, str]:
        # RFC 9110, section 15.5.9: what may still come belongs to no call.
        return {"Connection": "close"}


class InternalFault(ServiceError):
    """A fault of ours. The caller gets an incident id that the log also carries, nothing more."""

    status = 500
    code = "exception"

    def __init__(self, incident: str) -> None:
        super().__init__(f"Internal error. Incident {incident}")
        self.incident = incident


class Overloaded(ServiceError):
    """As many calls are worked on and waiting as may be; nothing of this one was read."""

    status = 503
    code = "throttled"

    def __init__(self) -> None:
        super().__init__("Too many calls at once. Nothing was stored.")

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"}


class CallTimedOut(ServiceError):
    """The call took longer than CDS_CALL_TIMEOUT_MS; nothing was stored, a repeat is safe."""

    status = 503
    code = "timeout"

    def __init__(self) -> None:
        super().__init__("The call took too long. Nothing was stored.")

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "5"}


class StoreUnavailable(ServiceError):
    """The database did not take the write or the read; nothing was stored, a repeat is safe."""

    status = 503
    code = "transient"

    def __init__(self, message: str = "The store is not available. Nothing was stored.") -> None:
        super().__init__(message)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "5"}


class RowUnreadable(StoreUnavailable):
    """What is stored there is sealed, and cannot be opened: its key is missing, or it was changed.

    Not 503: a repeat would find the same. `reason` is for the log and the operator.
    """

    status = 500
    code = "exception"

    def __init__(self, reason: str) -> None:
        super().__init__("This record is stored and cannot be read. The service's log says why.")
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        return {}


def operation_outcome(fault: ServiceError) -> dict[str, Any]:
    """`fault` as a FHIR OperationOutcome; the same JSON is valid in STU3, R4 and R5."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [_issue(issue) for issue in fault.issues],
    }


def _issue(issue: Issue) -> dict[str, Any]:
    body: dict[str, Any] = {"severity": "error", "code": issue.code, "diagnostics": issue.text}
    return body if issue.expression is None else {**body, "expression": [issue.expression]}
