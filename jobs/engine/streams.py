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

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from store.errors import Overloaded
from store.redis.client import Redis, RedisError
from store.redis.script import Script

PREFIX: Final = "alo:jobs:stream:"
WORKER: Final = "alo:jobs:worker:"
LATER: Final = "alo:jobs:later"
CANCELLED: Final = "alo:jobs:cancelled"
EPOCH: Final = "alo:jobs:epoch"
GROUP: Final = "workers"

PRIORITIES: Final = {"high": 0, "normal": 1, "low": 2}

MAX_WAITING: Final = 1_000_000
"""Volatile jobs of one stream, or of those that wait for their time: some 150 MB. Beyond, enqueuing is refused."""

MAX_HANDED: Final = 4_000
"""Entries of durable jobs in one stream: what busy workers take in a second or two. The others wait in Postgres."""

KEY_S: Final = 86_400
"""How long the key of a volatile job is held at most: its job may have died with Redis."""

CANCELLED_S: Final = 86_400
"""How long a volatile job is remembered as cancelled, after the last one was."""

MAX_CANCELLED: Final = 10_000
"""The last ones that were cancelled."""

TAKE_OVER_AFTER_S: Final = 10.0
"""An entry whose worker has given no sign of life for so long is another's; it gives one every
`jobs.engine.heartbeat.BEAT_S`."""

FORGET_AFTER_S: Final = 300.0
"""A worker that has asked for nothing for so long, and has nothing pending, is gone; each asks every second."""

BLOCK_MS: Final = 1000
"""A blocked read that would never return (its stream was flushed) is asked again after this."""

MAX_PROMOTED: Final = 500
"""Volatile jobs whose time has come that one script moves; it holds up others for a millisecond or two."""

_LUA: Final = "jobs.engine.lua"
_TAKE: Final = Script(_LUA, "take")
_TAKE_OVER: Final = Script(_LUA, "take_over")
_BEAT: Final = Script(_LUA, "beat")
_PROMOTE: Final = Script(_LUA, "promote")
_ADD_KEYED: Final = Script(_LUA, "add_keyed")


class Stream(Struct, frozen=True):
    """One stream: of a task and a priority."""

    task: str
    priority: int

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.task}:{self.priority}"


class Entry(Struct, frozen=True):
    """What was taken from a stream.

    :ivar id: of the entry.
    :ivar durable: number of the job in Postgres; None if it is volatile.
    :ivar job: id of a volatile job.
    :ivar payload: of a volatile job.
    :ivar attempt: failed or lost runs of a volatile job, before this one.
    :ivar key: of a volatile job; empty for none.
    :ivar waited_ms: since the job was due.
    """

    stream: Stream
    id: bytes
    durable: int | None
    job: str
    payload: bytes
    attempt: int
    key: str
    waited_ms: int


class NoJob(Exception):
    """An entry that nobody here has written."""


class Limits(Struct, frozen=True):
    """Of one task, over all workers.

    :ivar concurrency: None: no limit.
    :ivar starts: in `period_s`; 0: no limit.
    """

    concurrency: int | None = None
    starts: int = 0
    period_s: float = 0

    @property
    def are_none(self) -> bool:
        return self.concurrency is None and not self.starts


def streams_of(tasks: Iterable[str]) -> list[Stream]:
    """All streams of these tasks, the highest priorities first."""
    names = list(tasks)
    return [Stream(task, priority) for priority in PRIORITIES.values() for task in names]


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


def parse_entry(stream: Stream, id: bytes, fields: Sequence[bytes], now_ms: int, taken: int = 1) -> Entry:
    """
    :param now_ms: Redis' time.
    :param taken: how often the entry has been taken.
    :raises NoJob: if nobody here has written that.
    """
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    waited_ms = max(0, now_ms - int(id.partition(b"-")[0]))
    try:
        if b"j" in named:
            job = int(named[b"j"])
            if not 0 < job < 2**63:
                raise NoJob
            return Entry(stream, id, job, "", b"", 0, "", waited_ms + int(named.get(b"w", 0)))
        attempt, key = int(named.get(b"a", 0)) + taken - 1, named.get(b"k", b"").decode()
        return Entry(stream, id, None, named[b"v"].decode(), named[b"p"], attempt, key, waited_ms)
    except (KeyError, ValueError, NoJob):
        raise NoJob(f"entry {id.decode()} of {stream.name} is no job: {list(fields)!r:.200}") from None


async def make_groups(redis: Redis, streams: Sequence[Stream]) -> list[Stream]:
    """From the beginning of each stream: what was added before its group was there counts. The streams that are without
    a group still, since Redis is full: the others can be worked off meanwhile."""
    doubtful = []
    made = await redis.pipeline([("XGROUP", "CREATE", each.name, GROUP, "0", "MKSTREAM") for each in streams])
    for stream, reply in zip(streams, made, strict=True):
        if isinstance(reply, RedisError) and is_full(reply):
            doubtful.append(stream)  # It says so before it looks whether there is something to make.
        elif isinstance(reply, RedisError) and not str(reply).startswith("BUSYGROUP"):
            raise reply
    looked_at = await redis.pipeline([("XPENDING", each.name, GROUP) for each in doubtful])
    return [each for each, reply in zip(doubtful, looked_at, strict=True) if isinstance(reply, RedisError)]


