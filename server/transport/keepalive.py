"""Half-open peers are found: one task for all connections, which wakes once a second and looks at those that are due.

A connection is due `period_s` after it was last heard, as far as was known when it was last looked at. So one that
talks costs a look per period, and nothing per message.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final, Protocol

import trio

from protocol import limits
from protocol.codes import CloseCode

STEP_S: Final = 1.0


class Peer(Protocol):
    """What is watched of a connection.

    :ivar heard_at: when the last bytes came, by Trio's clock.
    :ivar pinged_at: when it was pinged last; ours, as is `slot`.
    """

    heard_at: float
    pinged_at: float
    slot: int

    def ping(self) -> None: ...

    def close(self, code: CloseCode, detail: str) -> None: ...


class KeepAlive:
    """Pings connections that are silent, and closes those that stay so.

    :param period_s: of silence before a ping, and again before the end; a few steps at least.
    """

    def __init__(self, period_s: float = limits.KEEP_ALIVE_S) -> None:
        self._period_s = period_s
        self._slots: defaultdict[int, set[Peer]] = defaultdict(set)

    def add(self, peer: Peer) -> None:
        """Watch this connection, which was heard just now. Atomic (no checkpoint)."""
        self._put(peer, trio.current_time() + self._period_s - STEP_S)

    def remove(self, peer: Peer) -> None:
        """Forget it; also if it was never added. Atomic (no checkpoint)."""
        peers = self._slots.get(peer.slot)
        if peers is not None:
            peers.discard(peer)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now = trio.current_time()
            for slot in sorted(slot for slot in self._slots if slot * STEP_S <= now):
                for peer in self._slots.pop(slot):
                    self._look_at(peer, now)
            await trio.sleep(STEP_S)

    def _look_at(self, peer: Peer, now: float) -> None:
        if now < peer.heard_at + self._period_s - STEP_S:
            self._put(peer, peer.heard_at + self._period_s - STEP_S)
        elif peer.pinged_at <= peer.heard_at:
            # Also after this process has been paused for long: what came meanwhile is read before the answer is due.
            peer.pinged_at = now
            self._put(peer, now + self._period_s - 2 * STEP_S)
            peer.ping()
        else:
            peer.close(CloseCode.SILENT, f"nothing came for {now - peer.heard_at:.0f} s")

    def _put(self, peer: Peer, due_at: float) -> None:
        # Rounded up: never looked at before it is due, and at most a step later, plus the step of the task.
        peer.slot = math.ceil(due_at / STEP_S)
        self._slots[peer.slot].add(peer)
