"""Settings: the only reader of the environment. Every variable begins with `CDS_`."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Profile = Literal["production", "demo"]
Delivery = Literal["in-process", "apart"]
T = TypeVar("T")


class SettingsError(Exception):
    """A variable holds something that it cannot mean. The message names the variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may set; the defaults are those of the README table.

    Bytes, milliseconds and counts are plain integers; `public_url` has no trailing slash;
    `time_zone` is where the patients live: by its calendar their age is counted. `store_keys`, of
    the variable or its file, are 32 bytes each; `store_keys_lost` are fingerprints.
    """

    profile: Profile = "production"
    public_url: str = "http://127.0.0.1:8000"
    database_url: str = "sqlite:///var/cds.db"
    store_keys: tuple[bytes, ...] = field(default=(), repr=False)
    store_keys_file: Path | None = None
    store_keys_lost: tuple[str, ...] = ()
    delivery: Delivery = "in-process"
    clients_file: Path | None = None
    hooks_file: Path = Path("hooks.json")
    model_dir: Path = Path("model_artifacts")
    workers: int = 1
    max_body_bytes: int = 20_000_000
    max_json_depth: int = 64
    deadline_ms: int = 500
    read_timeout_ms: int = 10_000
    call_timeout_ms: int = 20_000
    max_concurrent_calls: int = 32
    max_waiting_calls: int = 128
    max_connections: int = 500
    cors_origins: tuple[str, ...] = ()
    audit_retention_years: int = 7
    log_level: str = "INFO"
    time_zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))

    @property
    def demo(self) -> bool:
        """True where calls without a JWT and FHIR servers on loopback are allowed."""
        return self.profile == "demo"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Settings from `environ`; raises SettingsError naming the first variable that is wrong.

        An empty variable counts as unset: that is how compose files and shells leave one out.
        """
        given: dict[str, Any] = {
            name: _read(variable, environ[variable], parse)
            for name, (variable, parse) in _VARIABLES.items()
            if environ.get(variable, "").strip()
        }
        settings = cls(**given)
        _time_for_a_call(settings)
        return _with_keys_of_file(settings)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """`CDS_` variables that nobody reads: most often a spelling mistake worth a warning."""
    known = {variable for variable, _ in _VARIABLES.values()} | {_DATA_DIR}
    return sorted(name for name in environ if name.startswith("CDS_") and name not in known)


# Read by the tests and the training commands, which find public data sets by it.
_DATA_DIR = "CDS_DATA_DIR"


def _time_for_a_call(settings: Settings) -> None:
    for name in ("read_timeout_ms", "deadline_ms"):
        if getattr(settings, name) >= settings.call_timeout_ms:
            raise SettingsError(
                f"CDS_CALL_TIMEOUT_MS={settings.call_timeout_ms}: must be longer than "
                f"CDS_{name.upper()}, {getattr(settings, name)}, which is a part of it"
            )


# A file in its place is how containers are given secrets:
# https://docs.docker.com/compose/how-tos/use-secrets/
def _with_keys_of_file(settings: Settings) -> Settings:
    path = settings.store_keys_file
    if path is None:
        return settings
    if settings.store_keys:
        raise SettingsError("CDS_STORE_KEYS and CDS_STORE_KEYS_FILE: give one of the two")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is no text"
        raise SettingsError(f"CDS_STORE_KEYS_FILE={str(path)!r}: {why}") from fault
    try:
        return replace(settings, store_keys=_store_keys(text))
    except ValueError as fault:
        raise SettingsError(f"CDS_STORE_KEYS_FILE={str(path)!r}: {fault}") from None


# What they hold is never said, right or wrong.
_SECRETS = frozenset({"CDS_STORE_KEYS"})


def _read(variable: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text.strip())
    except ValueError as fault:
        if variable in _SECRETS:
            raise SettingsError(f"{variable}: {fault}") from None
        raise SettingsError(f"{variable}={text!r}: {fault}") from fault


def _profile(text: str) -> Profile:
    match text.lower():
        case "production":
            return "production"
        case "demo":
            return "demo"
    raise ValueError("must be 'production' or 'demo'")


def _delivery(text: str) -> Delivery:
    match text.lower():
        case "in-process":
            return "in-process"
        case "apart":
            return "apart"
    raise ValueError("must be 'in-process' or 'apart'")


def _store_keys(text: str) -> tuple[bytes, ...]:
    """Separated by commas or white space, in the order in which they were given."""
    found = [part for part in re.split(r"[,\s]+", text) if part]
    if not found:
        raise ValueError("holds no key")
    return tuple(dict.fromkeys(_store_key(part, n) for n, part in enumerate(found, start=1)))


def _store_key(text: str, number: int) -> bytes:
    make = "make one with: openssl rand -base64 32"
    try:
        key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        raise ValueError(f"key {number} is not Base64; {make}") from None
    if len(key) != 32:
        raise ValueError(f"key {number} has {len(key)} bytes, not 32; {make}")
    # Of 32 random bytes some 30 differ: this is a placeholder that nobody filled in.
    if len(set(key)) < 16:
        raise ValueError(f"key {number} is not random; {make}")
    return key


def _fingerprints(text: str) -> tuple[str, ...]:
    found = tuple(part for part in re.split(r"[,\s]+", text) if part)
    if not all(re.fullmatch("[0-9a-f]{16}", part) for part in found):
        raise ValueError("must be fingerprints, as `cds-service store check` shows them")
    return found


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    if parts.query or parts.fragment or parts.username:
        raise ValueError("must have no query, fragment or user name")
    return text.rstrip("/")


def _count(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def _log_level(text: str) -> str:
    if text.upper() not in logging.getLevelNamesMapping():
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return text.upper()


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        # RFC 6454: an origin is scheme, host and port; a path in it would never match.
        if origin != "*" and (not parts.scheme or not parts.hostname or parts.path):
            raise ValueError("must be a comma-separated list of origins such as https://ehr.org")
    return origins


def _time_zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, IsADirectoryError) as fault:
        raise ValueError("must be a time zone such as Europe/Vienna") from fault


def _database_url(text: str) -> str:
    if "://" not in text:
        raise ValueError("must be a SQLAlchemy URL such as sqlite:///var/cds.db")
    return text


_PARSERS: dict[str, Callable[[str], object]] = {
    "profile": _profile,
    "public_url": _url,
    "database_url": _database_url,
    "store_keys": _store_keys,
    "store_keys_file": Path,
    "store_keys_lost": _fingerprints,
    "delivery": _delivery,
    "clients_file": Path,
    "hooks_file": Path,
    "model_dir": Path,
    "workers": _count(1, 64),
    "max_body_bytes": _count(1_000, 1_000_000_000),
    # Above 500 Python's own recursion limit would be the bound, in someone else's code.
    "max_json_depth": _count(8, 500),
    "deadline_ms": _count(50, 60_000),
    "read_timeout_ms": _count(100, 600_000),
    "call_timeout_ms": _count(200, 900_000),
    "max_concurrent_calls": _count(1, 1_000),
    "max_waiting_calls": _count(0, 100_000),
    "max_connections": _count(1, 1_000_000),
    "cors_origins": _origins,
    # 45 CFR 164.316(b)(2)(i) says six; some states say seven, and so does this service.
    "audit_retention_years": _count(7, 100),
    "log_level": _log_level,
    "time_zone": _time_zone,
}
_VARIABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    field.name: (f"CDS_{field.name.upper()}", _PARSERS[field.name]) for field in fields(Settings)
}
