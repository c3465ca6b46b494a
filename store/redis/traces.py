"""The traces of messages that were sampled, for the jobs of their notices.

| key | value | bound |
|---|---|---|
| `alo:trace:USER` | the latest sampled message for the user: conversation, context, `seq` | expires after `KEPT_S` |

The debounce window, and with it the job of a notice, begins in Postgres, which knows nothing of traces. If Redis
forgets a trace, the job is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from store.redis.client import Redis, RedisError

KEPT_S: Final = 3600
"""Longer than the windows of a notice by default (10 s, and 2 min for those who have not read)."""

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
    for reply in await redis.pipeline([("SET", _key(user), value, "EX", KEPT_S) for user in users]):
        if isinstance(reply, RedisError):
            raise reply


async def trace_of(redis: Redis, user: bytes) -> NotedTrace | None:
    """The latest sampled message for a user, which the user may have read; None if there is none.

    :raises Unavailable: if Redis cannot be reached.
    :raises RedisError: if Redis refuses the command.
    """
    value = await redis.call("GET", _key(user))
    if value is None:
        return None
    return NotedTrace(value[:_ID], value[_ID : _ID + _CONTEXT], int(value[_ID + _CONTEXT :]))


def _key(user: bytes) -> bytes:
    return b"alo:trace:" + user
