"""Places among the requests in flight."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from client.pending import Pending


async def test_tasks_get_their_places_in_the_order_of_their_calls_and_go_on_at_once() -> None:
    """Two replies in one message free two places in one step; the scheduler runs tasks of one step in any order."""
    pending, order = Pending(2), []

    async def ask(number: int) -> None:
        await pending.wait_slot()
        order.append(number)

    await ask(0)
    await ask(1)
    async with trio.open_nursery() as nursery:
        for number in range(2, 22):
            nursery.start_soon(ask, number)
            await wait_all_tasks_blocked()
        for _ in range(10):
            pending.release_slot()
            pending.release_slot()
            await wait_all_tasks_blocked()
    assert order == list(range(22))
