"""Which IP addresses this service may connect to. Pure.

A name in the clients file is the operator's word; the address that it resolves to is the word of
whoever answers for that name. So an address counts only where it is public, or lies in a private
network that the client's entry lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from types import MappingProxyType
from typing import TYPE_CHECKING

from cds_service.clients.urls import is_loopback, parse_base

if TYPE_CHECKING:
    from cds_service.clients.file import Client

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# What an entry may open. NAT64 is how an IPv6-only network reaches the rest (RFC 6052).
_PRIVATE = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",  # RFC 1918, these three
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",  # RFC 6598, shared by the customers of a carrier
            "127.0.0.0/8",
            "::1/128",
            "fc00::/7",  # RFC 4193
            "64:ff9b::/96",
        ),
    )
)
# RFC 6052, section 3.1: what stands behind this prefix is a public IPv4 address and nothing else.
_NAT64 = IPv6Network("64:ff9b::/96")
# Never, whatever an entry opens: here machines in clouds read their own credentials.
_METADATA = tuple(
    map(
        ip_network,
        (
            # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
            # and https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
            "fd00:ec2::/32",
            # https://cloud.google.com/compute/docs/metadata/querying-metadata
            "fd20:ce::254/128",
            # https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
            "100.100.100.200/32",
            # https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
            "168.63.129.16/32",
        ),
    )
)
# Not public either, though Python's `is_global` of some version says so.
# https://www.iana.org/assignments/iana-ipv6-special-registry
_SPECIAL = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",
            "192.88.99.0/24",  # 6to4 relays, RFC 7526
            "2001::/23",  # Teredo among them: it carries an IPv4 address that is not looked at
            "2002::/16",  # 6to4, the same
            "3fff::/20",  # documentation, RFC 9637
        ),
    )
)
# Global unicast (RFC 4291, section 2.4). IPv4 in IPv6, NAT64 and site-local lie outside of it.
_GLOBAL_UNICAST = IPv6Network("2000::/3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """`private`: host -> the private networks in which it may be. `demo`: loopback names (and no
    others) may be on loopback."""

    private: Mapping[str, tuple[Network, ...]] = field(default_factory=lambda: MappingProxyType({}))
    demo: bool = False

    def allows(self, host: str, address: str) -> bool:
        """True when a connection meant for `host` may go to `address`."""
        try:
            to = ip_address(address)
        except ValueError:
            return False
        if _in(to, _METADATA) or not _leads_out(to):
            return False
        if self.demo and is_loopback(host):
            return to.is_loopback
        return is_public(to) or _in(to, self.private.get(_name(host), ()))


def reach_of(clients: Iterable[Client], *, demo: bool) -> Reach:
    """Where these clients' FHIR servers, key sets and token endpoints may be.

    Two clients that name one host share what either of them lists for it.
    """
    private: dict[str, tuple[Network, ...]] = {}
    for client in clients:
        for host in filter(None, map(_host_of, _urls(client))):
            private[host] = (*private.get(host, ()), *client.private_networks)
    return Reach(private=MappingProxyType(private), demo=demo)


def read_network(text: str) -> Network:
    """A network in CIDR form that lies within a private one; raises ValueError."""
    network = ip_network(text)
    if not any(_within(network, private) for private in _PRIVATE):
        raise ValueError(f"{text} does not lie in a private network such as 10.0.0.0/8")
    return network


def is_public(address: Address) -> bool:
    """True for an address of the Internet at large."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    special = address.is_multicast or address.is_reserved or _in(address, _SPECIAL)
    return address.is_global and not special


def _leads_out(address: Address) -> bool:
    """False for what a translator would turn into a private, loopback or metadata address."""
    if isinstance(address, IPv4Address) or address not in _NAT64:
        return True
    behind = IPv4Address(address.packed[-4:])
    return is_public(behind) and not _in(behind, _METADATA)


def _in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _within(network: Network, private: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(private, IPv4Network) and network.subnet_of(private)
    return isinstance(private, IPv6Network) and network.subnet_of(private)


def _urls(client: Client) -> Iterable[str]:
    yield from client.fhir_servers
    if client.jwks_url:
        yield client.jwks_url
    if client.backend:
        yield client.backend.token_url


def _host_of(url: str) -> str | None:
    base = parse_base(url.partition("?")[0])
    return _name(base.host) if base else None


def _name(host: str) -> str:
    return host.lower().strip("[]").removesuffix(".")
