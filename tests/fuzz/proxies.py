"""`server.transport.proxies`: a verdict on a PROXY header stands; a forwarded address is one, or the peer's."""

from __future__ import annotations

from ipaddress import ip_address

from server.transport.proxies import (
    MAX_HOPS,
    V1_MAX_BYTES,
    V2_MAX_BYTES,
    InvalidProxyHeader,
    ProxyHeader,
    TrustedProxies,
    address_key,
    forwarded_address,
    parse_proxy_header,
)

FORWARDED = 0x01
"""Flag: the input is a peer and its headers, separated by NUL; without this flag it is a PROXY header."""

TRUSTED = TrustedProxies.parse("10.0.0.0/8, 127.0.0.1, fd00::/8")
ANYBODY = TrustedProxies.parse("0.0.0.0/0, ::/0")

MAX_CUTS = 128
"""The check tries this many beginnings of a long header, and those around the longest header of version 1."""


def check(data: bytes) -> None:
    """Check an input: a byte of flags and a proxy's bytes."""
    if data[:1] and data[0] & FORWARDED:
        peer, *headers = data[1:].decode("latin-1").split("\0")
        _check_forwarded(peer, headers)
    else:
        _check_header(data[1:])


def _verdict(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse_proxy_header(data)
    except InvalidProxyHeader as error:
        assert str(error)
        return str(error)


def _check_header(data: bytes) -> None:
    """The parser's result or error for some bytes stays the same when more bytes follow."""
    last = len(data)
    cuts = sorted({*range(min(last, MAX_CUTS)), *range(V1_MAX_BYTES - 2, min(last, V1_MAX_BYTES + 2)), last})
    given: ProxyHeader | str | None = None
    for cut in cuts:
        verdict = _verdict(data[:cut])
        if given is not None:
            assert verdict == given, f"{given} became {verdict} with {cut} of {last} bytes"
        given = verdict
    for more in (b"\0", b"\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        assert given is None or _verdict(data + more) == given
    if isinstance(given, ProxyHeader):
        assert given.size <= last
        assert given.size <= V2_MAX_BYTES
        if given.address is not None:
            assert str(ip_address(given.address)) == given.address
            assert given.size > 0
    elif given is None:
        assert last < V2_MAX_BYTES


def _check_forwarded(peer: str, headers: list[str]) -> None:
    assert address_key(peer) if peer else True
    for trusted in (TrustedProxies(), TRUSTED, ANYBODY):
        found = forwarded_address(peer, headers, trusted)
        assert forwarded_address(peer, ",".join(headers), trusted) == found
        if found == peer:
            continue
        assert str(ip_address(found)) == found
        assert address_key(address_key(found).partition("/")[0]) == address_key(found)
        if peer not in trusted:
            assert found == forwarded_address(peer, None, trusted), "an untrusted peer was believed"
        elif found not in trusted:
            # An untrusted client may write any addresses to the left of the one that a trusted proxy adds.
            more = ["6.6.6.6, unknown", *headers]
            assert forwarded_address(peer, more, trusted) == found
    try:
        TrustedProxies.parse(",".join(headers[:MAX_HOPS]))
    except ValueError as error:
        assert str(error)
