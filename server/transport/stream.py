"""A client's socket: the connection reads and closes it here, and writes through the outbox."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Final

import trio

RECEIVE_BYTES: Final = 65536

_NO_LINGER: Final = struct.pack("ii", 1, 0)


class ClientStream:
    """The reading side of a non-blocking socket, and its end."""

    __slots__ = ("_is_ended", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._is_ended = False

    async def receive_some(self) -> bytes:
        """The bytes that have come; b"" if the peer has closed its side. Cancelling it loses no bytes.

        Trio's own stream reads first, and waits if no byte is there; that costs a failing system call each time.

        :raises trio.BrokenResourceError: if the connection was reset.
        """
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                data = self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error
            self._is_ended = not data
            return data

    async def linger(self) -> None:
        """Close our side, then wait until the peer has closed its own; the caller cancels it after a while.

        If we close a socket that holds unread bytes, our kernel sends a reset. On that reset the peer's kernel throws
        away the bytes that the peer has not read, with the close frame that says what was wrong.
        """
        if self._is_ended:
            return
        with suppress(OSError):  # The peer was quicker.
            self._sock.shutdown(socket.SHUT_WR)
        with suppress(trio.BrokenResourceError):
            while await self.receive_some():
                pass

    def reset(self) -> None:
        """Close at once; the kernel drops the bytes that the peer has not taken."""
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.close()

    def close(self) -> None:
        """Close at once; the kernel still sends the bytes that it has taken."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
