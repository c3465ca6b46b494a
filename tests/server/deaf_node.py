"""A node that lives as far as Redis knows, and reads nothing."""

from __future__ import annotations

from typing import Final

import trio

from store.redis.bus import stream_of
from store.redis.client import Redis
from store.redis.directory import NODE_BYTES, NODES

DEAF: Final = b"\x01" * NODE_BYTES

_LEASE_END_MS: Final = 4_000_000_000_000


async def add_deaf_node(redis_url: str) -> None:
    """Give the node a lease of many years, and a stream."""
    redis = Redis(redis_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        await redis.call("ZADD", NODES[0], _LEASE_END_MS, DEAF)
        await redis.call("XADD", stream_of(redis, DEAF), "*", b"begin", b"")
        nursery.cancel_scope.cancel()
