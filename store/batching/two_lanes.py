"""Two lanes of commits: items whose rows are locked elsewhere leave the fast lane, so that others need not wait.

The fast lane is a `Batcher` whose commits skip rows that another transaction has locked. Items of a locked key (a
conversation) go to the slow lane, and all later items of that key follow, in order, until the slow lane is through with
the key. The slow lane commits one key at a time, waits for its lock, and uses connections of its own. A key whose lock
does not come goes to the end of the line. After `PATIENCE_S` in the slow lane an item is given up, as retryable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import trio

from store.batching.commits import Commits
from store.batching.fair_queue import MAX_BYTES, MAX_QUEUED, MAX_ROWS
from store.batching.group_commit import Batcher, BatchStatistics
from store.errors import Locked, Overloaded

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

SLOW_COMMITS: Final = 2
"""At once: a key that stays locked leaves room for keys that are merely popular. Each takes a connection."""

LOCK_WAIT_S: Final = 0.25
"""How long a slow commit waits for a lock; nodes that write to the same conversation hold it for 5 ms."""

PATIENCE_S: Final = 2.0
"""How long an item may stay in the slow lane; then its sender is told to try again."""


@dataclass(frozen=True, slots=True)
class LanesStatistics:
    """A snapshot.

    :ivar slow: items in the slow lane.
    :ivar keys: keys with items in the slow lane.
    :ivar diverted: items that have gone to the slow lane since the start.
    """

    fast: BatchStatistics
    slow: int
    keys: int
    diverted: int


class Lanes(Generic[Item, Outcome]):
    """A batcher with a second lane.

    :param commit: writes a batch in one transaction and returns an outcome for each item: `Locked` if another
        transaction held the lock for longer than the given time in seconds (0: does not wait). Raises nothing but
        `trio.Cancelled`.
    :param key_of: the key whose lock an item needs.
    :param settle, size_of, source_of: see `Batcher`.
    :ivar slow_commits: those of the slow lane.
    """

    def __init__(
        self,
        name: str,
        commit: Callable[[list[Item], float], Awaitable[list[Outcome | Locked]]],
        settle: Callable[[list[Item], list[Outcome | Locked]], None],
        size_of: Callable[[Item], int],
        *,
        source_of: Callable[[Item], Hashable],
        key_of: Callable[[Item], bytes],
    ) -> None:
        self._name = name
        self._commit = commit
        self._settle = settle
        self._size_of = size_of
        self._key_of = key_of
        self._fast: Batcher[Item, Outcome | Locked] = Batcher(
            name, self._commit_fast, self._settle_fast, size_of, source_of=source_of, diverted=self._divert
        )
        self.slow_commits = Commits(f"{name}, slow lane")
        self._lines: dict[bytes, deque[tuple[float, Item]]] = {}
        """The waiting items of each key, with the time when each is given up."""
        self._turns: deque[bytes] = deque()
        self._turn_come = trio.Semaphore(0)
        self._slow = 0
        self._diverted = 0
        self._idle = trio.Event()

    def submit_nowait(self, item: Item) -> None:
        """Queue an item. Atomic (no checkpoint).

        :raises Overloaded: if too much waits already; the item was not taken.
        """
        if self._slow >= MAX_QUEUED:
            raise Overloaded(self._name, self._slow)
        self._fast.submit_nowait(item)

    async def run(self) -> None:
        """Commit until cancelled. Items that are queued or under way then get no outcome: first drain with
        `wait_idle`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fast.run)
            for _ in range(SLOW_COMMITS):
                nursery.start_soon(self._run_slow)

    async def wait_idle(self) -> None:
        """Return once nothing is queued or under way."""
        while True:
            await self._fast.wait_idle()
            if not self._slow:
                return
            self._idle = trio.Event()
            await self._idle.wait()

    @property
    def commits(self) -> Commits:
        """The commits of the fast lane."""
        return self._fast.commits

    def overdue(self) -> str:
        """A sentence about a commit that is stuck; "" if none is."""
        return self._fast.commits.overdue() or self.slow_commits.overdue()

    def statistics(self) -> LanesStatistics:
        return LanesStatistics(self._fast.statistics(), self._slow, len(self._lines), self._diverted)

    async def _commit_fast(self, batch: list[Item]) -> list[Outcome | Locked]:
        return await self._commit(batch, 0)

    def _settle_fast(self, batch: list[Item], outcomes: list[Outcome | Locked]) -> None:
        if not any(isinstance(outcome, Locked) for outcome in outcomes):
            self._settle(batch, outcomes)
            return
        settled = []
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Locked):
                self._add_slow(item)
            else:
                settled.append((item, outcome))
        if settled:
            self._settle(*map(list, zip(*settled, strict=True)))

    def _divert(self, item: Item) -> bool:
        """Queue an item behind earlier items of its key in the slow lane, if there are any."""
        if not self._lines or self._key_of(item) not in self._lines:
            return False
        self._add_slow(item)
        return True

    def _add_slow(self, item: Item) -> None:
        key = self._key_of(item)
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = line = deque()
            self._take_turn(key)
        line.append((trio.current_time() + PATIENCE_S, item))
        self._slow += 1
        self._diverted += 1

    def _take_turn(self, key: bytes) -> None:
        self._turns.append(key)
        self._turn_come.release()

    async def _run_slow(self) -> None:
        while True:
            await self._turn_come.acquire()
            key = self._turns.popleft()
            batch = self._next_of(self._lines[key])
            began = self.slow_commits.begin(len(batch))
            try:
                outcomes = await self._commit([item for _, item in batch], LOCK_WAIT_S)
            finally:
                self.slow_commits.end(began)
            self._settle_slow(key, batch, outcomes)

    def _next_of(self, line: deque[tuple[float, Item]]) -> list[tuple[float, Item]]:
        batch: list[tuple[float, Item]] = []
        size = 0
        while line and len(batch) < MAX_ROWS and size < MAX_BYTES:
            batch.append(line.popleft())
            size += self._size_of(batch[-1][1])
        return batch

    def _settle_slow(self, key: bytes, batch: list[tuple[float, Item]], outcomes: list[Outcome | Locked]) -> None:
        line, now = self._lines[key], trio.current_time()
        items: list[Item] = []
        settled: list[Outcome | Locked] = []
        again: list[tuple[float, Item]] = []
        for (until, item), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Locked) and now < until:
                again.append((until, item))
            else:
                items.append(item)
                settled.append(outcome)
        line.extendleft(reversed(again))
        if line:
            self._take_turn(key)
        else:
            del self._lines[key]
        self._slow -= len(items)
        if items:
            self._settle(items, settled)
        if not self._slow:
            self._idle.set()
