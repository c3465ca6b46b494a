"""Whether Redis keeps all keys when its memory is full.

With any policy but `noeviction`, it removes streams and leases in silence. With that one it refuses writes, which all
parts notice and bear (docs/decisions/0019-one-redis-or-two.md). A policy counts even while `maxmemory` is 0: an
operator who sets a limit later, or moves to a smaller machine, does not think of the policy.
"""

from __future__ import annotations

import re
from typing import Final

import structlog
import trio

from store.errors import EvictingRedis, Unavailable
from store.redis.client import Redis, RedisError

log = structlog.get_logger(__name__)

KEEPS_ALL: Final = "noeviction"
RETRY_S: Final = 0.5

_POLICY: Final = re.compile(rb"^maxmemory_policy:([\w-]+)", re.MULTILINE)


async def check_keeps_all(redis: Redis) -> None:
    """Ask Redis for its policy, which is a sign of life, too. INFO takes it 50 us.

    :raises EvictingRedis: if it may evict keys.
    :raises Unavailable: if it cannot be reached.
    :raises RedisError: if it does not answer as it should. A user of an ACL that may not ask is told so in the log.
    """
    try:
        found = _POLICY.search(await redis.call("INFO", "memory"))
    except RedisError as error:
        if error.code != "NOPERM":
            raise
        log.warning("eviction_not_checked", where=redis.where, hint="the user of REDIS_URL needs +info")
        await redis.call("PING")
        return
    policy = found[1].decode() if found else KEEPS_ALL
    if policy != KEEPS_ALL:
        raise EvictingRedis(redis.where, policy)


async def wait_keeps_all(redis: Redis) -> None:
    """Return once Redis is connected, and has said that it keeps all keys.

    :raises EvictingRedis: if it may evict keys: waiting would not help.
    """
    while True:
        await redis.wait_connected()
        try:
            await check_keeps_all(redis)
        except (Unavailable, RedisError) as error:
            log.warning("eviction_not_checked", where=redis.where, error=str(error))
            await trio.sleep(RETRY_S)
        else:
            return
