"""Requests that queue up share a round trip.

While connections are free, each request has its own. When the most that may be used are busy, requests queue, and the
next free connection takes all that wait. No background task does this: one of the waiting tasks makes the round trip
for the others, shielded from its own cancellation from the time when it takes them, which would undo their requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from store.errors import Overloaded

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class _Pending(Generic[Item, Outcome]):
    """A request. `is_queued` until a task takes it, `outcome` afterwards."""

    __slots__ = ("is_queued", "item", "outcome", "woken")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.is_queued = True
        self.outcome: Outcome | Exception | None = None
        self.woken: trio.Event | None = None

    def wake(self) -> None:
        if self.woken is not None:
            self.woken.set()


@dataclass(frozen=True, slots=True)
class SharedStatistics:
    """A snapshot of the counters since the start.

    :ivar under_way: round trips.
    """

    waiting: int
    items: int
    round_trips: int
    under_way: int


class SharedTrips(Generic[Item, Outcome]):
    """A queue of requests.

    :param name: for messages to operators.
    :param run: makes a round trip for several requests; returns the outcome of each, in order. Once a connection is
        free, it calls its argument to take them, and cannot be cancelled any longer. Raises StoreError if it could not
        run any.
    :param most: round trips at once.
    :param most_items: of a round trip.
    :param most_waiting: requests; the next gets `Overloaded`.
    :param fits: whether an item may go with those that were taken before it; if not, it waits for the next trip.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Callable[[], list[Item]]], Awaitable[list[Outcome | Exception]]],
        *,
        most: int,
        most_items: int,
        most_waiting: int,
        fits: Callable[[Sequence[Item], Item], bool] = lambda _taken, _item: True,
    ) -> None:
        self._name = name
        self._run = run
        self._most = most
        self._most_items = most_items
        self._most_waiting = most_waiting
        self._fits = fits
        self._queue: deque[_Pending[Item, Outcome]] = deque()
        self._under_way = 0
        self._items = 0
        self._round_trips = 0

    async def request(self, item: Item) -> Outcome:
        """Do one request, alone or with others; return its outcome, or raise it if it is an exception.

        :raises Overloaded: if too many wait already.
        :raises StoreError: as `run` does.
        """
        if len(self._queue) >= self._most_waiting:
            raise Overloaded(self._name, len(self._queue))
        pending: _Pending[Item, Outcome] = _Pending(item)
        self._queue.append(pending)
        try:
            while pending.outcome is None:
                if pending.is_queued and self._under_way < self._most:
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

    def statistics(self) -> SharedStatistics:
        return SharedStatistics(len(self._queue), self._items, self._round_trips, self._under_way)

    def _wake_next(self) -> None:
        """Wake a task that may now make a round trip."""
        if self._queue and self._under_way < self._most:
            self._queue[0].wake()

    async def _lead(self) -> None:
        """Make a round trip for the waiting requests, which may include the caller's own."""
        taken: list[_Pending[Item, Outcome]] = []

        def take() -> list[Item]:
            items: list[Item] = []
            passed: list[_Pending[Item, Outcome]] = []
            while self._queue and len(taken) < self._most_items:
                pending = self._queue.popleft()
                if not self._fits(items, pending.item):
                    passed.append(pending)
                    continue
                pending.is_queued = False
                taken.append(pending)
                items.append(pending.item)
            self._queue.extendleft(reversed(passed))
            return items

        self._under_way += 1
        outcomes: list[Outcome | Exception]
        try:
            outcomes = await self._run(take)
            self._items += len(taken)
            self._round_trips += 1
        except Exception as error:  # noqa: BLE001  (any error is passed on to all tasks whose requests were taken)
            if not taken:
                # No connection became free: all that wait have waited as long as they may, or soon will have.
                taken, self._queue = list(self._queue), deque()
                for each in taken:
                    each.is_queued = False
            outcomes = [error] * len(taken)
        finally:
            self._under_way -= 1
        for each, outcome in zip(taken, outcomes, strict=True):
            each.outcome = outcome
            each.wake()
