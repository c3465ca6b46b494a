"""Group commit: the items that queue during one commit go out with the next. No timers where a client waits.

Under light load a batch has one item and costs no waiting; under heavy load batches grow until the commit rate and
the arrival rate meet. A failed commit is settled like any other, so every accepted item gets exactly one outcome.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from store.batching.commits import Commits
from store.batching.fair_queue import FairQueue

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """A snapshot of a batcher's counters since its start."""

    queued: int
    committing: int
    batches: int
    items: int


class Batcher(Generic[Item, Outcome]):
    """One queue, one commit at a time.

    :param name: for messages to operators.
    :ivar commits: their sizes and times.
    :param commit: writes a batch in one transaction and returns one outcome for each item, errors among them. Raises
        nothing but `trio.Cancelled`.
    :param settle: called with each batch and its outcomes, synchronously and once: the place to answer all clients.
    :param size_of: bytes of an item, for the bounds.
    :param source_of: the source of an item: batches are fair between sources. By default all items share one.
    :param diverted: asked for each item when its turn has come: true if another queue has taken it.
    :param patience_s: how long the first item waits for company; only where no client waits.
    :param interval_s: the least time from the start of a batch with the given number of items to the next start. An
        item after a pause of that length goes out at once; under load it bounds the number of commits, and each has
        more to do.
    """

    def __init__(
        self,
        name: str,
        commit: Callable[[list[Item]], Awaitable[list[Outcome]]],
        settle: Callable[[list[Item], list[Outcome]], None],
        size_of: Callable[[Item], int],
        *,
        source_of: Callable[[Item], Hashable] = lambda _: None,
        diverted: Callable[[Item], bool] = lambda _: False,
        patience_s: float = 0,
        interval_s: Callable[[int], float] | None = None,
    ) -> None:
        self.commits = Commits(name)
        self._commit = commit
        self._settle = settle
        self._diverted = diverted
        self._patience_s = patience_s
        self._interval_s = interval_s
        self._next_at = -math.inf
        self._queue = FairQueue(name, size_of, source_of)
        self._committing = 0
        self._batches = 0
        self._items = 0
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._idle.set()

    def submit_nowait(self, item: Item) -> None:
        """Queue an item for the next commit. Atomic (no checkpoint).

        :raises Overloaded: if too much waits already; the item was not taken.
        """
        self._queue.put(item)
        self._wake.set()

    async def run(self) -> None:
        """Commit until cancelled. Items that are queued or under way then get no outcome: first drain with
        `wait_idle`."""
        while True:
            if not self._queue:
                self._idle.set()
                self._wake = trio.Event()
                await self._wake.wait()
            if self._patience_s:
                await trio.sleep(self._patience_s)
            if trio.current_time() < self._next_at:
                await trio.sleep_until(self._next_at)
            batch = self._queue.take(self._diverted)
            if not batch:
                continue
            if self._interval_s is not None:
                self._next_at = trio.current_time() + self._interval_s(len(batch))
            self._committing = len(batch)
            self._batches += 1
            self._items += len(batch)
            began = self.commits.begin(len(batch))
            try:
                outcomes = await self._commit(batch)
            finally:
                self.commits.end(began)
            self._committing = 0
            self._settle(batch, outcomes)

    async def wait_idle(self) -> None:
        """Return once nothing is queued or under way."""
        while self._queue or self._committing:
            if self._idle.is_set():
                self._idle = trio.Event()
            await self._idle.wait()

    def statistics(self) -> BatchStatistics:
        return BatchStatistics(len(self._queue), self._committing, self._batches, self._items)
