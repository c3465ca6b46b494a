"""Turns: one source's crowd delays no other source, the queue is bounded, and a request that gives up leaves it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing

from server.http import turns
from server.http.limits import RateLimited
from server.http.turns import Turns
from store.errors import Overloaded
from tests.waiting import let_pass


class Workshop:
    """Requests that take turns at work that ends when the test says so.

    :ivar begun: the requests whose turn has come, in order.
    :ivar refused: those that were refused, with the error.
    """

    def __init__(self, nursery: trio.Nursery, **bounds: Any) -> None:
        self._nursery = nursery
        self.turns = Turns("work", **{"running": 1, "waiting": 64, "waiting_each": 4, **bounds})
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
        finally:
            self._ends[name].set()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await trio.testing.wait_all_tasks_blocked()

    def under_way(self) -> list[str]:
        return [each for each in self.begun if not self._ends[each].is_set()]

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
async def workshop(**bounds: Any) -> AsyncGenerator[Workshop, None]:
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
        assert some.turns.statistics().waiting == 0
        await some.ask("a9")
        assert some.begun[-1] == "a9"


async def test_a_source_may_have_several_pieces_under_way() -> None:
    async with workshop(running=3, running_each=2) as some:
        await some.ask("a1", "a2", "a3", "b1", "b2")
        assert some.begun == ["a1", "a2", "b1"]
        await some.end("a1")
        assert some.begun == ["a1", "a2", "b1", "b2"], "the other source has had fewer turns"
        assert await some.end_all() == ["a1", "a2", "b1", "b2", "a3"]


async def test_a_source_that_was_at_rest_waits_for_no_source_that_is_not() -> None:
    """One user's single request passes all the crowds, each of which has had its turn."""
    async with workshop() as some:
        await some.ask("a1", "a2", "b1", "b2", "c1", "c2")
        for name in ("a1", "b1", "c1"):
            await some.end(name)
        assert some.begun == ["a1", "b1", "c1", "a2"]
        await some.ask("d1")
        await some.end("a2")
        assert some.begun[4:] == ["d1"]
        assert (await some.end_all())[5:] == ["b2", "c2"]


async def test_a_source_with_a_request_at_a_time_has_no_more_turns_than_others() -> None:
    """It is not at rest again as soon as its request has ended: else sources with one request each would starve one
    with two."""
    async with workshop() as some:
        await some.ask("a1", "a2", "b1", "b2", "c1")
        for name in ("a1", "b1"):
            await some.end(name)
        assert some.begun == ["a1", "b1", "c1"]
        await some.end("c1")
        await some.ask("c2")
        assert await some.end_all() == ["a1", "b1", "c1", "a2", "b2", "c2"]


@pytest.mark.parametrize("seed", range(20))
async def test_in_any_order_all_requests_are_served_within_the_bounds_and_then_forgotten(seed: int) -> None:
    chance = random.Random(seed)
    async with workshop(running=3, running_each=2) as some:
        given_up = set[str]()
        asked = [f"{chance.choice('abcd')}{n}" for n in range(30)]
        for name in asked:
            await some.ask(name)
            match chance.randrange(4):
                case 0 | 1:
                    await some.end(chance.choice(some.under_way() or [name]))
                case 2:
                    given_up.add(name)
                    await some.give_up(name)
            sources = Counter(each[0] for each in some.under_way())
            assert sources.total() <= 3
            assert max(sources.values(), default=0) <= 2
        await some.end_all()
        assert set(some.begun) | given_up | some.refused.keys() == set(asked)
        assert some.turns.statistics() == (0, 0, 0), "a source that has nothing here takes no memory"


RANKS = {"a": 2, "b": 1, "c": 0}


async def test_turns_go_to_the_lowest_rank() -> None:
    async with workshop(rank=lambda source: RANKS[str(source)]) as some:
        await some.ask("b1", "a1", "b2", "c1", "c2")
        assert await some.end_all() == ["b1", "c1", "c2", "b2", "a1"]


async def test_a_full_queue_refuses_the_highest_rank() -> None:
    async with workshop(waiting=2, rank=lambda source: RANKS[str(source)]) as some:
        await some.ask("c1", "b1", "a1", "c2")
        assert some.refused == {"a1": Overloaded}
        await some.ask("a2")
        assert some.refused == {"a1": Overloaded, "a2": Overloaded}
        assert await some.end_all() == ["c1", "c2", "b1"]


async def test_a_turn_that_does_not_come_in_time_is_a_refusal(mock_clock: trio.testing.MockClock) -> None:
    async with workshop(wait_s=5.0) as some:
        await some.ask("a1", "a2", "b1")
        mock_clock.jump(5.1)
        await trio.testing.wait_all_tasks_blocked()
        assert some.refused == {"a2": Overloaded, "b1": Overloaded}
        assert some.turns.statistics().waiting == 0
        await some.ask("c1")
        assert await some.end_all() == ["a1", "c1"]


