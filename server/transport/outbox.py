"""The frames that one client has yet to read: bounded in bytes, sent in as few system calls as possible.

Frames that are offered in one batch leave in one `send` as one WebSocket message (a CBOR sequence).

No sender waits for a client: while the kernel's buffer is full, a task of the connection waits. If a client reads too
slowly, the outbox drops the pushes of messages, which the client can fetch. In their place the client gets one `lag`,
and no such pushes until it asks for the messages that it missed (`resume`). The outbox keeps only the latest ephemeral
push of each kind. It never drops replies; instead the connection stops reading from a client whose outbox is full
(`is_full`, `wait_room`). The outbox cuts a client that takes no byte for `STUCK_S`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Final

import trio

from protocol import limits
from protocol.codec import encode
from protocol.encoded import head_of, is_push, type_mark
from protocol.frames import Lag
from protocol.websocket import binary_header
from server.transport.wire_counts import WireCounts

MAX_BYTES: Final = 1024 * 1024
"""Bytes of one connection, beyond the kernel's own buffers: about 3,000 messages of 300 bytes, as in Centrifuge."""

MAX_REPLY_BYTES: Final = 4 * MAX_BYTES
"""The connection answers all requests of one read together, so replies may exceed `MAX_BYTES`: by the replies to 64 KiB
of the smallest requests, about 1.5 MiB, and by the replies in flight. More is a fault, and the outbox cuts the
connection."""

ROOM_BYTES: Final = MAX_BYTES // 2
"""A full outbox has room again below this. It does not wake the reader for each frame that the kernel takes."""

