"""Limits for each client, and the memory that they cost."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import Counter
from itertools import accumulate

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from server.transport.admission import AdmissionGate, ConnectionCounts, Rate, TokenBucket, TokenBuckets
from tests.waiting import let_pass, wait_until


def test_a_key_has_so_many_connections_and_no_more() -> None:
    counts: ConnectionCounts[str] = ConnectionCounts(2)
    assert [counts.enter("alice") for _ in range(4)] == [True, True, False, False]
    assert counts.enter("bob"), "each key has a maximum of its own"
    counts.leave("alice")
    assert [counts.enter("alice") for _ in range(2)] == [True, False], "refused connections do not count"


def test_a_key_without_connections_is_forgotten() -> None:
    counts: ConnectionCounts[str] = ConnectionCounts(2)
    counts.enter("alice")
    counts.enter("alice")
    counts.leave("alice")
    assert len(counts) == 1
    counts.leave("alice")
    assert len(counts) == 0


def test_a_refused_key_takes_no_memory() -> None:
    counts: ConnectionCounts[int] = ConnectionCounts(0)
    assert not any(counts.enter(key) for key in range(100))
    assert len(counts) == 0


def test_leaving_twice_raises() -> None:
    counts: ConnectionCounts[str] = ConnectionCounts(1)
    counts.enter("alice")
    counts.leave("alice")
    with pytest.raises(KeyError):
        counts.leave("alice")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())), st.integers(1, 3))
def test_counts_are_those_of_the_connections_there_are(steps: list[tuple[str, bool]], most: int) -> None:
    counts: ConnectionCounts[str] = ConnectionCounts(most)
    present: Counter[str] = Counter()
    for key, enters in steps:
        if enters:
            assert counts.enter(key) == (present[key] < most)
            present[key] = min(present[key] + 1, most)
        elif present[key]:
            counts.leave(key)
            present[key] -= 1
        assert len(counts) == len(+present)


def test_a_burst_is_allowed_and_then_one_each_interval() -> None:
    bucket = TokenBucket(Rate(per_s=4, burst=3))
    assert [bucket.take(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.25, 0.25]
    assert bucket.take(100.125) == 0.125
    assert [bucket.take(100.25) for _ in range(2)] == [0.0, 0.25]
    assert [bucket.take(100.75) for _ in range(3)] == [0.0, 0.0, 0.25]


def test_a_rest_fills_the_bucket_and_no_more() -> None:
    bucket = TokenBucket(Rate(per_s=4, burst=3))
    for _ in range(3):
        bucket.take(0.0)
    assert not bucket.is_full(0.5)
    assert bucket.is_full(0.75)
    assert [bucket.take(3600.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]


def test_a_bucket_is_full_at_first_at_any_time_of_the_clock() -> None:
    for now in (-1e9, 0.0, 1e9):
        bucket = TokenBucket(Rate(per_s=1, burst=2))
        assert bucket.is_full(now)
        assert [bucket.take(now) for _ in range(3)] == [0.0, 0.0, 1.0]


rates = st.tuples(st.floats(0.01, 10_000), st.integers(1, 50))
pauses = st.lists(st.just(0.0) | st.floats(0, 0.01) | st.floats(0, 5) | st.floats(0, 10_000), max_size=80)
SLOP_S = 1e-5
"""Ten times the bucket's own tolerance; a clock at a million seconds has steps of 1e-10."""


@given(rates, st.floats(-1e6, 1e6), pauses)
def test_no_window_holds_more_than_the_burst_and_its_share_of_the_rate(
    rate: tuple[float, int], start: float, pauses: list[float]
) -> None:
    per_s, burst = rate
    bucket = TokenBucket(Rate(per_s, burst))
    taken = [now for now in accumulate(pauses, initial=start) if bucket.take(now) == 0.0]
    for first, since in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + per_s * (taken[last] - since + SLOP_S)


