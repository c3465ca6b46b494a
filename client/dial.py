"""From the URL of a gateway to a stream of bytes."""

from __future__ import annotations

from urllib.parse import urlsplit

import trio

from client.tls import trusting_context


class InvalidAddress(ValueError):
    """A URL is not one of a gateway."""

    def __init__(self) -> None:
        super().__init__("the address must be like ws://host:port or wss://host:port")


async def open_stream(url: str) -> tuple[trio.SocketStream | trio.SSLStream[trio.SocketStream], str]:
    """A TCP connection, or TLS above it, and the value of the Host header.

    :param url: `ws://host:port` or `wss://host:port`; the ports 80 and 443 may be left out.
    :raises InvalidAddress: if it is not such a URL.
    :raises InvalidAuthorities: if SSL_CERT_FILE or SSL_CERT_DIR cannot be used.
    :raises OSError: if no host answers there, `trio.BrokenResourceError` if TLS fails.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidAddress from None
    if parts.scheme not in ("ws", "wss") or not host:
        raise InvalidAddress
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(host, port or 80), parts.netloc
    context = trusting_context()
    stream = await trio.open_ssl_over_tcp_stream(host, port or 443, https_compatible=True, ssl_context=context)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream, parts.netloc
