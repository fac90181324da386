"""FHIR servers as this service calls them: allowed bases only, bounded in time and size.

FetchError
├── FetchRefused       may_retry = False   the same request would be refused again
└── FetchUnavailable   may_retry = True    network, deadline, 5xx, 429 and the like

No message of these errors holds a URL, a token or a word of what the server said.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urljoin

import httpx
import orjson

from cds_service.body import parse_object, parsed
from cds_service.clients.addresses import Reach
from cds_service.clients.outbound import (
    PUBLIC_ONLY,
    AddressRefused,
    AnswerTooLarge,
    open_http,
    read_bounded,
)
from cds_service.clients.urls import LONGEST_URL, allowed_in, parse_base
from cds_service.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cds_service.clients.file import Client

DEFAULT_SECONDS = 10.0
LARGEST_ANSWER_BYTES = 16 * 1024 * 1024
LARGEST_SEARCH_BYTES = 32 * 1024 * 1024
LARGEST_FAULT_BYTES = 64 * 1024
MOST_PAGES = 20
DEEPEST_ANSWER = 64
# Servers take heads of 8 to 64 kB.
LONGEST_TOKEN = 32 * 1024

# 409, 412, 423: another request was in the way of this one (FHIR R4, http.html#ops).
# 408, 425, 429: RFC 9110 and 6585 ask to try again.
_RETRYABLE = frozenset({408, 409, 412, 423, 425, 429, 500, 502, 503, 504, 507})
_LOCATION = re.compile(
    r"(?:^|/)([A-Za-z]{1,64})/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?$"
)
_ETAG = re.compile(r'(?:W/)?"([^"]{1,64})"')
_TOKEN = re.compile(r"[!-~]+")


class FetchError(Exception):
    """A FHIR server did not do what was asked. `outcome` is its OperationOutcome, if it gave one.

    `outcome` may hold patient data: it may be stored, and never logged.
    """

    may_retry: ClassVar[bool]

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        outcome: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.outcome = outcome


class FetchRefused(FetchError):
    """Not allowed, not found, not FHIR: another try changes nothing."""

    may_retry = False


class FetchUnavailable(FetchError):
    """Not now. `retry_after`: the seconds that the server asked for."""

    may_retry = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A resource, or a Bundle with the entries of all its pages; `lacking` says why not all."""

    resource: dict[str, Any]
    lacking: str | None = None

    @property
    def complete(self) -> bool:
        return self.lacking is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The server holds the resource. `existing`: it held it before, and created nothing."""

    existing: bool
    location: str | None = None
    id: str | None = None
    version: str | None = None


def base_allowed(url: str, client: Client | None, profile: str) -> str | None:
    """The base in normal form when this service may call it, else None.

    Production: exactly one of the client's `fhir_servers`, by https. Demo: those, or http on
    loopback. Compared after parsing: see `clients.urls`.
    """
    demo = profile == "demo"
    base = parse_base(url)
    if base is None or not allowed_in(base, demo=demo):
        return None
    listed = client is not None and base.text in client.fhir_servers
    return base.text if listed or (demo and base.loopback) else None


def leads_on(base: str, bundle: Mapping[str, Any]) -> bool:
    """True when `bundle` has a `next` link that may be followed: one that stays below `base`."""
    link = _next_link(bundle)
    return link is not None and _within(base, _joined(f"{base}/", link)) is not None


class FhirClient:
    """Calls FHIR servers. A `base` given to it must have come out of `base_allowed`.

    A `deadline` is a time of the running loop's clock (`loop.time()`); None: ten seconds.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        reach: Reach = PUBLIC_ONLY,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._http = open_http(transport, reach=reach)
        self._clock = clock

    async def close(self) -> None:
        await self._http.aclose()

    async def get(
        self, base: str, relative_url: str, token: str | None, deadline: float | None = None
    ) -> Fetched:
        """Read or search `relative_url` below `base`; a searchset comes with its further pages.

        Raises FetchError when the first answer fails. When a further page does, the entries so
        far are given, and `lacking` says why there are no more.
        """
        url = _within(base, f"{base}/{relative_url}")
        if url is None:
            raise FetchRefused("the address is not below the base")
        resource, size = await self._read(url, token, deadline)
        return await self._with_pages(base, url, resource, size, token, deadline)

    async def complete(
        self, base: str, bundle: dict[str, Any], token: str | None, deadline: float | None = None
    ) -> Fetched:
        """`bundle`, which a caller prefetched, with the pages that its `next` links lead to."""
        return await self._with_pages(base, f"{base}/", bundle, 0, token, deadline)

    async def create(
        self,
        base: str,
        resource: dict[str, Any],
        if_none_exist: str,
        token: str | None,
        deadline: float | None = None,
    ) -> Created:
        """Create `resource` unless the search `if_none_exist` finds it there already.

        FHIR R4, http.html#ccreate: 201 created, 200 it exists, 412 several match. Raises
        FetchError; a repeat is safe whatever came of this request.
        """
        headers = {
            "Content-Type": "application/fhir+json",
            "If-None-Exist": if_none_exist,
            "Prefer": "return=minimal",
        }
        request = self._request(
            "POST",
            f"{base}/{resource['resourceType']}",
            content=json.dumps(resource, allow_nan=False, ensure_ascii=False).encode(),
            headers=_headers(token) | headers,
        )
        async with self._sent(request, deadline) as answer:
            if answer.status_code not in (httpx.codes.OK, httpx.codes.CREATED):
                raise await _fault(answer, self._clock())
            body = await read_bounded(answer, LARGEST_ANSWER_BYTES)
        return _created(answer, body, resource["resourceType"])

    # Within ----------------------------------------------------------------------------------

    async def _with_pages(
        self,
        base: str,
        url: str,
        first: dict[str, Any],
        size: int,
        token: str | None,
        deadline: float | None,
    ) -> Fetched:
        entries, seen, lacking = list(_entries(first)), {url}, None
        page, link = first, _next_link(first)
        while link is not None and lacking is None:
            url = _within(base, _joined(url, link)) or ""
            if not url:
                lacking = "the next page is on another server"
            elif url in seen or len(seen) >= MOST_PAGES or size > LARGEST_SEARCH_BYTES:
                lacking = "there are too many pages"
            else:
                seen.add(url)
                try:
                    page, bytes_read = await self._read(url, token, deadline)
                except FetchError as fault:
                    lacking = f"a further page could not be read: {fault.reason}"
                else:
                    size += bytes_read
                    entries += _entries(page)
                    link = _next_link(page)
        if page is first and lacking is None:
            return Fetched(resource=first)
        links = [link for link in _links(first) if link.get("relation") != "next"]
        merged = {name: value for name, value in first.items() if name != "link"}
        return Fetched(
            resource=merged | {"entry": entries} | ({"link": links} if links else {}),
            lacking=lacking,
        )

    async def _read(
        self, url: str, token: str | None, deadline: float | None
    ) -> tuple[dict[str, Any], int]:
        request = self._request("GET", url, headers=_headers(token))
        async with self._sent(request, deadline) as answer:
            if answer.status_code != httpx.codes.OK:
                raise await _fault(answer, self._clock())
            body = await read_bounded(answer, LARGEST_ANSWER_BYTES)
        return await _resource(answer, body), len(body)

    def _request(self, method: str, url: str, **how: Any) -> httpx.Request:
        try:
            return self._http.build_request(method, url, **how)
        except httpx.InvalidURL as fault:
            raise FetchRefused("the address is not valid") from fault

    @asynccontextmanager
    async def _sent(
        self, request: httpx.Request, deadline: float | None
    ) -> AsyncIterator[httpx.Response]:
        """The answer, open for reading; whatever goes wrong until it is read is a FetchError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DEFAULT_SECONDS if deadline is None else deadline
        try:
            async with asyncio.timeout_at(until):
                answer = await self._http.send(request, stream=True)
                try:
                    yield answer
                finally:
                    await answer.aclose()
        except TimeoutError as fault:
            raise FetchUnavailable("the deadline has passed") from fault
        except AnswerTooLarge as fault:
            raise FetchRefused("the answer is too large") from fault
        except AddressRefused as fault:
            # Tried again later: a name's addresses, and the clients file, can be mended.
            raise FetchUnavailable("the server's address is not allowed") from fault
        except httpx.HTTPError as fault:
            raise FetchUnavailable(f"no answer ({type(fault).__name__})") from fault


def _joined(url: str, link: str) -> str:
    """`link` as it is meant on the page at `url`; empty for what is no address at all."""
    try:
        return urljoin(url, link) if len(link) <= LONGEST_URL else ""
    except ValueError:
        return ""


def _within(base: str, url: str) -> str | None:
    """`url` with its path in normal form when it lies at or below `base`, else None."""
    if len(url) > LONGEST_URL or "#" in url or not all("!" <= letter <= "~" for letter in url):
        return None
    address, mark, query = url.partition("?")
    place = parse_base(address)
    if place is None or not (place.text == base or place.text.startswith(f"{base}/")):
        return None
    return f"{place.text}{mark}{query}"


def _headers(token: str | None) -> dict[str, str]:
    headers = {"Accept": "application/fhir+json, application/json;q=0.9"}
    if token is None:
        return headers
    if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise FetchRefused("the access token is not usable")
    return headers | {"Authorization": f"Bearer {token}"}


async def _fault(answer: httpx.Response, now: datetime) -> FetchError:
    status = answer.status_code
    reason = f"HTTP {status}"
    if status not in _RETRYABLE:
        return FetchRefused(reason, status=status, outcome=await _outcome(answer))
    return FetchUnavailable(
        reason,
        status=status,
        retry_after=retry_after(answer.headers, now),
        outcome=await _outcome(answer),
    )


async def _outcome(answer: httpx.Response) -> dict[str, Any] | None:
    with suppress(AnswerTooLarge, FetchError, httpx.HTTPError):
        body = await read_bounded(answer, LARGEST_FAULT_BYTES)
        resource = await _resource(answer, body)
        return resource if resource.get("resourceType") == "OperationOutcome" else None
    return None


def retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """RFC 9110, section 10.2.3: seconds, or a date, which is read by the server's own clock where
    it tells the time."""
    header = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", header):
        return float(header)
    until, present = _http_date(header), _http_date(headers.get("Date", "")) or now
    return max(0.0, (until - present).total_seconds()) if until is not None else None


def _http_date(text: str) -> datetime | None:
    # The overflows are years and offsets that no calendar has.
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        moment = parsedate_to_datetime(text)
        # RFC 9110, section 5.6.7: an HTTP date is in GMT, whether or not it says so.
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


async def _resource(answer: httpx.Response, body: bytes) -> dict[str, Any]:
    if "json" not in answer.headers.get("Content-Type", "json").lower():
        raise FetchRefused("the answer is not JSON", status=answer.status_code)
    # The bounds of a request's body hold here too: a server can be as hostile as a caller, and
    # parsing megabytes would hold up everyone else's answers.
    try:
        resource = await parsed(body, partial(parse_object, body, DEEPEST_ANSWER))
    except BadRequest as fault:
        raise FetchRefused("the answer is not JSON", status=answer.status_code) from fault
    if not isinstance(resource.get("resourceType"), str):
        raise FetchRefused("the answer is not a resource", status=answer.status_code)
    return resource


def _created(answer: httpx.Response, body: bytes, resource_type: str) -> Created:
    # Location is asked for (SHALL) on 201; on 200 servers give either header, or the resource.
    # A sign-in page answers 200 as well, at an address of its own.
    headers = answer.headers
    location = (headers.get("Location") or headers.get("Content-Location") or "")[:1000]
    named = _LOCATION.search(location)
    if named is not None and named[1] == resource_type:
        id_, version = named[2], named[3]
    else:
        location, (id_, version) = "", _named_in(body, resource_type)
    etag = _ETAG.fullmatch(headers.get("ETag", ""))
    return Created(
        existing=answer.status_code == httpx.codes.OK,
        location=location or None,
        id=id_,
        version=version or (etag[1] if etag else None),
    )


def _named_in(body: bytes, resource_type: str) -> tuple[str | None, str | None]:
    with suppress(orjson.JSONDecodeError):
        resource = orjson.loads(body)
        if isinstance(resource, dict) and resource.get("resourceType") == resource_type:
            return named_by(resource)
    return None, None


def named_by(resource: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The id and the version that a server has given to `resource`."""
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return _text(resource.get("id")), _text(version)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _links(bundle: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    links = bundle.get("link")
    if isinstance(links, list):
        yield from (link for link in links if isinstance(link, dict))


def _next_link(bundle: Mapping[str, Any]) -> str | None:
    if bundle.get("resourceType") != "Bundle":
        return None
    addresses = (link.get("url") for link in _links(bundle) if link.get("relation") == "next")
    return next((address for address in addresses if isinstance(address, str)), None)


def _entries(bundle: Mapping[str, Any]) -> list[Any]:
    entries = bundle.get("entry")
    return entries if isinstance(entries, list) else []
