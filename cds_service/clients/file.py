"""The clients file: TOML in, frozen clients out, every field checked before the service starts."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from cds_service.clients.addresses import Network, read_network
from cds_service.clients.keys import Key, KeyFault, read_jwks, read_private_key
from cds_service.clients.urls import allowed_in, parse_base
from fhir_mapping.versions import FhirVersion

T = TypeVar("T")
WriteBack = Literal["backend", "inline", "system-action", "off"]

# CDS Hooks 2.0.1, "Trusting CDS Clients": never none, never symmetric; these two recommended.
RECOMMENDED_ALGORITHMS = ("ES384", "RS384")
ALGORITHMS = frozenset(
    ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
)


class ClientsFileError(Exception):
    """The clients file cannot be used. The message names the table and the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """SMART Backend Services: how this service gets a token of its own from a client's server."""

    token_url: str
    client_id: str
    private_key: Key = field(repr=False)
    algorithm: Literal["ES384", "RS384"]
    key_id: str | None = None
    # A conditional create searches before it creates: servers ask for both permissions.
    scope: str = "system/RiskAssessment.cs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One EHR that may call. Empty `audience`: the exact endpoint; empty `tenants`: any; no
    `fhir_version`: each call's own, by its resources.

    `fhir_servers` are in normal form. `keys` are those of `jwks_file`; with them no key is ever
    fetched, and `jwks_url` is no more than the one `jku` that a token may name.

    `private_networks` are those in which this client's servers may be; without any, only public
    addresses are connected to. `oauth_client_id` is what `fhirAuthorization.subject` must be.
    """

    name: str
    issuer: str | None = None
    jwks_url: str | None = None
    keys: tuple[Key, ...] | None = field(default=None, repr=False)
    algorithms: tuple[str, ...] = RECOMMENDED_ALGORITHMS
    audience: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    fhir_version: FhirVersion | None = None
    fhir_servers: tuple[str, ...] = ()
    private_networks: tuple[Network, ...] = ()
    oauth_client_id: str | None = None
    write_back: WriteBack = "off"
    backend: Backend | None = None


def read_clients(path: Path, *, demo: bool) -> tuple[Client, ...]:
    """The clients in `path`, in its order; files that it names are beside it.

    Raises ClientsFileError. In the demo profile loopback may be http, and a client that sends no
    JWT needs no issuer.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ClientsFileError(f"{path}: {fault}") from fault
    tables = document.pop("client", [])
    if document or not isinstance(tables, list):
        raise ClientsFileError(f"{path}: must hold [[client]] tables only")
    clients = tuple(
        _client(table, f"{path}: client {number}", path.parent, demo=demo)
        for number, table in enumerate(tables, start=1)
    )
    _each_its_own(path, "name", [client.name for client in clients])
    _each_its_own(path, "issuer", [client.issuer for client in clients if client.issuer])
    return clients


