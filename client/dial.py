"""From the URL of a gateway to a stream of bytes."""

from __future__ import annotations

from urllib.parse import urlsplit

import trio


async def open_stream(url: str) -> tuple[trio.SocketStream | trio.SSLStream[trio.SocketStream], str]:
    """A TCP connection, or TLS above it, and what to say in the Host header.

    :param url: `ws://host:port` or `wss://host:port`; the ports 80 and 443 may be left out.
    :raises ValueError: if it is not such a URL.
    :raises OSError: if nobody answers there, `trio.BrokenResourceError` if TLS fails.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("not an address like ws://host:port or wss://host:port")
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(parts.hostname, parts.port or 80), parts.netloc
    stream = await trio.open_ssl_over_tcp_stream(parts.hostname, parts.port or 443, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream, parts.netloc
