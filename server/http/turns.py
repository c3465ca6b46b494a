"""Turns at work that few requests may do at a time: sources that wait take turns, and none waits for another's crowd.

A source is what work is counted by: the address of a client, or a device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
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

    Sources take turns, and the requests of one source are served in the order of their arrival. So a request waits for
    at most one piece of work of each other source, however many requests that source makes. All methods but `turn` are
    synchronous, so each is atomic under Trio.

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
        self._running: set[Hashable] = set()
        self._waiting: dict[Hashable, deque[_Waiter]] = {}
        """In the order of turns."""

    def __len__(self) -> int:
        """The requests that wait."""
        return sum(map(len, self._waiting.values()))

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
        own = len(self._waiting.get(source, ()))
        if own >= self._most_waiting_each:
            raise RateLimited(RETRY_AFTER_S)
        if len(self) >= self._most_waiting:
            self._make_room(own + 1)
        waiter = _Waiter(source)
        self._waiting.setdefault(source, deque()).append(waiter)
        self._call()
        return waiter

    def _make_room(self, own: int) -> None:
        """Refuse the last request of the source with the most of them, if it has more than `own`."""
        longest = max(self._waiting.values(), key=len)
        overloaded = Overloaded(self._name, len(self))
        if len(longest) <= own:
            raise overloaded
        last = longest.pop()
        last.refusal = overloaded
        last.called.set()

    def _call(self) -> None:
        """Begin work of sources that have none under way, in the order of turns."""
        while len(self._running) < self._most_running:
            source = next((each for each in self._waiting if each not in self._running), None)
            if source is None:
                return
            # The source goes behind all others.
            waiting = self._waiting.pop(source)
            self._running.add(source)
            waiting.popleft().called.set()
            if waiting:
                self._waiting[source] = waiting

    def _leave(self, waiter: _Waiter) -> None:
        waiting = self._waiting.get(waiter.source)
        if waiting is not None and waiter in waiting:
            waiting.remove(waiter)
            if not waiting:
                del self._waiting[waiter.source]
        elif waiter.refusal is None:
            self._running.discard(waiter.source)
        self._call()
