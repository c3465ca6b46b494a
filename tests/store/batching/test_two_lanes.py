"""The fair queue, and the two lanes: decisions without a database; then a conversation that is locked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from client.http import Credentials
from store.batching import fair_queue as queue_module
from store.batching import two_lanes as lanes_module
from store.batching.fair_queue import FairQueue
from store.batching.two_lanes import LOCK_WAIT_S, PATIENCE_S, Lanes
from store.errors import Locked, Overloaded
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import PostgresConnection, connected, uuid
from store.postgres.pool import Pool
from tests.people import new_direct
from tests.store.store_world import a_message
from tests.waiting import let_pass, wait_until

Item = tuple[str, int]


def queue_of(*items: Item) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue("the queue", lambda _: 1, lambda item: item[0])
    for item in items:
        queue.put(item)
    return queue


def test_sources_take_turns_and_each_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source with a thousand items waits behind itself: a source with a single item is in the first batch."""
    monkeypatch.setattr(queue_module, "MAX_ROWS", 4)
    queue = queue_of(*[("greedy", n) for n in range(5)], ("modest", 0), ("other", 0), ("other", 1))
    batches = [queue.take(lambda _: False) for _ in range(2)]
    assert batches == [
        [("greedy", 0), ("modest", 0), ("other", 0), ("greedy", 1)],
        [("other", 1), ("greedy", 2), ("greedy", 3), ("greedy", 4)],
    ]
    assert len(queue) == 0
    assert queue.take(lambda _: False) == []


def test_a_source_of_large_items_has_fewer_turns_and_a_bounded_part_of_each_commit() -> None:
    """Contents of 64 KiB at full rate: the others' items come first, and the commit that they wait for stays short."""
    queue: FairQueue[Item] = FairQueue("the queue", lambda item: item[1], lambda item: item[0])
    for _ in range(10):
        queue.put(("greedy", 64 * 1024))
    for _ in range(30):
        queue.put(("modest", 200))
    first, second = queue.take(lambda _: False), queue.take(lambda _: False)
    assert [item[0] for item in first].index("greedy") == 15, "it saves for 16 turns"
    assert [item[0] for item in first].count("greedy") == queue_module.MAX_SOURCE_BYTES // (64 * 1024)
    assert [item[0] for item in first].count("modest") == 30
    assert second == [("greedy", 64 * 1024)] * 2, "the rest waits for later commits, in which others take part"
    assert len(queue) == 6


def test_the_queue_is_bounded_in_bytes_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MAX_QUEUED_BYTES", 3)
    queue = queue_of(("a", 1), ("b", 2), ("c", 3))
    with pytest.raises(Overloaded, match="the queue already has 3 waiting"):
        queue.put(("d", 4))
    queue.take(lambda item: item[0] == "a")
    queue.put(("d", 4))
    assert queue.take(lambda _: False) == [("d", 4)]


class LockableKeys:
    """Keys that are locked until the test says otherwise; records the settled items and their times."""

    def __init__(self) -> None:
        self.locked: set[bytes] = set()
        self.settled: list[tuple[Item, str]] = []
        self.commits: list[tuple[list[Item], float]] = []
        self.unlocked = defaultdict[bytes, trio.Event](trio.Event)
        self.lanes: Lanes[Item, str] = Lanes(
            "the lanes", self.commit, self.settle, lambda _: 1, source_of=lambda _: None, key_of=key_of
        )

    async def commit(self, batch: list[Item], lock_wait_s: float) -> list[str | Locked]:
        self.commits.append((batch, lock_wait_s))
        await trio.lowlevel.checkpoint()
        if lock_wait_s:
            with trio.move_on_after(lock_wait_s):
                for key in {key_of(item) for item in batch} & self.locked:
                    await self.unlocked[key].wait()
        return [Locked() if key_of(item) in self.locked else "done" for item in batch]

    def settle(self, batch: list[Item], outcomes: list[str | Locked]) -> None:
        names = [outcome if isinstance(outcome, str) else "locked" for outcome in outcomes]
        self.settled += zip(batch, names, strict=True)

    def unlock(self, key: bytes) -> None:
        self.locked.discard(key)
        self.unlocked[key].set()

    def put(self, *items: Item) -> None:
        for item in items:
            self.lanes.submit_nowait(item)


def key_of(item: Item) -> bytes:
    return item[0].encode()