def is_full(error: RedisError) -> bool:
    """Whether Redis refuses because its memory is used up."""
    return "OOM command not allowed" in str(error)


async def begin_epoch(redis: Redis) -> bool:
    """Whether Redis has lost what was in it, and this is who notices. True at the very first start as well."""
    if await redis.call("EXISTS", EPOCH):
        return False
    try:
        return bool(await redis.call("SET", EPOCH, os.urandom(8).hex(), "NX"))
    except RedisError as error:
        if is_full(error):
            return False  # Then what has been lost waits for its lease.
        raise


async def add(redis: Redis, entries: Sequence[tuple[Stream, Sequence[Any]]]) -> None:
    """Add entries to their streams, one after the other in one round trip.

    :raises Unavailable: if Redis cannot be reached; any part may have been added.
    :raises RedisError: if it takes no more; what comes after that has not been added, or not all of it.
    """
    _checked(await redis.pipeline([("XADD", stream.name, "*", *fields) for stream, fields in entries]))


async def add_to(redis: Redis, stream: Stream, entries: Sequence[Sequence[Any]]) -> int:
    """The same of one stream; how many entries it holds then, as `lengths` says."""
    commands = [*(("XADD", stream.name, "*", *fields) for fields in entries), ("XLEN", stream.name)]
    return int(_checked(await redis.pipeline(commands))[-1])


async def lengths(redis: Redis, streams: Sequence[Stream]) -> list[int]:
    """Entries of each, those included that are taken and not ended."""
    return _checked(await redis.pipeline([("XLEN", each.name) for each in streams]))


async def lengths_by_task(redis: Redis, tasks: Iterable[str]) -> dict[str, int]:
    """The same of each task, over all priorities."""
    each = streams_of(tasks)
    of_task: dict[str, int] = {}
    for stream, length in zip(each, await lengths(redis, each), strict=True):
        of_task[stream.task] = of_task.get(stream.task, 0) + length
    return of_task


def _checked(replies: list[Any]) -> list[Any]:
    """The replies, if none is an error."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies


async def add_later(redis: Redis, stream: Stream, fields: Sequence[Any], delay_s: float) -> None:
    """Add a volatile entry once the delay is over, by Redis' clock."""
    seconds, microseconds = await redis.call("TIME")
    due_ms = int(seconds) * 1000 + int(microseconds) // 1000 + round(delay_s * 1000)
    participant = _later(stream, fields)
    waiting, added = await redis.pipeline([("ZCARD", LATER), ("ZADD", LATER, due_ms, participant)])
    if isinstance(added, RedisError):
        raise added
    if waiting >= MAX_WAITING:
        await redis.call("ZREM", LATER, participant)
        raise Overloaded(LATER, waiting)


async def add_keyed(redis: Redis, key: str, key_s: int, stream: Stream, fields: Sequence[Any], delay_s: float) -> str:
    """Add a volatile entry, now or later, unless one is there under its key: the job that is there now.

    :param key: its name in Redis, which is held for `key_s` at most.
    :raises Overloaded: if as many are there as may be.
    """
    where, entry = (LATER, [_later(stream, fields)]) if delay_s else (stream.name, list(fields))
    delay_ms = max(1, round(delay_s * 1000)) if delay_s else 0
    arguments = (fields[1], key_s, MAX_WAITING, delay_ms, *entry)
    job: bytes = await _ADD_KEYED.run(redis, [key, where], arguments)
    if not job:
        raise Overloaded(where, MAX_WAITING)
    return job.decode()


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


def _later(stream: Stream, fields: Sequence[Any]) -> bytes:
    return msgspec.msgpack.encode([stream.task, str(stream.priority), *map(_text, fields)])


def _text(field: Any) -> str:
    # Redis' msgpack is older than the type for bytes.
    return field.decode(errors="replace") if isinstance(field, bytes) else str(field)


async def promote(redis: Redis) -> float | None:
    """Move volatile jobs whose time has come to their streams; in how many seconds the next is due, None if none
    waits. What is none of ours is dropped."""
    _, next_ms = await _PROMOTE.run(redis, [LATER], [PREFIX, MAX_PROMOTED])
    return None if next_ms < 0 else next_ms / 1000


class Taken(Struct):
    """What one look has brought.

    :ivar bad: entries that are no jobs, with what is wrong with them.
    :ivar groupless: streams that have no group: Redis was flushed, or they are new.
    """

    entries: list[Entry]
    bad: list[tuple[Stream, bytes, str]]
    groupless: list[Stream]


