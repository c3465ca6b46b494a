"""Jobs in Redis: one stream for each task and priority, read by one consumer group.

| key | value | bound |
|---|---|---|
| `alo:{jobs}:stream:TASK:PRIORITY` | entries | `MAX_WAITING`, for durable jobs `MAX_HANDED` |
| `alo:{jobs}:later` | delayed volatile jobs: a sorted set by time | `MAX_WAITING` |
| `alo:{jobs}:rate:TASK` | when the last runs of a task with a rate began | as many as its rate, expires |
| `alo:{jobs}:key:TASK:KEY` | the volatile job that waits or runs under a key | expires after `KEY_S` |
| `alo:{jobs}:cancelled` | cancelled volatile jobs, by time | `MAX_CANCELLED`, expires after `CANCELLED_S` |
| `alo:{jobs}:progress:JOB` | progress and result of a job | expires |
| `alo:{jobs}:worker:WORKER` | set by the worker's heartbeat | expires after `TAKE_OVER_AFTER_S` |
| `alo:{jobs}:epoch` | a random number; if it is gone, Redis has lost all of these keys | |

The entry of a durable job holds only its number in Postgres; that of a volatile job holds all of it. An entry stays
until its job has ended. The group's pending entries tell which worker has taken it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from store.redis.client import Redis, RedisError

PREFIX: Final = "alo:{jobs}:stream:"
PRIORITIES: Final = {"high": 0, "normal": 1, "low": 2}

MAX_WAITING: Final = 1_000_000
"""Volatile jobs in one stream, or delayed ones in all: some 150 MB. With more, enqueuing is refused."""

MAX_HANDED: Final = 4_000
"""Entries of durable jobs in one stream: busy workers take as many in a second or two. Other jobs wait in Postgres."""


class JobStream(Struct, frozen=True):
    """The stream of one task and priority."""

    task: str
    priority: int

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.task}:{self.priority}"


class JobEntry(Struct, frozen=True):
    """An entry that a worker has taken from a stream.

    :ivar id: of the entry.
    :ivar durable: number of the job in Postgres; None if the job is volatile.
    :ivar job: id of a volatile job.
    :ivar payload: of a volatile job.
    :ivar attempt: earlier runs of a volatile job that failed or were lost.
    :ivar key: of a volatile job; empty for none.
    :ivar waited_ms: time since the job was due.
    """

    stream: JobStream
    id: bytes
    durable: int | None
    job: str
    payload: bytes
    attempt: int
    key: str
    waited_ms: int


class NoJob(Exception):
    """An entry that is not a job of ours."""


def streams_of(tasks: Iterable[str]) -> list[JobStream]:
    """All streams of these tasks, the highest priorities first."""
    names = list(tasks)
    return [JobStream(task, priority) for priority in PRIORITIES.values() for task in names]


def durable_fields(job: int, waited_ms: int = 0) -> tuple[Any, ...]:
    """The fields of a durable job's entry.

    :param waited_ms: how long the job has been due.
    """
    return ("j", job, "w", waited_ms) if waited_ms > 0 else ("j", job)


def volatile_fields(job: str, payload: bytes, attempt: int = 0, key: str = "") -> tuple[Any, ...]:
    """The fields of a volatile job's entry."""
    if attempt or key:
        return ("v", job, "p", payload, "a", attempt, "k", key)
    return ("v", job, "p", payload)


def parse_entry(stream: JobStream, id: bytes, fields: Sequence[bytes], now_ms: int, taken: int = 1) -> JobEntry:
    """
    :param now_ms: Redis' time.
    :param taken: how often workers have taken the entry.
    :raises NoJob: if the fields are not those of a job.
    """
    values = dict(zip(fields[::2], fields[1::2], strict=False))
    waited_ms = max(0, now_ms - int(id.partition(b"-")[0]))
    try:
        if b"j" in values:
            job = int(values[b"j"])
            if not 0 < job < 2**63:
                raise NoJob
            return JobEntry(stream, id, job, "", b"", 0, "", waited_ms + int(values.get(b"w", 0)))
        attempt, key = int(values.get(b"a", 0)) + taken - 1, values.get(b"k", b"").decode()
        return JobEntry(stream, id, None, values[b"v"].decode(), values[b"p"], attempt, key, waited_ms)
    except (KeyError, ValueError, NoJob):
        raise NoJob(f"entry {id.decode()} of {stream.name} is not a job: {list(fields)!r:.200}") from None


async def add(redis: Redis, entries: Sequence[tuple[JobStream, Sequence[Any]]]) -> None:
    """Add entries to their streams, in order, in one round trip.

    :raises Unavailable: if Redis cannot be reached; any of the entries may have been added.
    :raises RedisError: if Redis refuses an entry; the following ones may or may not have been added.
    """
    _checked(await redis.pipeline([("XADD", stream.name, "*", *fields) for stream, fields in entries]))


async def add_and_count(redis: Redis, entries: Sequence[tuple[JobStream, Sequence[Any]]]) -> dict[JobStream, int]:
    """Like `add`; returns the length of each of the streams afterwards, as `lengths` counts."""
    commands = [("XADD", stream.name, "*", *fields) for stream, fields in entries]
    streams = list(dict.fromkeys(stream for stream, _ in entries))
    replies = _checked(await redis.pipeline([*commands, *(("XLEN", each.name) for each in streams)]))
    return dict(zip(streams, replies[len(commands) :], strict=True))


async def lengths(redis: Redis, streams: Sequence[JobStream]) -> list[int]:
    """Entries of each stream, including those whose jobs run."""
    return _checked(await redis.pipeline([("XLEN", each.name) for each in streams]))


async def lengths_by_task(redis: Redis, tasks: Iterable[str]) -> dict[str, int]:
    """Entries of each task, over all priorities."""
    each = streams_of(tasks)
    by_task: dict[str, int] = {}
    for stream, length in zip(each, await lengths(redis, each), strict=True):
        by_task[stream.task] = by_task.get(stream.task, 0) + length
    return by_task


def _checked(replies: list[Any]) -> list[Any]:
    """The replies; raises the first error among them."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies
