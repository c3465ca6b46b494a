"""The order in which messages go out: that in which the user wrote them, on each connection anew (SPEC 17.5)."""

from __future__ import annotations

import trio

from client.connection import ClientConnection


class SendTurn:
    """The place of one message among those on their way.

    :ivar before: the message that the user wrote right before it and that is on its way, too; None if there is none.
    :ivar after: the one right after it.
    :ivar sent_on: the connection on which it went out last; None if on none.
    """

    __slots__ = ("after", "before", "moved", "sent_on")

    def __init__(self, before: SendTurn | None) -> None:
        self.before = before
        self.after: SendTurn | None = None
        self.sent_on: ClientConnection | None = None
        self.moved = trio.lowlevel.ParkingLot()

    async def wait(self, connection: ClientConnection) -> bool:
        """Wait until all messages before this one have gone out on a connection. The caller sends at once then.

        :return: False if another connection has taken the place of this one meanwhile.
        """
        while self.before is not None and self.before.sent_on is not connection:
            seen = self.before, self.before.sent_on
            await self.moved.park()
            if self.before is seen[0] and self.before.sent_on not in (seen[1], connection):
                return False
        return True

    def take(self, connection: ClientConnection) -> None:
        """The message goes out on this connection, before the caller waits for anything."""
        self.sent_on = connection
        if self.after is not None:
            self.after.moved.unpark_all()


class SendOrder:
    """All messages on their way."""

    def __init__(self) -> None:
        self._last: SendTurn | None = None

    def begin(self) -> SendTurn:
        """The user has written another message."""
        turn = SendTurn(self._last)
        if self._last is not None:
            self._last.after = turn
        self._last = turn
        return turn

    def end(self, turn: SendTurn) -> None:
        """A message is sent, or given up."""
        if turn.before is not None:
            turn.before.after = turn.after
        if turn.after is not None:
            turn.after.before = turn.before
            turn.after.moved.unpark_all()
        else:
            self._last = turn.before
