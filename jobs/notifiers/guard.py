"""Calls to URLs that users gave lead out of here: no such URL reaches what only this machine's network does.

A name is resolved once, all that it stands for is checked, and the connection goes to an address that was checked: a
name that stands for another address a moment later (DNS rebinding) gains nothing. TLS still asks for the name.
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
"""For connecting to one of several addresses; the next one is tried then."""

MAX_CONNECTIONS: Final = 100
"""At a time; more than a worker has jobs."""

_NAT64: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
"""RFC 6052 and 8215: IPv4 inside of IPv6."""


def is_public(address: Address) -> bool:
    """Whether it is somewhere on the Internet, and one place there; what carries another address is as that is."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is None and any(address in network for network in _NAT64):
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(inner):
            return False
    return address.is_global and not address.is_multicast


class GuardedTransport(httpx.AsyncHTTPTransport):
    """HTTP/1.1 to public addresses: no call shares a connection with another, of another user.

    :param allowed: networks that are as good as public ones.
    """

    def __init__(self, context: ssl.SSLContext, allowed: Iterable[Network]) -> None:
        super().__init__(verify=context)
        # httpx passes on all options of the pool but the one that says how to connect.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=MAX_CONNECTIONS,
            # Somebody else's server is seldom the one that is called next.
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
        error: Exception = httpcore.ConnectError(f"{host} stands for no address")
        for address in await self._resolve(host, port):
            try:
                return await self._backend.connect_tcp(str(address), port, ATTEMPT_S, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error

    async def _resolve(self, host: str, port: int) -> list[Address]:
        """
        :raises httpcore.ConnectError: if there is no such host, or any of its addresses is not to be called.
        """
        try:
            found = await trio.socket.getaddrinfo(host.strip("[]"), port, type=trio.socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from None
        # An address of a link may have a zone ("%eth0"): it is refused as what it is.
        addresses = list(dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found))
        for address in addresses:
            if not is_public(address) and not any(address in network for network in self._allowed):
                raise httpcore.ConnectError(f"{host} is not on the Internet, so it is not called")
        return addresses

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)
