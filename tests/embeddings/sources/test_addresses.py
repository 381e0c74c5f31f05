"""Nothing but the global internet, and what is allowed beside it, is ever connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embeddings.refused import Refused
from embeddings.sources.addresses import AddressRefused, AddressRules, is_global, odd_ipv4
from tests.embeddings.sources.conftest import MakeReader
from tests.embeddings.sources.web import Names, Website

SPECIAL = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "ff0e::1", "100::1", "5f00::1",
    "2001:db8::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:20::1", "2002:7f00:1::", "2002:808:808::", "3fff::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1", "64:ff9b:1::808:808", "fe80::1%lo", "2606:4700::1111%eth0", "localhost", "", "1.2.3",
]  # fmt: skip
GLOBAL = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
    "192.167.255.255", "198.17.255.255", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_not_permitted(address: str) -> None:
    assert not AddressRules().permit(address)


@pytest.mark.parametrize("address", GLOBAL)
def test_a_global_address_is_permitted(address: str) -> None:
    assert AddressRules().permit(address)


def test_an_allowed_network_is_permitted_and_its_neighbours_are_not() -> None:
    rules = AddressRules(["10.20.0.0/16", "fd00:1::/32"])
    assert rules.permit("10.20.255.1")
    assert rules.permit("::ffff:10.20.0.1")  # the same address to the kernel
    assert rules.permit("fd00:1::9")
    assert not rules.permit("10.21.0.1")
    assert not rules.permit("fd00:2::9")


@given(st.ip_addresses(v=4))
def test_no_notation_of_an_ipv4_address_is_judged_otherwise(address: IPv4Address) -> None:
    rules, number = AddressRules(), int(address)
    assert rules.permit(str(address)) == is_global(address)
    assert rules.permit(f"::ffff:{address}") == is_global(address)
    assert rules.permit(str(IPv6Address(0x64FF9B << 96 | number))) == is_global(address)
    assert not rules.permit(str(IPv6Address(0x2002 << 112 | number << 80)))  # 6to4
    assert not rules.permit(str(IPv6Address(number)))
    for odd in (str(number), hex(number), f"{oct(number)[0]}{oct(number)[2:]}", f"{number >> 24}.{number & 0xFFFFFF}"):
        assert not rules.permit(odd)
        assert odd_ipv4(odd)


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_that_python_calls_private_is_special(address: IPv4Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert not is_global(address) or address in (IPv4Address("192.0.0.9"), IPv4Address("192.0.0.10"))


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_that_python_calls_private_is_special(address: IPv6Address) -> None:
    if address.ipv4_mapped is None and (address.is_private or address.is_link_local or address.is_multicast):
        assert not is_global(address)


def notations(number: int) -> list[str]:
    """All the ways to write one IPv4 address into a URL."""
    a, b, c, d = number >> 24, number >> 16 & 255, number >> 8 & 255, number & 255
    plain = f"{a}.{b}.{c}.{d}"
    return [
        plain, plain + ".", str(number), hex(number), f"0{number:o}", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.{b}.{c}.{d}", f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}", f"[::ffff:{plain}]",
        f"[::{plain}]", f"[64:ff9b::{plain}]", f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::]",
        plain.translate(str.maketrans("0123456789", "０１２３４５６７８９")), plain.replace(".", "。"),
        plain.replace(".", "%2e"), f"x@{plain}", f"example.org#@{plain}", f"{plain}%00.example.org",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def listeners() -> Iterator[tuple[Website, Website]]:
    """One server on all of IPv4 and one on IPv6's loopback, at one port."""
    four = Website("0.0.0.0")
    six = Website("::1", port=four.port)
    yield four, six
    four.close()
    six.close()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0x7F000001, 0x7FFFFFFE))
def test_no_notation_of_loopback_is_ever_connected_to(
    number: int, listeners: tuple[Website, Website], reader_of: MakeReader
) -> None:
    names = Names(any=["127.0.0.1 ::1"])  # whatever is taken for a name leads to loopback too
    reader = reader_of(allow_addresses=(), retries=0, make_resolver=lambda: names)
    for host in [*notations(number), "[::1]", "[::]", "0.0.0.0", "0", "localhost", "LOCALHOST", "[::1%25lo]"]:
        with pytest.raises(Refused) as caught:
            reader.read(f"http://{host}:{listeners[0].port}/")
        assert caught.value.reason in ("address_not_global", "host_unknown", "not_permitted"), host
    assert [site.connections for site in listeners] == [0, 0]