async def test_each_wait_for_a_turn_is_measured_also_one_in_vain(mock_clock: trio.testing.MockClock) -> None:
    async with workshop(wait_s=10) as shop:
        await shop.ask("a1", "b1", "c1", "d1")
        assert (shop.turns.wait_seconds.count, shop.turns.wait_seconds.sum) == (0, 0), "none has ended"
        mock_clock.jump(2)
        await shop.end("a1")
        await shop.give_up("d1")
        mock_clock.jump(8)
        await trio.testing.wait_all_tasks_blocked()
        assert (shop.begun, shop.refused) == (["a1", "b1"], {"c1": Overloaded})
        assert (shop.turns.wait_seconds.count, shop.turns.wait_seconds.sum) == (3, 2 + 2 + 10)


async def wait_in_vain(some: Workshop, clock: trio.testing.MockClock) -> None:
    await some.ask("b1")
    clock.jump(10.1)
    await trio.testing.wait_all_tasks_blocked()


async def hang_up(some: Workshop, clock: trio.testing.MockClock) -> None:
    await some.ask("b1")
    await some.give_up("b1")


async def come_to_a_full_queue(some: Workshop, clock: trio.testing.MockClock) -> None:
    await some.ask("c1", "d1", "b1")
    await some.give_up("c1")
    await some.give_up("d1")


async def make_room_for_others(some: Workshop, clock: trio.testing.MockClock) -> None:
    await some.ask("c1", "b1", "d1")
    await some.give_up("c1")
    await some.give_up("d1")


EQUALS = {"a": 0, "b": 1, "c": 0, "d": 0, "e": 1}
"""Ranks of sources: `b` and `e` have the same."""


@asynccontextmanager
async def keeping_places() -> AsyncGenerator[Workshop, None]:
    async with workshop(waiting=2, wait_s=10.0, rank=lambda source: EQUALS[str(source)], kept_s=60.0) as some:
        await some.ask("a1")
        yield some


def of(some: Workshop, *names: str) -> list[str]:
    """Those of these requests that have begun, in order."""
    return [each for each in some.begun if each in names]


@pytest.mark.parametrize("leave", [wait_in_vain, hang_up, come_to_a_full_queue, make_room_for_others])
async def test_a_source_without_a_turn_keeps_its_place(leave: Any, mock_clock: trio.testing.MockClock) -> None:
    """A client that waits before it comes again is not behind those that came meanwhile."""
    async with keeping_places() as some:
        await leave(some, mock_clock)
        await some.ask("e1", "b2")
        await some.end_all()
        assert of(some, "b1", "b2", "e1") == ["b2", "e1"]


async def test_a_turn_uses_the_place_up(mock_clock: trio.testing.MockClock) -> None:
    async with keeping_places() as some:
        await hang_up(some, mock_clock)
        await some.ask("b2", "c1")
        await some.end("a1")
        assert some.under_way() == ["c1"]
        await some.end("c1")
        assert some.under_way() == ["b2"]
        await some.end("b2")
        await some.ask("a2", "e1", "b3")
        await some.end_all()
        assert of(some, "e1", "b3") == ["e1", "b3"]


async def test_a_turn_that_is_there_uses_the_place_up(mock_clock: trio.testing.MockClock) -> None:
    async with keeping_places() as some:
        await hang_up(some, mock_clock)
        await some.end("a1")
        await some.ask("b2")
        await some.end("b2")
        await some.ask("a2", "e1", "b3")
        await some.end_all()
        assert of(some, "e1", "b3") == ["e1", "b3"]


async def test_a_place_is_kept_for_a_while(mock_clock: trio.testing.MockClock) -> None:
    async with keeping_places() as some:
        await hang_up(some, mock_clock)
        mock_clock.jump(60.1)
        await some.ask("e1", "b2")
        await some.end_all()
        assert of(some, "b2", "e1") == ["e1", "b2"]


async def test_so_many_places_are_kept_and_those_that_were_left_last(
    mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_PLACES", 1)
    async with keeping_places() as some:
        await hang_up(some, mock_clock)
        await some.ask("e1")
        await some.give_up("e1")
        await some.ask("b2", "e2")
        await some.end_all()
        assert of(some, "b2", "e2") == ["e2", "b2"]


async def test_a_full_queue_refuses_the_source_that_came_last(mock_clock: trio.testing.MockClock) -> None:
    async with workshop(waiting=2, rank=lambda _: 0, kept_s=60.0) as some:
        await some.ask("a1")
        await hang_up(some, mock_clock)
        await some.ask("c1", "d1", "e1")
        assert some.refused == {"e1": Overloaded}
        await some.ask("b2")
        assert some.refused == {"e1": Overloaded, "d1": Overloaded}
        assert await some.end_all() == ["a1", "b2", "c1"]


async def test_a_client_that_comes_again_passes_300_that_have_a_new_address_each_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A hash takes 0.3 s here, so a wait of 10 s serves one of nine; the others come again at once."""
    some = Turns("work", running=1, waiting=512, waiting_each=4, wait_s=10.0, rank=lambda _: 0, kept_s=60.0)
    addresses = count()

    async def is_served(source: object) -> bool:
        try:
            async with some.turn(source):
                await let_pass(0.3, why="a hash takes it")
        except Overloaded:
            return False
        return True

    async def attack() -> None:
        while True:
            await is_served(next(addresses))

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(attack)
        await trio.testing.wait_all_tasks_blocked()
        assert not await is_served("a user")
        await let_pass(4, why="the answer takes 3 s at most, and asks for one more")
        assert await is_served("a user")
        nursery.cancel_scope.cancel()
