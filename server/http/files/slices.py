"""Slices of a transfer: some bytes between a socket and a file. Blocking calls, for threads.

A slice ends when the socket has no bytes, or no room, and does not get any within `NAP_S`. So a fast client costs one
job for some MiB, and a slow one no thread's time. The bytes of a download stay in the kernel; those of an upload pass a
buffer of the thread.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
from hashlib import sha256
from typing import Final

from server.http.files.turns import CopyTurns, DiskTurns
from store.objects.folder_files import Sink
from store.objects.tree import write_all_at, write_out

SLICE_BYTES: Final = 4 * 1024 * 1024
"""The most of one slice: a few milliseconds, in which transfers that wait for a thread go on waiting."""

TURN_BYTES: Final = 1024 * 1024
"""The most that a download copies in one turn, in less than a millisecond."""

WRITE_OUT_BYTES: Final = 1024 * 1024
"""Bytes of an upload that wait for the disk: an fsync such as that of Postgres' log waits for no more."""

BUFFER_BYTES: Final = 256 * 1024

NAP_S: Final = 0.001
"""The time to wait for a client that has been fast so far, which is less than it takes to begin another job."""

FAST_BYTES: Final = 128 * 1024
"""A client is fast if it has moved so much in this slice."""

_buffers = threading.local()


class RangeSender:
    """Sends a range of a file.

    :ivar left: bytes to send.
    :ivar sent: bytes that the kernel has taken.
    :param turns: of copying.
    """

    def __init__(self, socket: int, file: int, offset: int, size_bytes: int, turns: CopyTurns) -> None:
        self._turns = turns
        self._socket = socket
        self._file = file
        self._offset = offset
        self.left = size_bytes
        self.sent = 0

    def slice(self) -> None:
        """
        :raises OSError: if the client is gone (`ConnectionError`), or the file cannot be read.
        :raises EOFError: if the file ends before the range does.
        """
        moved = 0
        while self.left and moved < SLICE_BYTES:
            try:
                with self._turns.turn():
                    count = os.sendfile(self._socket, self._file, self._offset, min(self.left, TURN_BYTES))
            except BlockingIOError:
                if moved < FAST_BYTES or not _wait(self._socket, select.POLLOUT):
                    return
                continue
            if not count:
                raise EOFError
            self._offset += count
            self.left -= count
            self.sent += count
            moved += count

    def acknowledged(self) -> int:
        """Bytes that the client's machine has acknowledged."""
        [queued] = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        return self.sent - int(queued)


class BodyReceiver:
    """Receives a body into a sink, and its digest.

    :ivar left: bytes to receive.
    :param sink: None: the bytes are dropped.
    :param turns: of copying.
    :param disk: turns of writing to the disk.
    """

    def __init__(self, socket: int, sink: Sink | None, size_bytes: int, turns: CopyTurns, disk: DiskTurns) -> None:
        self._turns = turns
        self._disk = disk
        self._socket = socket
        self._sink = sink
        self._offset = self._written_out = sink.offset if sink else 0
        self._digest = sha256()
        self.left = size_bytes

    def take(self, data: bytes | memoryview) -> None:
        """Write bytes that were received."""
        self.left -= len(data)
        if self._sink is not None:
            with self._turns.turn():
                self._digest.update(data)
                write_all_at(self._sink.descriptor, memoryview(data), self._offset)
            self._offset += len(data)
            if (waiting := self._offset - self._written_out) >= WRITE_OUT_BYTES:
                with self._disk.turn():
                    write_out(self._sink.descriptor, self._written_out, waiting)
                self._written_out = self._offset

    def slice(self) -> None:
        """
        :raises ConnectionError: if the client is gone.
        :raises OSError: if the file cannot be written.
        """
        buffer = _buffer()
        moved = 0
        while self.left and moved < SLICE_BYTES:
            try:
                count = os.readv(self._socket, [buffer[: self.left]])
            except BlockingIOError:
                if moved < FAST_BYTES or not _wait(self._socket, select.POLLIN):
                    return
                continue
            if not count:
                raise ConnectionResetError
            self.take(buffer[:count])
            moved += count

    def has_digest(self, digest: bytes) -> bool:
        """Whether all bytes together have this SHA-256."""
        return self._digest.digest() == digest


def _buffer() -> memoryview:
    """The buffer of this thread."""
    if not hasattr(_buffers, "own"):
        _buffers.own = memoryview(bytearray(BUFFER_BYTES))
    buffer: memoryview = _buffers.own
    return buffer


def _wait(socket: int, event: int) -> bool:
    """Whether the socket is ready within `NAP_S`."""
    poll = select.poll()
    poll.register(socket, event)
    return bool(poll.poll(NAP_S * 1000))