def test_localhost_is_refused_as_the_system_resolves_it(website: Website, reader_of: MakeReader) -> None:
    with pytest.raises(Refused) as caught:
        reader_of(allow_addresses=()).read(website.url("/", host="localhost"))
    assert caught.value.reason == "address_not_global"
    assert website.connections == 0


def test_the_servers_of_that_test_can_be_reached_where_it_is_allowed(
    listeners: tuple[Website, Website], reader_of: MakeReader
) -> None:
    for site, host in zip(listeners, ("127.0.0.1", "[::1]"), strict=True):
        site.content("/a", b"x")
        site.connections = 0
        reader = reader_of(allow_addresses=("127.0.0.0/8", "::1/128"), folder=host)
        assert reader.read(f"http://{host}:{site.port}/a") == b"x"
        assert site.connections == 1
        site.connections = 0


@pytest.mark.parametrize("addresses", ["127.0.0.1", "10.0.0.1 127.0.0.1 ::1", "::ffff:127.0.0.1", "0.0.0.0"])
def test_a_name_that_resolves_to_private_addresses_is_refused(
    website: Website, reader_of: MakeReader, addresses: str
) -> None:
    reader = reader_of(allow_addresses=(), make_resolver=lambda: Names(any=[addresses]))
    with pytest.raises(Refused) as caught:
        reader.read(website.url("/", host="pictures.example"))
    assert caught.value.reason == "address_not_global"
    assert website.connections == 0


def test_of_several_addresses_only_the_permitted_are_tried(website: Website, reader_of: MakeReader) -> None:
    website.content("/a", b"x")
    reader = reader_of(make_resolver=lambda: Names(any=["10.0.0.1 127.0.0.2 127.0.0.1 fe80::1"]))
    assert reader.read(website.url("/a", host="pictures.example")) == b"x"


def test_a_name_that_resolves_to_nothing_is_unknown(website: Website, reader_of: MakeReader) -> None:
    with pytest.raises(Refused) as caught:
        reader_of(make_resolver=Names).read("http://nowhere.example/")
    assert caught.value.reason == "host_unknown"


def test_a_name_whose_address_changes_between_two_questions_gains_nothing(
    website: Website, reader_of: MakeReader
) -> None:
    """DNS rebinding: permitted when it is first asked for, private from then on."""
    inner = Website("127.0.0.2", port=website.port)
    inner.content("/a", b"secret")
    website.answers("/a", 503)
    names = Names(any=["127.0.0.1", "127.0.0.2"])
    reader = reader_of(make_resolver=lambda: names, retries=1)
    for path in ("/a", "/b", "/c"):
        with pytest.raises(Refused):
            reader.read(website.url(path, host="rebinding.example"))
        reader.close()  # and with it what it remembered of the name
    assert website.connections == 1
    assert inner.connections == 0
    inner.close()


@pytest.mark.parametrize("addresses", [["127.0.0.2"], ["127.0.0.2", "10.0.0.1", "::1"]])
def test_the_socket_itself_refuses_whatever_a_resolver_says(addresses: list[str]) -> None:
    """The last line of defence, alone: aiohttp with our sockets and a resolver that nobody judges."""
    site = Website("127.0.0.2")

    rules = AddressRules(["127.0.0.1/32"])

    async def ask() -> None:
        connector = aiohttp.TCPConnector(
            resolver=Names(any=[" ".join(addresses)]),
            socket_factory=lambda address: rules.make_socket(address, socket.socket),
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            await session.get(site.url("/", host="anything.example"))

    with pytest.raises(aiohttp.ClientConnectorError):
        asyncio.run(ask())
    assert site.connections == 0
    site.close()


def test_only_internet_sockets_are_made() -> None:
    rules, place = AddressRules(["127.0.0.0/8"]), ("127.0.0.1", 80)
    made = rules.make_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place), socket.socket)
    assert made.family == socket.AF_INET
    made.close()
    with pytest.raises(AddressRefused):
        rules.make_socket((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", place), socket.socket)


def test_a_redirect_to_an_address_that_is_not_allowed_is_not_followed(website: Website, reader_of: MakeReader) -> None:
    inner = Website("127.0.0.2")
    inner.content("/secret", b"secret")
    for target in (inner.url("/secret"), inner.url("/secret", host="inner.example")):
        reader = reader_of(make_resolver=lambda: Names(any=["127.0.0.2"]), folder=target.replace("/", "_"))
        url = website.redirects("/a", target)
        with pytest.raises(Refused) as caught:
            reader.read(url)
        assert caught.value.reason == "address_not_global"
    assert inner.connections == 0
    inner.close()
