"""Where the service may be sent: by a caller's spelling, a server's link, or a name's address."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from cds_service.clients import Client, Clients
from cds_service.clients.addresses import Reach, reach_of
from cds_service.clients.file import ClientsFileError, read_clients
from cds_service.clients.jwks import FetchedKeys
from cds_service.clients.outbound import (
    AddressRefused,
    CheckedNetwork,
    CheckedTransport,
    open_http,
)
from cds_service.fhir_client import FetchUnavailable, FhirClient, base_allowed
from cds_service.parts import Parts
from tests.conftest import NOW
from tests.fakes.hostile_fhir_server import HostileFhirServer
from tests.service import Service, patient_view, prefetch

CORPUS = Path(__file__).parents[1] / "payloads" / "ssrf"
PUBLIC, OTHER_PUBLIC = "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"
LISTED = "https://ehr.example.org/fhir"
EHR = Client(name="General Hospital", issuer="https://ehr.example.org", fhir_servers=(LISTED,))
OPEN = Reach(private={"ehr.example.org": (ip_network("127.0.0.0/8"),)})
AUTHORIZATION = {
    "access_token": "secret-token-of-the-call",
    "token_type": "Bearer",
    "expires_in": 300,
    "scope": "patient/*.read",
    "subject": "cds-service",
}


CORPUS_OF_SERVERS = json.loads((CORPUS / "fhir_servers.json").read_text())["entries"]


def entries(name: str) -> list[Any]:
    found = json.loads((CORPUS / name).read_text())["entries"]
    return [pytest.param(entry, id=entry["name"]) for entry in found]


@dataclass(slots=True)
class Network(httpcore.AsyncNetworkBackend):
    """Records where a connection goes; `slow` addresses never answer, `up` ones do, and loopback
    is reached `through` a real network where there is one."""

    through: httpcore.AsyncNetworkBackend | None = None

    up: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    went_to: list[tuple[str, int]] = field(default_factory=list)

    async def connect_tcp(  # type: ignore[override]
        self, host: str, port: int, *_: Any, **__: Any
    ) -> httpcore.AsyncNetworkStream:
        self.went_to.append((host, port))
        if self.through is not None and host == "127.0.0.1":
            return await self.through.connect_tcp(host, port)
        if host in self.slow:
            await asyncio.Event().wait()
        if host not in self.up:
            raise httpcore.ConnectError
        return httpcore.AsyncMockStream([])


@dataclass(slots=True)
class Names:
    """A resolver that gives each of `answers` once, the last one for ever."""

    answers: list[list[str]]
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


# Spellings ----------------------------------------------------------------------------------


@pytest.mark.proves(40)
def test_each_spelling_goes_to_the_one_place_that_it_means_or_nowhere(parts: Parts) -> None:
    """The whole service; each name looked up, connection and request is on record."""
    with HostileFhirServer() as server:
        port = server.url.rpartition(":")[2]
        names, network = Names([[PUBLIC]]), Network(through=httpcore.AnyIOBackend())
        checked = CheckedNetwork(Reach(demo=True), resolve=looked_up(names), network=network)
        fhir = FhirClient(CheckedTransport(checked))
        service = Service.of(replace(parts, clients=Clients((EHR,), demo=True), fhir=fhir))
        expected, went, heard = {}, {}, {}
        for entry in CORPUS_OF_SERVERS:
            url, goes_to = (str(entry[k] or "").replace("{port}", port) for k in ("url", "goes_to"))
            expected[entry["name"]] = [goes_to] if goes_to else []
            for record in (names.asked, network.went_to, server.heard):
                record.clear()
            answer = service.call(call_of(url))
            assert answer.status_code in ((200,) if goes_to.endswith(port) else (400, 412))
            went[entry["name"]] = [f"{host}:{number}" for host, number in names.asked]
            assert len(network.went_to) == len(names.asked)
            heard[entry["name"]] = len(server.heard)
    assert went == expected
    assert heard == {name: int(place == [f"127.0.0.1:{port}"]) for name, place in went.items()}


@pytest.mark.parametrize("entry", entries("fhir_servers.json"))
def test_production_knows_the_listed_base_only(entry: dict[str, Any]) -> None:
    allowed = LISTED if entry["goes_to"] == "ehr.example.org:443" else None
    assert base_allowed(entry["url"].replace("{port}", "8080"), EHR, "production") == allowed
    assert base_allowed(entry["url"].replace("{port}", "8080"), None, "production") is None


@pytest.mark.parametrize("entry", entries("next_links.json"))
def test_a_next_link_stays_below_the_base_or_is_not_followed(entry: dict[str, Any]) -> None:
    with HostileFhirServer() as elsewhere, HostileFhirServer() as server:
        server.misbehaves = {"Condition": "next as told"}
        server.next_link = filled(entry["link"], server, elsewhere)
        fetched = fetch(server, "Condition?patient=p1")
    assert [heard.target for heard in server.heard[1:]] == (
        [entry["follows"]] if entry["follows"] else []
    )
    assert fetched.complete is bool(entry["follows"])
    assert elsewhere.heard == []


def looked_up(names: Names) -> Callable[[str, int], Any]:
    async def resolve(host: str, port: int) -> list[str]:
        addresses = await names(host, port)
        return [host] if host == "127.0.0.1" else addresses

    return resolve


def call_of(url: str) -> dict[str, Any]:
    sent = {key: value for key, value in prefetch().items() if key != "patient"}
    return patient_view(prefetch=sent, fhirServer=url, fhirAuthorization=AUTHORIZATION)


def filled(link: str, server: HostileFhirServer, elsewhere: HostileFhirServer) -> str:
    known = {
        "{base}": server.base,
        "{host}": server.url.removeprefix("http://"),
        "{port}": server.url.rpartition(":")[2],
        "{elsewhere}": elsewhere.url,
        "{elsewhere_host}": elsewhere.url.removeprefix("http://"),
    }
    for name, value in known.items():
        link = link.replace(name, value)
    return link


def fetch(server: HostileFhirServer, query: str) -> Any:
    async def whole() -> Any:
        client = FhirClient(reach=Reach(demo=True))
        try:
            return await client.get(server.base, query, "t")
        finally:
            await client.close()

    return asyncio.run(whole())


# Addresses ----------------------------------------------------------------------------------

NEVER = [
    "0.0.0.0",  # noqa: S104
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "not an address",
    "",
]


@pytest.mark.parametrize("address", NEVER)
def test_an_address_that_is_not_public_is_not_connected_to(address: str) -> None:
    assert not Reach().allows("ehr.example.org", address)
    assert not Reach(demo=True).allows("ehr.example.org", address)


@pytest.mark.parametrize("address", ["8.8.8.8", PUBLIC, OTHER_PUBLIC, "172.32.0.1", "100.128.0.1"])
def test_a_public_address_is_connected_to(address: str) -> None:
    assert Reach().allows("ehr.example.org", address)


def test_an_entry_opens_its_own_network_for_its_own_hosts() -> None:
    here = Client(
        name="a",
        jwks_url="https://Keys.example.org./jwks.json?x=1",
        fhir_servers=("https://fhir.example.org/fhir", "https://[2606:4700::1]/fhir"),
        private_networks=(ip_network("10.20.0.0/16"), ip_network("fc00::/7")),
    )
    reach = reach_of((here, EHR), demo=False)
    for host in ("fhir.example.org", "FHIR.example.org.", "keys.example.org", "2606:4700::1"):
        assert reach.allows(host, "10.20.3.4")
        assert reach.allows(host, "fd12::1")
        assert not reach.allows(host, "10.21.3.4")
        assert not reach.allows(host, "127.0.0.1")
        assert not reach.allows(host, "fd00:ec2::254"), "metadata, whatever an entry opens"
        assert not reach.allows(host, "fd00:ec2::23"), "credentials of a pod, the same"
        assert not reach.allows(host, "fd20:ce::254")
    assert not reach.allows("ehr.example.org", "10.20.3.4"), "another client's host"
    assert not reach.allows("other.example.org", "10.20.3.4")


def test_a_translator_leads_to_public_addresses_only() -> None:
    """NAT64, where an IPv6-only network reaches the rest (RFC 6052, section 3.1)."""
    reach = Reach(private={"ehr.example.org": (ip_network("64:ff9b::/96"),)})
    assert reach.allows("ehr.example.org", f"64:ff9b::{PUBLIC}")
    for behind in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "0.0.0.0"):  # noqa: S104
        assert not reach.allows("ehr.example.org", f"64:ff9b::{behind}")


def test_loopback_is_for_loopback_names_of_the_demo_profile() -> None:
    demo = Reach(demo=True)
    for host in ("localhost", "127.0.0.1", "::1"):
        assert demo.allows(host, "127.0.0.1")
        assert demo.allows(host, "::1")
        assert not demo.allows(host, PUBLIC), "a resolver that sends localhost elsewhere"
        assert not Reach().allows(host, "127.0.0.1")


@pytest.mark.parametrize(
    "network",
    ["0.0.0.0/0", "::/0", "169.254.0.0/16", "8.8.8.0/24", "10.0.0.1/8", "10.0.0.0/7", "x", ""],
)
def test_a_network_that_is_not_private_cannot_be_opened(network: str, tmp_path: Path) -> None:
    with pytest.raises(ClientsFileError, match="private_networks"):
        read_clients(a_file(tmp_path, network), demo=True)


def test_private_networks_are_read_from_the_clients_file(tmp_path: Path) -> None:
    (client,) = read_clients(a_file(tmp_path, "10.20.0.0/16"), demo=True)
    assert client.private_networks == (ip_network("10.20.0.0/16"),)


def a_file(directory: Path, network: str) -> Path:
    path = directory / "clients.toml"
    path.write_text(f'[[client]]\nname = "a"\nprivate_networks = ["{network}"]\n')
    return path


# Connections --------------------------------------------------------------------------------


def connect(names: Names, network: Network, reach: Reach | None = None) -> Any:
    checked = CheckedNetwork(reach or Reach(), resolve=names, network=network)
    return asyncio.run(checked.connect_tcp("ehr.example.org", 443, timeout=30))


def test_a_name_that_changes_its_address_gains_nothing() -> None:
    names, network = Names([[PUBLIC], ["127.0.0.1"]]), Network(up=(PUBLIC,))
    connect(names, network)
    assert names.asked == [("ehr.example.org", 443)], "resolved once"
    assert network.went_to == [(PUBLIC, 443)], "to the address that was checked, not to the name"
    with pytest.raises(AddressRefused):
        connect(names, network)
    assert network.went_to == [(PUBLIC, 443)]


def test_of_several_addresses_only_those_allowed_are_tried() -> None:
    network = Network(up=("127.0.0.1", PUBLIC))
    connect(Names([["127.0.0.1", "::ffff:10.0.0.1", PUBLIC]]), network)
    assert network.went_to == [(PUBLIC, 443)]


def test_an_address_that_fails_or_keeps_silent_does_not_keep_the_next_one() -> None:
    for network in (Network(up=(PUBLIC,)), Network(up=(PUBLIC,), slow=(OTHER_PUBLIC,))):
        connect(Names([[OTHER_PUBLIC, PUBLIC]]), network)
        assert network.went_to == [(OTHER_PUBLIC, 443), (PUBLIC, 443)]


def test_when_no_address_answers_it_is_a_connect_error() -> None:
    with pytest.raises(httpcore.ConnectError):
        connect(Names([[OTHER_PUBLIC, PUBLIC]]), Network())


def test_a_refused_address_is_a_fault_without_a_request_and_the_log_says_what_to_do() -> None:
    async def whole(url: str) -> None:
        client = FhirClient()
        try:
            await client.get(url, "Patient/p1", "t")
        finally:
            await client.close()

    with (
        capture_logs() as logged,
        HostileFhirServer() as server,
        pytest.raises(FetchUnavailable, match="address is not allowed"),
    ):
        asyncio.run(whole(server.base))
    assert server.heard == []
    (line,) = logged
    assert (line["host"], line["addresses"]) == ("127.0.0.1", ["127.0.0.1"])
    assert "private_networks" in line["hint"]


def test_a_key_set_at_an_address_that_is_not_allowed_is_not_fetched() -> None:
    async def whole(url: str, reach: Reach) -> None:
        async with open_http(reach=reach) as http:
            assert await FetchedKeys(url, http).find("k") == []

    with HostileFhirServer() as server:
        asyncio.run(whole(f"{server.url}/jwks.json", reach_of((EHR,), demo=False)))
        assert server.heard == []
        asyncio.run(whole(f"{server.url}/jwks.json", reach_of((EHR,), demo=True)))
        assert len(server.heard) == 1


# TLS ----------------------------------------------------------------------------------------


@contextmanager
def tls_server(folder: Path, name: str) -> Iterator[tuple[int, list[str | None], Path]]:
    """A TLS server on loopback whose certificate is for `name`: its port, the names asked for,
    and the certificate to trust."""
    certificate = a_certificate(folder, name)
    context, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[str | None]()
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, server_name, _context: asked.append(server_name)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            except OSError:
                raw.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], asked, certificate
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def a_certificate(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=3650))
        .not_valid_after(NOW + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def ask(port: int, certificate: Path) -> int:
    async def whole() -> int:
        network = CheckedNetwork(OPEN, resolve=Names([["127.0.0.1"]]))
        trust = ssl.create_default_context(cafile=str(certificate))
        async with open_http(CheckedTransport(network, verify=trust)) as http:
            return (await http.get(f"https://ehr.example.org:{port}/")).status_code

    return asyncio.run(whole())


def test_tls_is_made_with_the_name_over_the_address_that_was_checked(tmp_path: Path) -> None:
    with tls_server(tmp_path, "ehr.example.org") as (port, asked, certificate):
        assert ask(port, certificate) == 204
    assert asked == ["ehr.example.org"]


def test_a_certificate_for_another_name_is_refused_at_an_allowed_address(tmp_path: Path) -> None:
    with (
        tls_server(tmp_path, "other.example.org") as (port, asked, certificate),
        pytest.raises(httpx.ConnectError, match="certificate"),
    ):
        ask(port, certificate)
    assert asked == ["ehr.example.org"]


def test_the_host_header_names_the_host_and_not_its_address() -> None:
    async def whole(port: str) -> None:
        network = CheckedNetwork(OPEN, resolve=Names([["127.0.0.1"]]))
        async with open_http(CheckedTransport(network)) as http:
            await http.get(f"http://ehr.example.org:{port}/fhir/Patient/p1")

    with HostileFhirServer() as server:
        port = server.url.rpartition(":")[2]
        asyncio.run(whole(port))
    assert [heard.headers["host"] for heard in server.heard] == [f"ehr.example.org:{port}"]