@given(rates, st.floats(-1e6, 1e6), pauses)
def test_the_wait_is_as_long_as_it_takes(rate: tuple[float, int], start: float, pauses: list[float]) -> None:
    """A client that waits as told gets a token; one that waits a little less does not. A refusal costs no token."""
    per_s, burst = rate
    bucket = TokenBucket(Rate(per_s, burst))
    for now in accumulate(pauses, initial=start):
        wait_s = bucket.take(now)
        assert 0.0 <= wait_s <= 1 / per_s + SLOP_S
        if wait_s > 2 * SLOP_S:
            assert 0 < bucket.take(now + wait_s - SLOP_S) < 2 * SLOP_S
    end = start + sum(pauses) + SLOP_S
    for _ in range(burst):
        if wait_s := bucket.take(end):
            end += wait_s + SLOP_S
            assert bucket.take(end) == 0.0


@given(rates, st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), max_size=80))
def test_each_key_is_limited_as_if_it_were_alone(rate: tuple[float, int], steps: list[tuple[str, float]]) -> None:
    """A client must not notice that its full bucket was forgotten."""
    shared = Rate(*rate)
    buckets: TokenBuckets[str] = TokenBuckets(shared, 100)
    alone = {key: TokenBucket(shared) for key in "abc"}
    now = 0.0
    for key, pause in steps:
        now += pause
        assert buckets.take(key, now) == alone[key].take(now)
    assert buckets.forgotten_early == 0


def test_full_buckets_are_forgotten_as_others_are_used() -> None:
    buckets: TokenBuckets[int] = TokenBuckets(Rate(per_s=1, burst=2), 10_000)
    for key in range(1000):
        buckets.take(key, 0.0)
    assert len(buckets) == 1000
    for _ in range(500):
        buckets.take(-1, 0.5)
    assert len(buckets) == 1001, "no bucket is full yet"
    for _ in range(500):
        buckets.take(-1, 1.0)
    assert len(buckets) == 1, "each take forgets two buckets that are full"
    assert buckets.forgotten_early == 0


def test_there_are_never_more_buckets_than_the_maximum() -> None:
    buckets: TokenBuckets[int] = TokenBuckets(Rate(per_s=1, burst=2), 10)
    for key in range(100):
        buckets.take(key, 0.0)
        assert len(buckets) <= 10
    assert buckets.forgotten_early == 90


def test_the_buckets_do_not_forget_a_key_that_goes_on_trying() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(Rate(per_s=1, burst=1), 2)
    assert buckets.take("loud", 0.0) == 0.0
    for key in "abcdef":
        assert buckets.take(key, 0.0) == 0.0
        assert buckets.take("loud", 0.0) == 1.0


def test_a_clock_too_coarse_for_the_rate_harms_nothing() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(Rate(per_s=1e6, burst=1), 10)
    assert [buckets.take("alice", 1e15) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_an_idle_connections_bucket_is_two_references_and_a_used_ones_a_float_more() -> None:
    """10,000 connections: 470 KB, 700 KB once each has sent a request."""
    rate, count = Rate(per_s=50, burst=100), 10_000
    kept: list[TokenBucket | None] = [None] * count
    gc.collect()
    tracemalloc.start()
    try:
        for index in range(count):
            kept[index] = TokenBucket(rate)
        idle = tracemalloc.get_traced_memory()[0] / count
        for bucket in kept:
            assert bucket is not None
            bucket.take(random.random())
        used = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert idle < 56
    assert used < 80


async def test_newcomers_wait_until_one_has_arrived_or_has_taken_too_long(autojump_clock: MockClock) -> None:
    gate: AdmissionGate[str] = AdmissionGate(2, 1.0)
    entered: list[tuple[str, float]] = []

    async def come(name: str) -> None:
        await gate.wait_open()
        gate.enter(name)
        entered.append((name, trio.current_time() - began))

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(gate.run)
        for name in ("first", "second"):
            await come(name)
        nursery.start_soon(come, "third")
        await let_pass(0.5, why="the gate stays closed")
        assert len(entered) == 2
        gate.leave("second")
        gate.leave("second")
        await wait_until(lambda: len(entered) == 3, "the third enters", timeout_s=0.1)
        assert [name for name, _ in entered] == ["first", "second", "third"]
        await come("fourth")
        nursery.cancel_scope.cancel()
    assert 1.0 <= entered[-1][1] <= 1.3, "the first one has never arrived"
