"""What one client has yet to read: bounded in bytes, sent in as few system calls as possible.

Frames that are offered in one pass of the server leave in one `send` as one WebSocket message (a CBOR sequence).

Nobody waits for a client: if the kernel takes no more, a task of the connection waits until it does. What a client
that reads too slowly has yet to read is dropped, as far as it can be fetched again: pushes of messages. In their place
it gets one `lag`, and no such pushes until it asks for what it missed (`resume`). Of ephemeral pushes only the latest
of each kind is kept. Replies are never dropped; instead nothing more is read from a client whose outbox is full
(`is_full`, `wait_room`). One that takes nothing at all for `STUCK_S` is cut by force.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import trio

from protocol import limits
from protocol.codec import encode
from protocol.encoded import head_of, is_push
from protocol.frames import Lag
from protocol.websocket import binary_header

MAX_BYTES: Final = 1024 * 1024
"""Of one connection, beyond the kernel's own buffers: about 3,000 messages of 300 bytes. Centrifuge has the same."""

MAX_REPLY_BYTES: Final = 4 * MAX_BYTES
"""What was read in one piece is answered in one piece, so replies may exceed the bound by what 64 KiB of the smallest
requests are answered with, about 1.5 MiB, and by those in flight. More is a fault, and the connection is cut."""

ROOM_BYTES: Final = MAX_BYTES // 2
"""A full outbox has room again below this: not with each frame that the kernel takes."""

