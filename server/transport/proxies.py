"""The client's address of a connection that comes through a load balancer. Sans-IO.

A balancer names the client's address in a PROXY header before the client's first byte, or in X-Forwarded-For. Any peer
can write either, so both count only from the addresses that the operator trusts: the server never parses bytes of other
peers as a PROXY header, and does not read their X-Forwarded-For.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

_Ip: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network

V1_MAX_BYTES: Final = 107
"""The longest v1 line, CRLF included (PROXY protocol, section 2.1)."""

V2_MAX_BYTES: Final = 4096
"""A v2 header with all its TLVs. The specification promises less than one TCP segment, about 1,400 bytes. Protects the
server's memory while a header is incomplete."""

MAX_HOPS: Final = 32
"""Entries of X-Forwarded-For that are read; a real request passes a few proxies. Protects the server's time."""

MAX_ADDRESS_CHARACTERS: Final = 45
"""An IPv6 address that ends in an IPv4 one, all zeroes written out (INET6_ADDRSTRLEN without its NUL)."""

_V1_SIGNATURE: Final = b"PROXY"
_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED_BYTES: Final = 16
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_WIDTHS: Final = {0x11: 4, 0x21: 16}
"""Bytes of an address, by family and protocol: TCP over IPv4 and over IPv6."""

_V1_LINE: Final = re.compile(
    r"PROXY (?:UNKNOWN(?: .*)?|TCP(?P<version>[46]) (?P<source>[0-9A-Fa-f.:]+) (?P<destination>[0-9A-Fa-f.:]+)"
    r" (?P<from_port>0|[1-9][0-9]{0,4}) (?P<to_port>0|[1-9][0-9]{0,4}))",
    re.DOTALL,
)
_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


class InvalidProxyHeader(Exception):
    """A trusted proxy sent a malformed PROXY header: close the connection. The text says what is malformed."""


class ProxyHeader(NamedTuple):
    """The header that a proxy sends before the client's first byte.

    :ivar address: the client's; None if the proxy speaks for itself (a health check) or does not know: use the peer's.
    :ivar size: bytes of the header; the caller drops them.
    """

    address: str | None
    size: int


