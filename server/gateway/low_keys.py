"""Tells connected devices that few of their one-time keys are left, or that a last-resort key was handed out.

Each node asks Postgres every few seconds which devices were found low lately: one look into an index that is almost
empty. A device that connects later is told right after its welcome.
"""

from __future__ import annotations

from typing import Final

from protocol.codec import encode
from protocol.frames import KeysLow
from server.delivery.hub import Hub
from server.gateway.recent_changes import follow_changes
from store.keys import LowDevice, low_since
from store.postgres.pool import Pool

POLL_S: Final = 5.0
"""A device is told within this time and the next; 30 s are promised (P18)."""


class LowKeys:
    """Tells the devices of this node.

    :ivar told: how many times a device was told.
    """

    def __init__(self, pool: Pool, hub: Hub) -> None:
        self._pool = pool
        self._hub = hub
        self.told = 0

    async def run(self) -> None:
        """Until cancelled."""
        await follow_changes(
            lambda ago_s: low_since(self._pool, ago_s=ago_s), self._tell, poll_s=POLL_S, failed="low_keys_not_read"
        )

    async def _tell(self, found: list[LowDevice]) -> None:
        for each in found:
            for connection in self._hub.of(each.user):
                # Looks overlap: each connection is told once.
                if connection.device == each.device and connection.low_told < each.since:
                    connection.low_told = each.since
                    connection.outbox.offer(encode(KeysLow(each.kinds)))
                    connection.outbox.flush()
                    self.told += 1
