"""Turns at work that few requests may do at a time: sources that wait take turns, and none waits for another's crowd.

A source is what work is counted by: the address of a client, a user, or a device.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, NamedTuple

import trio

from server.http.limits import RateLimited
from store.distribution import Distribution
from store.errors import Overloaded

RETRY_AFTER_S: Final = 1.0

MAX_PLACES: Final = 10_000
"""Places that are kept, in 3 MB at most; those of the sources that left first are given up first."""


class _Waiter:
    """A request that waits.

    :ivar refusal: why its turn does not come; None while it may come, and once it has come.
    """

    __slots__ = ("called", "refusal")

    def __init__(self) -> None:
        self.called = trio.Event()
        self.refusal: Exception | None = None


class _Source:
    """A source that has work under way, or requests that wait.

    :ivar place: in the order of arrival; sources that come later have greater ones.
    :ivar running: pieces of its work under way.
    """

    __slots__ = ("key", "place", "running", "waiting")

    def __init__(self, key: Hashable, place: int = 0) -> None:
        self.key = key
        self.place = place
        self.running = 0
        self.waiting: deque[_Waiter] = deque()


class TurnsStatistics(NamedTuple):
    """What is there now: pieces of work under way, requests that wait, and sources that are remembered."""

    running: int
    waiting: int
    sources: int


def _all_alike(_: Hashable) -> int:
    return 0


class Turns:
    """A bounded queue of work, in which each source has few pieces under way.

    Sources take turns, and the requests of one source are served in the order of their arrival. A source whose work has
    begun goes behind those that have come meanwhile. So a request waits for at most `running_each` pieces of work of
    each other source, however many requests that makes. A source that comes from a rest has its turn before all that
    have had theirs already, and then has its place among them until that has come round: so it cannot be at rest again
    at once, and nobody waits for ever (RFC 8290 does so with packets). All methods but `begin` and `turn` are
    synchronous, so each is atomic under Trio.

    With ranks, a source whose requests have all left without a turn (refused, or given up) keeps its place for a while.
    So a client that waits as long as it was told to, and comes again, is not behind those that came meanwhile, and
    waits for no more sources of its rank than had asked before it.

    :param name: of the work, for operators.
    :param running: pieces of work at a time, of all sources.
    :param running_each: pieces of work at a time, of one source.
    :param waiting: requests that may wait, of all sources.
    :param waiting_each: requests that may wait, of one source.
    :param wait_s: for a turn; then the request is refused.
    :param rank: of a source; turns go to those of the lowest rank first. None: sources have no ranks.
    :param kept_s: for how long a source without a turn keeps its place; only with ranks.
    :ivar wait_seconds: of the requests that had to wait for their turn, also of those whose turn did not come.
    """

    def __init__(
        self,
        name: str,
        *,
        running: int,
        running_each: int = 1,
        waiting: int,
        waiting_each: int,
        wait_s: float = math.inf,
        rank: Callable[[Hashable], int] | None = None,
        kept_s: float = 0.0,
    ) -> None:
        self._name = name
        self._most_running = running
        self._most_running_each = running_each
        self._most_waiting = waiting
        self._most_waiting_each = waiting_each
        self._wait_s = wait_s
        self._has_ranks = rank is not None
        self._rank = rank or _all_alike
        self._kept_s = kept_s
        self._arrivals = count()
        self._kept: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        """Sources that have left without a turn, in this order -> their places, and until when they keep them."""
        self._sources: dict[Hashable, _Source] = {}
        self._rested: dict[Hashable, _Source] = {}
        """Sources that have come from a rest, with requests that wait for others' work alone, in the order of turns."""
        self._next: dict[Hashable, _Source] = {}
        """Sources that have had a turn, in the order of the next ones. Some have no request that waits: their turn is
        passed over."""
        self._running = 0
        self._waiting = 0
        self.wait_seconds = Distribution()

    def statistics(self) -> TurnsStatistics:
        return TurnsStatistics(self._running, self._waiting, len(self._sources))

    @asynccontextmanager
    async def turn(self, source: Hashable) -> AsyncGenerator[None, None]:
        """Wait for a turn, and keep it while the block runs; errors are those of `begin`."""
        await self.begin(source)
        try:
            yield
        finally:
            self.end(source)

    async def begin(self, source: Hashable) -> None:
        """Wait for a turn; then call `end`. No checkpoint if the turn is there. A request that is cancelled leaves the
        queue.

        :raises RateLimited: if `waiting_each` requests of this source wait.
        :raises Overloaded: if `waiting` requests wait, none of which has to make room for this one, or the turn has not
            come within `wait_s`. The source keeps its place.
        """
        if self._begin_at_once(source):
            return
        waiter = self._enter(source)
        began = trio.current_time()
        try:
            with trio.move_on_after(self._wait_s):
                await waiter.called.wait()
        finally:
            self.wait_seconds.observe(trio.current_time() - began)
            if not waiter.called.is_set():
                self._give_up(source, waiter)
        if not waiter.called.is_set():
            raise Overloaded(self._name, self._waiting)
        if waiter.refusal is not None:
            raise waiter.refusal

    def end(self, source: Hashable) -> None:
        """A piece of work of this source has ended."""
        ended = self._sources[source]
        ended.running -= 1
        self._running -= 1
        if source not in self._rested and (ended.waiting or (self._waiting and not self._has_ranks)):
            self._queue_again(ended)
        self._forget_idle(ended)
        self._call()

    def _queue_again(self, source: _Source) -> None:
        """Put a source that has had a turn behind those that have come meanwhile."""
        if source.key not in self._next:
            source.place = next(self._arrivals)
            self._next[source.key] = source

    def _forget_idle(self, source: _Source) -> None:
        """Forget a source that has nothing here."""
        key = source.key
        if not (source.running or source.waiting or key in self._next):
            del self._sources[key]

    def _begin_at_once(self, source: Hashable) -> bool:
        if self._running >= self._most_running:
            return False
        beginning = self._sources.get(source)
        if beginning is None:
            self._take_place(source)
            beginning = self._sources[source] = _Source(source)
        elif beginning.running >= self._most_running_each:
            return False
        beginning.running += 1
        self._running += 1
        return True

    def _enter(self, source: Hashable) -> _Waiter:
        own = self._sources.get(source) or _Source(source, self._take_place(source))
        if len(own.waiting) >= self._most_waiting_each:
            raise RateLimited(RETRY_AFTER_S)
        if self._waiting >= self._most_waiting:
            self._make_room(own)
        if source not in self._sources:
            self._sources[source] = self._rested[source] = own
        elif own.running < self._most_running_each and source not in self._rested:
            self._queue_again(own)
        waiter = _Waiter()
        own.waiting.append(waiter)
        self._waiting += 1
        return waiter

    def _take_place(self, source: Hashable) -> int:
        """The place that the source has kept, or the last one."""
        place, ends_at = self._kept.pop(source, (0, -math.inf))
        return place if trio.current_time() < ends_at else next(self._arrivals)

    def _keep_place(self, source: _Source) -> None:
        now = trio.current_time()
        self._kept[source.key] = source.place, now + self._kept_s
        self._kept.move_to_end(source.key)
        while self._kept and (len(self._kept) > MAX_PLACES or next(iter(self._kept.values()))[1] <= now):
            self._kept.popitem(last=False)

    def _make_room(self, own: _Source) -> None:
        """Refuse the last request of the source with the highest rank and the most requests, of several the one that
        came last, if that is not `own`."""
        longest = max((each for each in self._sources.values() if each.waiting), key=self._weight)
        overloaded = Overloaded(self._name, self._waiting)
        rank, waiting, place = self._weight(own)
        if self._weight(longest) <= (rank, waiting + 1, place):
            if not (own.running or own.waiting):
                self._keep_place(own)
            raise overloaded
        last = longest.waiting[-1]
        self._give_up(longest.key, last)
        last.refusal = overloaded
        last.called.set()

    def _weight(self, source: _Source) -> tuple[int, int, int]:
        return self._rank(source.key), len(source.waiting), source.place

    def _give_up(self, source: Hashable, waiter: _Waiter) -> None:
        """Take a request that waits out of the queue."""
        own = self._sources[source]
        own.waiting.remove(waiter)
        self._waiting -= 1
        if not own.waiting:
            if self._rested.pop(source, None):
                self._keep_place(own)
            self._next.pop(source, None)
            self._forget_idle(own)

    def _call(self) -> None:
        """Begin work of the sources whose turn it is."""
        while (self._rested or self._next) and self._running < self._most_running:
            called = self._take_next()
            if not called.waiting:
                self._forget_idle(called)
                continue
            waiter = called.waiting.popleft()
            self._waiting -= 1
            called.running += 1
            self._running += 1
            if called.waiting and called.running < self._most_running_each:
                self._queue_again(called)
            waiter.called.set()

    def _take_next(self) -> _Source:
        """Take the source whose turn it is out of its list."""
        if self._has_ranks:
            source = min((*self._rested.values(), *self._next.values()), key=self._order).key
        else:
            source = next(iter(self._rested or self._next))
        return self._rested.pop(source, None) or self._next.pop(source)

    def _order(self, source: _Source) -> tuple[int, bool, int]:
        return self._rank(source.key), source.key not in self._rested, source.place
