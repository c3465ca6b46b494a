"""Closes the connections of devices that their user has revoked, and of users whom an operator has suspended, on every
node, within a second; and tells the conversations of the former that their device sets have changed.

Each node asks Postgres twice a second which devices were revoked lately: one look into indexes that are almost empty.
"""

from __future__ import annotations

from typing import Final

import structlog

from protocol.codes import CloseCode
from server.delivery.broadcast import Broadcast
from server.delivery.device_sets import pushes_of
from server.delivery.hub import Hub
from server.gateway.recent_changes import follow_changes
from store.devices import EndedDevice, ended_since
from store.errors import StoreError
from store.keys import small_changes
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

POLL_S: Final = 0.5

_CODES: Final = {
    "revoked": CloseCode.DEVICE_REVOKED,
    "reused": CloseCode.TOKEN_REUSED,
    "suspended": CloseCode.ACCOUNT_SUSPENDED,
}


class Revocations:
    """Closes the connections of revoked devices and suspended users, and pushes the changed device sets."""

    def __init__(self, pool: Pool, hub: Hub, broadcast: Broadcast) -> None:
        self._pool = pool
        self._hub = hub
        self._broadcast = broadcast
        self._told: set[bytes] = set()

    async def run(self) -> None:
        """Until cancelled."""
        await follow_changes(
            lambda ago_s: ended_since(self._pool, ago_s=ago_s), self._take, poll_s=POLL_S, failed="revocations_not_read"
        )

    async def _take(self, ended: list[EndedDevice]) -> None:
        for each in ended:
            code = _CODES[each.why]
            for connection in self._hub.of(each.user):
                if each.device is None or connection.device == each.device:
                    connection.close(code, code.info.meaning)
        await self._tell(ended)

    async def _tell(self, ended: list[EndedDevice]) -> None:
        """Push the device sets that revoked devices have left, to the connections of this node."""
        revoked = {each.device: each.user for each in ended if each.device is not None}
        users = {user for device, user in revoked.items() if device not in self._told}
        if users:
            try:
                changes = await small_changes(self._pool, list(users))
            except StoreError as error:
                log.warning("revocations_not_read", error=str(error))
                return
            for push in pushes_of(changes):
                self._broadcast.push_found(push)
            self._broadcast.flush()
        # Each is found several times.
        self._told = set(revoked)
