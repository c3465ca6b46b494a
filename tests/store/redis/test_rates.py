"""Counts in Redis: exact for all processes, gone after a while, and never the reason why a request is refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio

from store.redis.buses import keys_in
from store.redis.client import Redis
from store.redis.rates import Guess, Rests, admit_guess, forget_guesses, take_token

HOUR_S = 3600.0
RESTS = Rests(free=2, first_s=HOUR_S, most_s=2 * HOUR_S, kept_s=10 * HOUR_S)


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis, None]:
    redis = Redis(redis_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        await redis.wait_connected()
        yield redis
        nursery.cancel_scope.cancel()


async def take(redis: Redis, bucket: str = "rate:login:192.0.2.1") -> float | None:
    """From a bucket of three tokens, which gets one more each hour."""
    return await take_token(redis, bucket, interval_s=HOUR_S, slack_s=2 * HOUR_S)


async def test_a_bucket_has_a_burst_of_tokens_and_says_when_the_next_one_comes(redis: Redis) -> None:
    assert [await take(redis) for _ in range(3)] == [0.0] * 3
    for _ in range(2):
        wait_s = await take(redis)
        assert wait_s is not None
        assert HOUR_S - 60 < wait_s <= HOUR_S, "a refused request takes no token"
    assert await take(redis, "rate:login:192.0.2.2") == 0.0


async def test_requests_at_the_same_time_share_a_bucket(redis: Redis) -> None:
    taken: list[float | None] = []

    async def one() -> None:
        taken.append(await take(redis))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert taken.count(0.0) == 3


async def test_tokens_come_back(redis: Redis) -> None:
    async def quick() -> float | None:
        return await take_token(redis, "rate:quick", interval_s=0.001, slack_s=0.0)

    with trio.fail_after(10):
        for _ in range(5):
            while await quick():
                await trio.lowlevel.checkpoint()


async def test_an_account_rests_for_longer_after_each_guess_up_to_a_bound(redis: Redis) -> None:
    assert await admit_guess(redis, "guesses:a", RESTS) == Guess(1, 0.0)
    assert await admit_guess(redis, "guesses:a", RESTS) == Guess(2, HOUR_S)
    refused = await admit_guess(redis, "guesses:a", RESTS)
    assert refused is not None
    assert refused.number == 0
    assert HOUR_S - 60 < refused.wait_s <= HOUR_S
    await forget_guesses(redis, "guesses:a")
    assert await admit_guess(redis, "guesses:a", RESTS) == Guess(1, 0.0)


async def test_the_rests_of_redis_are_those_that_a_process_computes(redis: Redis) -> None:
    rests = Rests(free=3, first_s=0.001, most_s=0.004, kept_s=60.0)
    found: list[float] = []
    with trio.fail_after(30):
        while len(found) < 8:
            guess = await admit_guess(redis, "guesses:b", rests)
            assert guess is not None
            if guess.number:
                assert guess.number == len(found) + 1
                found.append(guess.wait_s)
    assert found == [rests.after(number) for number in range(1, 9)] == [0, 0, 0.001, 0.002, 0.004, 0.004, 0.004, 0.004]


async def test_counts_expire(redis: Redis) -> None:
    await take(redis, "rate:a")
    await admit_guess(redis, "guesses:a", RESTS)
    bucket, account = [
        int(await redis.call("PTTL", key)) / 1000 for key in (keys_in("rate:a")[0], keys_in("guesses:a")[0])
    ]
    assert HOUR_S - 60 < bucket <= HOUR_S, "when the bucket is full again"
    assert 10 * HOUR_S - 60 < account <= 10 * HOUR_S


async def test_redis_may_lose_the_counts_and_the_scripts(redis: Redis) -> None:
    for _ in range(4):
        await take(redis)
    await redis.call("FLUSHALL")
    await redis.call("SCRIPT", "FLUSH")
    assert await take(redis) == 0.0
    assert await admit_guess(redis, "guesses:a", RESTS) == Guess(1, 0.0)


async def test_a_redis_that_does_not_answer_is_not_waited_for(redis: Redis, redis_url: str) -> None:
    await redis.call("CLIENT", "PAUSE", 600, "ALL")
    assert await take(redis) is None
    assert await admit_guess(redis, "guesses:a", RESTS) is None
    await forget_guesses(redis, "guesses:a")


async def test_a_redis_that_refuses_is_no_reason_to_refuse(redis: Redis) -> None:
    await redis.call("LPUSH", keys_in("rate:a")[0], "not a number")
    await redis.call("LPUSH", keys_in("guesses:a")[0], "not a hash")
    assert await take(redis, "rate:a") is None
    assert await admit_guess(redis, "guesses:a", RESTS) is None
