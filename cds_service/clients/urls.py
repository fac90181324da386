"""Base URLs, parsed and normalised before they are compared: two spellings of one place are equal,
and a spelling that software might read in two ways is no base at all."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, urlsplit

# RFC 9110, section 4.1, asks for 8000 at least. A body may hold one of 20 MB, which would take
# seconds to parse while nobody else is answered.
LONGEST_URL = 8192
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# Python's parser lets "[::1]x" and "host:+80" through.
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@]+)(:[0-9]*)?")
_ESCAPE = re.compile("%(..?)?")
# Servers and proxies differ in how often they decode, and in what they take for a separator: Java
# servlets cut a segment at ";" (RFC 3986, section 3.3), so that "..;" is one level up there.
_MOST_DECODINGS = 3
_SEPARATORS = re.compile(r"[/\\;]")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """`text` is the normal form: no trailing slash, no default port."""

    text: str
    host: str
    secure: bool
    loopback: bool


def parse_base(url: str) -> Base | None:
    """The base that `url` names; None for what is not a plain absolute http(s) URL.

    Refused: user info, query, fragment, dot segments in any disguise, spaces and control
    characters (which parsers drop silently), hosts in percent-encoding, in Unicode, or as numbers
    other than a dotted quad. Each of them has let a request reach another place than the one that
    was checked. What is longer than LONGEST_URL is not looked at, and not kept.
    """
    return None if len(url) > LONGEST_URL else _parsed(url)


# The few bases of the clients file, for every call; what else is sent displaces what was sent.
@lru_cache(maxsize=64)
def _parsed(url: str) -> Base | None:
    # urlsplit would remove tabs and newlines, and some clients read "\" as "/".
    if not all("!" <= character <= "~" for character in url) or set(url) & set("\\?#"):
        return None
    try:
        parts = urlsplit(url)
        if not _AUTHORITY.fullmatch(parts.netloc):
            return None
        host, port = _host(parts.hostname or ""), parts.port
    except ValueError:
        return None
    path = _path(parts.path)
    if parts.scheme not in _DEFAULT_PORTS or host is None or path is None or port == 0:
        return None
    shown = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return Base(
        text=f"{parts.scheme}://{host}{shown}{path}",
        host=host,
        secure=parts.scheme == "https",
        loopback=is_loopback(host),
    )


def allowed_in(base: Base, *, demo: bool) -> bool:
    """True for https; in the demo profile for http on this very machine too."""
    return base.secure or (demo and base.loopback)


def is_loopback(host: str) -> bool:
    """True for `localhost` and for the addresses that are this machine by definition."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host(host: str) -> str | None:
    if ":" in host:
        return f"[{ipaddress.IPv6Address(host).compressed}]"
    labels = host.removesuffix(".").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(host) > 253:
        return None
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        # 127.1, 0177.0.0.1, 2130706433 and 0x7f000001 are addresses to some resolvers.
        return str(ipaddress.IPv4Address(".".join(labels)))
    return ".".join(labels)


def _path(path: str) -> str | None:
    if path in ("", "/"):
        return ""
    segments = [_segment(segment) for segment in path.removesuffix("/").split("/")[1:]]
    if None in segments or "" in segments or any(map(_climbs, path.split("/"))):
        return None
    return "/" + "/".join(str(segment) for segment in segments)


def _climbs(segment: str) -> bool:
    """True where some server would read a dot segment, or escapes that no server needs."""
    for _ in range(_MOST_DECODINGS):
        if {".", ".."} & set(_SEPARATORS.split(segment)):
            return True
        decoded = unquote(segment)
        if decoded == segment:
            return False
        segment = decoded
    return True


def _segment(segment: str) -> str | None:
    """RFC 3986, 6.2.2: escapes of unreserved characters resolved, the others in upper case."""
    for escape in _ESCAPE.finditer(segment):
        if not re.fullmatch("[0-9A-Fa-f]{2}", escape[1] or "") or int(escape[1], 16) < 0x20:
            return None

    def normal(escape: re.Match[str]) -> str:
        character = chr(int(escape[1], 16))
        return character if _UNRESERVED.fullmatch(character) else escape[0].upper()

    return _ESCAPE.sub(normal, segment)
