"""Group commit, and the lists of participants that it checks: decisions without a database."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from store.batching import fair_queue as queue_module
from store.batching.group_commit import Batcher, BatchStatistics
from store.errors import Overloaded
from store.participant_lists import ParticipantsCache
from tests.waiting import let_pass


class Commits:
    """A commit that takes as long as the test says, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.settled: list[tuple[list[int], list[int]]] = []
        self.release = trio.Semaphore(0)
        self.batcher: Batcher[int, int] = Batcher("commits", self.commit, self.settle, lambda item: item)

    async def commit(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        await self.release.acquire()
        return [-item for item in batch]

    def settle(self, batch: list[int], outcomes: list[int]) -> None:
        self.settled.append((batch, outcomes))

    def let_go(self, times: int) -> None:
        for _ in range(times):
            self.release.release()


@pytest.fixture
def commits(nursery: trio.Nursery) -> Commits:
    commits = Commits()
    nursery.start_soon(commits.batcher.run)
    return commits


async def test_items_that_queue_during_a_commit_go_out_with_the_next(commits: Commits) -> None:
    commits.batcher.submit_nowait(1)
    await trio.testing.wait_all_tasks_blocked()
    for item in (2, 3, 4):
        commits.batcher.submit_nowait(item)
    commits.let_go(2)
    await commits.batcher.wait_idle()
    assert commits.settled == [([1], [-1]), ([2, 3, 4], [-2, -3, -4])]


async def test_each_item_has_one_outcome_in_the_order_in_which_it_came(commits: Commits) -> None:
    async def submit(start: int) -> None:
        for item in range(start, start + 50):
            commits.batcher.submit_nowait(item)
            await trio.lowlevel.checkpoint()

    commits.let_go(1000)
    async with trio.open_nursery() as nursery:
        for start in range(0, 500, 50):
            nursery.start_soon(submit, start)
    await commits.batcher.wait_idle()
    answered = [item for batch, _ in commits.settled for item in batch]
    assert sorted(answered) == list(range(500))
    assert all(outcomes == [-item for item in batch] for batch, outcomes in commits.settled)
    for start in range(0, 500, 50):
        assert [item for item in answered if start <= item < start + 50] == list(range(start, start + 50))


@pytest.mark.parametrize(
    ("limit", "value", "sizes"),
    [("MAX_ROWS", 4, [4, 4, 2]), ("MAX_BYTES", 1000, [2, 2, 2, 2, 2]), ("MAX_BYTES", 1, [1] * 10)],
)
async def test_batch_is_bounded(
    commits: Commits, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, sizes: list[int]
) -> None:
    """By rows, and by bytes: the item that reaches the bound is the last, and one item goes out however big it is."""
    monkeypatch.setattr(queue_module, limit, value)
    for _ in range(10):
        commits.batcher.submit_nowait(600)
    commits.let_go(10)
    await commits.batcher.wait_idle()
    assert [len(batch) for batch in commits.batches] == sizes


async def test_full_queue_refuses_and_keeps_what_it_has(commits: Commits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MAX_QUEUED", 3)
    for item in (1, 2, 3):
        commits.batcher.submit_nowait(item)
    with pytest.raises(Overloaded, match="commits"):
        commits.batcher.submit_nowait(4)
    assert commits.batcher.statistics().queued == 3
    commits.let_go(1)
    await commits.batcher.wait_idle()
    assert commits.batches == [[1, 2, 3]]
    commits.batcher.submit_nowait(5)
    commits.let_go(1)
    await commits.batcher.wait_idle()
    assert commits.batcher.statistics() == BatchStatistics(0, 0, 2, 4)


async def test_idle_is_waited_for_through_the_last_commit(commits: Commits) -> None:
    """Drained means answered: not while the last batch is still under way."""
    await commits.batcher.wait_idle()  # returns at once: the queue is empty
    commits.batcher.submit_nowait(1)
    order: list[str] = []

    async def wait_idle() -> None:
        await commits.batcher.wait_idle()
        order.append(f"idle after {len(commits.settled)}")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait_idle)
        await trio.testing.wait_all_tasks_blocked()
        commits.batcher.submit_nowait(2)
        commits.let_go(1)
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        commits.let_go(1)
    assert order == ["idle after 2"] * 3


async def test_item_submitted_while_outcomes_are_settled_is_committed(nursery: trio.Nursery) -> None:
    """Answers may lead to new items, in the same batch."""
    batches: list[list[int]] = []

    async def commit(batch: list[int]) -> list[int]:
        batches.append(batch)
        await trio.lowlevel.checkpoint()
        return batch

    def settle(batch: list[int], outcomes: list[int]) -> None:
        if batch[0] < 3:
            batcher.submit_nowait(batch[0] + 1)

    batcher: Batcher[int, int] = Batcher("chain", commit, settle, lambda _: 1)
    nursery.start_soon(batcher.run)
    batcher.submit_nowait(1)
    await batcher.wait_idle()
    assert batches == [[1], [2], [3]]


async def test_patient_batch_waits_for_company(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """Items that come within the patience of the first go out with it, in one commit, when it has passed."""
    committed: list[tuple[float, list[int]]] = []
    began = trio.current_time()

    async def commit(batch: list[int]) -> list[None]:
        committed.append((trio.current_time() - began, batch))
        return [None] * len(batch)

    batcher: Batcher[int, None] = Batcher("patient", commit, lambda _, __: None, lambda _: 1, patience_s=0.1)
    nursery.start_soon(batcher.run)
    for number in range(5):
        batcher.submit_nowait(number)
        await let_pass(0.03, why="items come at intervals")
    await batcher.wait_idle()
    assert committed == [(pytest.approx(0.1), [0, 1, 2, 3]), (pytest.approx(0.22), [4])]


async def test_item_after_a_pause_goes_out_at_once_and_the_next_waits_for_its_turn(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The number of commits has a bound, which depends on the load; a single item does not wait."""
    committed: list[tuple[float, list[int]]] = []
    began = trio.current_time()

    async def commit(batch: list[int]) -> list[None]:
        committed.append((round(trio.current_time() - began, 3), batch))
        return [None] * len(batch)

    batcher: Batcher[int, None] = Batcher(
        "paced", commit, lambda _, __: None, lambda _: 1, interval_s=lambda items: 0.1 if items > 2 else 0.05
    )
    nursery.start_soon(batcher.run)
    for number in range(5):
        batcher.submit_nowait(number)
        await let_pass(0.02, why="items come at intervals")
    await let_pass(0.9, why="a pause without items")
    for number in range(5, 8):
        batcher.submit_nowait(number)
    await let_pass(0.02, why="the last item comes later")
    batcher.submit_nowait(8)
    await batcher.wait_idle()
    assert committed == [(0.0, [0]), (0.05, [1, 2]), (0.1, [3, 4]), (1.0, [5, 6, 7]), (1.1, [8])]


def participants(count: int) -> tuple[bytes, ...]:
    return tuple(b"%016d" % n for n in range(count))


def test_cache_of_participants_is_bounded_by_users_and_drops_what_was_used_longest_ago() -> None:
    cache = ParticipantsCache(max_users=10)
    for name in (b"a", b"b", b"c"):
        cache.put(name, 1, participants(3))
    assert cache.get(b"a") == (1, participants(3))
    cache.put(b"d", 1, participants(4))
    assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert cache.statistics().users == 10


def test_list_put_again_replaces_the_old_one_and_its_count() -> None:
    cache = ParticipantsCache(max_users=10)
    for version in range(1, 20):
        cache.put(b"a", version, participants(version % 5 + 1))
    assert cache.get(b"a") == (19, participants(5))
    assert cache.statistics().users == 5
    assert cache.statistics().conversations == 1


def test_list_that_is_larger_than_the_cache_is_kept_alone() -> None:
    cache = ParticipantsCache(max_users=10)
    cache.put(b"a", 1, participants(3))
    cache.put(b"big", 1, participants(50))
    assert cache.get(b"big") == (1, participants(50))
    cache.put(b"b", 1, participants(3))
    assert cache.get(b"big") is None
    assert cache.statistics().users == 3


def test_cache_against_a_plain_model() -> None:
    """After any puts and gets it returns the last list that was put, and counts the users that it holds."""
    chance = random.Random(3)
    cache, last = ParticipantsCache(max_users=40), dict[bytes, tuple[int, tuple[bytes, ...]]]()

    def check(name: bytes) -> None:
        got = cache.get(name)
        assert got is None or got == last[name]

    for version in range(2000):
        name = b"%d" % chance.randint(0, 20)
        if chance.random() < 0.5:
            last[name] = (version, participants(chance.randint(1, 12)))
            cache.put(name, *last[name])
            check(name)
        else:
            check(name)
        assert cache.statistics().users <= 40
    held = [entry for name in last if (entry := cache.get(name))]
    assert cache.statistics().users == sum(len(users) for _, users in held)