@pytest.fixture
def keys(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> LockableKeys:
    keys = LockableKeys()
    nursery.start_soon(keys.lanes.run)
    return keys


async def test_locked_key_makes_no_other_wait_and_keeps_its_order(keys: LockableKeys) -> None:
    keys.locked = {b"x"}
    keys.put(("x", 1), ("y", 1))
    await trio.testing.wait_all_tasks_blocked()
    assert keys.settled == [(("y", 1), "done")]
    keys.put(("x", 2), ("y", 2), ("x", 3))
    await trio.testing.wait_all_tasks_blocked()
    assert keys.settled == [(("y", 1), "done"), (("y", 2), "done")]
    assert (keys.lanes.statistics().slow, keys.lanes.statistics().keys) == (3, 1)
    keys.unlock(b"x")
    await keys.lanes.wait_idle()
    assert [item for item, _ in keys.settled if item[0] == "x"] == [("x", 1), ("x", 2), ("x", 3)]
    assert {outcome for _, outcome in keys.settled} == {"done"}
    keys.put(("x", 4))
    await keys.lanes.wait_idle()
    assert keys.commits[-1] == ([("x", 4)], 0), "a key whose item is done is in the fast lane again"


async def test_item_that_stays_locked_is_given_up_in_time(keys: LockableKeys) -> None:
    keys.locked = {b"x"}
    began = trio.current_time()
    keys.put(("x", 1), ("x", 2))
    await keys.lanes.wait_idle()
    assert keys.settled == [(("x", 1), "locked"), (("x", 2), "locked")]
    assert PATIENCE_S <= trio.current_time() - began <= PATIENCE_S + LOCK_WAIT_S


async def test_keys_that_stay_locked_let_a_popular_one_through(keys: LockableKeys) -> None:
    """More of them than slow commits at once: each gives up its place after a moment."""
    keys.locked = {b"a", b"b", b"c", b"popular"}
    keys.put(("a", 1), ("b", 1), ("c", 1), ("popular", 1))
    await let_pass(0.1, why="the popular key waits among the others")
    keys.unlock(b"popular")
    await let_pass(2 * LOCK_WAIT_S, why="the others stay locked")
    assert keys.settled == [(("popular", 1), "done")]


async def test_the_slow_lane_is_bounded(keys: LockableKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "MAX_QUEUED", 2)
    keys.locked = {b"x"}
    keys.put(("x", 1), ("x", 2))
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(Overloaded):
        keys.put(("y", 1))


class Sender:
    """A node's sends, answered into a list."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._cache = ParticipantsCache()
        self.answers: list[tuple[NewMessage, Outcome]] = []
        self.lanes: Lanes[NewMessage, Outcome] = Lanes(
            "sends", self._commit, self._settle, lambda _: 1, source_of=lambda _: None, key_of=lambda m: m.conversation
        )

    async def _commit(self, batch: list[NewMessage], lock_wait_s: float) -> list[Outcome | Locked]:
        return [*await send(self._pool, self._cache, batch, lock_wait_s=lock_wait_s)]

    def _settle(self, batch: list[NewMessage], outcomes: list[Any]) -> None:
        self.answers += zip(batch, outcomes, strict=True)

    async def has_sent(self, conversation: bytes, seqs: list[int]) -> bool:
        return self.seqs(conversation) == seqs

    def seqs(self, conversation: bytes) -> list[int]:
        found = [outcome for message, outcome in self.answers if message.conversation == conversation]
        return [outcome.seq for outcome in found if isinstance(outcome, Committed)]


async def running_sender(pool: Pool, nursery: trio.Nursery) -> Sender:
    sender = Sender(pool)
    nursery.start_soon(sender.lanes.run)
    return sender


@asynccontextmanager
async def locking(pool: Pool, statement: str, conversation: bytes) -> AsyncGenerator[PostgresConnection, None]:
    """Another transaction, which holds what the statement locks of the conversation."""
    async with connected(pool.url) as other:
        await other.query("begin")
        await other.query(statement, (uuid(conversation),))
        yield other


async def test_a_locked_conversation_stalls_no_other(
    pool: Pool, alice: Credentials, carol: Credentials, direct: bytes, nursery: trio.Nursery
) -> None:
    """Alone in its batch, and among others; later messages of its conversation follow it, in order."""
    held, free = direct, await new_direct(pool, alice, carol)
    sender = await running_sender(pool, nursery)
    async with locking(pool, "select from conversations where id = %s for update", held) as other:
        for batch, seqs in (([held], []), ([free, held, free], [1, 2]), ([held, free], [1, 2, 3])):
            for conversation in batch:
                sender.lanes.submit_nowait(a_message(conversation, alice.user))
            await wait_until(lambda seqs=seqs: sender.has_sent(free, seqs), "the other one's sends")
        assert sender.seqs(held) == []
        await other.query("rollback")
    await sender.lanes.wait_idle()
    assert sender.seqs(held) == [1, 2, 3]
    assert sender.seqs(free) == [1, 2, 3]


async def test_a_locked_participant_row_stalls_no_other_for_long(
    pool: Pool, alice: Credentials, carol: Credentials, direct: bytes, nursery: trio.Nursery
) -> None:
    """A batch cannot skip this lock: the whole batch goes on conversation by conversation."""
    held, free = direct, await new_direct(pool, alice, carol)
    sender = await running_sender(pool, nursery)
    async with locking(pool, "select from participants where conversation_id = %s for update", held) as other:
        for conversation in (held, free):
            sender.lanes.submit_nowait(a_message(conversation, alice.user))
        await wait_until(lambda: sender.has_sent(free, [1]), "the other one's send")
        await sender.lanes.wait_idle()
        assert [type(outcome) for message, outcome in sender.answers if message.conversation == held] == [Locked]
        await other.query("rollback")
    sender.lanes.submit_nowait(a_message(held, alice.user))
    await sender.lanes.wait_idle()
    assert sender.seqs(held) == [1]
