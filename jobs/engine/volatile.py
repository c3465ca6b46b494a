"""Volatile jobs in Redis: ids, keys, delays and cancellation, which durable jobs have in Postgres."""

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

LATER: Final = "alo:{jobs}:later"
CANCELLED: Final = "alo:{jobs}:cancelled"

KEY_S: Final = 86_400
"""The longest that a volatile job holds its key: Redis may have lost the job."""

CANCELLED_S: Final = 86_400
"""How long cancelled volatile jobs are remembered after the last cancellation."""

MAX_CANCELLED: Final = 10_000
"""Cancelled volatile jobs that are remembered, the last ones."""

MAX_PROMOTED: Final = 500
"""Due volatile jobs that one call of the script moves; it blocks Redis for a millisecond or two."""

_LUA: Final = "jobs.engine.lua"
_PROMOTE: Final = Script(_LUA, "promote")
_ADD_KEYED: Final = Script(_LUA, "add_keyed")


def new_id() -> str:
    return "v" + os.urandom(8).hex()


def is_id(job: str) -> bool:
    return len(job) == 17 and job[0] == "v"


def key_name(task: str, key: str) -> str:
    return f"alo:{{jobs}}:key:{task}:{key}"


async def add_later(redis: Redis, stream: JobStream, fields: Sequence[Any], delay_s: float) -> None:
    """Add a volatile job that is due after the delay, by Redis' clock.

    :raises Overloaded: if `streams.MAX_WAITING` jobs wait already.
    """
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
    """Add a volatile job, due now or after the delay, unless a job waits or runs under its key; returns the id of the
    job that has the key.

    :param key: its name in Redis, held for at most `key_s`.
    :raises Overloaded: if `streams.MAX_WAITING` jobs wait already.
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
    # Redis' msgpack predates the type for bytes.
    return field.decode(errors="replace") if isinstance(field, bytes) else str(field)


async def promote(redis: Redis, known: Sequence[JobStream]) -> float | None:
    """Move due volatile jobs to their streams, and drop elements that are not jobs of ours. Returns in how many seconds
    the next job is due; None if none waits."""
    _, next_ms = await _PROMOTE.run(redis, [LATER, *(each.name for each in known)], [streams.PREFIX, MAX_PROMOTED])
    return None if next_ms < 0 else next_ms / 1000


async def cancel(redis: Redis, job: str) -> None:
    """Note a volatile job as cancelled."""
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
    """Which of these volatile jobs are cancelled."""
    if not jobs:
        return set()
    scores = await redis.call("ZMSCORE", CANCELLED, *jobs)
    return {job for job, score in zip(jobs, scores, strict=True) if score is not None}
