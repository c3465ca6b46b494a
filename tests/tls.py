"""TLS in front of a server without TLS, with certificates made on the spot."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

import trio
import trustme

LINGER_S = 2.0


class Authority:
    """Signs certificates; its own, and those for clients, lie in files."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        folder.mkdir()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)
        client = self._ca.issue_cert("client")
        self.client_cert = folder / "client.pem"
        self.client_key = folder / "client.key"
        client.cert_chain_pems[0].write_to_path(self.client_cert)
        client.private_key_pem.write_to_path(self.client_key)

    def server_context(
        self, *names: str, asks_clients: bool = False, lasts: tuple[datetime | None, datetime | None] = (None, None)
    ) -> ssl.SSLContext:
        """For a server with a certificate for these names and addresses.

        :param lasts: from and until when the certificate is good; None: long enough for any test.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        begins, ends = lasts
        self._ca.issue_cert(*names, not_before=begins, not_after=ends).configure_cert(context)
        if asks_clients:
            self._ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@asynccontextmanager
async def open_tls(context: ssl.SSLContext, port: Callable[[], int] | int) -> AsyncGenerator[int, None]:
    """Take TLS connections until the end of the block, and pass on their content; yields the port."""

    async def serve(outside: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await outside.do_handshake()
        except trio.BrokenResourceError:
            # Trio closes without sending the alert that has the reason; it lies in the outgoing bytes.
            await let_go(outside.transport_stream, outside._outgoing.read())
            return
        try:
            inside = await trio.open_tcp_stream("127.0.0.1", port if isinstance(port, int) else port())
        except OSError:
            await trio.aclose_forcefully(outside)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, outside, inside)
            nursery.start_soon(pass_on, inside, outside)

    async def let_go(peer: trio.SocketStream, last_words: bytes) -> None:
        """Close after the peer: unread bytes of the peer would make its kernel drop our last bytes."""
        with suppress(trio.BrokenResourceError), trio.move_on_after(LINGER_S):
            await peer.send_all(last_words)
            await peer.send_eof()
            async for _ in peer:
                pass
        await trio.aclose_forcefully(peer)

    async def pass_on(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        try:
            async for piece in source:
                await sink.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(source)
            await trio.aclose_forcefully(sink)

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()
