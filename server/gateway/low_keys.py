"""Tells connected devices that few of their one-time keys are left, or that a last-resort key was handed out.

Each node asks Postgres every few seconds which devices were found low lately: one look into an index that is almost
empty. So it does not matter which process has handed the keys out, and whether it has died since. A device that
connects later is told right after its welcome.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from protocol.codec import encode
from protocol.frames import KeysLow
from server.delivery.hub import Hub
from store.errors import StoreError
from store.keys import low_since
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

POLL_S: Final = 5.0
"""A device is told within this time and the next; 30 s are promised (P18)."""

MARGIN_S: Final = 15.0
"""Postgres takes the time before the commit, which may take as long as a query, 10 s."""


class LowKeys:
    """Tells the devices of this node."""

    def __init__(self, pool: Pool, hub: Hub) -> None:
        self._pool = pool
        self._hub = hub

    async def run(self) -> None:
        """Until cancelled."""
        asked_at = trio.current_time()
        while True:
            await trio.sleep(POLL_S)
            now = trio.current_time()
            try:
                found = await low_since(self._pool, ago_s=now - asked_at + MARGIN_S)
            except StoreError as error:
                log.warning("low_keys_not_read", error=str(error))
                continue
            asked_at = now
            for each in found:
                for connection in self._hub.of(each.user):
                    # Looks overlap: each connection is told once.
                    if connection.device == each.device and connection.low_told < each.since:
                        connection.low_told = each.since
                        connection.outbox.offer(encode(KeysLow(each.kinds)))
                        connection.outbox.flush()
