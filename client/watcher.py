"""Tells the server which users to watch, once for each connection and whenever they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from client.errors import NoReply, RequestRefused, Unreachable
from client.link import Link
from protocol import limits

WATCH_TIMEOUT_S: Final = 60.0
"""For the answer to `watch`, including reconnecting; then the watcher tries again."""


class Watcher:
    """The users to watch, over all reconnections."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._users: list[bytes] = []
        self._is_due = False
        self._unsaid = trio.lowlevel.ParkingLot()

    def watch(self, users: Sequence[bytes]) -> None:
        """Watch these from now on, and no others; only the first `limits.MAX_WATCHED` count."""
        self._users = list(users[: limits.MAX_WATCHED])
        self._is_due = True
        self._unsaid.unpark_all()

    def renew(self) -> None:
        """The link is online: the server does not know the users of an earlier connection."""
        self._is_due = bool(self._users)
        self._unsaid.unpark_all()

    async def run(self) -> None:
        """Ends only by being cancelled."""
        while True:
            while not (self._link.connection is not None and self._is_due):
                await self._unsaid.park()
            # Before asking: a change of users or a reconnection meanwhile sets it again, and then this is repeated.
            self._is_due = False
            try:
                await self._link.insist(lambda connection: connection.watch(self._users), WATCH_TIMEOUT_S)
            except (NoReply, Unreachable):
                self._is_due = True
            except RequestRefused:
                continue  # The server does not know presence: chatting goes on without it.
