"""Jobs on a Redis stream with a consumer group.

The stream carries the number of an outbox row and nothing else. Redis may lose all of it: the row in Postgres stays
until the job has ended, and comes round again (`jobs.relay`). At-least-once: a job may run twice, on two workers even,
so what it does must bear that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
import trio

from store.errors import Unavailable
from store.redis import Redis, RedisError

log = structlog.get_logger(__name__)

STREAM: Final = "alo:jobs"
GROUP: Final = "workers"

MAX_ENTRIES: Final = 100_000
"""Of the stream, about: 10 MB. Rows beyond it wait in Postgres and are handed in again later."""

TAKE_OVER_AFTER_S: Final = 30.0
"""A job that was taken and shows no sign for this long belongs to a dead worker. Three times a webhook's deadline."""

BLOCK_MS: Final = 1000
"""A blocked read does not notice that the stream was flushed; it is asked again after this."""


class Queue:
    """The queue as one worker sees it.

    :param consumer: this worker's name in the group; unique.
    """

    def __init__(self, redis: Redis, consumer: str) -> None:
        self._redis = redis
        self._consumer = consumer

    @property
    def is_connected(self) -> bool:
        """Whether Redis can be reached, as far as is known."""
        return self._redis.is_connected

    async def hand_in(self, jobs: Sequence[int]) -> None:
        """
        :raises Unavailable: if Redis cannot be reached.
        :raises RedisError: if it takes no more; the rows come round again.
        """
        commands = [("XADD", STREAM, "MAXLEN", "~", MAX_ENTRIES, "*", "job", job) for job in jobs]
        for reply in await self._redis.pipeline(commands):
            if isinstance(reply, RedisError):
                raise reply

    async def take(self, jobs: trio.MemorySendChannel[tuple[bytes, int]]) -> None:
        """Send (entry, job) pairs to the channel, new ones and those of dead workers, until cancelled.

        Takes no more than the channel accepts, so other workers get the rest.
        """
        while True:
            await self._redis.wait_connected()
            try:
                await self._take(jobs)
            except (Unavailable, RedisError) as error:
                log.warning("queue_lost", error=str(error))
                await trio.sleep(0.25)

    async def _take(self, jobs: trio.MemorySendChannel[tuple[bytes, int]]) -> None:
        async with self._redis.blocking() as call:
            await self._make_group()
            read = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", 16, "BLOCK", BLOCK_MS, "STREAMS", STREAM)
            overdue = trio.current_time()
            while True:
                if trio.current_time() >= overdue:
                    await self._take_over(jobs)
                    overdue = trio.current_time() + TAKE_OVER_AFTER_S / 4
                reply = await call(*read, ">", wait_s=BLOCK_MS / 1000)
                for entry, fields in reply[0][1] if reply else ():
                    await self._pass_on(jobs, entry, fields)

    async def _make_group(self) -> None:
        try:
            # From the beginning: what was handed in before the group was there counts.
            await self._redis.call("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
        except RedisError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _take_over(self, jobs: trio.MemorySendChannel[tuple[bytes, int]]) -> None:
        start: Any = "0-0"
        while start not in (b"0-0", None):
            idle_ms = int(TAKE_OVER_AFTER_S * 1000)
            reply = await self._redis.call("XAUTOCLAIM", STREAM, GROUP, self._consumer, idle_ms, start, "COUNT", 64)
            start = reply[0]
            for entry, fields in filter(None, reply[1]):
                if fields:
                    log.info("job_taken_over", entry=entry.decode())
                    await self._pass_on(jobs, entry, fields)

    async def _pass_on(
        self, jobs: trio.MemorySendChannel[tuple[bytes, int]], entry: bytes, fields: list[bytes]
    ) -> None:
        try:
            job = int(fields[1])
        except ValueError:
            # Not ours. Kept, it would be taken over, and be in the way, for ever.
            log.error("entry_is_no_job", entry=entry.decode(), fields=repr(fields))
            await self.finish(entry)
        else:
            await jobs.send((entry, job))

    async def finish(self, entry: bytes) -> None:
        """The job has ended, well or badly: its entry goes.

        :raises Unavailable: if Redis cannot be reached; the entry is taken over later and finds no row.
        """
        await self._redis.pipeline([("XACK", STREAM, GROUP, entry), ("XDEL", STREAM, entry)])

    async def leave(self) -> None:
        """Take this worker out of the group, unless something is pending on it: that would be forgotten with it."""
        if not await self._redis.call("XPENDING", STREAM, GROUP, "-", "+", 1, self._consumer):
            await self._redis.call("XGROUP", "DELCONSUMER", STREAM, GROUP, self._consumer)
