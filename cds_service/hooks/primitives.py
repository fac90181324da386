"""The primitive types of the CDS Hooks and FHIR wire, as pydantic reads them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints, WithJsonSchema

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ID = r"[A-Za-z0-9\-.]{1,64}"
_FHIR_ID = re.compile(_ID, re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
# patient-view: userId "must be in the format [ResourceType]/[id]" and is one of these.
USER_TYPES = ("Practitioner", "PractitionerRole", "Patient", "RelatedPerson")


def read_uuid(text: str) -> str:
    """A UUID in lower case without `urn:uuid:`; raises ValueError.

    The FHIR uuid is lower-case with an implied prefix; clients send either case and both forms.
    """
    uuid = text.lower().removeprefix("urn:uuid:")
    if not _UUID.fullmatch(uuid):
        raise ValueError("must be a UUID")
    return uuid


def read_fhir_id(text: str) -> str:
    """A FHIR id (http://hl7.org/fhir/R4/datatypes.html#id); raises ValueError.

    Ids end up in URLs, where `.` and `..`, though legal FHIR ids, would walk up the path.
    """
    if not _FHIR_ID.fullmatch(text) or set(text) == {"."}:
        raise ValueError("must be a FHIR id: 1 to 64 letters, digits, '-' or '.'")
    return text


def read_user_id(text: str) -> str:
    """`[ResourceType]/[id]` of one of USER_TYPES; raises ValueError."""
    kind, slash, id_ = text.partition("/")
    if kind not in USER_TYPES or not slash:
        raise ValueError(f"must be [ResourceType]/[id] with one of {', '.join(USER_TYPES)}")
    read_fhir_id(id_)
    return text


def read_fhir_server(text: str) -> str:
    """An absolute http(s) base URL without a trailing slash; raises ValueError."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be a URL")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        # Its own words quote what was sent: a port or an address that is none.
        raise ValueError("must be a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    if parts.username is not None or "?" in text or "#" in text:
        raise ValueError("must have no user name, query or fragment")
    return text.rstrip("/")


def read_instant(text: str) -> datetime:
    """An RFC 3339 timestamp with its offset, as an aware datetime in UTC; raises ValueError."""
    if not _INSTANT.fullmatch(text):
        raise ValueError("must be an RFC 3339 timestamp with a time zone")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a date and time that there is") from None


def _read_bearer(text: str) -> str:
    # RFC 6749 §7.1: the token type is case-insensitive.
    if text.lower() != "bearer":
        raise ValueError("must be 'Bearer'")
    return "Bearer"


def _described(**schema: object) -> WithJsonSchema:
    """What the OpenAPI says of it: what is always taken, not all that is."""
    return WithJsonSchema({"type": "string", **schema})


Text = Annotated[str, StringConstraints(strict=True)]
FilledText = Annotated[str, StringConstraints(strict=True, min_length=1)]
Uuid = Annotated[Text, AfterValidator(read_uuid), _described(format="uuid")]
FhirId = Annotated[Text, AfterValidator(read_fhir_id), _described(pattern=f"^{_ID}$")]
UserId = Annotated[
    Text, AfterValidator(read_user_id), _described(pattern=f"^({'|'.join(USER_TYPES)})/{_ID}$")
]
FhirServer = Annotated[Text, AfterValidator(read_fhir_server), _described(format="uri")]
Bearer = Annotated[Text, AfterValidator(_read_bearer), _described(enum=["Bearer"])]
