"""Closes the connections of devices that their user has revoked, and of users whom an operator has suspended, on every
node, within a second.

Each node asks Postgres twice a second which devices were revoked lately: one look into indexes that are almost empty.
No message between nodes can be lost that way, and after an outage a node asks for all the time that it missed.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from protocol.codes import CloseCode
from server.delivery.hub import Hub
from store.devices import ended_since
from store.errors import StoreError
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

POLL_S: Final = 0.5

MARGIN_S: Final = 15.0
"""Postgres takes a revocation's time before its commit, which may take as long as a query, 10 s."""

_CODES: Final = {
    "revoked": CloseCode.DEVICE_REVOKED,
    "reused": CloseCode.TOKEN_REUSED,
    "suspended": CloseCode.ACCOUNT_SUSPENDED,
}


class Revocations:
    """Closes the connections of revoked devices and suspended users."""

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
                ended = await ended_since(self._pool, ago_s=now - asked_at + MARGIN_S)
            except StoreError as error:
                log.warning("revocations_not_read", error=str(error))
                continue
            asked_at = now
            for each in ended:
                code = _CODES[each.why]
                for connection in self._hub.of(each.user):
                    if each.device is None or connection.device == each.device:
                        connection.close(code, code.info.meaning)
