"""What one client has yet to read: bounded in bytes, sent in as few system calls as possible.

Frames that are offered in one pass of the server leave in one `send` as one WebSocket message (a CBOR sequence).

Nobody waits for a client: if the kernel takes no more, a task of the connection waits until it does. A client that
reads too slowly for its bound, or not at all, is cut by force.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import trio

from protocol.websocket import binary_header

MAX_BYTES: Final = 1024 * 1024
"""Of one connection, beyond the kernel's own buffers: about 3,000 messages of 300 bytes. Centrifuge has the same."""

STUCK_S: Final = 15.0
"""A peer whose kernel has taken nothing for this long is gone, or as good as gone."""

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""A WebSocket message is begun anew beyond this; half of what a client must accept (protocol.limits)."""


class Outbox:
    """The outgoing side of one connection.

    :param sock: a non-blocking socket; the outbox only sends on it.
    :param start_soon: starts the task that waits for a slow peer, in the connection's nursery.
    :param on_cut: called once when the peer is too slow or gone; it must end the connection.
    """

    __slots__ = (
        "_flushed",
        "_frames",
        "_is_ended",
        "_on_cut",
        "_sock",
        "_start_soon",
        "_unsent",
        "cut_reason",
        "is_held",
        "size",
    )

    def __init__(self, sock: socket.socket, start_soon: Callable[..., object], on_cut: Callable[[], None]) -> None:
        self._sock = sock
        self._start_soon = start_soon
        self._on_cut = on_cut
        self._frames: list[bytes] = []
        self._unsent = bytearray()
        self._is_ended = False
        self.size = 0
        self.cut_reason: str | None = None
        self.is_held = False
        self._flushed: trio.Event | None = None

    def offer(self, frame: bytes) -> bool:
        """Queue one encoded frame for the next flush; true if it is the first since the last one.

        Atomic (no checkpoint); never blocks, never raises.
        """
        if self.cut_reason is not None or self._is_ended:
            return False
        self._frames.append(frame)
        self.size += len(frame)
        if self.size > MAX_BYTES:
            # One pass may hold more than the bound; only what the kernel does not take says that a reader is slow.
            self.flush()
        if self.size > MAX_BYTES:
            self.cut("slow_reader")
        return len(self._frames) == 1

    def hold(self) -> None:
        """Keep what is offered until `release`: pushes may come before the client may see them."""
        self.is_held = True

    def release(self, first: bytes) -> None:
        """Send `first`, and after it what was offered meanwhile."""
        self.is_held = False
        self._frames.insert(0, first)
        self.size += len(first)
        self.flush()

    def flush(self) -> None:
        """Send what was offered, as far as the kernel takes it now. Atomic (no checkpoint)."""
        if self.is_held or not self._frames:
            return
        frames, self._frames = self._frames, []
        data = binary_header(len(frames[0])) + frames[0] if len(frames) == 1 else b"".join(_messages(frames))
        self.size -= sum(map(len, frames))
        self.send_raw(data)

    def send_raw(self, data: bytes) -> None:
        """Send bytes that are WebSocket frames already, after all that was flushed before. Atomic (no checkpoint)."""
        if self.cut_reason is not None:
            return
        if self._unsent:
            self._keep(data)
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.cut("connection_lost")
            return
        if sent < len(data):
            self._keep(data[sent:])
            self._start_soon(self._drain)

    def end(self, close_frame: bytes) -> None:
        """Send the last frame, after which nothing may come (RFC 6455, section 5.5.1): what is offered is dropped."""
        self.flush()
        self.send_raw(close_frame)
        self._is_ended = True

    def cut(self, reason: str) -> None:
        """Give the peer up; what was queued is dropped."""
        if self.cut_reason is None:
            self.cut_reason = reason
            self._frames.clear()
            self._unsent.clear()
            self.size = 0
            self._on_cut()

    async def wait_flushed(self) -> None:
        """Return once the kernel has taken everything, or the peer was cut."""
        if self._unsent:
            self._flushed = trio.Event()
            await self._flushed.wait()

    def _keep(self, unsent: bytes) -> None:
        self._unsent += unsent
        self.size += len(unsent)
        if self.size > MAX_BYTES:
            self.cut("slow_reader")

    async def _drain(self) -> None:
        while self._unsent:
            with trio.move_on_after(STUCK_S) as scope:
                await trio.lowlevel.wait_writable(self._sock)
            if scope.cancelled_caught:
                self.cut("stuck_reader")
            else:
                self._send_unsent()
        if self._flushed is not None:
            self._flushed.set()

    def _send_unsent(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.cut("connection_lost")
            return
        del self._unsent[:sent]
        self.size -= sent


def _messages(frames: list[bytes]) -> list[bytes]:
    """WebSocket frames, each with as many of our frames as fit, in order."""
    parts: list[bytes] = []
    run: list[bytes] = []
    size = 0
    for frame in frames:
        if run and size + len(frame) > MAX_MESSAGE_BYTES:
            parts += (binary_header(size), *run)
            run, size = [], 0
        run.append(frame)
        size += len(frame)
    parts += (binary_header(size), *run)
    return parts