def _each_its_own(path: Path, what: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ClientsFileError(f"{path}: two clients have the {what} {value!r}")


def _client(table: Any, place: str, directory: Path, *, demo: bool) -> Client:
    if not isinstance(table, dict):
        raise ClientsFileError(f"{place}: must be a table")
    if isinstance(table.get("name"), str):
        place = f"{place} ({table['name']})"
    url = partial(_url, demo=demo)
    values = _read(
        table,
        place,
        {
            "name": _words,
            "issuer": _words,
            "jwks_url": url,
            "jwks_file": lambda value: read_jwks((directory / _words(value)).read_bytes()),
            "algorithms": partial(_list, of=_algorithm),
            "audience": partial(_list, of=_words),
            "tenants": partial(_list, of=_words),
            "fhir_version": lambda value: FhirVersion(_one_of(value, known=tuple(FhirVersion))),
            "fhir_servers": partial(_list, of=partial(_base, demo=demo)),
            "private_networks": partial(_list, of=_network),
            "oauth_client_id": _words,
            "write_back": partial(_one_of, known=get_args(WriteBack)),
            "backend": lambda value: _backend(value, f"{place}.backend", directory, demo=demo),
        },
    )
    if "jwks_file" in values:
        values["keys"] = values.pop("jwks_file")
    if "name" not in values:
        raise ClientsFileError(f"{place}: name is missing")
    client = Client(**values)
    _agrees_with_itself(client, place, demo=demo)
    return client


def _agrees_with_itself(client: Client, place: str, *, demo: bool) -> None:
    has_keys = client.jwks_url is not None or client.keys is not None
    if client.issuer is None and (has_keys or not demo):
        raise ClientsFileError(f"{place}: issuer is missing")
    if client.issuer is not None and not has_keys:
        raise ClientsFileError(f"{place}: jwks_url or jwks_file is missing")
    if not client.algorithms:
        raise ClientsFileError(f"{place}: algorithms is empty: no token could ever be valid")
    if client.write_back == "backend" and client.backend is None:
        bases = [parse_base(server) for server in client.fhir_servers]
        if not demo or not all(base and base.loopback for base in bases):
            raise ClientsFileError(f'{place}: write_back = "backend" needs [client.backend]')
    if client.write_back in ("backend", "inline") and not client.fhir_servers:
        raise ClientsFileError(f"{place}: write_back needs fhir_servers to write to")


def _backend(table: Any, place: str, directory: Path, *, demo: bool) -> Backend:
    if not isinstance(table, dict):
        raise ClientsFileError(f"{place}: must be a table")
    values = _read(
        table,
        place,
        {
            "token_url": partial(_url, demo=demo),
            "client_id": _words,
            "private_key_file": lambda value: read_private_key(
                (directory / _words(value)).read_bytes()
            ),
            "key_id": _words,
            "scope": _words,
        },
    )
    for name in ("token_url", "client_id", "private_key_file"):
        if name not in values:
            raise ClientsFileError(f"{place}: {name} is missing")
    values["private_key"] = values.pop("private_key_file")
    algorithm = "RS384" if values["private_key"].key_type == "RSA" else "ES384"
    return Backend(algorithm=algorithm, **values)  # type: ignore[arg-type]


def _read(
    table: Mapping[str, Any], place: str, readers: Mapping[str, Callable[[Any], Any]]
) -> dict[str, Any]:
    unknown = sorted(set(table) - set(readers))
    if unknown:
        raise ClientsFileError(f"{place}: {unknown[0]} is not a known field")
    values = {}
    for name, value in table.items():
        try:
            values[name] = readers[name](value)
        except (ValueError, KeyFault, OSError) as fault:
            raise ClientsFileError(f"{place}: {name}: {fault}") from fault
    return values


def _words(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value


def _list(value: Any, *, of: Callable[[Any], T]) -> tuple[T, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list")
    return tuple(of(item) for item in value)


def _one_of(value: Any, *, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return str(value)


def _network(value: Any) -> Network:
    return read_network(_words(value))


def _algorithm(value: Any) -> str:
    if value not in ALGORITHMS:
        raise ValueError(f"must be out of {', '.join(sorted(ALGORITHMS))}")
    return str(value)


def _base(value: Any, *, demo: bool) -> str:
    base = parse_base(_words(value))
    if base is None or not allowed_in(base, demo=demo):
        raise ValueError("must be a plain https base URL" + _loopback_too(demo=demo))
    return base.text


def _url(value: Any, *, demo: bool) -> str:
    """The URL as written: a `jku` and an assertion's `aud` are compared character by character."""
    url = _words(value)
    base = parse_base(url.partition("?")[0])
    if base is None or not allowed_in(base, demo=demo):
        raise ValueError("must be a plain https URL" + _loopback_too(demo=demo))
    return url


def _loopback_too(*, demo: bool) -> str:
    return " (http on loopback is allowed here)" if demo else ""
