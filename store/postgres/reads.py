"""Reads that queue up share a round trip.

While connections are free, each read has its own. When `MAX_READING` are busy, reads queue, and the next free
connection takes all waiting reads as one pipeline. No background task does this: one of the waiting tasks runs the
pipeline for the others, shielded from its own cancellation from the time when it takes them, which would undo their
reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import trio

from store.errors import Overloaded
from store.postgres.driver import Read, encode
from store.postgres.statement import Statement

_Rows: TypeAlias = list[tuple[Any, ...]]

MAX_READING: Final = 4
"""Connections that reads use at once; further reads share them. Two are enough to keep two cores busy."""

MAX_PIPELINE: Final = 16
"""Reads in one round trip: the last of them waits for all before it."""

MAX_WAITING: Final = 1024
"""Reads that wait; the next gets `Overloaded`. At 1 ms a read and 4 connections: 0.26 s of work."""


class _Pending:
    """A read. `is_queued` until a task runs it, `outcome` afterwards."""

    __slots__ = ("is_queued", "outcome", "read", "woken")

    def __init__(self, read: Read) -> None:
        self.read = read
        self.is_queued = True
        self.outcome: _Rows | Exception | None = None
        self.woken: trio.Event | None = None

    def wake(self) -> None:
        if self.woken is not None:
            self.woken.set()


@dataclass(frozen=True, slots=True)
class ReadsStatistics:
    """A snapshot of the counters since the start.

    :ivar reading: round trips that are under way.
    """

    waiting: int
    reads: int
    round_trips: int
    reading: int


class Reads:
    """The queue of reads of one pool.

    :param run: runs several reads in one round trip. Once a connection is free, it calls its argument to take them, and
        cannot be cancelled any longer.
        Raises StoreError if it could not run any.
    :param most: connections at once.
    """

    def __init__(
        self, run: Callable[[Callable[[], list[Read]]], Awaitable[list[_Rows | Exception]]], most: int
    ) -> None:
        self._run = run
        self._most = most
        self._queue: deque[_Pending] = deque()
        self._reading = 0
        self._reads = 0
        self._round_trips = 0

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> _Rows:
        """Run a read, alone or with others; return its rows.

        :raises Overloaded: if too many wait already.
        :raises StoreError: as the pool does; the error of another read never reaches this one.
        """
        if len(self._queue) >= MAX_WAITING:
            raise Overloaded("the reads", len(self._queue))
        pending = _Pending((statement, encode(statement, values)))
        self._queue.append(pending)
        try:
            while pending.outcome is None:
                if pending.is_queued and self._reading < self._most:
                    await self._lead()
                else:
                    pending.woken = trio.Event()
                    await pending.woken.wait()
        finally:
            if pending.is_queued:
                self._queue.remove(pending)
            self._wake_next()
        if isinstance(pending.outcome, Exception):
            raise pending.outcome
        return pending.outcome

    def statistics(self) -> ReadsStatistics:
        return ReadsStatistics(len(self._queue), self._reads, self._round_trips, self._reading)

    def _wake_next(self) -> None:
        """Wake a task that may now run reads."""
        if self._queue and self._reading < self._most:
            self._queue[0].wake()

    async def _lead(self) -> None:
        """Run the waiting reads, which may include the caller's own."""
        taken: list[_Pending] = []

        def take() -> list[Read]:
            while self._queue and len(taken) < MAX_PIPELINE:
                taken.append(self._queue.popleft())
                taken[-1].is_queued = False
            return [each.read for each in taken]

        self._reading += 1
        outcomes: list[_Rows | Exception]
        try:
            outcomes = await self._run(take)
            self._reads += len(taken)
            self._round_trips += 1
        except Exception as error:  # noqa: BLE001  (any error is passed on to all tasks whose reads were taken)
            if not taken:
                # No connection became free: all waiting reads have waited as long as they may, or soon will have.
                taken, self._queue = list(self._queue), deque()
                for each in taken:
                    each.is_queued = False
            outcomes = [error] * len(taken)
        finally:
            self._reading -= 1
        for each, outcome in zip(taken, outcomes, strict=True):
            each.outcome = outcome
            each.wake()
