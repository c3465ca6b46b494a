"""`mark_delivered` and `mark_read`: from the request through a batch to the reply and the receipts.

The reader's own devices get their receipts with the reply; the authors of the messages that the marks have passed get
theirs a moment later (`server.delivery.receipts`), or counts (`server.delivery.receipt_counts`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from protocol.codec import encode
from protocol.frames import Done, MarkDelivered, MarkRead, Receipts
from server.delivery.broadcast import Broadcast
from server.delivery.receipts import ReceiptSender
from server.gateway.connection import Connection
from server.transport.outbox import Outbox
from store.batching.group_commit import Batcher
from store.errors import StoreError
from store.marks import Mark, MovedMarks, mark
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush

INTERVAL_S: Final = 0.05
BUSY_INTERVAL_S: Final = 0.25
"""Time from one commit of marks to the next, and after one of more than `FEW`. A mark that comes after a pause is
committed at once. A commit for each mark would cost Postgres as much as a message, and no user waits for a mark."""

FEW: Final = 4
"""A batch of at most this many replies is sent at once, with one system call for each."""

REPLY_S: Final = 1.0
"""The replies of a larger batch wait for this long at most: in a busy chat most leave with a push. A client sends marks
once a second at most, and nothing else waits for their reply."""


class PendingMarks(NamedTuple):
    """Marks between their request and its reply."""

    connection: Connection
    user: bytes
    request: int
    marks: list[Mark]


class Marks:
    """All up-to marks of this node, written in batches.

    :param count: called with the moved marks of conversations with too many participants for receipts.
    :ivar receipts: those for the authors of messages.
    """

    def __init__(self, pool: Pool, broadcast: Broadcast, count: Callable[[MovedMarks], None]) -> None:
        self._pool = pool
        self._broadcast = broadcast
        self._count = count
        self.receipts = ReceiptSender(broadcast)
        self._moved: list[MovedMarks] = []
        self._unflushed: list[Outbox] = []
        self._settled = trio.Event()
        self.batcher: Batcher[PendingMarks, StoreError | None] = Batcher(
            "the marks queue",
            self._commit,
            self._settle,
            lambda pending: 64 * len(pending.marks),
            source_of=lambda pending: pending.user,
            interval_s=lambda items: BUSY_INTERVAL_S if items > FEW else INTERVAL_S,
        )

    def submit_nowait(self, connection: Connection, frame: MarkDelivered | MarkRead) -> None:
        """Queue the marks of one request. Atomic (no checkpoint).

        :raises Overloaded: if too many requests wait already.
        """
        is_read = isinstance(frame, MarkRead)
        user, device = connection.user, connection.device
        marks = [Mark(user, of, seq, seq if is_read else 0, device) for of, seq in frame.marks]
        self.batcher.submit_nowait(PendingMarks(connection, user, frame.request, marks))

    async def _commit(self, batch: list[PendingMarks]) -> list[StoreError | None]:
        marked = await mark(self._pool, [pending.marks for pending in batch])
        self._moved += marked.moved
        return marked.outcomes

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.batcher.run)
            nursery.start_soon(self.receipts.run)
            nursery.start_soon(self._flush_in_time)

    def _settle(self, batch: list[PendingMarks], outcomes: list[StoreError | None]) -> None:
        moved, self._moved = self._moved, []
        for each in moved:
            if each.authors is None:
                self._count(each)
            elif each.authors:
                self.receipts.note(each)
            if each.is_read:
                # Before the replies: a client with a reply has its own receipts.
                self._broadcast.push(_own_receipts(each))
        for pending, error in zip(batch, outcomes, strict=True):
            connection = pending.connection
            reply = encode(Done(pending.request)) if error is None else connection.refusal(pending.request, error)
            connection.outbox.offer(reply)
            pending.connection.answered()
        self._broadcast.flush()
        outboxes = [pending.connection.outbox for pending in batch]
        if len(outboxes) <= FEW:
            for outbox in outboxes:
                outbox.flush()
        else:
            self._unflushed += outboxes
            self._settled.set()

    async def _flush_in_time(self) -> None:
        """Send the replies that no push has carried along; in a busy chat they need no system call of their own."""
        while True:
            await self._settled.wait()
            self._settled = trio.Event()
            await trio.sleep(REPLY_S)
            unflushed, self._unflushed = self._unflushed, []
            for outbox in unflushed:
                outbox.flush()


def _own_receipts(moved: MovedMarks) -> AddressedPush:
    """The push of a read mark to the reader's own devices."""
    quiet = None if moved.quiet_count is None else [(moved.own_read, moved.quiet_count)]
    marks = [(moved.user, moved.own_delivered, moved.own_read)]
    frame = encode(Receipts(moved.conversation, moved.device, marks, quiet))
    return AddressedPush(moved.conversation, 0, frame, (moved.user,), cause=moved.user)
