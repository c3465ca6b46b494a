"""Addresses that webhooks of users may lead to, by IANA's registries of special-purpose addresses."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.notifiers.guard import is_public
from tests.rows import each_row

REGISTERED = {
    # https://www.iana.org/assignments/iana-ipv4-special-registry
    "this network": "0.0.0.0/8",
    "this host": "0.0.0.0/32",
    "private 10": "10.0.0.0/8",
    "shared": "100.64.0.0/10",
    "loopback": "127.0.0.0/8",
    "link-local": "169.254.0.0/16",
    "private 172": "172.16.0.0/12",
    "assignments of the IETF": "192.0.0.0/24",
    "DS-Lite": "192.0.0.0/29",
    "dummy": "192.0.0.8/32",
    "port control": "192.0.0.9/32",
    "traversal": "192.0.0.10/32",
    "NAT64 discovery": "192.0.0.170/31",
    "documentation 1": "192.0.2.0/24",
    "relays of 6to4": "192.88.99.0/24",
    "private 192": "192.168.0.0/16",
    "benchmarks": "198.18.0.0/15",
    "documentation 2": "198.51.100.0/24",
    "documentation 3": "203.0.113.0/24",
    "multicast": "224.0.0.0/4",
    "reserved": "240.0.0.0/4",
    "broadcast": "255.255.255.255/32",
    # https://www.iana.org/assignments/iana-ipv6-special-registry
    "IPv6 loopback": "::1/128",
    "IPv6 unspecified": "::/128",
    "IPv4-compatible": "::/96",
    "IPv4-translated": "::ffff:0:0:0/96",
    "NAT64 of a network": "64:ff9b:1::/48",
    "discard": "100::/64",
    "dummy IPv6": "100:0:0:1::/64",
    "IPv6 assignments of the IETF": "2001::/23",
    "Teredo": "2001::/32",
    "IPv6 port control": "2001:1::1/128",
    "IPv6 traversal": "2001:1::2/128",
    "IPv6 benchmarks": "2001:2::/48",
    "AMT": "2001:3::/32",
    "AS112": "2001:4:112::/48",
    "ORCHID": "2001:10::/28",
    "ORCHIDv2": "2001:20::/28",
    "drones": "2001:30::/28",
    "IPv6 documentation": "2001:db8::/32",
    "6to4": "2002::/16",
    "IPv6 documentation 2": "3fff::/20",
    "6bone": "3ffe::/16",
    "SRv6": "5f00::/16",
    "unique local": "fc00::/7",
    "IPv6 link-local": "fe80::/10",
    "site-local": "fec0::/10",
    "IPv6 multicast": "ff00::/8",
}
INSIDE = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "224.0.0.1", "255.255.255.255")
PUBLIC = ("1.1.1.1", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "198.20.0.0")
PUBLIC_IPV6 = ("2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:200::1", "2001:4860:4860::8888", "2003::1")


@each_row("name", REGISTERED)
def test_no_address_of_a_special_network_is_public(name: str) -> None:
    network = ip_network(REGISTERED[name])
    step = max(network.num_addresses // 8, 1)
    for at in {*range(0, network.num_addresses, step), network.num_addresses - 1}:
        assert not is_public(network[at]), network[at]


@each_row("address", [*PUBLIC, *PUBLIC_IPV6])
def test_an_address_on_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


FORMS = {
    "mapped": (IPv6Address("::ffff:0:0"), 0, True),
    "NAT64": (IPv6Address("64:ff9b::"), 0, True),
    "compatible": (IPv6Address("::"), 0, False),
    "translated": (IPv6Address("::ffff:0:0:0"), 0, False),
    "NAT64 of a network": (IPv6Address("64:ff9b:1::"), 0, False),
    "6to4": (IPv6Address("2002::"), 80, False),
    "Teredo server": (IPv6Address("2001::"), 64, False),
}
"""IPv6 addresses with an IPv4 address inside: the prefix, the bits after it, and whether a public one counts."""


@each_row("form", FORMS)
def test_an_ipv4_address_inside_an_ipv6_address_counts(form: str) -> None:
    prefix, shift, may_be_public = FORMS[form]
    for inner in (*INSIDE, *PUBLIC):
        address = IPv6Address(int(prefix) | int(IPv4Address(inner)) << shift)
        assert is_public(address) == (may_be_public and inner in PUBLIC), (address, inner)


@given(st.ip_addresses())
def test_no_address_is_public_that_python_takes_for_a_private_one(address: IPv4Address | IPv6Address) -> None:
    if is_public(address) and not (isinstance(address, IPv6Address) and address.ipv4_mapped):
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize("answer", [True, False])
def test_the_list_does_not_rely_on_the_version_of_python(answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """3.11 to 3.14 differ in `is_global`. Were it always true, the list alone would refuse the same."""
    for class_ in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        monkeypatch.setattr(class_, "is_global", property(lambda _: answer))
    for network in map(ip_network, REGISTERED.values()):
        assert not is_public(network[0])
        assert not is_public(network[-1])
    assert is_public(ip_address("1.1.1.1")) is answer
