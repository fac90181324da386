"""What a try that failed means for its message, and for its destination. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cds_service.delivery.destinations import Outage
from cds_service.delivery.tokens import TokenUnavailable
from cds_service.fhir_client import FetchError

LONGEST_REASON = 2000
# RFC 9110 and RFC 6585: the server, or what stands before it, serves nobody just now. A 500 may be
# about this one message, and must not hold up the others.
_SERVES_NOBODY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """`reason` is what a person needs to mend it. Its first line is fit for the log; what follows
    are the server's words, which may hold patient data: stored only."""

    reason: str
    may_retry: bool
    retry_after: float | None = None
    outage: Outage | None = None

    @property
    def public_reason(self) -> str:
        return self.reason.partition("\n")[0]


def failure_of(fault: FetchError | TokenUnavailable | TimeoutError) -> Failure:
    """What became of one try."""
    if isinstance(fault, TimeoutError):
        return Failure(reason="no answer in time", may_retry=True, outage=Outage())
    if isinstance(fault, TokenUnavailable):
        # A registration that is wrong is mended at the authorization server: never dead at once.
        asked = fault.retry_after
        outage = Outage(retry_after=asked)
        return Failure(reason=str(fault), may_retry=True, retry_after=asked, outage=outage)
    # 401: a new token was refused as well. The registration is being mended.
    unauthorized = fault.status == 401
    nobody = unauthorized or fault.status in _SERVES_NOBODY or fault.status is None
    may_retry = fault.may_retry or unauthorized
    return Failure(
        reason="\n".join([fault.reason, *_words(fault.outcome or {})])[:LONGEST_REASON],
        may_retry=may_retry,
        retry_after=fault.retry_after,
        outage=Outage(retry_after=fault.retry_after) if may_retry and nobody else None,
    )


def _words(outcome: dict[str, Any]) -> Iterator[str]:
    """The issues of an OperationOutcome, one on a line."""
    issues = outcome.get("issue")
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, dict) and (line := " ".join(_issue(issue))):
            yield line


def _issue(issue: dict[str, Any]) -> Iterator[str]:
    given = issue.get("details")
    details: dict[str, Any] = given if isinstance(given, dict) else {}
    said = [issue.get("diagnostics"), details.get("text")]
    for word in (issue.get("severity"), issue.get("code"), *dict.fromkeys(map(_text, said))):
        if text := _text(word):
            yield text
    # `location` is what `expression` was called in STU3.
    for member in ("expression", "location"):
        places = issue.get(member)
        named = [place for place in places if _text(place)] if isinstance(places, list) else []
        if named:
            yield f"({', '.join(named)})"
            return


def _text(word: Any) -> str:
    return " ".join(word.split()) if isinstance(word, str) else ""
