"""Jobs in Redis: a stream of each task and priority, read by one group of workers.

| key | what it is | bound |
|---|---|---|
| `alo:jobs:stream:TASK:PRIORITY` | entries to be taken | `MAX_WAITING`, of durable ones `MAX_HANDED` |
| `alo:jobs:later` | volatile jobs that are to wait: a sorted set by time | `MAX_WAITING` |
| `alo:jobs:rate:TASK` | when the last jobs of a task with a rate were begun | as many as its rate, expires |
| `alo:jobs:key:TASK:KEY` | the volatile job that waits or runs under a key | expires after `KEY_S` |
| `alo:jobs:cancelled` | volatile jobs that are not to run, by time | `MAX_CANCELLED`, expires after `CANCELLED_S` |
| `alo:jobs:progress:JOB` | progress and result of a job | expires |
| `alo:jobs:worker:WORKER` | a worker has given a sign of life | expires after `TAKE_OVER_AFTER_S` |
| `alo:jobs:epoch` | a random number: another one means that all of this was lost | |

The entry of a durable job is its number in Postgres. That of a volatile one is all there is of it. An entry stays until
its job has ended; whoever took it is known by it (the group's pending entries).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from store.redis.client import Redis, RedisError

PREFIX: Final = "alo:jobs:stream:"
PRIORITIES: Final = {"high": 0, "normal": 1, "low": 2}

MAX_WAITING: Final = 1_000_000
"""Volatile jobs of one stream, or of those that wait for their time: some 150 MB. Beyond, enqueuing is refused."""

MAX_HANDED: Final = 4_000
"""Entries of durable jobs in one stream: what busy workers take in a second or two. The others wait in Postgres."""


class JobStream(Struct, frozen=True):
    """One stream: of a task and a priority."""

    task: str
    priority: int

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.task}:{self.priority}"


class JobEntry(Struct, frozen=True):
    """What was taken from a stream.

    :ivar id: of the entry.
    :ivar durable: number of the job in Postgres; None if it is volatile.
    :ivar job: id of a volatile job.
    :ivar payload: of a volatile job.
    :ivar attempt: failed or lost runs of a volatile job, before this one.
    :ivar key: of a volatile job; empty for none.
    :ivar waited_ms: since the job was due.
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
    """An entry that nobody here has written."""


def streams_of(tasks: Iterable[str]) -> list[JobStream]:
    """All streams of these tasks, the highest priorities first."""
    names = list(tasks)
    return [JobStream(task, priority) for priority in PRIORITIES.values() for task in names]


def durable_fields(job: int, waited_ms: int = 0) -> tuple[Any, ...]:
    """The entry of a durable job.

    :param waited_ms: how long it has been due already.
    """
    return ("j", job, "w", waited_ms) if waited_ms > 0 else ("j", job)


def volatile_fields(job: str, payload: bytes, attempt: int = 0, key: str = "") -> tuple[Any, ...]:
    """The entry of a volatile job."""
    if attempt or key:
        return ("v", job, "p", payload, "a", attempt, "k", key)
    return ("v", job, "p", payload)


def parse_entry(stream: JobStream, id: bytes, fields: Sequence[bytes], now_ms: int, taken: int = 1) -> JobEntry:
    """
    :param now_ms: Redis' time.
    :param taken: how often the entry has been taken.
    :raises NoJob: if nobody here has written that.
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
        raise NoJob(f"entry {id.decode()} of {stream.name} is no job: {list(fields)!r:.200}") from None


async def add(redis: Redis, entries: Sequence[tuple[JobStream, Sequence[Any]]]) -> None:
    """Add entries to their streams, one after the other in one round trip.

    :raises Unavailable: if Redis cannot be reached; any part may have been added.
    :raises RedisError: if it takes no more; what comes after that has not been added, or not all of it.
    """
    _checked(await redis.pipeline([("XADD", stream.name, "*", *fields) for stream, fields in entries]))


async def add_to(redis: Redis, stream: JobStream, entries: Sequence[Sequence[Any]]) -> int:
    """The same of one stream; how many entries it holds then, as `lengths` says."""
    commands = [*(("XADD", stream.name, "*", *fields) for fields in entries), ("XLEN", stream.name)]
    return int(_checked(await redis.pipeline(commands))[-1])


async def lengths(redis: Redis, streams: Sequence[JobStream]) -> list[int]:
    """Entries of each, those included that are taken and not ended."""
    return _checked(await redis.pipeline([("XLEN", each.name) for each in streams]))


async def lengths_by_task(redis: Redis, tasks: Iterable[str]) -> dict[str, int]:
    """The same of each task, over all priorities."""
    each = streams_of(tasks)
    by_task: dict[str, int] = {}
    for stream, length in zip(each, await lengths(redis, each), strict=True):
        by_task[stream.task] = by_task.get(stream.task, 0) + length
    return by_task


def _checked(replies: list[Any]) -> list[Any]:
    """The replies, if none is an error."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies
