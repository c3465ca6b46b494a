"""A Redis that may evict keys, and one that does not tell."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from embedded.redis import RedisServer
from store.errors import EvictingRedis, Unavailable
from store.redis.client import Redis
from store.redis.eviction import check_keeps_all, wait_keeps_all


@asynccontextmanager
async def connected_redis(url: str) -> AsyncGenerator[Redis, None]:
    redis = Redis(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        await redis.wait_connected()
        yield redis
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
async def test_any_policy_but_noeviction_is_refused_by_name_with_what_to_do(
    own_redis: RedisServer, policy: str
) -> None:
    async with connected_redis(own_redis.url) as redis:
        await check_keeps_all(redis)
        await wait_keeps_all(redis)
        await redis.call("CONFIG", "SET", "maxmemory-policy", policy)
        for check in (check_keeps_all, wait_keeps_all):
            with pytest.raises(EvictingRedis, match="CONFIG SET maxmemory-policy noeviction") as refused:
                await check(redis)
            assert policy in str(refused.value)


async def test_a_redis_that_is_gone_is_unavailable(own_redis: RedisServer) -> None:
    async with connected_redis(own_redis.url) as redis:
        own_redis.stop()
        with pytest.raises(Unavailable):
            await check_keeps_all(redis)


async def test_a_user_who_may_not_ask_is_told_so_in_the_log(
    own_redis: RedisServer, log_output: list[dict[str, Any]]
) -> None:
    async with connected_redis(own_redis.url) as redis:
        await redis.call("ACL", "SETUSER", "default", "-info")
        await wait_keeps_all(redis)
    [line] = [line for line in log_output if line["event"] == "eviction_not_checked"]
    assert "+info" in line["hint"]
