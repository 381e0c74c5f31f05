"""Which addresses may be connected to: the global internet, and what the configuration allows beside it.

A catalogue may come from strangers, and a URL in it must not reach what only this machine can reach: a database on
loopback, a cloud's metadata service, a neighbour in the private network. Names prove nothing (who owns a name decides
what it resolves to, and may decide otherwise a second later), so the address is judged where the socket is made.
The lists are those of the IANA special-purpose address registries (RFC 6890 and its updates); Python's own
`is_global` is not used, because what it says differs between patch releases.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeVar

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

Network = IPv4Network | IPv6Network
S = TypeVar("S", bound=socket.socket)

_SPECIAL_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, the clouds' metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")  # everything else is loopback, local, multicast, mapped or not assigned
_SPECIAL_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # how a network without IPv4 reaches the IPv4 internet


class AddressRefused(OSError):
    """A connection to an address that is not global was asked for and not made."""

    def __init__(self, address: str) -> None:
        super().__init__(errno.EACCES, f"{address} is not an address of the global internet")
        self.address = address


class AddressRules:
    """Judges addresses.

    Args:
        allowed: networks beside the global internet, like `10.20.0.0/16`.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed: tuple[Network, ...] = tuple(ip_network(network) for network in allowed)

    def permit(self, text: str) -> bool:
        """Whether `text`, an address as `getaddrinfo` and `connect` write it, may be connected to."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                return False
            if address.ipv4_mapped is not None:  # the kernel connects to the IPv4 address
                address = address.ipv4_mapped
        return any(address in network for network in self._allowed) or is_global(address)

    def make_socket(self, address: AddrInfoType, kind_of_socket: type[S]) -> S:
        """The socket for a connection to that very address, from within aiohttp's `socket_factory`.

        Raises:
            AddressRefused: before anything is sent.
        """
        family, kind, protocol, _, place = address
        host = str(place[0])
        if family not in (socket.AF_INET, socket.AF_INET6) or not self.permit(host):
            raise AddressRefused(host)
        return kind_of_socket(family=family, type=kind, proto=protocol)


class JudgingResolver(AbstractResolver):
    """Resolves, and leaves out what may not be connected to: so a refusal is known as one, and nothing is tried twice.

    It is not what keeps us safe, `AddressRules.make_socket` is.
    """

    def __init__(self, inner: AbstractResolver, rules: AddressRules) -> None:
        self._inner = inner
        self._rules = rules

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises AddressRefused when there are addresses and none of them is permitted."""
        found = await self._inner.resolve(host, port, family)
        permitted = [each for each in found if self._rules.permit(each["host"])]
        if found and not permitted:
            raise AddressRefused(found[0]["host"])
        return permitted

    async def close(self) -> None:
        await self._inner.close()


def is_global(address: IPv4Address | IPv6Address) -> bool:
    """Whether anybody on the internet can reach that address, tunnels and translators seen through."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address in _NAT64:
        return is_global(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def odd_ipv4(host: str) -> bool:
    """Whether `host` is an IPv4 address in a notation that only the C library understands: `0x7f.1`, `2130706433`."""
    try:
        packed = socket.inet_aton(host)
    except (OSError, UnicodeError, ValueError):
        return False
    return socket.inet_ntoa(packed) != host
