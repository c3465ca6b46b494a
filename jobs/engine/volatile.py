"""What volatile jobs alone need in Redis: waiting for their time, keys, and cancellation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from jobs.engine import streams
from jobs.engine.streams import JobStream
from store.errors import Overloaded
from store.redis.client import Redis, RedisError
from store.redis.script import Script

LATER: Final = "alo:jobs:later"
CANCELLED: Final = "alo:jobs:cancelled"

KEY_S: Final = 86_400
"""How long the key of a volatile job is held at most: its job may have died with Redis."""

CANCELLED_S: Final = 86_400
"""How long a volatile job is remembered as cancelled, after the last one was."""

MAX_CANCELLED: Final = 10_000
"""The last ones that were cancelled."""

MAX_PROMOTED: Final = 500
"""Volatile jobs whose time has come that one script moves; it holds up others for a millisecond or two."""

_LUA: Final = "jobs.engine.lua"
_PROMOTE: Final = Script(_LUA, "promote")
_ADD_KEYED: Final = Script(_LUA, "add_keyed")


def new_id() -> str:
    return "v" + os.urandom(8).hex()


def is_id(job: str) -> bool:
    return len(job) == 17 and job[0] == "v"


def key_name(task: str, key: str) -> str:
    return f"alo:jobs:key:{task}:{key}"


async def add_later(redis: Redis, stream: JobStream, fields: Sequence[Any], delay_s: float) -> None:
    """Add a volatile entry once the delay is over, by Redis' clock."""
    seconds, microseconds = await redis.call("TIME")
    due_ms = int(seconds) * 1000 + int(microseconds) // 1000 + round(delay_s * 1000)
    packed = _pack(stream, fields)
    waiting, added = await redis.pipeline([("ZCARD", LATER), ("ZADD", LATER, due_ms, packed)])
    if isinstance(added, RedisError):
        raise added
    if waiting >= streams.MAX_WAITING:
        await redis.call("ZREM", LATER, packed)
        raise Overloaded(LATER, waiting)


async def add_keyed(
    redis: Redis, key: str, key_s: int, stream: JobStream, fields: Sequence[Any], delay_s: float
) -> str:
    """Add a volatile entry, now or later, unless one is there under its key: the job that is there now.

    :param key: its name in Redis, which is held for `key_s` at most.
    :raises Overloaded: if as many are there as may be.
    """
    where, entry = (LATER, [_pack(stream, fields)]) if delay_s else (stream.name, list(fields))
    delay_ms = max(1, round(delay_s * 1000)) if delay_s else 0
    arguments = (fields[1], key_s, streams.MAX_WAITING, delay_ms, *entry)
    job: bytes = await _ADD_KEYED.run(redis, [key, where], arguments)
    if not job:
        raise Overloaded(where, streams.MAX_WAITING)
    return job.decode()


def _pack(stream: JobStream, fields: Sequence[Any]) -> bytes:
    return msgspec.msgpack.encode([stream.task, str(stream.priority), *map(_text, fields)])


def _text(field: Any) -> str:
    # Redis' msgpack is older than the type for bytes.
    return field.decode(errors="replace") if isinstance(field, bytes) else str(field)


async def promote(redis: Redis) -> float | None:
    """Move volatile jobs whose time has come to their streams; in how many seconds the next is due, None if none
    waits. What is none of ours is dropped."""
    _, next_ms = await _PROMOTE.run(redis, [LATER], [streams.PREFIX, MAX_PROMOTED])
    return None if next_ms < 0 else next_ms / 1000


async def cancel(redis: Redis, job: str) -> None:
    """A volatile job is not to run."""
    [seconds, _] = await redis.call("TIME")
    replies = await redis.pipeline(
        [
            ("ZADD", CANCELLED, int(seconds), job),
            ("ZREMRANGEBYRANK", CANCELLED, 0, -MAX_CANCELLED - 1),
            ("EXPIRE", CANCELLED, CANCELLED_S),
        ]
    )
    if isinstance(replies[0], RedisError):
        raise replies[0]


async def cancelled_of(redis: Redis, jobs: Sequence[str]) -> set[str]:
    """Those of these volatile jobs that are not to run."""
    if not jobs:
        return set()
    scores = await redis.call("ZMSCORE", CANCELLED, *jobs)
    return {job for job, score in zip(jobs, scores, strict=True) if score is not None}
