"""The latest sampled message for each recipient, for a while."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from store.errors import Unavailable
from store.redis.buses import keys_in
from store.redis.client import Redis
from store.redis.traces import KEPT_S, NotedTrace, note_trace, trace_of
from tests.store.store_world import running

U, V, W = (bytes([n]) * 16 for n in range(3))
CHAT = b"c" * 16
CONTEXT = bytes(range(24))


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis, None]:
    async with running(redis_url) as redis:
        yield redis


async def test_each_recipient_has_the_latest_sampled_message_until_it_expires(redis: Redis) -> None:
    await note_trace(redis, [U, V], CHAT, 1, CONTEXT)
    await note_trace(redis, [U], CHAT, 2**62, CONTEXT[::-1])
    assert await trace_of(redis, U) == NotedTrace(CHAT, CONTEXT[::-1], 2**62)
    assert await trace_of(redis, V) == NotedTrace(CHAT, CONTEXT, 1)
    assert await trace_of(redis, W) is None
    for user in (U, V):
        assert 0 < await redis.call("TTL", keys_in("trace:")[0] + user) <= KEPT_S


async def test_a_message_without_recipients_leaves_no_key(redis: Redis) -> None:
    await note_trace(redis, [], CHAT, 1, CONTEXT)
    assert await redis.call("KEYS", "alo:*:trace:*") == []


async def test_without_redis_a_trace_is_not_noted_and_not_found() -> None:
    redis = Redis("redis://127.0.0.1:1")
    with pytest.raises(Unavailable):
        await note_trace(redis, [U], CHAT, 1, CONTEXT)
    with pytest.raises(Unavailable):
        await trace_of(redis, U)
