"""Reads a mailbox's log as it grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import trio

from client.held import Entry


class Follower:
    """A position in a log that moves on as it is read. Reading is optional: the log keeps everything anyway.

    :param log: of a mailbox.
    :param grown: unparked whenever the log may have grown.
    """

    def __init__(self, log: Sequence[Entry], grown: trio.lowlevel.ParkingLot) -> None:
        self._log = log
        self._grown = grown
        self._position = len(log)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        """The next one; one task at a time."""
        await trio.lowlevel.checkpoint()
        while self._position >= len(self._log):
            await self._grown.park()
        entry = self._log[self._position]
        self._position += 1
        return entry
