"""Sends marks: the server learns soon up to where this device has stored, and the user has read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from client import backoff
from client.connection import ClientConnection
from client.errors import ConnectionLost, NoReply, RequestRefused
from client.link import Link
from client.mailbox import Mailbox
from client.marks import MarkTracker

MARK_INTERVAL_S: Final = 1.0
"""At most one request with marks in this time, all conversations in it; a tenth of the server's debounce window."""

_SayMarks: TypeAlias = Callable[[ClientConnection, list[tuple[bytes, int]]], Awaitable[None]]


class MarkSender:
    """Sends the marks of the mailbox that are due."""

    def __init__(self, link: Link, mailbox: Mailbox) -> None:
        self._link = link
        self._mailbox = mailbox
        self._due = trio.lowlevel.ParkingLot()

    def wake(self) -> None:
        """Marks may be due."""
        self._due.unpark_all()

    async def run(self) -> None:
        """Ends only by being cancelled."""
        while True:
            while not (self._link.connection is not None and any(marks.due(1) for marks, _ in self._kinds())):
                await self._due.park()
            await trio.sleep(MARK_INTERVAL_S)
            if self._link.connection is not None:
                await self.send_due(self._link.connection)

    async def send_due(self, connection: ClientConnection) -> None:
        """Send one request for each kind of marks that has some due."""
        for marks, say in self._kinds():
            if due := marks.due():
                await self._send(connection, marks, due, say)

    def _kinds(self) -> tuple[tuple[MarkTracker, _SayMarks], ...]:
        # Each time, since a mailbox that was dropped has new ones.
        delivered = (self._mailbox.delivered, ClientConnection.mark_delivered)
        return delivered, (self._mailbox.read, ClientConnection.mark_read)

    async def _send(
        self, connection: ClientConnection, marks: MarkTracker, due: list[tuple[bytes, int]], say: _SayMarks
    ) -> None:
        versions = self._mailbox.versions(due)
        try:
            await say(connection, due)
        except (ConnectionLost, NoReply):
            return  # still due
        except RequestRefused as refused:
            if refused.retry_after_ms is not None:
                await trio.sleep(backoff.after_s(refused.retry_after_ms, 0))
            else:
                marks.confirm(due)
            return
        self._mailbox.have_marked(marks, due, versions)
