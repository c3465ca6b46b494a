"""Sizes, times and stuck commits."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from store.batching.commits import STUCK_S
from store.batching.group_commit import Batcher
from store.batching.two_lanes import LOCK_WAIT_S, Lanes
from store.errors import Locked
from tests.waiting import let_pass


async def test_each_commit_is_counted_with_its_items_and_its_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def commit(batch: list[int]) -> list[int]:
        await let_pass(0.25, why="Postgres takes a while")
        return batch

    batcher: Batcher[int, int] = Batcher("the queue", commit, lambda *_: None, lambda _: 1)
    nursery.start_soon(batcher.run)
    for items in (1, 3):
        for item in range(items):
            batcher.submit_nowait(item)
        await batcher.wait_idle()
    assert (batcher.commits.items.count, batcher.commits.items.sum) == (2, 4)
    assert (batcher.commits.seconds.count, batcher.commits.seconds.sum) == (2, pytest.approx(0.5))


async def test_a_commit_that_outlives_its_deadlines_is_named_and_one_that_has_ended_is_not(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ends = trio.Event()

    async def commit(batch: list[int]) -> list[int]:
        await ends.wait()
        return batch

    batcher: Batcher[int, int] = Batcher("the queue", commit, lambda *_: None, lambda _: 1)
    nursery.start_soon(batcher.run)
    batcher.submit_nowait(1)
    await let_pass(STUCK_S - 1, why="a commit may take so long")
    assert batcher.commits.overdue() == ""
    await let_pass(2, why="it takes longer")
    assert batcher.commits.overdue() == "a commit of the queue is under way for 61 s"
    ends.set()
    await batcher.wait_idle()
    assert batcher.commits.overdue() == ""


async def test_a_stuck_commit_of_the_slow_lane_is_seen_while_the_fast_lane_goes_on(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def commit(batch: list[bytes], lock_wait_s: float) -> list[bytes | Locked]:
        if lock_wait_s == LOCK_WAIT_S:
            await trio.sleep_forever()
        return [Locked() if item == b"locked" else item for item in batch]

    lanes: Lanes[bytes, bytes] = Lanes(
        "sends", commit, lambda *_: None, len, source_of=lambda _: None, key_of=lambda item: item
    )
    nursery.start_soon(lanes.run)
    lanes.submit_nowait(b"locked")
    await let_pass(STUCK_S + 1, why="a commit takes longer than it may")
    lanes.submit_nowait(b"free")
    await let_pass(1, why="the fast lane commits")
    assert lanes.commits.items.count == 2
    assert lanes.overdue().startswith("a commit of sends, slow lane is under way for 6")
