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


async def check_keeps_all(redis: Redis, bus: int = 0) -> None:
    """Ask each server for its policy, which is a sign of life, too. INFO takes it 50 us.

    :param bus: this process needs: the server of another may be away.
    :raises EvictingRedis: if one may evict keys.
    :raises Unavailable: if the server of the bus cannot be reached, or no server can.
    :raises RedisError: if one does not answer as it should. A user of an ACL that may not ask is told so in the log.
    """
    found = await redis.ask_each("INFO", "memory")
    for where, reply in found.items():
        if isinstance(reply, RedisError):
            if reply.code != "NOPERM":
                raise reply
            log.warning("eviction_not_checked", where=where, hint="the user of REDIS_URL needs +info")
        elif not isinstance(reply, Unavailable):
            policy = match[1].decode() if (match := _POLICY.search(reply)) else KEEPS_ALL
            if policy != KEEPS_ALL:
                raise EvictingRedis(where, policy)
    silent = [reply for reply in found.values() if isinstance(reply, Unavailable)]
    if silent and len(silent) == len(found):
        raise silent[0]
    if not redis.reaches(bus):
        raise Unavailable("Redis", redis.where, "not connected")


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
