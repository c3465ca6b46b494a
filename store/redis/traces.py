"""The traces of messages that were sampled, for the jobs of their notices.

| key | value | bound |
|---|---|---|
| `trace:USER`, on the user's bus | the latest sampled message: conversation, context, `seq` | expires after `KEPT_S` |

The debounce window, and with it the job of a notice, begins in Postgres, which knows nothing of traces. If Redis
forgets a trace, the job is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from store.errors import Unavailable
from store.redis.buses import keys_in
from store.redis.client import Redis, RedisError

KEPT_S: Final = 3600
"""Longer than the windows of a notice by default (10 s, and 2 min for those who have not read)."""

_TRACES: Final = keys_in("trace:")
_ID: Final = 16
_CONTEXT: Final = 24


class NotedTrace(NamedTuple):
    """A sampled message.

    :ivar context: of its span.
    """

    conversation: bytes
    context: bytes
    seq: int


async def note_trace(redis: Redis, users: Sequence[bytes], conversation: bytes, seq: int, context: bytes) -> None:
    """Keep the trace of a message for these recipients; it takes the place of an earlier one.

    :raises Unavailable: if Redis cannot be reached.
    :raises RedisError: if Redis refuses it, such as when its memory is full.
    """
    value = conversation + context + b"%d" % seq
    commands = [(redis.bus_of(user), ("SET", _key(redis, user), value, "EX", KEPT_S)) for user in users]
    for reply in await redis.spread(commands):
        if isinstance(reply, (RedisError, Unavailable)):
            raise reply


async def trace_of(redis: Redis, user: bytes) -> NotedTrace | None:
    """The latest sampled message for a user, which the user may have read; None if there is none.

    :raises Unavailable: if Redis cannot be reached.
    :raises RedisError: if Redis refuses the command.
    """
    value = await redis.call("GET", _key(redis, user), bus=redis.bus_of(user))
    if value is None:
        return None
    return NotedTrace(value[:_ID], value[_ID : _ID + _CONTEXT], int(value[_ID + _CONTEXT :]))


def _key(redis: Redis, user: bytes) -> bytes:
    return _TRACES[redis.bus_of(user)] + user
