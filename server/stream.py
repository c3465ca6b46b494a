"""The Trio stream under trio-websocket: reads when there is something to read, writes through the connection's outbox.

Trio's own SocketStream tries to read first and waits when there is nothing, which costs a failing system call for each
message; and its writes would not know of the outbox. This one waits first.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from server.outbox import CLOSE_HEAD, Outbox

RECEIVE_BYTES: Final = 65536


class ClientStream(trio.abc.Stream):
    """A non-blocking socket and the outbox of its connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._is_closed = False
        self._is_close_sent = False
        self.outbox: Outbox | None = None
        self.farewell: Callable[[], bytes] = bytes
        """Asked when the stream is closed and no close frame has been sent: what is to be sent instead."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """
        :raises trio.BrokenResourceError: if the connection was reset.
        :raises trio.ClosedResourceError: if it was closed on this side.
        """
        while True:
            if self._is_closed:
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
        if self._is_closed:
            raise trio.ClosedResourceError
        if self.outbox.cut_reason is not None:
            raise trio.BrokenResourceError(self.outbox.cut_reason)
        if data[0] == CLOSE_HEAD:
            self._is_close_sent = True
            self.outbox.end(bytes(data))
        else:
            self.outbox.flush()
            self.outbox.send_raw(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Nothing more is read or sent; the socket stays open for `linger`."""
        self.say_farewell()
        self._end()
        await trio.lowlevel.checkpoint()

    def say_farewell(self) -> None:
        """Send the close frame that is still due, if any. Atomic (no checkpoint)."""
        if not self._is_close_sent and not self._is_closed and self.outbox is not None and (last := self.farewell()):
            self._is_close_sent = True
            self.outbox.end(last)

    async def linger(self) -> None:
        """Wait until the peer has closed its side too; cancel it after a while.

        A socket that is closed while bytes wait in it to be read answers with a reset, and that reset makes the peer's
        kernel throw away what it has not read yet: the close frame that says what was wrong with those bytes.
        """
        self._end()
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                if not self._sock.recv(RECEIVE_BYTES):
                    return
            except BlockingIOError:
                continue
            except OSError:
                return

    def _end(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            trio.lowlevel.notify_closing(self._sock)
            with suppress(OSError):  # The peer was quicker.
                self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close at once."""
        self._is_closed = True
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
