"""The client's address: trusted proxies, PROXY headers, X-Forwarded-For, and hostile values of both."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.transport.proxies import (
    MAX_HOPS,
    NO_HEADER,
    V1_MAX_BYTES,
    V2_MAX_BYTES,
    InvalidProxyHeader,
    ProxyHeader,
    TrustedProxies,
    address_key,
    forwarded_address,
    parse_proxy_header,
)
from tests.rows import each_row

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GET = b"GET / HTTP/1.1\r\nHost: alo\r\n\r\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UNIX = 0x11, 0x12, 0x21, 0x31
FOUR = IPv4Address("192.0.2.7").packed + IPv4Address("10.0.0.1").packed + b"\xdc\x04\x01\xbb"
SIX = IPv6Address("2001:db8::7").packed + IPv6Address("fd00::1").packed + b"\xdc\x04\x01\xbb"
MAPPED = IPv6Address("::ffff:192.0.2.7").packed + SIX[16:]
TLVS = b"\x04\x00\x05\0\0\0\0\0" + b"\x02\x00\x03alo"

PROXIES = TrustedProxies.parse("10.0.0.0/8, 127.0.0.1, fd00::/8")


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + body


HEADERS = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n", "192.0.2.7"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 0 0\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:DB8::7 fd00::1 56324 443\r\n", "2001:db8::7"),
    (b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", ":".join(["ffff"] * 8)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 56324 443\r\n", "192.0.2.7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN \xff anything \r or \n\r\n", None),
    (b"PROXY UNKNOWN " + b"x" * (V1_MAX_BYTES - 16) + b"\r\n", None),
    (v2(PROXY, TCP4, FOUR), "192.0.2.7"),
    (v2(PROXY, TCP4, FOUR + TLVS), "192.0.2.7"),
    (v2(PROXY, TCP6, SIX), "2001:db8::7"),
    (v2(PROXY, TCP6, SIX + TLVS), "2001:db8::7"),
    (v2(PROXY, TCP6, MAPPED), "192.0.2.7"),
    (v2(PROXY, TCP4, FOUR + bytes(V2_MAX_BYTES - 28)), "192.0.2.7"),
    (v2(PROXY, 0x00, b""), None),
    (v2(PROXY, 0x00, FOUR), None),
    (v2(PROXY, UDP4, FOUR), None),
    (v2(PROXY, UNIX, bytes(216)), None),
    (v2(LOCAL, 0x00, b""), None),
    (v2(LOCAL, TCP4, FOUR), None),
    (v2(LOCAL, TCP4, b""), None),
    (v2(LOCAL, 0xFF, TLVS), None),
]

MALFORMED = [
    (b"PROXY\r\n", "v1 line"),
    (b"PROXY \r\n", "v1 line"),
    (b"PROXYTCP4 192.0.2.7 10.0.0.1 1 2\r\n", "v1 line"),
    (b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n", "v1 line"),
    (b"PROXY\tTCP4 192.0.2.7 10.0.0.1 1 2\r\n", "v1 line"),
    (b"PROXY UNKNOWNS\r\n", "v1 line"),
    (b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n", "v1 line"),
    (b"PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 \xb2 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.02.7 10.0.0.1 1 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 nowhere 1 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.1 1 2\r\n", "v1 line"),
    (b"PROXY TCP4 2001:db8::7 fd00::1 1 2\r\n", "v1 line"),
    (b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 fd00::1 1 2\r\n", "v1 line"),
    (b"PROXY TCP6 fe80::1%eth0 fd00::1 1 2\r\n", "v1 line"),
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2".ljust(V1_MAX_BYTES, b"\n"), "CRLF within 107 bytes"),
    (b"PROXY UNKNOWN " + b"x" * (V1_MAX_BYTES - 15) + b"\r\n", "CRLF within 107 bytes"),
    (b"PROXY / HTTP/1.1\r\n", "v1 line"),
    (v2(0x11, TCP4, FOUR), "0x20 or 0x21, not 0x11"),
    (v2(0x31, TCP4, FOUR), "0x20 or 0x21, not 0x31"),
    (v2(0x22, TCP4, FOUR), "0x20 or 0x21, not 0x22"),
    (v2(0x00, TCP4, FOUR), "0x20 or 0x21, not 0x00"),
    (v2(PROXY, 0x41, FOUR), "family and protocol 0x41"),
    (v2(PROXY, 0x13, FOUR), "family and protocol 0x13"),
    (v2(PROXY, TCP4, FOUR[:-1]), "have 12 bytes, not 11"),
    (v2(PROXY, TCP4, b""), "have 12 bytes, not 0"),
    (v2(PROXY, TCP6, FOUR), "have 36 bytes, not 12"),
    (v2(PROXY, TCP6, SIX[:-1]), "have 36 bytes, not 35"),
    (v2(PROXY, TCP4, FOUR, V2_MAX_BYTES - 15), "4097 bytes, more than 4096"),
    (v2(LOCAL, 0x00, b"", 0xFFFF), "65551 bytes, more than 4096"),
]

NONE = [
    GET,
    b"\r\n" + GET,
    b"\r\n\r\n\0\r\nQUIT\r",
    b"POST /",
    b"PROPFIND /",
    b"proxy TCP4",
    b" PROXY",
    b"\x16\x03\x01",
    b"Q",
]


def outcome(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse_proxy_header(data)
    except InvalidProxyHeader as error:
        return f"refused: {error}"


@each_row(("header", "address"), HEADERS)
def test_a_header_names_the_client_and_its_own_size(header: bytes, address: str | None) -> None:
    assert parse_proxy_header(header) == (address, len(header))
    assert parse_proxy_header(header + GET) == (address, len(header)), "bytes after the header belong to the client"


@each_row(("data", "why"), MALFORMED)
def test_a_malformed_header_is_refused_with_what_is_wrong(data: bytes, why: str) -> None:
    with pytest.raises(InvalidProxyHeader, match=why):
        parse_proxy_header(data)


@each_row("data", NONE)
def test_other_bytes_are_no_header_and_nothing_is_dropped(data: bytes) -> None:
    assert parse_proxy_header(data) == NO_HEADER == (None, 0)


@each_row("whole", [*(header for header, _ in HEADERS), *(data for data, _ in MALFORMED), *NONE])
def test_a_header_may_arrive_byte_by_byte(whole: bytes) -> None:
    """The parser asks for more bytes until it can decide; later bytes do not change its result."""
    outcomes = [outcome(whole[:end]) for end in range(len(whole) + 1)]
    decided = next(end for end, each in enumerate(outcomes) if each is not None)
    verdict = outcomes[decided]
    assert outcomes[:decided] == [None] * decided
    assert set(outcomes[decided:]) == {verdict} == {outcome(whole + GET)}
    if isinstance(verdict, ProxyHeader) and verdict.size:
        assert decided == verdict.size, (
            "the header's last byte decides, so the parser never asks for a byte of the client's"
        )


def test_nothing_asks_for_more_than_the_bounds() -> None:
    assert parse_proxy_header(b"PROXY".ljust(V1_MAX_BYTES - 1)) is None
    assert isinstance(outcome(b"PROXY".ljust(V1_MAX_BYTES)), str)
    longest = v2(PROXY, TCP4, FOUR + bytes(V2_MAX_BYTES - 28))
    assert len(longest) == V2_MAX_BYTES
    assert parse_proxy_header(longest[:-1]) is None


words = st.sampled_from(
    [
        b"PROXY",
        b" ",
        b"TCP4",
        b"TCP6",
        b"UNKNOWN",
        b"1.2.3.4",
        b"::1",
        b"::ffff:1.2.3.4",
        b"1",
        b"65536",
        b"\r\n",
        b"\0",
    ]
)
near_headers = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda rest: b"PROXY " + b"".join(rest), st.lists(words | st.binary(max_size=3), max_size=14)),
    st.builds(
        lambda four, rest: SIGNATURE + four + rest,
        st.binary(max_size=4) | st.tuples(*[st.sampled_from(b"\x00\x01\x10\x11\x12\x20\x21\x31")] * 4).map(bytes),
        st.binary(max_size=300),
    ),
)


@given(near_headers, st.binary(max_size=200))
@example(v2(PROXY, TCP6, MAPPED), b"")
def test_any_bytes_are_a_header_or_none_or_refused_and_no_cut_changes_which(data: bytes, following: bytes) -> None:
    verdict = outcome(data)
    if verdict is None:
        assert len(data) < V2_MAX_BYTES
    else:
        assert outcome(data + following) == verdict
    if isinstance(verdict, ProxyHeader):
        assert 0 <= verdict.size <= len(data)
        assert verdict.address is None or str(ip_address(verdict.address)) == verdict.address
    for end in range(len(data)):
        assert outcome(data[:end]) in (None, verdict)


@each_row("address", ["10.0.0.1", "10.255.255.255", "127.0.0.1", "::ffff:10.0.0.1", "::FFFF:a00:1", "fd12::1"])
def test_addresses_of_the_list_are_trusted_however_they_are_written(address: str) -> None:
    assert address in PROXIES


@each_row("address", ["11.0.0.1", "127.0.0.2", "::1", "fe80::1", "::10.0.0.1", "::ffff:11.0.0.1", "fd12::1%eth0"])
def test_other_addresses_are_not_trusted(address: str) -> None:
    assert address not in PROXIES


@each_row("peer", ["", "/run/alo.sock", "10.0.0.1 ", "010.0.0.1", "10.0.0.1:80", b"\n\0\0\1", 10 << 24, None, "\0"])
def test_a_peer_without_an_ip_address_is_not_trusted(peer: object) -> None:
    """The name of an abstract Unix socket is bytes, which `ipaddress` would read as the packed 10.0.0.1."""
    assert peer not in PROXIES


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_list_trusts_no_peer(text: str) -> None:
    assert TrustedProxies.parse(text) == TrustedProxies()
    assert "127.0.0.1" not in TrustedProxies.parse(text)


def test_a_network_of_mapped_addresses_is_the_ipv4_network() -> None:
    trusted = TrustedProxies.parse("::ffff:10.0.0.0/104,::ffff:192.0.2.7")
    assert trusted == TrustedProxies.parse("10.0.0.0/8,192.0.2.7")


@each_row(
    ("text", "sentence"),
    [
        ("localhost", "'localhost' is neither an IP address nor a network such as 10.0.0.0/8"),
        ("10.0.0.0/33", "'10.0.0.0/33' is neither an IP address nor a network such as 10.0.0.0/8"),
        ("127.0.0.1,", "'' is neither an IP address nor a network such as 10.0.0.0/8"),
        ("127.0.0.1 10.0.0.1", "'127.0.0.1 10.0.0.1' is neither an IP address nor a network such as 10.0.0.0/8"),
        ("127.0.0.1:80", "'127.0.0.1:80' is neither an IP address nor a network such as 10.0.0.0/8"),
        ("10.0.0.1/8", "'10.0.0.1/8' has bits beyond its prefix; the network is 10.0.0.0/8"),
        ("fd00::1/8", "'fd00::1/8' has bits beyond its prefix; the network is fd00::/8"),
        ("fe80::1%eth0", "'fe80::1%eth0' names a zone; give the address without it"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_what_is_wrong(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        TrustedProxies.parse(text)
    assert str(raised.value) == sentence


@given(st.text(alphabet="0123456789abcdef.:/, %[]x", max_size=40) | st.text(max_size=40))
def test_any_list_is_a_list_or_a_value_error(text: str) -> None:
    try:
        trusted = TrustedProxies.parse(text)
    except ValueError:
        return
    for network in trusted.networks:
        assert str(network[0]) in trusted
        assert str(network[-1]) in trusted


@each_row(
    ("peer", "header", "address"),
    [
        # No proxy sent the header.
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("192.0.2.7", None, "192.0.2.7"),
        # The peer is not trusted.
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("::ffff:192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("", "198.51.100.1", ""),
        ("/run/alo.sock", "198.51.100.1", "/run/alo.sock"),
        # The peer is a trusted proxy, some with another behind it.
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", "10.0.0.2,127.0.0.1"], "198.51.100.1"),
        # The client's own entries stand left of the address that the proxy saw.
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 127.0.0.1, 198.51.100.1,10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", '", 198.51.100.1', "198.51.100.1"),
        # The client is in the proxies' own network.
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        # Forms that real proxies write.
        ("10.0.0.1", "198.51.100.1:5678", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::7]:99", "2001:db8::7"),
        ("10.0.0.1", "[2001:DB8:0::7]", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "[::ffff:198.51.100.1]:99", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, [fd00::2]:443 ,\t10.0.0.2:80", "198.51.100.1"),
        # The reading stops at an entry that is not an address.
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "198.51.100.1, , 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "198.51.100.1:", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:http", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::7", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::7]99", "10.0.0.1"),
        ("10.0.0.1", "fe80::1%25" + "A" * 5000, "10.0.0.1"),
        ("10.0.0.1", "fe80::1%A", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1 10.0.0.2", "10.0.0.1"),
        ("10.0.0.1", "\u0661.1.1.1", "10.0.0.1"),
    ],
)
def test_the_last_address_that_is_no_proxys_is_the_clients(
    peer: str, header: str | list[str] | None, address: str
) -> None:
    assert forwarded_address(peer, header, PROXIES) == address


def test_only_so_many_hops_are_looked_at() -> None:
    within, beyond = (["198.51.100.1", *["10.0.0.2"] * count] for count in (MAX_HOPS - 1, MAX_HOPS))
    assert forwarded_address("10.0.0.1", ",".join(within), PROXIES) == "198.51.100.1"
    assert forwarded_address("10.0.0.1", ",".join(beyond), PROXIES) == "10.0.0.2"


entries = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["10.0.0.2", "127.0.0.1", "fd00::2", "[fd00::3]:1", "unknown", "", "10.0.0.4:80"]),
    st.text(max_size=10).filter(lambda text: "," not in text),
)


@given(st.lists(entries, max_size=8), st.ip_addresses().map(str).filter(lambda address: address not in PROXIES))
def test_nothing_that_a_client_writes_changes_whom_it_counts_for(forged: list[str], client: str) -> None:
    """The client's proxy appends the address that it sees."""
    seen = forwarded_address("10.0.0.1", client, PROXIES)
    assert forwarded_address("10.0.0.1", ", ".join([*forged, client]), PROXIES) == seen
    assert forwarded_address("10.0.0.1", [*forged, client, "10.0.0.2"], PROXIES) == seen
    assert forwarded_address(client, ",".join(forged), PROXIES) == seen, (
        "a forged address is not believed without a proxy"
    )


@given(st.text() | st.lists(entries).map(",".join))
def test_any_header_gives_an_address(header: str) -> None:
    address = forwarded_address("10.0.0.1", header, PROXIES)
    assert str(ip_address(address)) == address


@each_row(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:DB8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("/run/alo.sock", "/run/alo.sock"),
    ],
)
def test_limits_count_an_ipv4_address_or_a_subscribers_network(address: str, key: str) -> None:
    assert address_key(address) == key


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_a_subscriber_has_one_key_whatever_address_it_takes(address: IPv6Address, host: int) -> None:
    neighbour = IPv6Address((int(address) >> 64 << 64) | host)
    if address.ipv4_mapped is None and neighbour.ipv4_mapped is None:
        assert address_key(str(neighbour)) == address_key(str(address))
    assert address_key(str(IPv6Address(int(address) ^ 1 << 64))) != address_key(str(address))
