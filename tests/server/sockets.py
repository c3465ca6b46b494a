"""Two ends of a connection in one process: one counts its sends, the other parses them with an independent library."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Event

from server.transport.outbox import Outbox
from server.transport.wire_counts import WireCounts


class CountedSocket:
    """A socket whose system calls are counted; a call may be given less room than the kernel has."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.sends = 0
        self.most: list[int] = []
        """The most bytes that each coming call takes; 0 stands for a full kernel."""

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, data: bytes | bytearray) -> int:
        self.sends += 1
        if self.most:
            most = self.most.pop(0)
            if not most:
                raise BlockingIOError
            return self._sock.send(data[:most])
        return self._sock.send(data)


class Peer:
    """The other end: reads when told to, parses with wsproto."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._websocket = Connection(ConnectionType.CLIENT)
        self._kept: list[Event] = []

    def keep(self, events: list[Event]) -> None:
        """Store these events for `take`."""
        self._kept += events

    def take(self) -> list[Event]:
        """The events stored since the last call."""
        taken, self._kept = self._kept, []
        return taken

    def events_nowait(self) -> list[Event]:
        """The events that have come until now."""
        events: list[Event] = []
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return events
            if not data:
                return events
            self._websocket.receive_data(data)
            events += self._websocket.events()

    def messages_nowait(self) -> list[bytes]:
        """The whole messages that have come until now; fails on other events."""
        return whole_messages(self.events_nowait())


def whole_messages(events: list[Event]) -> list[bytes]:
    messages, parts = [], b""
    for event in events:
        assert isinstance(event, BytesMessage), event
        parts += event.data
        if event.message_finished:
            messages.append(parts)
            parts = b""
    assert not parts
    return messages


class Ends:
    """An outbox on one end, a peer on the other.

    :ivar cuts: how often the outbox asked to end the connection.
    :ivar on_cut: called each time.
    """

    def __init__(self, nursery: trio.Nursery | None, *, kernel_bytes: int | None = None) -> None:
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        if kernel_bytes is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_bytes)
        self.ours, self.peer = ours, Peer(theirs)
        self.sock = CountedSocket(ours)
        self.cuts = 0
        self.on_cut: Callable[[], None] = lambda: None
        self.outbox = Outbox(self.sock, nursery.start_soon if nursery else _no_tasks, self._cut, WireCounts())  # type: ignore[arg-type]

    def _cut(self) -> None:
        self.cuts += 1
        self.on_cut()

    def close(self) -> None:
        self.ours.close()
        self.peer.sock.close()


def _no_tasks(task: Callable[..., Any], *_: object) -> None:
    raise AssertionError(f"{task} was started, but the kernel had room")


@contextmanager
def ends(nursery: trio.Nursery | None = None, *, kernel_bytes: int | None = None) -> Iterator[Ends]:
    made = Ends(nursery, kernel_bytes=kernel_bytes)
    try:
        yield made
    finally:
        made.close()