STUCK_S: Final = 15.0
"""The outbox cuts a peer whose kernel has taken no byte for this long."""

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""The outbox begins another WebSocket message beyond this: half of what a client must accept (protocol.limits)."""

MAX_LATEST: Final = 256
"""Ephemeral pushes that wait, one for each user and conversation; beyond this the outbox drops the oldest."""


class Whole(bytes):
    """Several frames that are one reply: pushes among them are not dropped."""

    __slots__ = ()


class Outbox:
    """The outgoing side of one connection.

    :param sock: a non-blocking socket; the outbox only sends on it.
    :param start_soon: starts the task that waits for a slow peer, in the connection's nursery.
    :param on_cut: called once when the peer is stuck or gone; it must end the connection.
    :param counts: those of the node.
    :ivar size: bytes that wait.
    :ivar is_lagging: pushes of messages are dropped until `resume`.
    :ivar lags: how often the client was told that it lags.
    :ivar has_news: something was offered since the last cursor.
    :ivar marks: how far the client's last `sync` told it of all participants' marks (`store.sync.SyncPage.marks`).
    :ivar is_touched: the hub will flush the outbox at the end of its batch; only the hub writes it.
    """

    __slots__ = (
        "_counts",
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
        "lags",
        "marks",
        "size",
    )

    def __init__(
        self, sock: socket.socket, start_soon: Callable[..., object], on_cut: Callable[[], None], counts: WireCounts
    ) -> None:
        self._counts = counts
        self._sock = sock
        self._start_soon = start_soon
        self._on_cut = on_cut
        self._frames: list[bytes] = []
        self._latest: dict[bytes, bytes] | None = None
        self._unsent: bytes | None = None
        """The rest of a WebSocket message that the kernel took in part; never dropped, as it has to be completed."""
        self._is_ended = False
        self._is_held = False
        self._is_draining = False
        self._flushed: trio.Event | None = None
        self._room: trio.Event | None = None
        self.size = 0
        self.cut_reason: str | None = None
        self.is_lagging = False
        self.lags = 0
        self.is_touched = False
        self.has_news = False
        self.marks = 0
        self._synced_at: float | None = None

    def offer(self, frame: bytes) -> None:
        """Queue a reply for the next flush. Atomic (no checkpoint); never blocks, never raises."""
        if self.cut_reason is None and not self._is_ended:
            self.has_news = True
            self._frames.append(frame)
            if type(frame) is not Whole:
                self._counts.offered[type_mark(frame)] += 1
            self._grow(len(frame))

    def count_frames(self, frames: Iterable[bytes]) -> None:
        """Count the frames of a `Whole`."""
        for frame in frames:
            self._counts.offered[type_mark(frame)] += 1

    def push(self, frame: bytes) -> None:
        """As `offer`, for the push of a message, which the client can fetch if it has to be dropped."""
        if self.is_lagging or self.cut_reason is not None or self._is_ended:
            self._counts.dropped += 1
            return
        self.has_news = True
        self._frames.append(frame)
        self.size += len(frame)
        if self.size > MAX_BYTES:
            # One batch may hold more than the bound; only bytes that the kernel does not take show a slow reader.
            self.flush()
            if self.size > MAX_BYTES:
                self._lag("slow_reader")

    def push_latest(self, key: bytes, frame: bytes) -> None:
        """As `offer`, for an ephemeral push, which replaces a waiting push with the same key."""
        if self.cut_reason is not None or self._is_ended:
            return
        if self._latest is None:
            self._latest = {}
        if key not in self._latest and len(self._latest) >= MAX_LATEST:
            del self._latest[next(iter(self._latest))]
        self._latest[key] = frame
        self._counts.offered[type_mark(frame)] += 1

    def resume(self) -> None:
        """The client is about to fetch the messages that it missed: accept pushes again. Atomic (no checkpoint)."""
        self.is_lagging = False
        self._synced_at = None

    def note_synced(self, marks: int) -> None:
        """The caller offers the last reply of a `sync` next; with it, and the pushes since `resume`, the client has
        everything. Atomic (no checkpoint)."""
        if not self.is_lagging:
            self._synced_at = trio.current_time()
            self.marks = marks

    @property
    def has_synced(self) -> bool:
        """Whether the client completed a `sync` on this connection, and has missed no push since then."""
        return self._synced_at is not None

    def holds_all_before(self, taken_at: float) -> bool:
        """Whether the client was offered all that it lacked from before this time, and some frame since its last
        cursor."""
        return self.has_news and self.has_synced_before(taken_at)

    def has_synced_before(self, taken_at: float) -> bool:
        """Whether the client completed a `sync` before this time, and has missed no push since then."""
        return self._synced_at is not None and self._synced_at < taken_at

    def push_cursor(self, frame: bytes) -> None:
        """As `push`, for a cursor: `has_news` is false until the next frame is offered."""
        self._counts.offered[type_mark(frame)] += 1
        self.push(frame)
        self.has_news = False

    def lag(self, reason: str) -> None:
        """Drop the waiting pushes of messages, and ask the client to fetch them. Atomic (no checkpoint).

        :param reason: one of a few, for the metrics.
        """
        if not self.is_lagging and self.cut_reason is None and not self._is_ended:
            self._lag(reason)

    def hold(self) -> None:
        """Keep offered frames until `release`: pushes may come before the client may see them."""
        self._is_held = True

    def release(self, first: bytes) -> None:
        """Send `first`, and after it the frames that were offered meanwhile."""
        self._is_held = False
        if self.cut_reason is None:
            self._frames.insert(0, first)
            self._counts.offered[type_mark(first)] += 1
            self.size += len(first)
            self.flush()

    def flush(self) -> None:
        """Send the offered frames, as far as the kernel takes them now. Atomic (no checkpoint)."""
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
        """Send bytes that are WebSocket frames already, after all bytes under way. Atomic (no checkpoint)."""
        if self.cut_reason is not None:
            return
        self.size += len(data)
        if self._unsent is None:
            self._send(data)
        else:
            self._unsent += data
            self._grow(0)

    def end(self, close_frame: bytes) -> None:
        """Send the waiting frames, then this close frame, the last that is allowed (RFC 6455, section 5.5.1)."""
        self.flush()
        while self._frames and self.cut_reason is None:
            self.send_raw(self._pack())
        self.send_raw(close_frame)
        self._is_ended = True

    def cut(self, reason: str) -> None:
        """Give the peer up, and drop all queued frames."""
        if self.cut_reason is None:
            self.cut_reason = reason
            self._counts.cuts[reason] += 1
            self._frames.clear()
            self._latest = self._unsent = None
            self.size = 0
            self._tell_waiting()
            self._on_cut()
            # Both are methods of the connection, which holds this outbox: a circle, with all that the connection has.
            self._on_cut = self._start_soon = _never

    @property
    def is_full(self) -> bool:
        """Whether the connection must stop reading from this client: each reply would add to the frames that wait."""
        return self.size > MAX_BYTES

    async def wait_room(self, most: int = MAX_BYTES) -> None:
        """Return once there is room for more, or the peer was cut.

        :param most: return at once if at most this many bytes wait.
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
        self._counts.send_calls += 1
        self._counts.sent_bytes += sent
        if sent < len(data):
            self._unsent = data[sent:]
            if not self._is_draining:
                self._is_draining = True
                self._start_soon(self._drain)

    async def _drain(self) -> None:
        began = trio.current_time()
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
        self._counts.blocked_seconds.observe(trio.current_time() - began)
        self._tell_waiting()

    def _lag(self, reason: str) -> None:
        """Drop the waiting pushes of messages, and queue a `lag`."""
        heads: dict[bytes, int] = {}
        kept: list[bytes] = []
        for frame in self._frames:
            if type(frame) is Whole or not is_push(frame):
                kept.append(frame)
                continue
            self.size -= len(frame)
            self._counts.dropped += 1
            head = head_of(frame)
            if head is not None:
                heads[head[0]] = max(head[1], heads.get(head[0], 0))
        lag = encode(Lag(list(heads.items())[: limits.MAX_HEADS]))
        self._counts.lags[reason] += 1
        self.lags += 1
        self._counts.offered[type_mark(lag)] += 1
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


def _never(*_: object) -> None:
    """Not called: after a cut nothing is sent."""
