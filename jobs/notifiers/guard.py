"""Guards calls to URLs that users gave: they reach public addresses, and nothing inside this machine's network.

The guard resolves a name once, checks all of its addresses, and connects to a checked address. So a name that resolves
to another address a moment later (DNS rebinding) gains nothing. TLS still verifies the name.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

import httpcore
import httpx
import trio

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

ATTEMPT_S: Final = 3.0
"""For connecting to one of several addresses; then the guard tries the next one."""

MAX_CONNECTIONS: Final = 100
"""Connections at the same time; more than a worker has jobs."""

NAT64: Final = IPv6Network("64:ff9b::/96")
"""IPv4 inside IPv6 (RFC 6052). A worker in a network of IPv6 alone reaches servers of IPv4 so, by DNS64."""

GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All IPv6 addresses that are given to places on the Internet (RFC 4291, section 2.4). Outside are, among others,
`::127.0.0.1`, `::ffff:0:127.0.0.1` (RFC 2765), 100::/64, 5f00::/16, fc00::/7, fe80::/10, fec0::/10 and ff00::/8."""

SPECIAL: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        # Assignments of the IETF; documentation; relays of 6to4; benchmarks; multicast; reserved, and broadcast.
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Assignments of the IETF, with Teredo, benchmarks and ORCHID; documentation; 6to4, whose relays may reach any
        # IPv4 address inside; documentation; the 6bone, which was given back.
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "3ffe::/16"),
    )
)
"""Networks of IANA's registries of special-purpose addresses (IPv4, IPv6) that are no places on the Internet. The
module `ipaddress` knows other ones in each version of Python."""


def is_public(address: Address) -> bool:
    """Whether the address is a place on the Internet. If IPv4 is reached through it, the IPv4 address has to be one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in GLOBAL_UNICAST:
            return False
    return address.is_global and not any(address in network for network in SPECIAL)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """HTTP/1.1 to public addresses; calls never run on one connection at the same time.

    :param allowed: networks that count as public.
    """

    def __init__(self, context: ssl.SSLContext, allowed: Iterable[Network]) -> None:
        super().__init__(verify=context)
        # httpx passes on all options of the pool except the network backend.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=MAX_CONNECTIONS,
            # The next call seldom goes to the same server.
            max_keepalive_connections=10,
            keepalive_expiry=5.0,
            network_backend=_Guard(tuple(allowed)),
        )


class _Guard(httpcore.AsyncNetworkBackend):
    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self._resolve(host, port):
            try:
                return await self._backend.connect_tcp(str(address), port, ATTEMPT_S, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error

    async def _resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of a host.

        :raises httpcore.ConnectError: if the host does not exist, or any of its addresses is not allowed.
        """
        try:
            found = await trio.socket.getaddrinfo(host.strip("[]"), port, type=trio.socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from None
        # A link-local address may have a zone ("%eth0"); the check refuses it like any other.
        addresses = list(dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found))
        for address in addresses:
            if not is_public(address) and not any(address in network for network in self._allowed):
                raise httpcore.ConnectError(f"{host} must have only public addresses, or be in NOTIFIER_NETWORKS")
        return addresses

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("must be a TCP address, not a Unix socket")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)