async def take(
    redis: Redis, consumer: str, tasks: Mapping[str, Limits], room: int, *, lowest_first: bool = False
) -> Taken:
    """Take what there is, at most `room` entries, the highest priorities first, within the tasks' limits.

    :param tasks: those that come first have the first choice among those of one priority.
    :param lowest_first: the other way round, for once.
    """
    streams, numbers = streams_of(tasks), {task: number for number, task in enumerate(tasks, 1)}
    if lowest_first:
        streams.reverse()
    keys = [*(each.name for each in streams), *(f"alo:jobs:rate:{task}" for task in tasks)]
    arguments: list[Any] = [consumer, room, len(streams), len(tasks), *(numbers[each.task] for each in streams)]
    for limits in tasks.values():
        limit = -1 if limits.concurrency is None else limits.concurrency
        arguments += (limit, limits.starts, round(limits.period_s * 1000))
    now_ms, flat, groupless = await _TAKE.run(redis, keys, arguments)
    found = [(streams[flat[at] - 1], flat[at + 1], flat[at + 2], 1) for at in range(0, len(flat), 3)]
    taken = _parsed(found, now_ms)
    taken.groupless = [streams[number - 1] for number in groupless]
    return taken


async def wait_take(call: Any, consumer: str, streams: Sequence[Stream], wait_ms: int) -> Taken:
    """Wait for the next entry of these streams, and take it; usually one, sometimes one of each.

    :param call: of a connection of its own (`Redis.blocking`).
    :raises RedisError: NOGROUP, if a stream is gone.
    """
    read = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 1, "BLOCK", wait_ms, "STREAMS")
    reply = await call(*read, *(each.name for each in streams), *([">"] * len(streams)), wait_s=wait_ms / 1000)
    of_name = {each.name.encode(): each for each in streams}
    found = [(of_name[name], id, fields, 1) for name, entries in reply or () for id, fields in entries]
    # Just added, or it would have been taken before: what it waited is nothing.
    now_ms = max((int(id.partition(b"-")[0]) for _, id, _, _ in found), default=0)
    return _parsed(found, now_ms)


async def take_over(redis: Redis, consumer: str, tasks: Iterable[str], room: int) -> Taken:
    """Take entries over from workers that give no sign of life, and forget such workers."""
    streams = streams_of(tasks)
    limits = (round(TAKE_OVER_AFTER_S * 1000), room, round(FORGET_AFTER_S * 1000))
    flat = await _TAKE_OVER.run(redis, [each.name for each in streams], [consumer, *limits])
    found = [(streams[flat[at] - 1], flat[at + 1], flat[at + 2], int(flat[at + 3])) for at in range(0, len(flat), 4)]
    return _parsed(found, 0)


def _parsed(found: Sequence[tuple[Stream, bytes, list[bytes], int]], now_ms: int) -> Taken:
    taken = Taken([], [], [])
    for stream, id, fields, times in found:
        try:
            taken.entries.append(parse_entry(stream, id, fields, now_ms, times))
        except NoJob as error:
            taken.bad.append((stream, id, str(error)))
    return taken


async def beat(redis: Redis, consumer: str, entries: Sequence[Entry]) -> list[int]:
    """These are still at work: of each 1, or 0 if another worker has taken it over, or 2 if its job was cancelled."""
    arguments: list[Any] = [consumer]
    for entry in entries:
        arguments += (entry.id, entry.job)
    answers: list[int] = await _BEAT.run(redis, [CANCELLED, *(each.stream.name for each in entries)], arguments)
    return answers


async def finish(redis: Redis, entries: Sequence[tuple[Stream, bytes]]) -> None:
    """These have been dealt with: their entries go.

    :raises Unavailable: if Redis cannot be reached; they are taken over later.
    """
    of_stream: dict[Stream, list[bytes]] = {}
    for stream, id in entries:
        of_stream.setdefault(stream, []).append(id)
    commands: list[tuple[Any, ...]] = []
    for stream, ids in of_stream.items():
        commands.append(("XACK", stream.name, GROUP, *ids))
        commands.append(("XDEL", stream.name, *ids))
    for reply in await redis.pipeline(commands):
        if isinstance(reply, RedisError) and not str(reply).startswith("NOGROUP"):
            raise reply


async def announce(redis: Redis, consumer: str) -> None:
    """This worker is there, for whoever asks. A Redis that is full does not take it, which harms nobody."""
    await redis.pipeline([("SET", f"{WORKER}{consumer}", "", "PX", round(TAKE_OVER_AFTER_S * 1000))])


async def count_workers(redis: Redis) -> int:
    """Workers that have given a sign of life in the last `TAKE_OVER_AFTER_S`."""
    cursor, found = b"0", set[bytes]()
    while True:
        cursor, names = await redis.call("SCAN", cursor, "MATCH", f"{WORKER}*", "COUNT", 1000)
        found.update(names)
        if cursor == b"0":
            return len(found)


async def leave(redis: Redis, consumer: str, tasks: Iterable[str]) -> None:
    """Take a worker out of the groups where nothing is pending on it: that would be forgotten with it."""
    await redis.call("DEL", f"{WORKER}{consumer}")
    for stream in streams_of(tasks):
        try:
            if not await redis.call("XPENDING", stream.name, GROUP, "-", "+", 1, consumer):
                await redis.call("XGROUP", "DELCONSUMER", stream.name, GROUP, consumer)
        except RedisError as error:
            if not str(error).startswith(("NOGROUP", "ERR The XGROUP")):
                raise
