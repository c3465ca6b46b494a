"""The workers read the streams as one consumer group: they take entries, keep them, take them over, and finish them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from jobs.engine.streams import JobEntry, JobStream, NoJob, parse_entry, streams_of
from jobs.engine.volatile import CANCELLED
from store.redis.client import Redis, RedisError
from store.redis.script import Script

GROUP: Final = "workers"
WORKER: Final = "alo:{jobs}:worker:"
EPOCH: Final = "alo:{jobs}:epoch"

TAKE_OVER_AFTER_S: Final = 10.0
"""Another worker takes an entry over after this time without a heartbeat of its worker, which sends one every
`jobs.engine.heartbeat.BEAT_S`."""

FORGET_AFTER_S: Final = 300.0
"""A worker that has read nothing in this time, and has nothing pending, is removed; each reads every second."""

BLOCK_MS: Final = 1000
"""The longest blocking read. A read whose stream was flushed meanwhile would never return."""

_LUA: Final = "jobs.engine.lua"
_TAKE: Final = Script(_LUA, "take")
_TAKE_OVER: Final = Script(_LUA, "take_over")
_BEAT: Final = Script(_LUA, "beat")


_NONE_AHEAD: Final[Mapping[str, int]] = {}


class TaskLimits(Struct, frozen=True):
    """The limits of one task, over all workers.

    :ivar concurrency: entries that may be pending; None: no limit.
    :ivar starts: in `period_s`; 0: no limit.
    """

    concurrency: int | None = None
    starts: int = 0
    period_s: float = 0

    @property
    def is_unlimited(self) -> bool:
        return self.concurrency is None and not self.starts


async def make_groups(redis: Redis, streams: Sequence[JobStream]) -> list[JobStream]:
    """Make a consumer group for each stream that has none. Groups begin at the first entry, so that entries from before
    the group count.

    :return: the streams that still have no group because Redis is full. Workers go on with the others.
    """
    refused = []
    made = await redis.pipeline([("XGROUP", "CREATE", each.name, GROUP, "0", "MKSTREAM") for each in streams])
    for stream, reply in zip(streams, made, strict=True):
        if isinstance(reply, RedisError) and reply.code == "OOM":
            refused.append(stream)  # Redis refuses before it looks whether the group exists.
        elif isinstance(reply, RedisError) and reply.code != "BUSYGROUP":
            raise reply
    checked = await redis.pipeline([("XPENDING", each.name, GROUP) for each in refused])
    return [each for each, reply in zip(refused, checked, strict=True) if isinstance(reply, RedisError)]


async def begin_epoch(redis: Redis) -> bool:
    """Begin an epoch if there is none: true for the one call that finds all keys lost, and at the very first start."""
    if await redis.call("EXISTS", EPOCH):
        return False
    try:
        return bool(await redis.call("SET", EPOCH, os.urandom(8).hex(), "NX"))
    except RedisError as error:
        if error.code == "OOM":
            return False  # The lost jobs wait until their leases end.
        raise


class TakenEntries(Struct):
    """The entries that one call took.

    :ivar bad: entries that cannot be read as jobs, each with the reason.
    :ivar groupless: streams without a group: Redis was flushed, or the streams are new.
    :ivar ahead: how many of the entries are to wait until others of them have ended.
    :ivar are_cancelled: whether any volatile jobs are cancelled, these or others.
    """

    entries: list[JobEntry]
    bad: list[tuple[JobStream, bytes, str]]
    groupless: list[JobStream]
    ahead: int = 0
    are_cancelled: bool = True


async def take(
    redis: Redis,
    consumer: str,
    tasks: Mapping[str, TaskLimits],
    room: int,
    *,
    ahead: Mapping[str, int] = _NONE_AHEAD,
    lowest_first: bool = False,
) -> TakenEntries:
    """Take at most `room` entries, the highest priorities first, within the tasks' limits. Does not wait.

    :param tasks: among streams of one priority, those of the first tasks are read first.
    :param ahead: of a task: how many more entries to take, if all that are taken are of tasks that allow as many.
    :param lowest_first: take the lowest priorities first.
    """
    streams, numbers = streams_of(tasks), {task: number for number, task in enumerate(tasks, 1)}
    if lowest_first:
        streams.reverse()
    keys = [*(each.name for each in streams), *(f"alo:{{jobs}}:rate:{task}" for task in tasks), CANCELLED]
    arguments: list[Any] = [consumer, room, len(streams), len(tasks), *(numbers[each.task] for each in streams)]
    for task, limits in tasks.items():
        limit = -1 if limits.concurrency is None else limits.concurrency
        arguments += (limit, limits.starts, round(limits.period_s * 1000), ahead.get(task, 0))
    now_ms, flat, groupless, are_cancelled = await _TAKE.run(redis, keys, arguments)
    found = [(streams[flat[at] - 1], flat[at + 1], flat[at + 2], 1) for at in range(0, len(flat), 3)]
    taken = _parsed(found, now_ms)
    taken.groupless = [streams[number - 1] for number in groupless]
    taken.ahead = max(0, len(found) - room)
    taken.are_cancelled = bool(are_cancelled)
    return taken


async def wait_take(call: Any, consumer: str, streams: Sequence[JobStream], wait_ms: int) -> TakenEntries:
    """Wait for the next entry of these streams, and take it: usually one, sometimes one of each stream.

    :param call: of a connection of its own (`Redis.blocking`).
    :raises RedisError: NOGROUP, if a stream is gone.
    """
    read = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 1, "BLOCK", wait_ms, "STREAMS")
    names = [each.name for each in streams]
    # Sent with the read, so that a job that has just been added begins without another round trip.
    is_any_cancelled = ("EXISTS", CANCELLED)
    reply, are_cancelled = await call(
        *read, *names, *([">"] * len(streams)), wait_s=wait_ms / 1000, then=[is_any_cancelled]
    )
    by_name = {each.name.encode(): each for each in streams}
    found = [(by_name[name], id, fields, 1) for name, entries in reply or () for id, fields in entries]
    # `take` found nothing, so this entry was added just now and has not waited.
    now_ms = max((int(id.partition(b"-")[0]) for _, id, _, _ in found), default=0)
    taken = _parsed(found, now_ms)
    taken.are_cancelled = are_cancelled != 0  # An error is not 0, either.
    return taken


async def take_over(redis: Redis, consumer: str, tasks: Iterable[str], room: int) -> TakenEntries:
    """Take entries over from workers without heartbeats, and remove workers that are gone."""
    streams = streams_of(tasks)
    limits = (round(TAKE_OVER_AFTER_S * 1000), room, round(FORGET_AFTER_S * 1000))
    flat = await _TAKE_OVER.run(redis, [each.name for each in streams], [consumer, *limits])
    found = [(streams[flat[at] - 1], flat[at + 1], flat[at + 2], int(flat[at + 3])) for at in range(0, len(flat), 4)]
    return _parsed(found, 0)


def _parsed(found: Sequence[tuple[JobStream, bytes, list[bytes], int]], now_ms: int) -> TakenEntries:
    taken = TakenEntries([], [], [])
    for stream, id, fields, times in found:
        try:
            taken.entries.append(parse_entry(stream, id, fields, now_ms, times))
        except NoJob as error:
            taken.bad.append((stream, id, str(error)))
    return taken


async def beat(redis: Redis, consumer: str, entries: Sequence[JobEntry]) -> list[int]:
    """Keep these entries; for each 1, or 0 if another worker has taken it over, or 2 if its job was cancelled."""
    arguments: list[Any] = [consumer]
    for entry in entries:
        arguments += (entry.id, entry.job)
    answers: list[int] = await _BEAT.run(redis, [CANCELLED, *(each.stream.name for each in entries)], arguments)
    return answers


async def finish(redis: Redis, entries: Sequence[tuple[JobStream, bytes]]) -> None:
    """Acknowledge and delete these entries.

    :raises Unavailable: if Redis cannot be reached; a worker takes the entries over later.
    """
    by_stream: dict[JobStream, list[bytes]] = {}
    for stream, id in entries:
        by_stream.setdefault(stream, []).append(id)
    commands: list[tuple[Any, ...]] = []
    for stream, ids in by_stream.items():
        commands.append(("XACK", stream.name, GROUP, *ids))
        commands.append(("XDEL", stream.name, *ids))
    for reply in await redis.pipeline(commands):
        if isinstance(reply, RedisError) and reply.code != "NOGROUP":
            raise reply


async def announce(redis: Redis, consumer: str) -> None:
    """Say that this worker lives, for `count_workers`. A full Redis refuses it, which does no harm."""
    await redis.pipeline([("SET", f"{WORKER}{consumer}", "", "PX", round(TAKE_OVER_AFTER_S * 1000))])


async def count_workers(redis: Redis) -> int:
    """Workers that sent a heartbeat in the last `TAKE_OVER_AFTER_S`."""
    cursor, found = b"0", set[bytes]()
    while True:
        cursor, names = await redis.call("SCAN", cursor, "MATCH", f"{WORKER}*", "COUNT", 1000)
        found.update(names)
        if cursor == b"0":
            return len(found)


async def leave(redis: Redis, consumer: str, tasks: Iterable[str]) -> None:
    """Remove a worker from each group where it has nothing pending: Redis would drop pending entries with it."""
    await redis.call("DEL", f"{WORKER}{consumer}")
    for stream in streams_of(tasks):
        try:
            if not await redis.call("XPENDING", stream.name, GROUP, "-", "+", 1, consumer):
                await redis.call("XGROUP", "DELCONSUMER", stream.name, GROUP, consumer)
        except RedisError as error:
            # ERR: the stream has gone between the two commands.
            if error.code not in ("NOGROUP", "ERR"):
                raise
