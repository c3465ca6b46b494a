"""`mark_delivered` and `mark_read`: from the request through a batch to the reply."""

from __future__ import annotations

from typing import Final, NamedTuple

import trio

from protocol.codec import encode
from protocol.frames import Done, MarkDelivered, MarkRead
from server.connection import Connection
from server.outbox import Outbox
from server.replies import store_error_reply
from store.batch import Batcher
from store.errors import StoreError
from store.marks import Mark, mark
from store.pool import Pool

PATIENCE_S: Final = 0.1
"""No user waits for a mark, and the debounce window is a hundred times as long. A commit for each would cost Postgres
as much as a message does."""


class PendingMarks(NamedTuple):
    """Marks between their request and its reply."""

    connection: Connection
    request: int
    marks: list[Mark]


class Marks:
    """All up-to marks of this node, written in batches."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._unflushed: list[Outbox] = []
        self._settled = trio.Event()
        self.batcher: Batcher[PendingMarks, StoreError | None] = Batcher(
            "the marks queue",
            self._commit,
            self._settle,
            lambda pending: 64 * len(pending.marks),
            source_of=lambda pending: pending.connection,
            patience_s=PATIENCE_S,
        )

    def submit_nowait(self, connection: Connection, frame: MarkDelivered | MarkRead) -> None:
        """
        :raises Overloaded: if too many requests wait already.
        """
        is_read = isinstance(frame, MarkRead)
        marks = [Mark(connection.user, of, seq, seq if is_read else 0) for of, seq in frame.marks]
        self.batcher.submit_nowait(PendingMarks(connection, frame.request, marks))

    async def _commit(self, batch: list[PendingMarks]) -> list[StoreError | None]:
        return await mark(self._pool, [pending.marks for pending in batch])

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.batcher.run)
            nursery.start_soon(self._flush_in_time)

    def _settle(self, batch: list[PendingMarks], outcomes: list[StoreError | None]) -> None:
        for pending, error in zip(batch, outcomes, strict=True):
            reply = Done(pending.request) if error is None else store_error_reply(pending.request, error)
            pending.connection.outbox.offer(encode(reply))
            pending.connection.answered()
            self._unflushed.append(pending.connection.outbox)
        self._settled.set()

    async def _flush_in_time(self) -> None:
        """Send the replies that have met no push meanwhile; in a busy chat they need no system call of their own."""
        while True:
            await self._settled.wait()
            self._settled = trio.Event()
            await trio.sleep(PATIENCE_S)
            unflushed, self._unflushed = self._unflushed, []
            for outbox in unflushed:
                outbox.flush()
