"""Turns at work that few requests may do at a time: sources that wait take turns, and none waits for another's crowd.

A source is what work is counted by: the address of a client, or a device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Hashable, Iterable
from contextlib import asynccontextmanager
from itertools import chain
from typing import Final

import trio

from server.http.limits import RateLimited
from store.errors import Overloaded

RETRY_AFTER_S: Final = 1.0


class _Waiter:
    """A request that waits.

    :ivar refusal: why its turn does not come; None while it may come, and once it has come.
    """

    __slots__ = ("called", "refusal", "source")

    def __init__(self, source: Hashable) -> None:
        self.source = source
        self.called = trio.Event()
        self.refusal: Exception | None = None


class Turns:
    """A bounded queue of work, in which each source has at most one piece under way.

    Sources take turns, and the requests of one source are served in the order of their arrival. A source whose work has
    ended goes behind those that have come meanwhile. So a request waits for at most one piece of work of each other
    source, however many requests that makes. All methods but `turn` are synchronous, so each is atomic under Trio.

    :param name: of the work, for operators.
    :param running: pieces of work at a time, of all sources.
    :param waiting: requests that may wait, of all sources.
    :param waiting_each: requests that may wait, of one source.
    """

    def __init__(self, name: str, *, running: int, waiting: int, waiting_each: int) -> None:
        self._name = name
        self._most_running = running
        self._most_waiting = waiting
        self._most_waiting_each = waiting_each
        self._running: dict[Hashable, deque[_Waiter]] = {}
        """Sources with work under way, and their requests that wait."""
        self._waiting: dict[Hashable, deque[_Waiter]] = {}
        """The requests of other sources, in the order of turns."""

    def __len__(self) -> int:
        """The requests that wait."""
        return sum(map(len, self._queues()))

    def _queues(self) -> Iterable[deque[_Waiter]]:
        return chain(self._running.values(), self._waiting.values())

    @asynccontextmanager
    async def turn(self, source: Hashable) -> AsyncGenerator[None, None]:
        """Wait for a turn, and keep it while the block runs. A request that is cancelled leaves the queue.

        :raises RateLimited: if `waiting_each` requests of this source wait.
        :raises Overloaded: if `waiting` requests wait, none of which belongs to a source with more of them than this.
        """
        waiter = self._enter(source)
        try:
            await waiter.called.wait()
            if waiter.refusal is not None:
                raise waiter.refusal
            yield
        finally:
            self._leave(waiter)

    def _enter(self, source: Hashable) -> _Waiter:
        own = self._queue_of(source)
        if len(own) >= self._most_waiting_each:
            raise RateLimited(RETRY_AFTER_S)
        if len(self) >= self._most_waiting:
            self._make_room(len(own) + 1)
        waiter = _Waiter(source)
        own.append(waiter)
        if source not in self._running:
            self._waiting[source] = own
        self._call()
        return waiter

    def _queue_of(self, source: Hashable) -> deque[_Waiter]:
        queue = self._running.get(source)
        return self._waiting.get(source, deque()) if queue is None else queue

    def _make_room(self, own: int) -> None:
        """Refuse the last request of the source with the most of them, if it has more than `own`."""
        longest = max(self._queues(), key=len)
        overloaded = Overloaded(self._name, len(self))
        if len(longest) <= own:
            raise overloaded
        last = longest.pop()
        last.refusal = overloaded
        last.called.set()

    def _call(self) -> None:
        """Begin work of the sources whose turn it is."""
        while self._waiting and len(self._running) < self._most_running:
            source = next(iter(self._waiting))
            self._running[source] = waiting = self._waiting.pop(source)
            waiting.popleft().called.set()

    def _leave(self, waiter: _Waiter) -> None:
        source, queue = waiter.source, self._queue_of(waiter.source)
        if waiter in queue:
            queue.remove(waiter)
            if not queue:
                self._waiting.pop(source, None)
        elif waiter.refusal is None:
            del self._running[source]
            if queue:
                self._waiting[source] = queue
        self._call()