STUCK_S: Final = 15.0
"""A peer whose kernel has taken nothing for this long is gone, or as good as gone."""

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""A WebSocket message is begun anew beyond this; half of what a client must accept (protocol.limits)."""

MAX_LATEST: Final = 256
"""Ephemeral pushes that wait, one for each user and conversation; beyond it the oldest is forgotten."""


class Whole(bytes):
    """Several frames that are one reply: pushes among them are not dropped."""

    __slots__ = ()


class Outbox:
    """The outgoing side of one connection.

    :param sock: a non-blocking socket; the outbox only sends on it.
    :param start_soon: starts the task that waits for a slow peer, in the connection's nursery.
    :param on_cut: called once when the peer is stuck or gone; it must end the connection.
    :ivar size: bytes that wait.
    :ivar is_lagging: pushes of messages are dropped until `resume`.
    :ivar has_news: something was offered since the last cursor.
    :ivar marks: how far the client was told of everybody's marks by its last `sync` (`store.sync.SyncPage.marks`).
    :ivar is_touched: the hub will flush it at the end of its pass; the hub's own.
    """

    __slots__ = (
        "_flushed",
        "_frames",
        "_is_draining",
        "_is_ended",
        "_is_held",
        "_latest",
        "_on_cut",
        "_room",
        "_sock",
        "_start_soon",
        "_synced_at",
        "_unsent",
        "cut_reason",
        "has_news",
        "is_lagging",
        "is_touched",
        "marks",
        "size",
    )

    def __init__(self, sock: socket.socket, start_soon: Callable[..., object], on_cut: Callable[[], None]) -> None:
        self._sock = sock
        self._start_soon = start_soon
        self._on_cut = on_cut
        self._frames: list[bytes] = []
        self._latest: dict[bytes, bytes] | None = None
        self._unsent: bytes | None = None
        """What the kernel did not take of a WebSocket message. It has to be completed, so nothing of it is dropped."""
        self._is_ended = False
        self._is_held = False
        self._is_draining = False
        self._flushed: trio.Event | None = None
        self._room: trio.Event | None = None
        self.size = 0
        self.cut_reason: str | None = None
        self.is_lagging = False
        self.is_touched = False
        self.has_news = False
        self.marks = 0
        self._synced_at: float | None = None

    def offer(self, frame: bytes) -> None:
        """Queue a reply for the next flush. Atomic (no checkpoint); never blocks, never raises."""
        if self.cut_reason is None and not self._is_ended:
            self.has_news = True
            self._frames.append(frame)
            self._grow(len(frame))

    def push(self, frame: bytes) -> None:
        """As `offer`, for the push of a message, which the client can fetch if it has to be dropped."""
        if self.is_lagging or self.cut_reason is not None or self._is_ended:
            return
        self.has_news = True
        self._frames.append(frame)
        self.size += len(frame)
        if self.size > MAX_BYTES:
            # One pass may hold more than the bound; only what the kernel does not take says that a reader is slow.
            self.flush()
            if self.size > MAX_BYTES:
                self._lag()

    def push_latest(self, key: bytes, frame: bytes) -> None:
        """As `offer`, for an ephemeral push, which takes the place of one with the same key that still waits."""
        if self.cut_reason is not None or self._is_ended:
            return
        if self._latest is None:
            self._latest = {}
        if key not in self._latest and len(self._latest) >= MAX_LATEST:
            del self._latest[next(iter(self._latest))]
        self._latest[key] = frame

    def resume(self) -> None:
        """The client is about to fetch what it missed: pushes of messages come again. Atomic (no checkpoint)."""
        self.is_lagging = False
        self._synced_at = None

    def note_synced(self, marks: int) -> None:
        """What is offered next completes what the client has missed; pushes have come since. Atomic (no checkpoint)."""
        if not self.is_lagging:
            self._synced_at = trio.current_time()
            self.marks = marks

    @property
    def has_synced(self) -> bool:
        """Whether the client was told of everything once on this connection, and of what is new since then."""
        return self._synced_at is not None

    def holds_all_before(self, taken_at: float) -> bool:
        """Whether everything from before this time was offered, as far as the client did not hold it, and some of it
        since its last cursor."""
        return self.has_news and self.has_synced_before(taken_at)

    def has_synced_before(self, taken_at: float) -> bool:
        """Whether the client was told of everything once before this time, and of what is new since then."""
        return self._synced_at is not None and self._synced_at < taken_at

    def push_cursor(self, frame: bytes) -> None:
        """As `push`, for a cursor: there is no news after it until something else is offered."""
        self.push(frame)
        self.has_news = False

    def lag(self) -> None:
        """Ask the client to fetch what is new: pushes of messages that wait are dropped. Atomic (no checkpoint)."""
        if not self.is_lagging and self.cut_reason is None and not self._is_ended:
            self._lag()

    def hold(self) -> None:
        """Keep what is offered until `release`: pushes may come before the client may see them."""
        self._is_held = True

    def release(self, first: bytes) -> None:
        """Send `first`, and after it what was offered meanwhile."""
        self._is_held = False
        if self.cut_reason is None:
            self._frames.insert(0, first)
            self.size += len(first)
            self.flush()

    def flush(self) -> None:
        """Send what was offered, as far as the kernel takes it now. Atomic (no checkpoint)."""
        if self._is_held or self._is_ended:
            return
        while self._unsent is None and (self._frames or self._latest) and self.cut_reason is None:
            if self._latest:
                # After the frames that were offered before them, or with them.
                self._frames += self._latest.values()
                self.size += sum(map(len, self._latest.values()))
                self._latest = None
            self._send(self._pack())

    def send_raw(self, data: bytes) -> None:
        """Send bytes that are WebSocket frames already, after all that is under way. Atomic (no checkpoint)."""
        if self.cut_reason is not None:
            return
        self.size += len(data)
        if self._unsent is None:
            self._send(data)
        else:
            self._unsent += data
            self._grow(0)

    def end(self, close_frame: bytes) -> None:
        """Send what waits and then this last frame, after which nothing may come (RFC 6455, section 5.5.1)."""
        self.flush()
        while self._frames and self.cut_reason is None:
            self.send_raw(self._pack())
        self.send_raw(close_frame)
        self._is_ended = True

    def cut(self, reason: str) -> None:
        """Give the peer up; what was queued is dropped."""
        if self.cut_reason is None:
            self.cut_reason = reason
            self._frames.clear()
            self._latest = self._unsent = None
            self.size = 0
            self._tell_waiting()
            self._on_cut()

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read from this client: what it asks is answered by adding to what waits."""
        return self.size > MAX_BYTES

    async def wait_room(self, most: int = MAX_BYTES) -> None:
        """Return once there is room for more, or the peer was cut.

        :param most: there is, as long as no more bytes than this wait.
        """
        if self.size > most:
            while self.size > ROOM_BYTES:
                if self._room is None:
                    self._room = trio.Event()
                await self._room.wait()

    async def wait_flushed(self) -> None:
        """Return once the kernel has taken everything, or the peer was cut."""
        while self._unsent is not None:
            if self._flushed is None:
                self._flushed = trio.Event()
            await self._flushed.wait()

    def _pack(self) -> bytes:
        """The next WebSocket message: as many frames as fit, at least one. They leave the queue, but not `size`."""
        frames = self._frames
        if len(frames) == 1:
            [frame] = frames
            frames.clear()
            header = binary_header(len(frame))
            self.size += len(header)
            return header + frame
        total = sum(map(len, frames))
        if total > MAX_MESSAGE_BYTES:
            total, count = len(frames[0]), 1
            while total + len(frames[count]) <= MAX_MESSAGE_BYTES:
                total += len(frames[count])
                count += 1
            taken = frames[:count]
            del frames[:count]
        else:
            taken, self._frames = frames, []
        header = binary_header(total)
        self.size += len(header)
        return b"".join((header, *taken))

    def _grow(self, added: int) -> None:
        self.size += added
        if self.size > MAX_REPLY_BYTES:
            self.cut("slow_reader")

    def _send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.cut("connection_lost")
            return
        self.size -= sent
        if sent < len(data):
            self._unsent = data[sent:]
            if not self._is_draining:
                self._is_draining = True
                self._start_soon(self._drain)

    async def _drain(self) -> None:
        while self._unsent is not None:
            with trio.move_on_after(STUCK_S) as scope:
                await trio.lowlevel.wait_writable(self._sock)
            if scope.cancelled_caught:
                self.cut("stuck_reader")
            elif self._unsent is not None:
                unsent, self._unsent = self._unsent, None
                self._send(unsent)
                self.flush()
                if self.size <= ROOM_BYTES:
                    self._tell_room()
        self._is_draining = False
        self._tell_waiting()

    def _lag(self) -> None:
        """Drop the pushes that wait, and say so."""
        heads: dict[bytes, int] = {}
        kept: list[bytes] = []
        for frame in self._frames:
            if type(frame) is Whole or not is_push(frame):
                kept.append(frame)
                continue
            self.size -= len(frame)
            head = head_of(frame)
            if head is not None:
                heads[head[0]] = max(head[1], heads.get(head[0], 0))
        lag = encode(Lag(list(heads.items())[: limits.MAX_HEADS]))
        self._frames[:] = [*kept, lag]
        self.size += len(lag)
        self.is_lagging = True
        self._synced_at = None

    def _tell_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    def _tell_waiting(self) -> None:
        self._tell_room()
        if self._flushed is not None:
            self._flushed.set()
            self._flushed = None
