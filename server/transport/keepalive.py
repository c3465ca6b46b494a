"""Finds half-open connections: one task for all wakes once a second and looks at the connections that are due.

A connection is due `period_s` after its last byte that the task knew of at its last look. So an active connection costs
a look per period, and nothing per message.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final, Protocol

import trio

from protocol import limits
from protocol.codes import CloseCode

STEP_S: Final = 1.0


class PingedConnection(Protocol):
    """The part of a connection that the keep-alive uses.

    :ivar heard_at: when the last bytes came, by Trio's clock.
    :ivar pinged_at: when the keep-alive pinged it last; only the keep-alive writes this and `slot`.
    """

    heard_at: float
    pinged_at: float
    slot: int

    def ping(self) -> None: ...

    def close(self, code: CloseCode, detail: str) -> None: ...


class KeepAlive:
    """Pings silent connections, and closes those that stay silent.

    :param period_s: silence before a ping, and again before the close; a few times `STEP_S` at least.
    """

    def __init__(self, period_s: float = limits.KEEP_ALIVE_S) -> None:
        self._period_s = period_s
        self._slots: defaultdict[int, set[PingedConnection]] = defaultdict(set)

    def add(self, connection: PingedConnection) -> None:
        """Watch this connection, which was heard just now. Atomic (no checkpoint)."""
        self._put(connection, trio.current_time() + self._period_s - STEP_S)

    def remove(self, connection: PingedConnection) -> None:
        """Stop watching the connection; does nothing if it was never added. Atomic (no checkpoint)."""
        connections = self._slots.get(connection.slot)
        if connections is not None:
            connections.discard(connection)

    def __len__(self) -> int:
        """Connections that are watched."""
        return sum(map(len, self._slots.values()))

    async def run(self) -> None:
        """Look at the connections that are due, until cancelled."""
        while True:
            now = trio.current_time()
            for slot in sorted(slot for slot in self._slots if slot * STEP_S <= now):
                for connection in self._slots.pop(slot):
                    self._look_at(connection, now)
            await trio.sleep(STEP_S)

    def _look_at(self, connection: PingedConnection, now: float) -> None:
        if now < connection.heard_at + self._period_s - STEP_S:
            self._put(connection, connection.heard_at + self._period_s - STEP_S)
        elif connection.pinged_at <= connection.heard_at:
            # A ping comes first, even after a long pause of this process: the connection reads the bytes that came
            # meanwhile before the answer is due.
            connection.pinged_at = now
            self._put(connection, now + self._period_s - 2 * STEP_S)
            connection.ping()
        else:
            connection.close(CloseCode.SILENT, f"nothing came for {now - connection.heard_at:.0f} s")

    def _put(self, connection: PingedConnection, due_at: float) -> None:
        # Rounded up: the task looks at a connection at most two steps after it is due, and never before.
        connection.slot = math.ceil(due_at / STEP_S)
        self._slots[connection.slot].add(connection)
