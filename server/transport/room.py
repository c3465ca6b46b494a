"""The room for connections in a process, and which of them give way to others.

Each connection is an open file, and a process has only so many. Its own files (Postgres, Redis, the port for operators)
are not among those of this room, so clients cannot take them. Every decision is synchronous and atomic (no checkpoint),
and its cost does not grow with the number of connections.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

import structlog
import trio

from server.transport.listener import AT_ONCE

log = structlog.get_logger(__name__)

PATIENCE_S: Final = 1.0
"""A connection gives way after it has waited this long for its client: the bytes of a new one may be on their way."""


class Waiting(Protocol):
    """A connection, as far as it may give way."""

    def expire(self) -> None:
        """Close soon. Atomic (no checkpoint)."""


class Room:
    """All connections, from accepting to closing.

    :param most: connections that are open at once. Beyond that the one that has waited longest for its client is
        closed. While none has waited for `PATIENCE_S`, new ones wait in the kernel.
    :ivar accepted: connections since the start.
    :ivar expired: those of them that were closed to make room.
    :ivar is_wanted: a new connection waits in the kernel for room.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.accepted = self.expired = 0
        self.is_wanted = False
        self._open = 0
        self._waiting: OrderedDict[Waiting, float] = OrderedDict()
        self._expired: set[Waiting] = set()
        self._changed = trio.Event()

    def __len__(self) -> int:
        """Open connections."""
        return self._open

    @property
    def waiting(self) -> int:
        """Connections that wait for their clients, and are not being closed."""
        return len(self._waiting)

    @property
    def served(self) -> int:
        """Connections that are being served."""
        return self._open - len(self._waiting) - len(self._expired)

    def enter(self, connection: Waiting) -> None:
        """The connection is open, and waits for its client."""
        self.accepted += 1
        self._open += 1
        self.wait_for_client(connection)

    def leave(self, connection: Waiting) -> None:
        """The connection is closed."""
        self._open -= 1
        self._waiting.pop(connection, None)
        self._expired.discard(connection)
        self._changed.set()

    def wait_for_client(self, connection: Waiting) -> None:
        """The server has nothing to do for the connection before its client has sent more, if it ever does."""
        if connection not in self._expired:
            self._waiting.setdefault(connection, trio.current_time())

    def serve(self, connection: Waiting) -> None:
        """The connection is being served, and is not closed for others."""
        self._waiting.pop(connection, None)
        self._expired.discard(connection)

    async def wait_room(self) -> None:
        """Return once `AT_ONCE` more connections may be open."""
        while self._open + AT_ONCE > self._most:
            self.is_wanted = True
            log.warning("connections_full", most=self._most, hint="raise LimitNOFILE, or start more processes")
            self._expire(self._open - len(self._expired) + AT_ONCE - self._most)
            self._changed = trio.Event()
            with trio.move_on_after(PATIENCE_S / 4):
                await self._changed.wait()
        self.is_wanted = False

    def _expire(self, most: int) -> None:
        """Close so many connections at most, those first that have waited longest."""
        before = trio.current_time() - PATIENCE_S
        for _ in range(most):
            longest = next(iter(self._waiting), None)
            if longest is None or self._waiting[longest] > before:
                return
            del self._waiting[longest]
            self._expired.add(longest)
            self.expired += 1
            longest.expire()