NO_HEADER: Final = ProxyHeader(None, 0)
"""The bytes do not begin with a PROXY header: the proxy speaks plain HTTP and names the client in X-Forwarded-For."""


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The peers that may name the client's address. A trusted peer can claim any address for its clients."""

    networks: tuple[_Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> TrustedProxies:
        """From addresses and networks in CIDR, separated by commas; with an empty text no peer is trusted.

        :raises ValueError: with a sentence for the operator, if an item is neither an address nor a network.
        """
        if not text.strip():
            return cls()
        return cls(tuple(_parse_network(item.strip()) for item in text.split(",")))

    def __contains__(self, address: object) -> bool:
        """Whether this peer is trusted; a peer without an IP address (on a Unix socket) is not."""
        if not self.networks or (ip := _ip(address)) is None:
            return False
        return any(ip in network for network in self.networks)


NO_PROXIES: Final = TrustedProxies()


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Find the PROXY header, v1 or v2, at the beginning of a connection from a trusted peer.

    See https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. The parser skips TLVs, and addresses of protocols
    other than TCP. Once it has returned or raised a result, later bytes do not change that result.

    :param data: all bytes received so far.
    :returns: None if more bytes are needed to tell; `NO_HEADER` if the bytes do not begin with a PROXY header.
    :raises InvalidProxyHeader: if the header is malformed, or longer than `V1_MAX_BYTES` or `V2_MAX_BYTES`.
    """
    for signature, parse in ((_V1_SIGNATURE, _parse_v1), (_V2_SIGNATURE, _parse_v2)):
        if data.startswith(signature):
            return parse(data)
        if signature.startswith(data):
            return None
    return NO_HEADER


def forwarded_address(peer: str, header: str | list[str] | None, trusted: TrustedProxies) -> str:
    """The client's address of an HTTP request: the last address in X-Forwarded-For that is not a trusted proxy's.

    Each proxy appends the address of its caller, so this function reads the header from its end, and stops at the first
    address that is not trusted: that peer may have written anything to the left of it. The function also stops at an
    entry that is not an address, and returns the address of the proxy that wrote the entry.

    :param peer: the address that the request came from, or that its PROXY header named.
    :param header: the value or, if there are several headers of that name, the values in their order.
    """
    ip = _ip(peer)
    if ip is None:
        return peer
    address = str(ip)
    text = ",".join(header) if isinstance(header, list) else header or ""
    for entry in reversed(text.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        if address not in trusted or (ip := _ip(_without_port(entry.strip()))) is None:
            break
        address = str(ip)
    return address


def address_key(address: str) -> str:
    """The key under which limits count an address: an IPv4 address itself, the /64 of an IPv6 address, else the text.

    A /64 is the smallest network that a subscriber gets (RFC 6177, RFC 7421), and the subscriber may use any of its
    2**64 addresses. Counts by single address would not limit a subscriber, and their table would grow without bound.
    """
    ip = _ip(address)
    match ip:
        case None:
            return address
        case IPv4Address():
            return str(ip)
        case IPv6Address():
            return f"{IPv6Address(int(ip) >> 64 << 64)}/64"


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, V1_MAX_BYTES)
    if end < 0:
        if len(data) < V1_MAX_BYTES:
            return None
        raise InvalidProxyHeader(f"a PROXY v1 line must end with CRLF within {V1_MAX_BYTES} bytes")
    line = data[:end].decode("latin-1")  # Every byte is some character; only ASCII matches.
    found = _V1_LINE.fullmatch(line)
    if found is not None and found["version"] is None:
        return ProxyHeader(None, end + 2)
    if found is not None and max(int(found["from_port"]), int(found["to_port"])) <= 65535:
        source, destination = _parse_ip(found["source"]), _parse_ip(found["destination"])
        kind = IPv4Address if found["version"] == "4" else IPv6Address
        if isinstance(source, kind) and isinstance(destination, kind):
            return ProxyHeader(str(_unmapped(source)), end + 2)
    raise InvalidProxyHeader(f"not a PROXY v1 line (PROXY TCP4|TCP6 FROM TO PORT PORT, or PROXY UNKNOWN): {line!r}")


def _parse_v2(data: bytes) -> ProxyHeader | None:
    # The parser checks each byte once it has come, so the result does not depend on how the network cuts the header.
    head = data[len(_V2_SIGNATURE) : _V2_FIXED_BYTES]
    if head and head[0] not in (_LOCAL, _PROXY):
        raise InvalidProxyHeader(f"version and command of a PROXY v2 header must be 0x20 or 0x21, not {head[0]:#04x}")
    if len(head) > 1 and head[0] == _PROXY and (head[1] >> 4 > 3 or head[1] & 15 > 2):
        raise InvalidProxyHeader(f"a PROXY v2 header has the unknown family and protocol {head[1]:#04x}")
    if len(data) < _V2_FIXED_BYTES:
        return None
    length = int.from_bytes(head[2:], "big")
    size = _V2_FIXED_BYTES + length
    if size > V2_MAX_BYTES:
        raise InvalidProxyHeader(f"a PROXY v2 header has {size} bytes, more than {V2_MAX_BYTES}")
    # The receiver must ignore the family of a LOCAL header, which names no client.
    width = _WIDTHS.get(head[1], 0) if head[0] == _PROXY else 0
    if width and length < 2 * width + 4:
        raise InvalidProxyHeader(f"the addresses of a PROXY v2 header have {2 * width + 4} bytes, not {length}")
    if len(data) < size:
        return None
    if not width:
        return ProxyHeader(None, size)
    return ProxyHeader(str(_unmapped(ip_address(data[_V2_FIXED_BYTES : _V2_FIXED_BYTES + width]))), size)


def _without_port(entry: str) -> str:
    found = _WITH_PORT.fullmatch(entry)
    return found[1] or found[2] if found else entry


def _ip(address: object) -> _Ip | None:
    # ip_address() takes numbers and packed bytes too, and an abstract Unix socket's name can look like those.
    ip = _parse_ip(address) if isinstance(address, str) else None
    return None if ip is None else _unmapped(ip)


def _parse_ip(text: str) -> _Ip | None:
    # A zone (fe80::1%eth0) has a meaning on its own machine only, and may be any text.
    if len(text) > MAX_ADDRESS_CHARACTERS or "%" in text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None


def _unmapped(ip: _Ip) -> _Ip:
    """IPv4 as itself: a socket that listens on :: sees it as ::ffff:a.b.c.d."""
    return ip if isinstance(ip, IPv4Address) else ip.ipv4_mapped or ip


def _parse_network(text: str) -> _Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is neither an IP address nor a network such as 10.0.0.0/8") from None
    if "%" in text:
        raise ValueError(f"{text!r} names a zone; give the address without it")
    if ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"{text!r} has bits beyond its prefix; the network is {network}")
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        # `__contains__` compares these peers as IPv4, so the IPv6 network would match no peer.
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network
