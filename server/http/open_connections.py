"""The connections of a process: how many are open, how many of each address, and which of them give way to others.

Every decision is synchronous and atomic (no checkpoint), and its cost does not grow with the number of connections.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

import structlog
import trio

from server.transport.admission import ConnectionCounts
from server.transport.listener import AT_ONCE
from server.transport.proxies import TrustedProxies, address_key

log = structlog.get_logger(__name__)

MAX_CONNECTIONS: Final = 10_000
"""The most connections of a process, if its limit of open files allows as many: 130 MB if they are idle, some
400 MB with half heads. nginx has 512 to 1,024 of a worker by default."""


PATIENCE_S: Final = 1.0
"""A connection gives way after this time without a request: the head of a new one may be on its way."""


class Waiting(Protocol):
    """A connection, as far as it may give way."""

    def expire(self) -> None:
        """Close soon. Atomic (no checkpoint)."""


class OpenConnections:
    """All connections, from accepting to closing.

    :param most: connections that are open at once. Beyond that the one that has waited longest for a request is closed,
        whether it is idle or has sent half a head. While no connection has waited for `PATIENCE_S`, new ones wait in
        the kernel.
    :param max_each: connections of one address.
    :param proxies: they may have any number of connections; each request names its client.
    :ivar accepted: connections since the start.
    :ivar refused: those of them whose address had `max_each`.
    :ivar expired: those of them that were closed to make room.
    """

    def __init__(self, most: int, max_each: int, proxies: TrustedProxies) -> None:
        self._most = most
        self._addresses: ConnectionCounts[str] = ConnectionCounts(max_each)
        self._proxies = proxies
        self.accepted = self.refused = self.expired = 0
        self._open = 0
        self._waiting: OrderedDict[Waiting, float] = OrderedDict()
        self._expired: set[Waiting] = set()
        self._changed = trio.Event()

    def __len__(self) -> int:
        """Open connections."""
        return self._open

    @property
    def waiting(self) -> int:
        """Connections without a request."""
        return len(self._waiting)

    def enter(self, connection: Waiting) -> None:
        """The connection is open, and waits for a request."""
        self.accepted += 1
        self._open += 1
        self.wait_for_request(connection)

    def leave(self, connection: Waiting) -> None:
        """The connection is closed."""
        self._open -= 1
        self._waiting.pop(connection, None)
        self._expired.discard(connection)
        self._changed.set()

    def wait_for_request(self, connection: Waiting) -> None:
        """The connection has no request, or no more."""
        if connection not in self._expired:
            self._waiting.setdefault(connection, trio.current_time())

    def begin_request(self, connection: Waiting) -> None:
        """The connection has a request, and is not closed for others."""
        self._waiting.pop(connection, None)
        self._expired.discard(connection)

    def count(self, address: str) -> tuple[bool, str | None]:
        """Count a connection of this address; whether it may go on, and the key for `uncount`, if it was counted."""
        if address in self._proxies:
            return True, None
        key = address_key(address)
        if self._addresses.enter(key):
            return True, key
        self.refused += 1
        return False, None

    def uncount(self, key: str | None) -> None:
        """The connection that was counted under this key is closed."""
        if key is not None:
            self._addresses.leave(key)

    async def wait_room(self) -> None:
        """Return once `AT_ONCE` more connections may be open."""
        while self._open + AT_ONCE > self._most:
            log.warning("connections_full", most=self._most, hint="raise LimitNOFILE, or start more processes")
            self._expire(self._open - len(self._expired) + AT_ONCE - self._most)
            self._changed = trio.Event()
            with trio.move_on_after(PATIENCE_S / 4):
                await self._changed.wait()

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
