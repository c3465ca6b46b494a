"""The Trio stream under trio-websocket: reads when there is something to read, writes through the connection's outbox.

Trio's own SocketStream tries to read first and waits when there is nothing, which costs a failing system call for each
message; and its writes would not know of the outbox. This one waits first.
"""

from __future__ import annotations

import socket
from typing import Final

import trio

from server.outbox import Outbox

RECEIVE_BYTES: Final = 65536


class ClientStream(trio.abc.Stream):
    """A non-blocking socket and the outbox of its connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.outbox: Outbox | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """
        :raises trio.BrokenResourceError: if the connection was reset.
        :raises trio.ClosedResourceError: if it was closed on this side.
        """
        while True:
            if self._sock.fileno() < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(self._sock)
            try:
                return self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue whole WebSocket frames (handshake, pong, close) behind what the outbox has sent; never waits."""
        await trio.lowlevel.checkpoint()
        assert self.outbox is not None, "the connection gives the stream its outbox before it uses it"
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError
        if self.outbox.cut_reason is not None:
            raise trio.BrokenResourceError(self.outbox.cut_reason)
        self.outbox.flush()
        self.outbox.send_raw(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close at once; whoever reads gets ClosedResourceError."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
