"""Turns: one source's crowd delays no other source, the queue is bounded, and a request that gives up leaves it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from server.http.limits import RateLimited
from server.http.turns import Turns
from store.errors import Overloaded


class Workshop:
    """Requests that take turns at work that ends when the test says so.

    :ivar begun: the requests whose turn has come, in order.
    :ivar refused: those that were refused, with the error.
    """

    def __init__(self, nursery: trio.Nursery, *, running: int = 1, waiting: int = 64, waiting_each: int = 4) -> None:
        self._nursery = nursery
        self.turns = Turns("work", running=running, waiting=waiting, waiting_each=waiting_each)
        self.begun: list[str] = []
        self.refused: dict[str, type[Exception]] = {}
        self._ends: dict[str, trio.Event] = {}
        self._scopes: dict[str, trio.CancelScope] = {}

    async def ask(self, *names: str) -> None:
        """Requests with names such as `a1`: the first of the source `a`."""
        for name in names:
            self._nursery.start_soon(self._work, name)
            await trio.testing.wait_all_tasks_blocked()

    async def _work(self, name: str) -> None:
        self._ends[name], self._scopes[name] = trio.Event(), trio.CancelScope()
        try:
            with self._scopes[name]:
                async with self.turns.turn(name[0]):
                    self.begun.append(name)
                    await self._ends[name].wait()
        except (RateLimited, Overloaded) as error:
            self.refused[name] = type(error)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await trio.testing.wait_all_tasks_blocked()

    async def give_up(self, name: str) -> None:
        self._scopes[name].cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def end_all(self) -> list[str]:
        """End all work, one piece after the other; return the order in which it began."""
        ended = 0
        while ended < len(self.begun):
            await self.end(self.begun[ended])
            ended += 1
        return self.begun


@asynccontextmanager
async def workshop(**bounds: int) -> AsyncGenerator[Workshop, None]:
    async with trio.open_nursery() as nursery:
        yield Workshop(nursery, **bounds)
        nursery.cancel_scope.cancel()


async def test_a_request_waits_for_no_crowd_of_another_source() -> None:
    async with workshop() as some:
        await some.ask("a1", "a2", "a3", "b1")
        assert await some.end_all() == ["a1", "b1", "a2", "a3"]


async def test_a_source_has_one_piece_of_work_under_way() -> None:
    async with workshop(running=2) as some:
        await some.ask("a1", "a2", "b1", "c1")
        assert some.begun == ["a1", "b1"]
        await some.end("b1")
        assert some.begun == ["a1", "b1", "c1"]
        assert await some.end_all() == ["a1", "b1", "c1", "a2"]


async def test_a_source_has_few_requests_waiting() -> None:
    async with workshop(waiting_each=2) as some:
        await some.ask("a1", "a2", "a3", "a4", "b1")
        assert some.refused == {"a4": RateLimited}
        assert await some.end_all() == ["a1", "b1", "a2", "a3"]


async def test_a_full_queue_refuses_the_last_request_of_the_source_with_the_most() -> None:
    async with workshop(waiting=3) as some:
        await some.ask("a1", "a2", "a3", "a4", "b1")
        assert some.refused == {"a4": Overloaded}
        await some.ask("c1")
        assert some.refused == {"a4": Overloaded, "a3": Overloaded}
        await some.ask("d1")
        assert some.refused == {"a4": Overloaded, "a3": Overloaded, "d1": Overloaded}
        assert await some.end_all() == ["a1", "b1", "c1", "a2"]


@pytest.mark.parametrize("left", ["a1", "a2", "b1"])
async def test_a_request_that_gives_up_leaves_its_place(left: str) -> None:
    async with workshop() as some:
        await some.ask("a1", "a2", "b1")
        await some.give_up(left)
        rest = [each for each in ("a1", "b1", "a2") if each != left]
        assert [each for each in await some.end_all() if each != left] == rest
        assert len(some.turns) == 0
        await some.ask("a9")
        assert some.begun[-1] == "a9"
