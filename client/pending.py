"""The requests of a connection that wait for replies."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import trio

from protocol import limits
from protocol.frames import Reply


class Waiter:
    """One request: `reply` is set before `done`; if it is None then, the connection ended first."""

    __slots__ = ("done", "reply")

    def __init__(self) -> None:
        self.done: Final = trio.Event()
        self.reply: Reply | None = None


class Pending:
    """Request numbers, and the task that waits for each reply.

    A request whose task has stopped waiting (cancelled, timed out) keeps its number and its place until the reply
    comes: the server still counts it as in flight, and the number must not be used again.
    """

    def __init__(self, most: int = limits.MAX_IN_FLIGHT) -> None:
        self._next = 0
        self._waiters: dict[int, Waiter] = {}
        self._slots = trio.Semaphore(most)
        self._line = trio.Lock()

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait_slot(self) -> None:
        """Wait until the server would accept one more request, or the connection has ended.

        Tasks get their places in the order of their calls, and each goes on at once, before the next one has its place.
        """
        if not self._line.locked():
            with suppress(trio.WouldBlock):
                self._slots.acquire_nowait()
                return
        async with self._line:
            await self._slots.acquire()

    def add(self) -> tuple[int, Waiter]:
        """A free number, and the waiter for its reply; only after `wait_slot`."""
        while self._next in self._waiters:
            self._step()
        number = self._next
        self._step()
        waiter = self._waiters[number] = Waiter()
        return number, waiter

    def drop(self, number: int) -> None:
        """The request did not go out."""
        del self._waiters[number]
        self._slots.release()

    def resolve(self, reply: Reply) -> None:
        """A reply has come. One without a request is ignored."""
        waiter = self._waiters.pop(reply.request, None)
        if waiter is not None:
            waiter.reply = reply
            waiter.done.set()
            self._slots.release()

    def end(self) -> None:
        """The connection has ended: no further replies will come."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.done.set()
        # One slot is enough for all tasks that wait for one: each sees the end and passes the slot on.
        self._slots.release()

    def release_slot(self) -> None:
        """Give back the slot of `wait_slot` without having sent a request."""
        self._slots.release()

    def _step(self) -> None:
        self._next = (self._next + 1) % (limits.MAX_REQUEST + 1)
