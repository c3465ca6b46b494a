"""The address of the client of a connection, also behind a proxy that speaks the PROXY protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from runtime.config import Config, ConfigError
from server.transport.proxies import (
    InvalidProxyHeader,
    ProxyHeader,
    TrustedProxies,
    parse_proxy_header,
)

log = structlog.get_logger(__name__)


class Announced(NamedTuple):
    """What the first bytes of a trusted proxy's connection say.

    :ivar address: of the client; the proxy's own if it names none.
    :ivar rest: the bytes after the header.
    """

    address: str
    rest: bytes


def proxies_of(config: Config) -> TrustedProxies:
    """The proxies that the operator trusts.

    :raises ConfigError: if TRUSTED_PROXIES has an item that is neither an address nor a network.
    """
    try:
        return TrustedProxies.parse(config.trusted_proxies)
    except ValueError as error:
        raise ConfigError(f"TRUSTED_PROXIES: {error}") from None


async def read_announced(peer: str, read: Callable[[], Awaitable[bytes]]) -> Announced | None:
    """Read the PROXY header at the beginning of a trusted proxy's connection, if it sends one.

    The caller sets a deadline. After a cancellation the bytes that were read are lost, and with them the connection.

    :param peer: the proxy's address.
    :param read: returns the next bytes, b"" at their end.
    :returns: None if the connection ended, or its header is malformed, which the log says: close the connection.
    :raises trio.BrokenResourceError: if the connection was lost meanwhile.
    """
    data = b""
    header: ProxyHeader | None
    try:
        while (header := parse_proxy_header(data)) is None:
            more = await read()
            if not more:
                return None
            data += more
    except InvalidProxyHeader as error:
        log.warning("proxy_header_invalid", peer=peer, error=str(error))
        return None
    return Announced(header.address or peer, data[header.size :])
