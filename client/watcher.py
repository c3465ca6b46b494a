"""Tells the server whose presence is wanted, once for each connection and whenever it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from client.errors import NoReply, RequestRefused, Unreachable
from client.link import Link
from protocol import limits

WATCH_TIMEOUT_S: Final = 60.0
"""For `watch` to be answered, reconnecting included; then it is tried again."""


class Watcher:
    """The users whose presence is wanted, over all reconnections."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._users: list[bytes] = []
        self._is_due = False
        self._unsaid = trio.lowlevel.ParkingLot()

    def watch(self, users: Sequence[bytes]) -> None:
        """From now on these, and no others; only the first `limits.MAX_WATCHED` count."""
        self._users = list(users[: limits.MAX_WATCHED])
        self._is_due = True
        self._unsaid.unpark_all()

    def renew(self) -> None:
        """Welcomed: the server knows nothing of an earlier connection's."""
        self._is_due = bool(self._users)
        self._unsaid.unpark_all()

    async def run(self) -> None:
        """Ends only by being cancelled."""
        while True:
            while not (self._link.connection is not None and self._is_due):
                await self._unsaid.park()
            # Before asking: whoever wants others watched meanwhile, or reconnects, sets it, and all is said again.
            self._is_due = False
            try:
                await self._link.insist(lambda connection: connection.watch(self._users), WATCH_TIMEOUT_S)
            except (NoReply, Unreachable):
                self._is_due = True
            except RequestRefused:
                continue  # For good, by a server that knows no presence: chatting goes on without.
